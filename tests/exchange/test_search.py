"""Searching the log by its index: whatever is asked, the answer is that of looking at every record."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from exchange.errors import InvalidRequestError, UnavailableError
from exchange.log.frames import Entry
from exchange.search import log_search, tally
from exchange.search.facts import facts_of
from exchange.search.filters import RecordFilter
from exchange.search.index_place import open_store, search_url_of
from exchange.search.index_store import SMALL, IndexStore, Segment
from exchange.search.indexer import IndexFault
from exchange.search.log_search import LogSearch
from exchange.search.postings import LARGE
from exchange.search.rows import LogRows
from exchange.search.statistics import DURATION_ERROR, POINT_ERROR, Statistics
from exchange.storage.database import create_engine, database_url, sqlite_path, writing
from tests.databases import PostgresServer
from tests.exchange.search_kit import SUBJECTS, any_filter, counted, fill, read, varied, wanted_of

COUNT = LARGE + SMALL + 1300
"""Entries of the large log: one large segment, one small, and some that no index holds."""
ROOT = Path(__file__).parents[2]


@lru_cache(1)
def records() -> tuple[list[Entry], list[dict[str, Any]]]:
    rows = varied(1, COUNT)
    return rows, [read(row[7], seq) for seq, row in enumerate(rows)]


@pytest.fixture(scope="module")
def sqlite_log(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a log of COUNT entries without an index. Nobody writes to it."""
    folder = tmp_path_factory.mktemp("large")
    url = f"sqlite:///{folder / 'log.db'}"
    asyncio.run(fill(url, folder, records()[0]))
    return url


