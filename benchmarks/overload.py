"""What happens above the limit: more connections than the target carries at once, each sending again and again.

A target that protects itself answers some with 503 at once, and the others about as fast as before. A refused
connection tries again after a pause that is shorter than the `Retry-After` it is given: these callers are impatient.
Figures: `accepted_rate`, `accepted_p50_ms`, `accepted_p99_ms`, `refused_share` (503s among all answers),
`refused_p99_ms`.
"""

import asyncio
import gc
import random
import resource
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import uvloop

from benchmarks.cpu import settle
from benchmarks.https import Connection, client_context, close_all, connect, latencies_ms
from benchmarks.progress import say
from benchmarks.rounds import visits
from benchmarks.samples import Sample, percentile
from benchmarks.targets import Target

REFUSED_PAUSE_S = 0.25
_STEPS = (256, 512, 1024, 2048)
_CONNECTING_AT_ONCE = 64
_WARM_UP_S = 1
_FILES = 16384


def measure(target: Target, *, rounds: int, seconds: int) -> Iterator[Sample]:
    """Samples below and above the limit, round by round; none if no 503 can be had.

    Below is as many connections as the limit allows, above is twice as many. A target that does not say its limit gets
    more and more connections until it refuses some.
    """
    loads = (target.limit, 2 * target.limit) if target.limit else _find_limit(target)
    if loads is None:
        say(f"overload   {target.name} refused nothing at {_STEPS[-1]} connections")
        return
    for number, load, visited in visits([target], loads, rounds=rounds):
        yield run_once(visited, load, number, seconds)


def allow_many_files() -> None:
    """Raise our own limit on open files to what the measurements need; processes started later inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))


def run_once(target: Target, connections: int, number: int, seconds: int) -> Sample:
    """One run with so many connections."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            sample = runner.run(_run(target, connections, number, seconds))
    finally:
        gc.enable()
    settle(target.pids)
    return sample


def _find_limit(target: Target) -> tuple[int, int] | None:
    for below, above in pairwise(_STEPS):
        if run_once(target, above, -1, _WARM_UP_S).figures["refused_share"] > 0:
            return below, above
    return None


async def _run(target: Target, connections: int, number: int, seconds: int) -> Sample:
    crowd = _Crowd(target, client_context(target.identity))
    await crowd.gather(connections)
    start = time.perf_counter()
    crowd.begin()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - start
    await crowd.disperse()
    accepted, refused = latencies_ms(crowd.accepted), latencies_ms(crowd.refused)
    figures = {
        "accepted_rate": len(accepted) / elapsed,
        "refused_share": len(refused) / max(1, len(accepted) + len(refused)),
    }
    if accepted:
        figures |= {"accepted_p50_ms": percentile(accepted, 0.5), "accepted_p99_ms": percentile(accepted, 0.99)}
    if refused:
        figures |= {"refused_p99_ms": percentile(refused, 0.99)}
    return Sample(
        part="overload", target=target.name, load=connections, round=number, figures=figures, faults=crowd.faults
    )


class _Crowd:
    """Every connection sends again: at once when it was answered, after a pause when it was refused.

    A server may close a connection with its refusal; then the caller comes back on a new one, after the same pause.
    """

    def __init__(self, target: Target, context: ssl.SSLContext) -> None:
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.faults: Counter[str] = Counter()
        self._target = target
        self._context = context
        self._connections: set[Connection] = set()
        self._returning: set[asyncio.Task[None]] = set()
        self._going = False

    async def gather(self, connections: int) -> None:
        """Open so many connections; none of them sends yet."""
        while len(self._connections) < connections:
            batch = min(_CONNECTING_AT_ONCE, connections - len(self._connections))
            self._connections |= set(await asyncio.gather(*(self._connect() for _ in range(batch))))

    def begin(self) -> None:
        """All send at once."""
        self._going = True
        for connection in self._connections:
            connection.send(time.perf_counter())

    async def disperse(self) -> None:
        """Close everything. What is still under way does not count."""
        self._going = False
        for task in self._returning:
            task.cancel()
        await asyncio.gather(*self._returning, return_exceptions=True)
        await close_all([*self._connections])

    def on_answer(self, connection: Connection, status: int) -> None:
        if not self._going:
            return
        now = time.perf_counter()
        if status == 503:
            self.refused.append(now - connection.since)
            asyncio.get_running_loop().call_later(_pause(), self._again, connection)
            return
        if status == 200:
            self.accepted.append(now - connection.since)
        else:
            self.faults["status"] += 1
        connection.send(now)

    def on_lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._going:
            if connection.busy:
                self.faults["lost"] += 1
            task = asyncio.create_task(self._return())
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    def _again(self, connection: Connection) -> None:
        if self._going:
            connection.send(time.perf_counter())

    async def _connect(self) -> Connection:
        return await connect(self._target, self, self._context)

    async def _return(self) -> None:
        await asyncio.sleep(_pause())
        try:
            connection = await self._connect()
        except OSError:
            self.faults["connect"] += 1
            return
        self._connections.add(connection)
        self._again(connection)


def _pause() -> float:
    # Spread, so that those refused together do not come back together.
    return REFUSED_PAUSE_S * random.uniform(0.5, 1.5)
