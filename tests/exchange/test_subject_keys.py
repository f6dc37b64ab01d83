"""A subject has one hash until its key is erased: in one process, in several, after a kill, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import hmac
import os
import random
import shutil
import signal
import sqlite3
import stat
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import Connection

from exchange import (
    ErasureRecorder,
    InvalidRequestError,
    LogUnavailableError,
    PostgresqlWriter,
    SqliteWriter,
    SubjectKeys,
    SubjectKeysUnavailableError,
    create_engine,
    open_writer,
    pseudonym_of,
    read_event,
    reading,
    record_erasures,
    sqlite_path,
    upgrade,
)
from exchange import database_url as parsed_url
from exchange.subjects.subject_keys import LEAST_UNUSED_DAYS
from exchange.subjects.subject_tables import (
    SQLITE_PRAGMAS,
    PostgresqlSubjectTable,
    Row,
    Sight,
    SqliteSubjectTable,
    metadata,
)
from tests.ci import missing
from tests.exchange.log_kit import Place
from tests.waiting import until

SECRET = b"k" * 32
ZHANG, LI = "11010119900307123X", "110101198001010010"
NOON = 1_777_867_200.0  # 2026-05-04T12:00 in China
TODAY = date(2026, 5, 4)
DAY = 86400.0
ROOT = Path(__file__).parents[2]
SEED = int.from_bytes(os.urandom(4), "big")


class Watch:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def keys_at(url: str, **how: Any) -> AsyncIterator[SubjectKeys]:
    keys = await SubjectKeys.open(url, SECRET, **{"clock": Watch(), **how})
    try:
        yield keys
    finally:
        await keys.close()


async def run_sql(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows of a statement, asked without our code."""
    path = sqlite_path(parsed_url(url))
    if path is not None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(statement, values).fetchall()
    server = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await server.fetch(statement, *values)]
    finally:
        await server.close()


async def rows_of(url: str) -> list[tuple[bytes, bytes, int, int]]:
    return await run_sql(url, "SELECT pseudonym, key, created, last_used FROM subject_keys ORDER BY pseudonym")


def derived(number: str, key: bytes) -> str:
    """What stands on record, computed apart from our code."""
    pseudonym = hmac.new(SECRET, number.encode(), hashlib.sha256).digest()
    return hmac.new(key, pseudonym, hashlib.sha256).hexdigest()


@pytest.fixture
async def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / '主体.db'}"
    async with keys_at(url):
        pass
    return url


def path_of(url: str) -> Path:
    path = sqlite_path(parsed_url(url))
    assert path is not None
    return path


# The hash


async def test_the_hash_is_made_with_a_random_key_of_the_subject_s_own(database_url: str) -> None:
    async with keys_at(database_url) as keys:
        hashes = [await keys.hash_of(number) for number in (ZHANG, LI)]
    rows = {row[0].hex(): row for row in await rows_of(database_url)}
    for number, hashed in zip((ZHANG, LI), hashes, strict=True):
        _, key, created, last_used = rows[pseudonym_of(SECRET, number)]
        assert len(key) == 32
        assert hashed == derived(number, key)
        assert created == last_used == (TODAY - date(1970, 1, 1)).days
    assert len({*hashes, *rows, *(row[1].hex() for row in rows.values())}) == 6, "two keys, two pseudonyms, two hashes"


async def test_one_subject_however_typed_named_or_asked_again(database_url: str) -> None:
    spellings = (ZHANG, ZHANG.lower(), f"  {ZHANG}\t", ZHANG.replace("X", "Ｘ"), ZHANG.replace("1", "１"))
    async with keys_at(database_url) as keys, keys_at(database_url) as others:
        hashes = [await each.hash_of(spelling) for spelling in spellings for each in (keys, others)]
        hashes.append(await others.hash_of_person(pseudonym_of(SECRET, ZHANG)))
    async with keys_at(database_url) as later:
        hashes.append(await later.hash_of(ZHANG))
        assert await later.hash_of(LI) not in hashes
    assert len(set(hashes)) == 1
    assert len(await rows_of(database_url)) == 2


async def test_a_hash_is_remembered_from_its_first_use_on(database_url: str) -> None:
    async with keys_at(database_url) as keys:
        assert keys.known(ZHANG) is None
        hashed = await keys.hash_of(ZHANG)
        assert keys.known(ZHANG.lower()) == keys.known_person(pseudonym_of(SECRET, ZHANG)) == hashed
        assert keys.known(LI) is None


