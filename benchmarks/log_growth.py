"""Whether the log takes records as fast when it is large: logs of several sizes, appended to in turn.

Each log is filled by the log's own writer, in groups of 2,000. Then, round by round, each takes 200 groups of 64 records, as they
come under load, each group durable before the next. Load is the number of entries that a log began with. Figures: `rate`, durable
appends per second; `p50_ms` and `p99_ms` of a group.

Sizes are visited in turn, so their ratio within a round tells growth from noise of the machine.
"""

import asyncio
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from benchmarks.log_records import Records
from benchmarks.log_scale import log_writer
from benchmarks.postgres import running_postgres
from benchmarks.progress import say
from benchmarks.rounds import WARM_UP
from benchmarks.samples import Sample, percentile
from exchange.log.frames import Entry, Frame
from exchange.log.writer import LogWriter

Database = Literal["sqlite", "postgresql"]
SIZES = (10_000, 100_000, 1_000_000)
"""Unless others are asked for: 10 million take about ten minutes and 15 GB."""
_FILL, _GROUP, _GROUPS = 2000, 64, 200
_CHECKPOINT_EVERY = 100_000


def measure(folder: Path, *, sizes: Sequence[int], database: Database, rounds: int) -> Iterator[Sample]:
    """One sample for each size and round; the warm-up has round -1.

    Args:
        folder: Where the logs are made; it is made, open to the user whom PostgreSQL runs as, and removed at the end.

    Raises:
        BenchError: There is no PostgreSQL here.
    """
    with asyncio.Runner() as runner, ExitStack() as opened:
        logs: list[tuple[int, LogWriter, Records]] = []
        folder.mkdir(mode=0o755)
        opened.callback(shutil.rmtree, folder, ignore_errors=True)
        for size in sizes:
            place = folder / str(size)
            place.mkdir(mode=0o755)
            url = f"sqlite:///{place / 'log.db'}"
            if database == "postgresql":
                url = opened.enter_context(running_postgres(place / "postgres"))
            writer, close = runner.run(log_writer(url, place))
            opened.callback(_closing(runner, close))
            records = Records(size)
            runner.run(_fill(writer, records, size))
            logs.append((size, writer, records))
        for number in range(WARM_UP, rounds):
            for size, writer, records in logs:
                groups = [list(records.take(_GROUP)) for _ in range(_GROUPS)]
                times = runner.run(_append(writer, groups))
                runner.run(writer.checkpoint())
                figures = {
                    "rate": _GROUPS * _GROUP / sum(times),
                    "p50_ms": percentile(times, 0.50) * 1e3,
                    "p99_ms": percentile(times, 0.99) * 1e3,
                }
                yield Sample(part="growth", target=database, load=size, round=number, figures=figures)


async def _fill(writer: LogWriter, records: Records, size: int) -> None:
    started, tell = time.perf_counter(), _teller(size)
    for first in range(0, size, _FILL):
        await writer.write([Frame(entries=list(records.take(min(_FILL, size - first))))])
        if (first + _FILL) % _CHECKPOINT_EVERY < _FILL:
            await writer.checkpoint()
        tell(first + _FILL)
    await writer.checkpoint()
    say(f"a log of {size} entries in {time.perf_counter() - started:.0f} s")


def _closing(runner: asyncio.Runner, close: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    return lambda: runner.run(close())


def _teller(size: int) -> Callable[[int], None]:
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        if done - told >= 500_000:
            told = done
            say(f"{done} of {size} written")

    return tell


async def _append(writer: LogWriter, groups: Sequence[list[Entry]]) -> list[float]:
    """Seconds of each group, ascending."""
    times = []
    for group in groups:
        started = time.perf_counter()
        await writer.write([Frame(entries=group)])
        times.append(time.perf_counter() - started)
    return sorted(times)
