"""How fast a target answers when each of N connections sends its next request as soon as the last is answered (wrk).

Figures: `rate` (good answers per second), `p50_ms`, `p99_ms`, and `cpu_us`: microseconds of CPU time of all the
target's processes for one request, the steadiest of them on a machine that the load tool shares.
"""

from collections.abc import Iterator, Sequence

from benchmarks.cpu import cpu_seconds, settle
from benchmarks.rounds import WARM_UP, visits
from benchmarks.samples import Sample
from benchmarks.targets import Target
from benchmarks.wrk import Wrk


def measure(
    wrk: Wrk, targets: Sequence[Target], *, connections: Sequence[int], rounds: int, seconds: int
) -> Iterator[Sample]:
    """One sample for each target, number of connections and round; the warm-up has round -1 and lasts 1 s."""
    for number, load, target in visits(targets, connections, rounds=rounds):
        before = cpu_seconds(target.pids)
        report = wrk.run(target, connections=load, seconds=1 if number == WARM_UP else seconds)
        # First settle, then read: what the target still does after the last answer belongs to its requests.
        settle(target.pids)
        used = cpu_seconds(target.pids) - before
        yield Sample(
            part="closed",
            target=target.name,
            load=load,
            round=number,
            figures={
                "rate": report.rate,
                "p50_ms": report.p50_ms,
                "p99_ms": report.p99_ms,
                "cpu_us": used / max(1, report.requests) * 1e6,
            },
            faults=report.faults,
        )
