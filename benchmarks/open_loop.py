"""How long an answer takes when requests come at a fixed rate, whether or not earlier ones are answered.

Latency counts from the moment a request was due, not from when a connection was free for it: a server that stalls is
charged for everyone who had to wait (no coordinated omission). Figures: `p50_ms`, `p90_ms`, `p99_ms` and `answered`,
the share of requests that got an answer of 200.
"""

import asyncio
import gc
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

import uvloop

from benchmarks.cpu import settle
from benchmarks.https import Connection, client_context, close_all, connect, latencies_ms
from benchmarks.rounds import WARM_UP, visits
from benchmarks.samples import Sample, percentile
from benchmarks.targets import Target

CONNECTIONS = 64
_LAST_ANSWERS_S = 10.0


def measure(targets: Sequence[Target], *, rates: Sequence[int], rounds: int, seconds: int) -> Iterator[Sample]:
    """One sample for each target, rate and round; the warm-up has round -1 and lasts 1 s."""
    for number, rate, target in visits(targets, rates, rounds=rounds):
        # A collection of our own garbage would be charged to the target as latency.
        gc.collect()
        gc.disable()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                sample = runner.run(run_once(target, rate, number, 1 if number == WARM_UP else seconds))
        finally:
            gc.enable()
        settle(target.pids)
        yield sample


async def run_once(target: Target, rate: int, number: int, seconds: int) -> Sample:
    """Requests at one rate for some seconds."""
    schedule = _Schedule(rate * seconds)
    context = client_context(target.identity)
    connections = [await connect(target, schedule, context) for _ in range(CONNECTIONS)]
    schedule.free.extend(connections)
    start = time.perf_counter()
    for index in range(schedule.total):
        due = start + index / rate
        early = due - time.perf_counter()
        if early > 0:
            await asyncio.sleep(early)
        schedule.request(due)
    with suppress(TimeoutError):  # What is missing shows in `answered` and as a fault.
        await asyncio.wait_for(schedule.finished.wait(), _LAST_ANSWERS_S)
    await close_all(connections)
    waits = latencies_ms(schedule.waits) or [_LAST_ANSWERS_S * 1e3]
    return Sample(
        part="open",
        target=target.name,
        load=rate,
        round=number,
        figures={
            "p50_ms": percentile(waits, 0.50),
            "p90_ms": percentile(waits, 0.90),
            "p99_ms": percentile(waits, 0.99),
            "answered": len(schedule.waits) / schedule.total,
        },
        faults={"status": schedule.refused, "unanswered": schedule.total - len(schedule.waits) - schedule.refused},
    )


class _Schedule:
    """Hands each due request to a free connection, or keeps it until one is free. Only an answer of 200 is a wait."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free: deque[Connection] = deque()
        self.late: deque[float] = deque()
        self.waits: list[float] = []
        self.refused = 0
        self.finished = asyncio.Event()

    def request(self, due: float) -> None:
        while self.free:
            if self.free.popleft().send(due):
                return
        self.late.append(due)

    def on_answer(self, connection: Connection, status: int) -> None:
        if status == 200:
            self.waits.append(time.perf_counter() - connection.since)
        else:
            self.refused += 1
        if len(self.waits) + self.refused >= self.total:
            self.finished.set()
        if not self.late:
            self.free.append(connection)
        elif connection.send(self.late[0]):
            self.late.popleft()

    def on_lost(self, connection: Connection) -> None:
        """Its request, if any, stays unanswered; the other connections carry on."""
