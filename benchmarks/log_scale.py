"""The log as it grows, and searching it: `python -m benchmarks.log_scale --records 1000000 --database sqlite --folder DIR`.

1. Records are written by the log's own writer: in groups of 2,000 to fill it, and at 10,000, 100,000, 1 million and 10 million
   entries in groups of 64, as they come under load, each group durable before the next.
2. Then the index is made, and each search is timed, the first time apart from the next ones: the first reads from the disk's
   cache what later ones find in memory. Nothing else runs meanwhile.
3. Searches are timed where they are answered, in the search process, without the socket to the gateway.
"""

import argparse
import asyncio
import json
import resource
import shutil
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.log_records import BEGIN_MS, MONTH_MS, Records, hex_of
from benchmarks.machine import hardware, revision
from benchmarks.postgres import running_postgres
from benchmarks.progress import say
from exchange.log.frames import Frame, Start
from exchange.log.store_sqlite import create_file
from exchange.log.writer import LastSigned, LogWriter, open_store
from exchange.search.filters import RecordFilter
from exchange.search.log_search import LogSearch
from exchange.search.statistics import Step
from exchange.storage.database import database_url, sqlite_path, upgrade
from exchange.transparency.checkpoint import NoteSigner

_FILL, _GROUP, _PROBE = 2000, 64, 200
_DECADES = (10_000, 100_000, 1_000_000, 10_000_000)
_ROUNDS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Appending to a log of some size."""

    entries: int
    appends_per_second: float
    """In groups of 64."""
    group_p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One question."""

    name: str
    found: int
    first_ms: float
    median_ms: float
    worst_ms: float
    """Of all but the first."""


async def fill(url: str, folder: Path, count: int) -> tuple[list[Growth], float]:
    """Write `count` records; how fast that was at each decade, and in groups of 2,000 on the whole."""
    writer, close = await log_writer(url, folder)
    records = Records(count)
    growth: list[Growth] = []
    written, seconds = 0, 0.0
    while written < count:
        if written in _DECADES:
            growth.append(await _probe(writer, records, written))
            written += _PROBE * _GROUP
            say(f"{growth[-1]}")
            continue
        end = min([decade for decade in (*_DECADES, count) if decade > written])
        entries = list(records.take(min(_FILL, end - written, count - written)))
        started = time.perf_counter()
        await writer.write([Frame(entries=entries)])
        seconds += time.perf_counter() - started
        written += len(entries)
        if written % 100_000 < _FILL:
            await writer.checkpoint()
            say(f"{written} written")
    growth.append(await _probe(writer, records, written))
    say(f"{growth[-1]}")
    await writer.checkpoint()
    await close()
    return growth, written / seconds


async def _probe(writer: LogWriter, records: Records, entries: int) -> Growth:
    times = []
    for _ in range(_PROBE):
        group = list(records.take(_GROUP))
        started = time.perf_counter()
        await writer.write([Frame(entries=group)])
        times.append(time.perf_counter() - started)
    times.sort()
    return Growth(
        entries=entries,
        appends_per_second=round(_PROBE * _GROUP / sum(times)),
        group_p99_ms=round(times[int(0.99 * len(times))] * 1000, 2),
    )


async def log_writer(url: str, folder: Path) -> tuple[LogWriter, Callable[[], Coroutine[Any, Any, None]]]:
    """The writer of a log that is made in `folder` or at the URL, and what closes it."""
    place = database_url(url)
    file = sqlite_path(place)
    if file:
        create_file(file)
    await upgrade(place, "exchange.migrations")
    key = folder / "log.key"
    signer = NoteSigner.generate("log.example/scale")
    key.write_text(signer.skey)
    _, arguments = place.get_dialect()().create_connect_args(place)
    start = Start(
        sqlite_path=str(file or ""),
        postgresql={} if file else dict(arguments),
        log_key=str(key),
        gateway="bench",
        boot="bench",
        checkpoint_interval=1.0,
    )
    store = open_store(start)
    return LogWriter(store, signer, LastSigned(key), "bench", "bench"), store.close