async def test_those_longest_unused_are_let_go(sqlite_url: str) -> None:
    table = SqliteSubjectTable(SqliteWriter(path_of(sqlite_url), "subjects"))
    keys = SubjectKeys(table, SECRET, remember=3)
    for number in "abc":
        await keys.hash_of(number)
    assert keys.known("a")
    await keys.hash_of("d")
    assert [number for number in "abcd" if keys.known(number)] == ["a", "c", "d"]
    await keys.close()


async def test_all_subjects_of_a_turn_share_a_transaction(sqlite_url: str) -> None:
    table = Watched(sqlite_url)
    keys = SubjectKeys(table, SECRET)
    numbers = [f"{number % 60:018}" for number in range(200)]
    hashes = await asyncio.gather(*(keys.hash_of(number) for number in numbers))
    assert [len(each) for each in table.asked] == [60]
    assert len(set(hashes)) == 60
    await keys.close()


async def test_looking_for_records_makes_nothing(database_url: str) -> None:
    """Records from before subjects had keys hold the pseudonym: both are looked for."""
    async with keys_at(database_url) as keys:
        old = hmac.new(SECRET, ZHANG.encode(), hashlib.sha256).hexdigest()
        assert await keys.hashes_of(ZHANG.lower()) == [old]
        assert await keys.hash_on_record(ZHANG) == ""
        assert await rows_of(database_url) == []
        hashed = await keys.hash_of(ZHANG)
        assert await keys.hashes_of(ZHANG) == [hashed, old]
        assert await keys.hash_on_record(ZHANG) == hashed


# Erasing


def words_of(erased: Any) -> list[tuple[str, str, str, str, dict[str, Any]]]:
    return [(each.kind, each.act, each.by, each.why, dict(each.details)) for each in erased.events]


async def test_who_is_erased_and_comes_back_is_another(database_url: str) -> None:
    async with keys_at(database_url) as keys:
        before, other = await keys.hash_of(ZHANG), await keys.hash_of(LI)
        erased = await keys.erase([ZHANG.lower(), ZHANG, "nobody"], by="datong", why="期满", user="王五")
        assert erased.count == 1
        details = {"count": 1, "hashes": [before]}
        assert words_of(erased) == [("retention", "subject.erased", "datong", "期满", details)]
        assert erased.traceless == database_url.startswith("sqlite")
        assert keys.known(ZHANG) is None
        assert await keys.hash_on_record(ZHANG) == ""
        assert await keys.hash_of(LI) == other
        after = await keys.hash_of(ZHANG)
        assert after not in (before, *await keys.hashes_of(LI))
        assert pseudonym_of(SECRET, ZHANG) not in erased.events[0].leaf.decode()
        assert (await keys.erase(["nobody"], by="datong", why="-")).events == ()


async def test_what_one_process_erases_another_stops_using(database_url: str) -> None:
    async with keys_at(database_url) as keys, keys_at(database_url) as others:
        hashed = await others.hash_of(ZHANG)
        await keys.erase([ZHANG], by="datong", why="-")
        await until(lambda: others.known(ZHANG) is None)
        assert await others.hash_of(ZHANG) != hashed
        assert await others.hash_of(ZHANG) == await keys.hash_of(ZHANG)