@pytest.fixture(scope="module")
def postgresql_log(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = asyncio.run(postgres_server.create_database())
    asyncio.run(fill(url, tmp_path_factory.mktemp("large"), records()[0]))
    return url


@pytest.fixture
def large_log(request: pytest.FixtureRequest, database: str) -> str:
    """One of them; the test says which database."""
    url: str = request.getfixturevalue(f"{database}_log")
    return url


@pytest.fixture
async def index_url(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> str:
    """Where an index of the large log can be made, on the same kind of database."""
    if database == "sqlite":
        return f"sqlite:///{tmp_path / 'index.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return await server.create_database()


both = pytest.mark.parametrize("database", ["sqlite", "postgresql"])
one = pytest.mark.parametrize("database", ["sqlite"])
"""For what does not depend on the database: what is stored there is the same."""


class RowsSoFar(LogRows):
    """A log that grows when it is told to."""

    def __init__(self, url: str) -> None:
        super().__init__(database_url(url))
        self.so_far = 0

    async def size(self) -> int:
        return self.so_far


@asynccontextmanager
async def searching(log: str, index: str = "") -> AsyncIterator[LogSearch]:
    search = await LogSearch.open(log, index)
    try:
        yield search
    finally:
        await search.close()


@asynccontextmanager
async def searching_so_far(log: str, index: str) -> AsyncIterator[tuple[LogSearch, RowsSoFar]]:
    rows = RowsSoFar(log)
    search = LogSearch(rows, open_store(search_url_of(log, index)))
    try:
        yield search, rows
    finally:
        await search.close()


@lru_cache(1)
def asked() -> list[tuple[RecordFilter, list[dict[str, Any]]]]:
    """Filters, and what they find in the large log."""
    rows, said = records()
    chance = random.Random(5)
    filters = [any_filter(chance, rows) for _ in range(30)]
    return [(wanted, wanted_of(said, wanted)) for wanted in filters]


async def compare_pages(search: LogSearch, wanted: RecordFilter, expected: Sequence[dict[str, Any]]) -> None:
    """Follow up to three pages."""
    numbers = [each["seq"] for each in expected][::-1]
    cursor, limit = None, 40
    for at in range(0, 3 * limit, limit):
        page = await search.page(wanted, cursor, limit)
        assert [entry.seq for entry in page.entries] == numbers[at : at + limit], wanted
        cursor = page.next_cursor
        assert (cursor is not None) == (len(numbers) > at + limit), wanted
        if cursor is None:
            break


def compare_figures(found: Statistics, expected: Sequence[dict[str, Any]], wanted: RecordFilter) -> None:
    exact = counted(expected)
    told = {name: getattr(found, name) for name in exact if name not in ("max_us", "pairs")}
    told |= {"max_us": found.duration.max_us, "pairs": {(each.client, each.owner): each.count for each in found.matrix}}
    assert told == exact, wanted
    durations = sorted(each["duration_us"] for each in expected)
    for percent, told_us in ((50, found.duration.p50_us), (95, found.duration.p95_us), (99, found.duration.p99_us)):
        true = durations[-(-len(durations) * percent // 100) - 1] if durations else 0
        assert abs(told_us - true) <= DURATION_ERROR * true + 1, (wanted, percent)
    assert sum(point.count for point in found.series) == len(expected)
    starts = [point.start_ms for point in found.series]
    assert starts == sorted(set(starts))
    for point, end_ms in list(zip(found.series, [*starts, 1 << 60][1:], strict=True))[:5]:
        inside = [each for each in expected if point.start_ms <= each["at_ms"] < end_ms]
        assert len(inside) == point.count, wanted
        durations = sorted(each["duration_us"] for each in inside)
        true = durations[-(-len(durations) * 95 // 100) - 1]
        assert abs(point.p95_us - true) <= POINT_ERROR * true + 1, wanted


@both
async def test_whatever_is_asked_the_answer_is_that_of_looking_at_every_record(large_log: str, index_url: str) -> None:
    """Random filters over large segments, small ones, and entries that no index holds yet."""
    chance = random.Random(5)
    async with searching(large_log, index_url) as search:
        assert await search.indexer.take()
        assert await search.indexer.catch_up() == LARGE + SMALL
        times = [each["at_ms"] for each in records()[1][:LARGE] if each["kind"] == "exchange"]
        for border in (min(times), max(times)):
            for wanted in (RecordFilter(until_ms=border + 1), RecordFilter(since_ms=border, until_ms=border + 1)):
                await compare_pages(search, wanted, wanted_of(records()[1], wanted))
        for turn, (wanted, expected) in enumerate(asked()):
            await compare_pages(search, wanted, expected)
            if turn % 6 == 0:
                step = chance.choice(["hour", "day", "month"])
                compare_figures(await search.statistics(wanted, step=step), expected, wanted)  # type: ignore[arg-type]
            if turn % 8 == 0:
                below = chance.randrange(COUNT)
                numbers = [each["seq"] for each in expected if each["seq"] < below]
                assert await search.numbers(wanted, below=below, limit=30) == numbers[::-1][:30]
                some = numbers[:1200]
                end = some[-1] + 1 if some else 0
                assert [entry.seq async for entry in search.iterate(wanted, end)] == some


@pytest.mark.parametrize(("database", "indexed"), [("sqlite", True), ("postgresql", True), ("sqlite", False)])
async def test_a_record_is_found_as_soon_as_it_is_in_the_log_and_pages_stay_right(
    large_log: str, index_url: str, indexed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log grows between the pages; small segments come, and become a large one."""
    monkeypatch.setattr(log_search, "_LOOK_SECONDS", 1000)
    rows, said = records()
    chance = random.Random(6)
    sizes = [1, 300, SMALL - 1, SMALL, 3 * SMALL + 5]
    sizes += [LARGE - 1, LARGE, LARGE + 7] if indexed else []
    wanted = RecordFilter(outcome="refused", client=said[10]["client"], until_ms=said[-1]["at_ms"])
    async with (
        searching_so_far(large_log, index_url) as (search, log),
        searching_so_far(large_log, index_url) as (other, other_log),
    ):
        log.so_far = 2500
        first = await search.page(wanted, limit=5)
        rest = [each["seq"] for each in wanted_of(said[:2500], wanted)][::-1]
        assert [entry.seq for entry in first.entries] == rest[:5]
        for size in sizes:
            log.so_far = size
            if indexed:
                assert await search.indexer.take()
                assert await search.indexer.catch_up() == size - size % SMALL
            other_log.so_far = size
            other._finder._cache.clear()
            for turn in range(4):
                each = any_filter(chance, rows[:size])
                # The other one is not told that the index has changed: it finds out when it reads.
                await compare_pages(search if turn % 2 else other, each, wanted_of(said[:size], each))
            await other.status()
            if size > 2500:
                later = await search.page(wanted, first.next_cursor, 5)
                assert [entry.seq for entry in later.entries] == rest[5:10]
        everything = await search.statistics(RecordFilter(kind="any"), step="day")
        assert (everything.total, everything.size) == (sizes[-1], sizes[-1])
        if indexed and large_log.startswith("sqlite"):
            # Segments that grew out of small ones are byte for byte those that are made at once.
            grown = await _all_rows(search._store)
            await search.make_index(rebuild=True)
            assert await _all_rows(search._store) == grown


async def _all_rows(store: IndexStore) -> tuple[list[Segment], dict[int, bytes]]:
    generation, segments = await store.segments()
    return segments, dict(await store.fetch(generation, [(0, 1 << 62)]))


VICTIM = """
import asyncio, os, signal, sys
from exchange.search import index_postgresql, index_sqlite
from exchange.search.log_search import LogSearch

log, index, size, puts, when = sys.argv[1:]
left = int(puts)

def may_die(now):
    global left
    left -= now == "within"
    if not left and when == now:
        os.kill(os.getpid(), signal.SIGKILL)

encode = index_sqlite.row_of_segment

def row_of_segment(*arguments):
    may_die("within")  # rows are written and deleted, nothing is committed
    return encode(*arguments)

index_sqlite.row_of_segment = index_postgresql.row_of_segment = row_of_segment

async def main():
    search = await LogSearch.open(log, index)
    put = search.indexer._store.put

    async def put_and_die(*arguments, **named):
        await put(*arguments, **named)
        may_die("after")

    async def size_now():
        # The first of them is small, however large the log is.
        return int(size) if left < int(puts) else 4096

    search.indexer._store.put = put_and_die
    search._rows.size = size_now
    assert await search.indexer.take()
    while True:
        await search.indexer.catch_up()

asyncio.run(main())
"""


@pytest.mark.faults
@pytest.mark.parametrize(
    ("database", "size", "puts", "when"),
    [
        ("sqlite", 3 * SMALL, 2, "within"),
        ("sqlite", 3 * SMALL, 2, "after"),
        # The large one that takes the place of sixteen small ones.
        ("sqlite", LARGE, 17, "within"),
        ("postgresql", 3 * SMALL, 2, "within"),
    ],
)
async def test_an_index_whose_maker_was_killed_is_right_and_is_gone_on_with(
    large_log: str, index_url: str, size: int, puts: int, when: str
) -> None:
    """kill -9 in the middle of a transaction, and after it."""
    command = [sys.executable, "-c", VICTIM, large_log, index_url, str(size), str(puts), when]
    victim = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
    assert await victim.wait() == -signal.SIGKILL
    _, said = records()
    wanted = RecordFilter(subjects=frozenset(SUBJECTS[:3]))
    expected = wanted_of(said[:size], wanted)
    async with searching_so_far(large_log, index_url) as (search, log):
        log.so_far = size
        segments = (await search._store.segments())[1]
        assert [segment.count for segment in segments] == [SMALL] * (puts - (when == "within"))
        await compare_pages(search, wanted, expected)
        assert await search.make_index() == size
        await compare_pages(search, wanted, expected)
        assert await search.check() is None


def _spoil(index: str, statement: str, *values: object) -> None:
    """Change the index behind its back."""
    file = sqlite_path(database_url(index))
    assert file
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute(statement, values)


@one
async def test_an_index_that_is_not_what_the_records_say_is_named_and_never_invents(
    large_log: str, index_url: str
) -> None:
    """Every table of the index, changed: what is found is right, and the check names the segment."""
    _, said = records()
    wanted = RecordFilter(user=said[0]["user"], outcome="failed")
    expected = {each["seq"] for each in wanted_of(said, wanted)}
    made: dict[tuple[int, int], Any] = {}
    async with searching(large_log, index_url) as search:
        await search.make_index()
        segments, rows = await _all_rows(search._store)
        for segment in segments:
            made[segment.first, segment.count] = await search.indexer._made(segment.first, segment.count)

    async def made_before(first: int, count: int) -> Any:
        return made[first, count]

    async def named() -> IndexFault | None:
        async with searching(large_log, index_url) as search:
            # The log is the same each time; the index is read each time.
            search.indexer._made = made_before  # type: ignore[method-assign]
            try:
                found = {entry.seq for entry in (await search.page(wanted, limit=1000)).entries}
                assert found <= expected
            except UnavailableError:
                pass  # it is seen at once that this is no index
            return await search.check()

    assert await named() is None
    chance = random.Random(7)
    changed = chance.sample(sorted(rows), 6)
    for key in changed:
        data = bytearray(rows[key])
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        _spoil(index_url, "UPDATE search_rows SET data = ? WHERE key = ?", bytes(data), key)
        fault = await named()
        segment = next(each for each in segments if each.number == key & ((1 << 38) - 1))
        assert fault is not None
        assert (fault.first, fault.end) == (segment.first, segment.end)
        _spoil(index_url, "UPDATE search_rows SET data = ? WHERE key = ?", rows[key], key)
        _spoil(index_url, "DELETE FROM search_rows WHERE key = ?", key)
        assert await named() is not None
        _spoil(index_url, "INSERT INTO search_rows VALUES (?, ?)", key, rows[key])
    assert await named() is None
    _spoil(index_url, "INSERT INTO search_rows VALUES (?, ?)", 5 << 54 | 77 << 38 | 3, b"planted")
    assert "no segment" in _problem(await named())
    _spoil(index_url, "DELETE FROM search_rows WHERE data = ?", b"planted")
    _spoil(index_url, "UPDATE search_segments SET latest_ms = earliest_ms WHERE first = ?", 0)
    assert await named() is not None
    _spoil(index_url, "DELETE FROM search_segments WHERE first = ?", 0)
    assert "missing" in _problem(await named())


def _problem(fault: IndexFault | None) -> str:
    return fault.problem if fault else ""


@one
async def test_an_index_of_another_log_is_not_asked_and_is_begun_anew(
    large_log: str, index_url: str, tmp_path: Path
) -> None:
    rows = varied(2, SMALL + 100)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    await fill(other, tmp_path, rows)
    said = [read(row[7], seq) for seq, row in enumerate(rows)]
    wanted = RecordFilter(kind="any", client=said[0]["client"])
    async with searching_so_far(large_log, index_url) as (search, log):
        log.so_far = SMALL + 50
        await search.make_index()
    async with searching(other, index_url) as search:
        assert _problem(await search.check()) == "it is the index of another log"
        assert (await search.status()).indexed == 0
        await compare_pages(search, wanted, wanted_of(said, wanted))
        assert await search.make_index() == SMALL
        assert await search.check() is None
        await compare_pages(search, wanted, wanted_of(said, wanted))


async def test_records_that_were_removed_are_not_found_and_not_counted(database_url: str, tmp_path: Path) -> None:
    """Their rows are gone before and after the index was made; what is left stays right."""
    rows = varied(3, SMALL + 700)
    await fill(database_url, tmp_path, rows)
    said = [read(row[7], seq) for seq, row in enumerate(rows)]
    everything, official = RecordFilter(kind="any"), RecordFilter(user=said[0]["user"])
    async with searching(database_url) as search:
        await search.make_index()
        left = said
        for first, end in ((0, 256), (1024, 1536), (SMALL, SMALL + 512)):
            await _remove(database_url, first, end)
            left = [each for each in left if not first <= each["seq"] < end]
            # The rows are gone, and the index does not know it.
            await compare_pages(search, official, wanted_of(left, official))
            await search.make_index()
            await compare_pages(search, official, wanted_of(left, official))
            if end <= SMALL:
                compare_figures(await search.statistics(everything, step="day"), left, everything)
            assert await search.check() is None
    async with searching(database_url) as search:
        compare_figures(await search.statistics(everything, step="day"), left, everything)
        await search.make_index(rebuild=True)
        compare_figures(await search.statistics(everything, step="day"), left, everything)


async def _remove(url: str, first: int, end: int) -> None:
    engine = create_engine(url)
    async with writing(engine) as connection:
        await connection.execute(sa.text(f"DELETE FROM log_entries WHERE seq >= {first} AND seq < {end}"))
        removal = f"INSERT INTO log_removed VALUES ({first}, {end}, {end + 500}, 'segment')"
        await connection.execute(sa.text(removal))
    await engine.dispose()


async def test_damaged_records_do_not_stop_the_index_and_are_found_by_kind_and_time_only(
    database_url: str, tmp_path: Path
) -> None:
    rows = varied(4, SMALL + 20)
    await fill(database_url, tmp_path, rows)
    said = [read(row[7], seq) for seq, row in enumerate(rows)]
    damaged = [5, 6, SMALL + 3]
    leaves = [b"\xff\x00", rows[6][7].replace(b'"duration_us":', b'"duration_us":-'), b"{}"]
    engine = create_engine(database_url)
    async with writing(engine) as connection:
        for seq, leaf in zip(damaged, leaves, strict=True):
            query = sa.text("UPDATE log_entries SET leaf = :leaf, outcome = 'answered' WHERE seq = :seq")
            await connection.execute(query, {"leaf": leaf, "seq": seq})
    await engine.dispose()
    async with searching(database_url) as search:
        await search.make_index()
        for seq in damaged:
            at_ms = rows[seq][1]
            near = await search.page(RecordFilter(since_ms=at_ms, until_ms=at_ms + 1), limit=50)
            assert seq in [entry.seq for entry in near.entries]
        for wanted in (RecordFilter(outcome="answered"), RecordFilter(kind="any", status_min=1)):
            expected = [each for each in wanted_of(said, wanted) if each["seq"] not in damaged]
            await compare_pages(search, wanted, expected)
        assert await search.check() is None
        # Somebody puts another record in the place of one: the index still says what that one said.
        was, is_now = (next(each for each in said[lowest:] if each["case"]) for lowest in (100, 200))
        async with writing(engine) as connection:
            query = sa.text("UPDATE log_entries SET leaf = :leaf WHERE seq = :seq")
            await connection.execute(query, {"leaf": rows[is_now["seq"]][7], "seq": was["seq"]})
        await engine.dispose()
        assert await search.numbers(RecordFilter(message_id=was["message_id"]), limit=5) == []
        assert await search.numbers(RecordFilter(message_id=is_now["message_id"]), limit=5) == [is_now["seq"]]
        fault = await search.check()
        assert fault is not None
        assert fault.first == 0


async def test_a_series_that_would_be_too_long_and_a_cursor_of_somebody_else_are_refused(
    sqlite_log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with searching(sqlite_log) as search:
        for cursor in ("", "-1", "1e3", "9" * 19, "٣"):
            with pytest.raises(InvalidRequestError, match="cursor"):
                await search.page(RecordFilter(), cursor)
    async with searching_so_far(sqlite_log, "") as (search, log):
        # One entry each two seconds: a point for each minute.
        log.so_far = 20_000
        everything = RecordFilter(kind="any")
        assert len((await search.statistics(everything, step="minute")).series) == 668
        monkeypatch.setattr(tally, "MOST_POINTS", 667)
        with pytest.raises(InvalidRequestError, match="667 points"):
            await search.statistics(everything, step="minute")
        assert (await search.statistics(everything, step="hour")).total == 20_000
        log.so_far = 0
        assert (await search.statistics(RecordFilter(), step="minute")).series == ()


async def test_a_database_that_is_away_is_a_refusal_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as refused:
        await LogSearch.open(f"sqlite:///{tmp_path / 'none.db'}")
    assert refused.value.rule == "search-available"
    rows = varied(8, 10)
    url = f"sqlite:///{tmp_path / 'log.db'}"
    await fill(url, tmp_path, rows)
    (tmp_path / "log-search.db").write_bytes(b"no database" * 1000)
    async with searching(url) as search:
        for ask in (search.page(RecordFilter()), search.statistics(RecordFilter(), step="day")):
            with pytest.raises(UnavailableError):
                await ask


@pytest.mark.parametrize("damage", ["not a database", "not an index", "of another format"])
async def test_an_index_that_cannot_be_read_is_begun_anew(tmp_path: Path, damage: str) -> None:
    """Whoever searches is refused or answered from the log, and never wrongly; whoever makes the index makes another one."""
    rows = varied(12, SMALL + 30)
    url, index = f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "log-search.db"
    await fill(url, tmp_path, rows)
    wanted = RecordFilter(user=read(rows[0][7])["user"])
    expected = wanted_of([read(row[7], seq) for seq, row in enumerate(rows)], wanted)
    async with searching(url) as search, searching(url) as other:
        assert await search.make_index() == SMALL
        if damage == "not a database":
            _spoil(f"sqlite:///{index}", "PRAGMA wal_checkpoint(TRUNCATE)")
            with index.open("r+b") as file:
                file.write(b"\xa5" * index.stat().st_size)
        elif damage == "not an index":
            _spoil(f"sqlite:///{index}", "UPDATE search_rows SET data = zeroblob(7)")
        else:
            _spoil(f"sqlite:///{index}", "UPDATE search_state SET format = 99")
        with contextlib.suppress(UnavailableError):
            await compare_pages(other, wanted, expected)
        with contextlib.suppress(UnavailableError):
            await search.make_index()  # perhaps it is only now seen what is wrong
        assert await search.make_index() == SMALL
        assert await search.check() is None
        await compare_pages(search, wanted, expected)
        with contextlib.suppress(UnavailableError):
            await other.page(wanted)  # its connection was to the old file
        await compare_pages(other, wanted, expected)
        assert (await other.status()).indexed == SMALL


def test_what_a_record_says_is_read_from_its_bytes_not_from_the_columns_beside_it() -> None:
    for row in varied(9, 300):
        said = read(row[7])
        facts = facts_of(row[7], at_ms=1, outcome="anything")._asdict()
        facts["serial"] = facts.pop("certificate_serial")
        facts.pop("grant_id")
        assert facts == {name: said[name] for name in facts}
    assert facts_of(b"[]", at_ms="x", outcome=b"y").kind == "exchange"  # type: ignore[arg-type]


def test_a_filter_goes_over_the_wire_as_it_is() -> None:
    chance = random.Random(10)
    rows = varied(11, 500)
    for _ in range(50):
        wanted = any_filter(chance, rows)
        assert RecordFilter.from_plain(wanted.to_plain()) == wanted
    empty = RecordFilter(subjects=frozenset())
    assert empty.to_plain() == {"kind": "exchange", "subjects": []}
    assert RecordFilter.from_plain(empty.to_plain()) == empty
    with pytest.raises(TypeError):
        RecordFilter.from_plain({"nothing": 1})


async def test_no_hashes_find_nothing(sqlite_log: str) -> None:
    """A number that nobody ever asked about is answered like any search."""
    nobody = RecordFilter(subjects=frozenset())
    async with searching_so_far(sqlite_log, "") as (search, log):
        log.so_far = 3000
        assert (await search.page(nobody)).entries == ()
        assert (await search.statistics(nobody, step="day")).total == 0