def questions(records: Records) -> list[tuple[str, RecordFilter]]:
    """What is looked for: common and rare, alone and together, and what there is not."""
    client, service = records.clients[0], records.services[7]
    rare_client = records.clients[-1]
    month = BEGIN_MS + 4 * MONTH_MS
    return [
        ("everything", RecordFilter()),
        ("caller, common", RecordFilter(client=client)),
        ("caller, rare", RecordFilter(client=rare_client)),
        ("owner", RecordFilter(owner=service.rpartition("/")[0])),
        ("service", RecordFilter(service=service)),
        ("service and refused", RecordFilter(service=service, outcome="refused")),
        ("caller never asks service", RecordFilter(client=rare_client, service=_not_asked(records))),
        ("official", RecordFilter(user="official-77")),
        ("nobody's official", RecordFilter(user="official-none")),
        ("subject", RecordFilter(subjects=frozenset([hex_of("4711")]))),
        ("subject, two hashes, one unknown", RecordFilter(subjects=frozenset([hex_of("815"), hex_of("nobody")]))),
        ("unknown subject", RecordFilter(subjects=frozenset([hex_of("nobody")]))),
        ("subject and a month", RecordFilter(subjects=frozenset([hex_of("4711")]), since_ms=month)),
        ("case", RecordFilter(case="2026-4711")),
        ("no such case", RecordFilter(case="2027-1")),
        ("certificate serial", RecordFilter(certificate_serial="0001010")),
        ("rule", RecordFilter(rule="deadline")),
        ("code and caller", RecordFilter(code="access-denied", client=rare_client)),
        ("unknown outcome of a caller", RecordFilter(outcome="unknown", client=rare_client)),
        ("status 500 and more", RecordFilter(status_min=500)),
        ("status 404 of an official", RecordFilter(status_min=404, status_max=404, user="official-77")),
        ("slower than 0.5 s", RecordFilter(duration_min_us=500_000)),
        ("slower than 5 s", RecordFilter(duration_min_us=5_000_000)),
        ("slow, of a caller", RecordFilter(duration_min_us=200_000, client=rare_client)),
        ("slower than ever", RecordFilter(duration_min_us=100_000_000)),
        (
            "between 4.0 and 4.1 ms, official",
            RecordFilter(duration_min_us=4000, duration_max_us=4100, user="official-77"),
        ),
        ("large answers", RecordFilter(answer_size_min=1 << 20)),
        ("large requests of a service", RecordFilter(request_size_min=50_000, service=service)),
        ("a day", RecordFilter(since_ms=month, until_ms=month + 86_400_000)),
        (
            "a day, a caller, refused",
            RecordFilter(since_ms=month, until_ms=month + 86_400_000, client=client, outcome="refused"),
        ),
        ("before everything", RecordFilter(until_ms=BEGIN_MS - 1)),
        ("purpose, channel and method", RecordFilter(purpose="purpose-7", channel="hall", method="POST")),
        ("grant, any version", RecordFilter(grant="g77")),
        ("changes", RecordFilter(kind="change")),
    ]


def _not_asked(records: Records) -> str:
    asked = set(records._asks[-1])
    return next(service for service in records.services if service not in asked)