async def test_what_nobody_looked_after_is_not_used(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a look within a second, nobody can say that the key is still there."""
    table = Watched(sqlite_url)
    keys = SubjectKeys(table, SECRET)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    hashed = await keys.hash_of(ZHANG)
    now += 0.999
    assert keys.known(ZHANG) == hashed
    now += 0.002
    assert keys.known(ZHANG) is None
    assert await keys.hash_of(ZHANG) == hashed
    assert keys.known(ZHANG) == hashed

    async with keys_at(sqlite_url) as others:

        async def erase_and_look() -> None:
            nonlocal now
            now += 0.9
            await others.erase([LI], by="datong", why="-")
            await keys._look()

        # Read before the erasure, and heard of after a look that saw it: still good for a second from when it was read.
        table.after_keys = erase_and_look
        stale = await keys.hash_of(LI)
        now += 0.2
        assert keys.known(LI) is None
        assert await keys.hash_of(LI) != stale
    await keys.close()


async def test_a_key_that_is_used_again_meanwhile_is_not_erased_as_unused(database_url: str) -> None:
    async with keys_at(database_url) as keys:
        hashed = await keys.hash_of(ZHANG)
        pseudonym = bytes.fromhex(pseudonym_of(SECRET, ZHANG))
        today = (TODAY - date(1970, 1, 1)).days
        erased = await keys._table.erase([pseudonym], today, lambda erased: ("id", b"leaf"))
        assert (erased, await keys.unrecorded()) == (0, [])
        assert await keys.hash_on_record(ZHANG) == hashed


class Interrupted(PostgresqlSubjectTable):
    """Something happens right after it has read rows for the first time."""

    def __init__(self, writer: PostgresqlWriter) -> None:
        super().__init__(writer)
        self.then: Any = None

    async def _rows(self, db: Any, pseudonyms: Sequence[bytes]) -> dict[bytes, Row]:  # type: ignore[override]
        found = await super()._rows(db, pseudonyms)
        if self.then is not None:
            act, self.then = self.then, None
            await act()
        return found


async def test_between_two_statements_of_postgresql_others_may_do_what_they_like(postgres_url: str) -> None:
    writer = await open_writer(postgres_url, "exchange.subjects.migrations", "subjects")
    assert isinstance(writer, PostgresqlWriter)
    table = Interrupted(writer)
    keys = SubjectKeys(table, SECRET)
    async with keys_at(postgres_url) as others:
        table.then = lambda: others.hash_of(ZHANG)
        assert await keys.hash_of(ZHANG) == others.known(ZHANG), "of two that make a key at once, one wins"
        keys._remembered.clear()
        table.then = lambda: others.erase([ZHANG], by="datong", why="-")
        await keys.hash_of(ZHANG)
        await keys._look()
        assert keys.known(ZHANG) is None, "a key is not newer than the count of erasures that it was read with"
    await keys.close()


async def test_a_database_that_was_put_back_brings_no_old_hash_from_memory(database_url: str) -> None:
    """It has counted fewer erasures than this process has seen."""
    async with keys_at(database_url) as keys:
        await keys.hash_of(LI)
        await keys.erase([LI], by="datong", why="-")
        hashed = await keys.hash_of(ZHANG)
        await run_sql(database_url, "DELETE FROM subject_keys")
        await run_sql(database_url, "UPDATE subject_state SET erasures = 0")
        await until(lambda: keys.known(ZHANG) is None)
        assert await keys.hash_of(ZHANG) != hashed


async def test_no_byte_of_an_erased_key_stays_in_the_files_of_sqlite(sqlite_url: str) -> None:
    """Rows that move from page to page leave copies behind, unless whoever moves them overwrites those too."""
    dice = random.Random(SEED)
    numbers = [f"{dice.randrange(10**18):018}" for _ in range(3000)]
    async with keys_at(sqlite_url) as keys:
        for start in range(0, len(numbers), 100):
            await asyncio.gather(*(keys.hash_of(number) for number in numbers[start : start + 100]))
        gone = set(dice.sample(numbers, 500))
        secrets = {row[1] for row in await rows_of(sqlite_url)}
        erased = await keys.erase(sorted(gone), by="datong", why="-")
        assert (erased.count, erased.traceless, len(erased.events)) == (500, True, 5)
        kept = {row[1] for row in await rows_of(sqlite_url)}
        assert len(kept) == 2500
        content = b"".join(each.read_bytes() for each in path_of(sqlite_url).parent.iterdir())
        assert [key for key in secrets - kept if key in content] == [], f"seed {SEED}"
        assert [each for each in gone if bytes.fromhex(pseudonym_of(SECRET, each)) in content] == [], f"seed {SEED}"
        assert all(key in content for key in kept), "the search finds what is there"


async def test_every_writer_of_sqlite_overwrites_what_it_frees(sqlite_url: str) -> None:
    """Some builds of SQLite do so by themselves, others do not."""
    writer = SqliteWriter(path_of(sqlite_url), "subjects", pragmas=SQLITE_PRAGMAS)
    (on,) = await writer.run(lambda db: db.execute("PRAGMA secure_delete").fetchone())
    assert on == 1
    await writer.close()
    without = SqliteWriter(path_of(sqlite_url), "subjects", pragmas=["secure_delete=OFF"])
    (off,) = await without.run(lambda db: db.execute("PRAGMA secure_delete").fetchone())
    assert off == 0
    await without.close()


async def test_a_reader_that_holds_the_write_ahead_log_is_told_of(sqlite_url: str) -> None:
    writer = SqliteWriter(path_of(sqlite_url), "subjects", patience=0.05, pragmas=SQLITE_PRAGMAS)
    keys = SubjectKeys(SqliteSubjectTable(writer), SECRET)
    await keys.hash_of(ZHANG)
    with contextlib.closing(sqlite3.connect(path_of(sqlite_url), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM subject_keys").fetchall()
        erased = await keys.erase([ZHANG], by="datong", why="-")
        assert (erased.count, erased.traceless) == (1, False)
    await keys.close()


async def test_keys_unused_for_long_are_erased_and_no_others(database_url: str) -> None:
    clock = Watch()
    async with keys_at(database_url, clock=clock) as keys:
        clock.now = NOON - 400 * DAY
        await keys._look()
        await keys.hash_of(ZHANG)
        await keys.hash_of(LI)
        clock.now = NOON - 300 * DAY
        await keys._look()
        newer, used = await keys.hash_of("newer"), await keys.hash_of(LI)
        clock.now = NOON
        await keys._look()
        day = TODAY - timedelta(days=300)
        assert await keys.count_unused(day) == 1
        erased = await keys.erase_unused(day, by="datong", why="三年期满")
        assert erased.count == 1
        details = {"count": 1, "unused_before": day.isoformat()}
        assert words_of(erased) == [("retention", "subject.erased", "datong", "三年期满", details)]
        assert [await keys.hash_on_record(number) for number in (ZHANG, LI, "newer")] == ["", used, newer]
        assert (await keys.erase_unused(day, by="datong", why="-")).count == 0
        for early in (TODAY, TODAY - timedelta(days=LEAST_UNUSED_DAYS - 1)):
            with pytest.raises(InvalidRequestError) as caught:
                await keys.erase_unused(early, by="datong", why="-")
            assert caught.value.rule == "subjects-kept"
        await keys.erase_unused(TODAY - timedelta(days=LEAST_UNUSED_DAYS), by="datong", why="-")


async def test_a_use_is_noted_once_a_day_and_nobody_waits_for_it(sqlite_url: str) -> None:
    clock, table = Watch(), Watched(sqlite_url)
    keys = SubjectKeys(table, SECRET, clock=clock)
    today = (TODAY - date(1970, 1, 1)).days
    await keys._look()
    await keys.hash_of(ZHANG)
    await keys._look()
    assert table.noted == [], "it was made today"
    clock.now += DAY
    await keys._look()
    for _ in range(3):
        assert keys.known(ZHANG)
        assert await keys.hash_of(ZHANG)
    assert [row[3] for row in await rows_of(sqlite_url)] == [today], "not yet"
    table.fails = True
    with pytest.raises(Exception, match="away"):
        await keys._look()
    table.fails = False
    await keys._look()
    await keys._look()
    assert [row[2:] for row in await rows_of(sqlite_url)] == [(today, today + 1)]
    assert len(table.noted) == 1
    clock.now += DAY
    await keys._look()
    assert keys.known(ZHANG)
    await keys.close()
    assert [row[3] for row in await rows_of(sqlite_url)] == [today + 2], "noted at the end at the latest"


# On the log


async def test_an_erasure_gets_on_the_log_once_whoever_lives_to_put_it_there(database_url: str, tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    async with place.log() as log, keys_at(database_url) as keys:
        await asyncio.gather(*(keys.hash_of(number) for number in (ZHANG, LI)))
        erased = [(await keys.erase([number], by="datong", why="-")).events[0] for number in (ZHANG, LI)]
        erased.sort(key=lambda event: event.id)  # made in the same millisecond: the clock stands
        assert await keys.unrecorded() == erased
        await log.append_event(erased[0])  # and who did it died before it could be noted
        async with keys_at(database_url) as others:
            assert others.waiting == 2
            recorder = ErasureRecorder(others, log)
            await recorder.start()
            await until(lambda: not others.waiting)
            await recorder.stop()
        assert await record_erasures(keys, log) == 0
        stored = [read_event(entry.leaf) async for entry in log.reader.iter_entries(kind="retention")]
        assert stored == erased


async def test_an_erasure_waits_for_a_log_that_is_away(sqlite_url: str, tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    async with keys_at(sqlite_url) as keys:
        await keys.hash_of(ZHANG)
        async with place.log() as log:
            pass
        await keys.erase([ZHANG], by="datong", why="-")
        with pytest.raises(LogUnavailableError):
            await record_erasures(keys, log)
        async with place.log() as log:
            assert await record_erasures(keys, log) == 1
            assert [read_event(each.leaf).act async for each in log.reader.iter_entries()] == ["subject.erased"]


# A database in trouble


class Watched(SqliteSubjectTable):
    """Says what was asked of it, and fails when told to."""

    def __init__(self, url: str) -> None:
        super().__init__(SqliteWriter(path_of(url), "subjects", pragmas=SQLITE_PRAGMAS))
        self.asked: list[Sequence[bytes]] = []
        self.noted: list[bytes] = []
        self.fails = False
        self.after_keys: Any = None
        self.may = asyncio.Event()
        self.may.set()

    async def keys(self, pseudonyms: Sequence[bytes], today: int) -> tuple[dict[bytes, Row], int]:
        self.asked.append(pseudonyms)
        await self.may.wait()
        found = await super().keys(pseudonyms, today)
        if self.after_keys is not None:
            act, self.after_keys = self.after_keys, None
            await act()
        return found

    async def look(self, used: Sequence[bytes], today: int) -> Sight:
        if self.fails:
            raise OSError("away")
        self.noted += used
        return await super().look(used, today)


async def test_a_database_that_fails_lets_nothing_through_and_is_used_again_when_it_works(database_url: str) -> None:
    async with keys_at(database_url) as keys:
        hashed = await keys.hash_of(ZHANG)
        await run_sql(database_url, "ALTER TABLE subject_keys RENAME TO away")
        for ask in (keys.hash_of(LI), keys.hashes_of(ZHANG), keys.erase([ZHANG], by="datong", why="-")):
            with pytest.raises(SubjectKeysUnavailableError) as caught:
                await ask
            assert (caught.value.status, caught.value.rule) == (503, "subject-keys-writable")
            assert caught.value.detail_in("zh") != caught.value.detail_in("en")
        await run_sql(database_url, "ALTER TABLE away RENAME TO subject_keys")
        assert await keys.hash_of(ZHANG) == hashed
        assert await keys.hash_of(LI) != hashed


async def test_a_database_that_is_gone_is_not_made_anew(sqlite_url: str) -> None:
    """An empty one would give everybody another hash."""
    async with keys_at(sqlite_url) as keys:
        await keys.hash_of(ZHANG)
    async with keys_at(sqlite_url) as keys:
        keys._table._writer._give_up()  # type: ignore[attr-defined]  # so that the next call opens the file again
        path_of(sqlite_url).unlink()
        with pytest.raises(SubjectKeysUnavailableError):
            await keys.hash_of(ZHANG)
        assert not path_of(sqlite_url).exists()


async def test_a_postgresql_that_restarts_costs_refusals_and_no_key(postgres_url: str) -> None:
    async with keys_at(postgres_url) as keys:
        hashed = await keys.hash_of(ZHANG)
        admin = await asyncpg.connect(postgres_url)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'datong-subjects'"
            " AND datname = current_database()"
        )
        await admin.close()
        with contextlib.suppress(SubjectKeysUnavailableError):  # unless a look met the broken connection first
            await keys.hash_of(LI)
        assert await keys.hash_of(LI)
        assert await keys.hash_of(ZHANG) == hashed


async def test_nobody_queues_behind_a_silent_database(sqlite_url: str) -> None:
    table = Watched(sqlite_url)
    keys = SubjectKeys(table, SECRET, timeout=0.05)
    table.may.clear()
    for number in range(100):
        with pytest.raises(SubjectKeysUnavailableError):
            await keys.hash_of(f"{number:018}")
    assert len(table.asked) == 1, "refused at once, and nothing piles up"
    table.may.set()
    while keys._commits.busy:
        await asyncio.sleep(0)
    assert await keys.hash_of(ZHANG)
    await keys.close()


async def test_a_table_held_by_a_frozen_process_is_an_error_and_no_hang(sqlite_url: str) -> None:
    holder = os.open(f"{path_of(sqlite_url)}-writer", os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    writer = SqliteWriter(path_of(sqlite_url), "subjects", patience=0.05)
    keys = SubjectKeys(SqliteSubjectTable(writer), SECRET)
    with pytest.raises(SubjectKeysUnavailableError):
        await keys.hash_of(ZHANG)
    os.close(holder)
    assert await keys.hash_of(ZHANG)
    await keys.close()


async def test_a_database_that_cannot_be_opened_is_said_so(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path / 'no such folder' / 'subjects.db'}", "postgresql://nobody@127.0.0.1:1/none"):
        with pytest.raises(SubjectKeysUnavailableError):
            await SubjectKeys.open(url, SECRET)


async def test_the_file_is_for_its_owner_alone(sqlite_url: str) -> None:
    async with keys_at(sqlite_url) as keys:
        await keys.hash_of(ZHANG)
        files = [each for each in path_of(sqlite_url).parent.iterdir() if each.name.startswith("主体.db")]
        assert len(files) == 4
        assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}


async def test_the_migrations_make_the_tables_that_the_code_knows(database_url: str) -> None:
    await upgrade(database_url, "exchange.subjects.migrations")
    await upgrade(database_url, "exchange.subjects.migrations")
    engine = create_engine(database_url)

    def differences(connection: Connection) -> list[object]:
        def ours(name: str | None, kind: str, _parents: object) -> bool:
            return kind != "table" or name != "subjects_schema_version"

        return list(compare_metadata(MigrationContext.configure(connection, opts={"include_name": ours}), metadata))

    try:
        async with reading(engine) as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()


# Real processes

GATEWAY = """
import asyncio, sys
from exchange import SubjectKeys

async def main(url, act, count):
    keys = await SubjectKeys.open(url, b"k" * 32)
    print("ready", flush=True)
    sys.stdin.readline()
    numbers = [f"{number:018}" for number in range(int(count))]
    if act == "erase":
        for number in numbers:
            await keys.erase([number], by="datong", why="-")
            print(number, flush=True)
    else:
        for hashed in asyncio.as_completed([keys.hash_of(number) for number in numbers]):
            print(await hashed, flush=True)
    print("done", flush=True)
    sys.stdin.readline()

asyncio.run(main(*sys.argv[1:]))
"""


async def process(url: str, act: str, count: int) -> asyncio.subprocess.Process:
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", GATEWAY, url, act, str(count)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert started.stdout is not None
    assert await started.stdout.readline() == b"ready\n"
    return started


async def told(started: asyncio.subprocess.Process, most: int) -> list[str]:
    """Let it begin; what it says, up to so many lines or its end."""
    assert started.stdin is not None
    assert started.stdout is not None
    started.stdin.write(b"go\n")
    lines: list[str] = []
    while len(lines) < most and (line := (await started.stdout.readline()).decode().strip()) not in ("done", ""):
        lines.append(line)
    return lines


async def kill(started: asyncio.subprocess.Process) -> None:
    started.send_signal(signal.SIGKILL)
    await started.communicate()


async def test_two_processes_give_a_subject_one_hash_and_a_kill_takes_none_back(database_url: str) -> None:
    one, other = await asyncio.gather(process(database_url, "hash", 200), process(database_url, "hash", 200))
    first, second = await asyncio.gather(told(one, 200), told(other, 120))
    await asyncio.gather(kill(one), kill(other))
    assert len(set(first)) == 200
    assert set(second) <= set(first)
    async with keys_at(database_url) as keys:
        assert {await keys.hash_of(f"{number:018}") for number in range(200)} == set(first)


async def test_a_kill_leaves_no_erasure_without_its_event_and_no_event_without_its_erasure(database_url: str) -> None:
    async with keys_at(database_url) as keys:
        hashes = await asyncio.gather(*(keys.hash_of(f"{number:018}") for number in range(300)))
        victim = await process(database_url, "erase", 300)
        erased = await told(victim, 20 + SEED % 100)
        await kill(victim)
        gone = {hashes[number] for number in range(300) if not await keys.hash_on_record(f"{number:018}")}
        events = await keys.unrecorded()
        assert {each for event in events for each in event.details["hashes"]} == gone, f"seed {SEED}"
        assert len(events) == len(gone) >= len(erased)
        assert {hashes[int(number)] for number in erased} <= gone
        assert not [each for each in events if each.details["count"] != 1]


async def test_a_key_is_on_disk_before_its_hash_is_used(sqlite_url: str, tmp_path: Path) -> None:
    """Counted by the kernel: not fewer syncs than keys that were made one after the other."""
    strace = shutil.which("strace") or missing("strace")
    output = tmp_path / "strace"
    async with keys_at(sqlite_url) as keys:
        await keys.hash_of(ZHANG)
        tracer = await asyncio.create_subprocess_exec(
            *(strace, "-f", "-e", "trace=fsync,fdatasync", "-o", str(output), "-p", str(os.getpid())),
            stderr=asyncio.subprocess.PIPE,
        )
        assert tracer.stderr is not None
        if b"attached" not in await tracer.stderr.readline():
            await tracer.wait()
            missing("the right to trace processes")
        for number in range(20):
            await keys.hash_of(f"{number:018}")
        tracer.send_signal(signal.SIGINT)
        await tracer.wait()
    assert output.read_text().count("sync(") >= 20