async def measure(url: str, count: int) -> dict[str, Any]:
    """Make the index, then ask."""
    search = await LogSearch.open(url)
    assert await search.indexer.take()
    started = time.perf_counter()
    cpu = time.process_time()
    indexed = await search.indexer.catch_up(_progress())
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    say(f"index: {indexed} entries in {seconds:.1f} s, {indexed / seconds:.0f}/s")
    await search.close()
    search = await LogSearch.open(url)
    records = Records(count)
    pages, figures = [], []
    for name, wanted in questions(records):
        pages.append(await _timed(name, lambda wanted=wanted: _page(search, wanted)))
        say(f"{pages[-1]}")
    month = RecordFilter(since_ms=BEGIN_MS + 2 * MONTH_MS, until_ms=BEGIN_MS + 3 * MONTH_MS)
    of_month = {"since_ms": month.since_ms, "until_ms": month.until_ms}
    asked: list[tuple[str, RecordFilter, Step]] = [
        ("a month, by hour", month, "hour"),
        ("a month, by day", month, "day"),
        ("a month of a caller", RecordFilter(client=records.clients[0], **of_month), "day"),
        (
            "a month of an owner, refused",
            RecordFilter(owner="CN/GOV/1199700007DT000001Q/register", outcome="refused", **of_month),
            "day",
        ),
        ("a month, slower than 20 ms", RecordFilter(duration_min_us=20_000, **of_month), "day"),
        ("a month of an official", RecordFilter(user="official-77", **of_month), "day"),
        ("everything, by month", RecordFilter(), "month"),
    ]
    for name, wanted, step in asked:
        figures.append(await _timed(name, lambda wanted=wanted, step=step: _total(search, wanted, step), 5))
        say(f"{figures[-1]}")
    status = await search.status()
    await search.close()
    return {
        "index": {
            "entries": indexed,
            "seconds": round(seconds, 1),
            "per_second": round(indexed / seconds),
            "cpu_seconds": round(cpu, 1),
            "unindexed": status.size - status.indexed,
        },
        "first_pages": [asdict(each) for each in pages],
        "statistics": [asdict(each) for each in figures],
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


async def _page(search: LogSearch, wanted: RecordFilter) -> int:
    return len((await search.page(wanted)).entries)


async def _total(search: LogSearch, wanted: RecordFilter, step: Step) -> int:
    return (await search.statistics(wanted, step=step)).total


async def _timed(name: str, ask: Any, rounds: int = _ROUNDS) -> Timed:
    times = []
    found = 0
    for _ in range(rounds):
        started = time.perf_counter()
        found = await ask()
        times.append((time.perf_counter() - started) * 1000)
    later = sorted(times[1:])
    return Timed(
        name=name,
        found=found,
        first_ms=round(times[0], 2),
        median_ms=round(later[len(later) // 2], 2),
        worst_ms=round(later[-1], 2),
    )


def _progress() -> Any:
    told = 0

    def tell(done: int, size: int) -> None:
        nonlocal told
        if done - told >= 500_000:
            told = done
            say(f"{done} of {size} indexed")

    return tell


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.log_scale", description="The log as it grows, and searching it."
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--folder", type=Path, required=True, help="where the database is made, and removed again")
    parser.add_argument("--keep", action="store_true", help="leave the database there, for --reuse")
    parser.add_argument(
        "--reuse", action="store_true", help="only ask: the log and its index are in the folder from --keep"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args(arguments)
    folder = given.folder / f"log-scale-{given.database}-{given.records}"
    folder.mkdir(parents=True, exist_ok=given.reuse)
    try:
        with ExitStack() as opened:
            if given.database == "sqlite":
                url = f"sqlite:///{folder / 'log.db'}"
            else:
                folder.chmod(0o755)
                url = opened.enter_context(running_postgres(folder / "postgres"))
            growth, filled = ([], 0.0) if given.reuse else asyncio.run(fill(url, folder, given.records))
            found = asyncio.run(measure(url, given.records))
        files = {path.name: path.stat().st_size for path in folder.rglob("*.db*") if path.is_file()}
        result = {
            "format": "datong-log-scale/1",
            "machine": hardware(folder),
            "revision": revision(Path(__file__).parents[1]),
            "database": given.database,
            "records": given.records,
            "fill_per_second": round(filled),
            "growth": [asdict(each) for each in growth],
            **found,
            "files": files,
        }
        name = time.strftime(f"log-scale-{given.database}-{given.records}-%Y-%m-%dT%H%M%SZ.json", time.gmtime())
        (given.out / name).write_text(json.dumps(result, indent=1, default=str) + "\n")
        print(given.out / name)
    finally:
        if not given.keep and not given.reuse:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
