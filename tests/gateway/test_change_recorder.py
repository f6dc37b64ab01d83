"""Every change of the registry is on the log, in order and once, whatever is killed, away or put back in between."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog

from exchange import (
    ChangeRecord,
    ExchangeLog,
    MemberId,
    ServiceId,
    SubsystemId,
    create_engine,
    member_of,
    read_change,
    writing,
)
from gateway.change_recorder import ChangeRecorder, change_entry_id, change_record
from registry import (
    Change,
    ChangeBook,
    Grant,
    Member,
    Operation,
    Registry,
    RegistryMirror,
    Service,
    Subsystem,
)
from tests.databases import PostgresServer
from tests.exchange.log_kit import Place, until

HOUSING = SubsystemId("CN/GOV/H/housing")
TAX = SubsystemId("CN/GOV/T/tax")
GRANT = "housing-reads-enterprises"
WHO: dict[str, Any] = {"by": "张三", "why": "批复〔2026〕7号"}
PATIENCE = 30.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def registry(database_url: str) -> AsyncIterator[Registry]:
    """A registry that was seeded, on each kind of database."""
    registry = await Registry.open(database_url)
    await seed(registry)
    yield registry
    await registry.close()


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Place:
    """A log: beside the registry's file, or in its PostgreSQL database."""
    return Place(database_url.replace("数据 库.db", "log.db"), tmp_path)


@asynccontextmanager
async def recording(
    registry: Registry, place: Place, gateway: str = "gateway-1", *, poll_seconds: float = 0.05, **settings: Any
) -> AsyncIterator[tuple[ChangeRecorder, ExchangeLog]]:
    """What a gateway does, and nothing else of it."""
    async with AsyncExitStack() as parts:
        mirror = RegistryMirror(registry, poll_seconds=poll_seconds)
        await mirror.start()
        parts.push_async_callback(mirror.stop)
        log = await parts.enter_async_context(place.log(gateway, **settings))
        recorder = ChangeRecorder(registry, mirror, log)
        await recorder.start()
        parts.push_async_callback(recorder.stop)
        yield recorder, log


async def on_log(place: Place) -> list[ChangeRecord]:
    """The changes on the log in their order; the log itself is checked."""
    await place.check()
    async with place.reader() as reader:
        return [read_change(entry.leaf)[0] async for entry in reader.iter_entries(kind="change")]


async def made(registry: Registry) -> list[ChangeRecord]:
    """The changes of the registry, as they should be on the log."""
    identity = await ChangeBook(registry).identity()
    return [change_record(identity, change) for change in await registry.changes(limit=10_000)]


async def seed(registry: Registry) -> None:
    """Six changes in one transaction: two members, a subsystem of each, a service and a grant."""
    now = datetime.now(UTC)
    async with registry.change(by="seed", why="seed demo.toml") as change:
        for subsystem in (HOUSING, TAX):
            await change.add_member(Member(id=member_of(subsystem), name="某局", check_exception="试验"))
            await change.add_subsystem(Subsystem(id=subsystem, name="系统"))
        enterprises = ServiceId(f"{TAX}/enterprises")
        operation = Operation.of("GET", "/enterprises/{uscc}")
        await change.add_service(Service(id=enterprises, title_zh="企业登记", operations=(operation,)))
        await change.add_grant(
            Grant(
                id=GRANT,
                client=HOUSING,
                service=enterprises,
                purposes=("public-rental-housing",),
                valid_from=now + timedelta(days=1),
                valid_to=now + timedelta(days=300),
                reason="批复〔2026〕6号",
                decided_by="张三",
            )
        )


async def add_member(registry: Registry, number: int) -> Change:
    member = Member(id=MemberId(f"CN/GOV/M{number}/"[:-1]), name=f"成员{number}", check_exception="试验")
    change = await registry.add_member(member, **WHO)
    assert change is not None
    return change


async def test_everything_since_the_first_change_is_recorded_in_order(registry: Registry, place: Place) -> None:
    version = await registry.version()
    async with recording(registry, place) as (recorder, log):
        assert await recorder.recorded(version, timeout=PATIENCE)
        assert recorder.version == version
    recorded = await on_log(place)
    assert recorded == await made(registry)
    assert [one.version for one in recorded] == list(range(1, version + 1))
    assert {one.by for one in recorded} == {"seed"}
    assert await ChangeBook(registry).recorded("+".join(log.vkey.split("+", 2)[:2])) == version


async def test_a_change_is_recorded_while_its_maker_waits_or_by_itself(registry: Registry, place: Place) -> None:
    """At once when somebody waits: no poll comes in this test's lifetime before it is asked for."""
    async with recording(registry, place, poll_seconds=600) as (recorder, log):
        change = await add_member(registry, 1)
        assert await recorder.recorded(change.version, timeout=PATIENCE)
        entry = await log.reader.entry(change_entry_id(recorder.registry_id, change))
        assert entry is not None
        assert (entry.rule, entry.service, entry.outcome) == ("member.add", change.target, "change")
        assert not await recorder.recorded(change.version + 1, timeout=0.1), "nobody made that one"
    async with recording(registry, place) as (recorder, log):
        change = await add_member(registry, 2)
        await until(lambda: recorder.version == change.version, PATIENCE)
    assert await on_log(place) == await made(registry)


async def test_nothing_is_written_when_there_is_nothing_to_record(tmp_path: Path) -> None:
    """A write would have every mirror of the registry look again."""
    registry = await Registry.open(f"sqlite:///{tmp_path / 'registry.db'}")
    await seed(registry)
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    version = await registry.version()
    async with recording(registry, place, poll_seconds=0.01) as (recorder, _):
        assert await recorder.recorded(version, timeout=PATIENCE)
    with closing(sqlite3.connect(tmp_path / "registry.db")) as database:
        before = database.execute("PRAGMA data_version").fetchone()
        async with recording(registry, place, poll_seconds=0.01) as (recorder, _):
            assert await recorder.recorded(version, timeout=PATIENCE)
            assert not await recorder.recorded(version + 1, timeout=0.1)
        assert database.execute("PRAGMA data_version").fetchone() == before
    assert await registry.version() == version, "recording is no change"
    await registry.close()


async def test_a_kill_between_log_and_cursor_records_nothing_twice(
    registry: Registry, place: Place, database_url: str
) -> None:
    for number in range(20):
        await add_member(registry, number)
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("change_victim.py"))),
        *(database_url, place.database, str(place.log_key)),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert await victim.wait() == -signal.SIGKILL
    begun = len(await on_log(place))
    assert 0 < begun < await registry.version()
    async with recording(registry, place) as (recorder, log):
        assert await recorder.book.recorded("+".join(log.vkey.split("+", 2)[:2])) == 0
        assert await recorder.recorded(await registry.version(), timeout=PATIENCE)
    assert await on_log(place) == await made(registry)


async def test_two_gateways_on_one_log_record_each_change_once(registry: Registry, place: Place) -> None:
    async with (
        recording(registry, place, "gateway-1") as (one, _),
        recording(registry, place, "gateway-2") as (two, _),
    ):
        for number in range(20):
            change = await add_member(registry, number)
            assert all(await asyncio.gather(*(each.recorded(change.version, timeout=PATIENCE) for each in (one, two))))
    assert sorted(await on_log(place), key=lambda one: one.version) == await made(registry)


async def test_each_log_has_all_changes(registry: Registry, place: Place, tmp_path: Path) -> None:
    """A gateway at a department's own edge has its own log."""
    (tmp_path / "edge").mkdir()
    edge = Place(f"sqlite:///{tmp_path / 'edge.db'}", tmp_path / "edge")
    version = await registry.version()
    async with recording(registry, place) as (one, _), recording(registry, edge) as (two, _):
        assert await one.recorded(version, timeout=PATIENCE)
        assert await two.recorded(version, timeout=PATIENCE)
    assert await on_log(place) == await on_log(edge) == await made(registry)


async def test_a_change_made_while_the_log_is_away_counts_and_is_recorded_later(
    registry: Registry, place: Place
) -> None:
    version = await registry.version()
    async with recording(registry, place, append_timeout=0.5) as (recorder, log):
        assert await recorder.recorded(version, timeout=PATIENCE)
        pid = log.writer_pid
        assert pid is not None
        with structlog.testing.capture_logs() as events:
            os.kill(pid, signal.SIGSTOP)
            try:
                change = await add_member(registry, 1)
                # Told as soon as it is known, long before the time is up.
                assert not await asyncio.wait_for(recorder.recorded(change.version, timeout=600), PATIENCE)
                assert not await asyncio.wait_for(recorder.recorded(change.version, timeout=600), PATIENCE)
            finally:
                os.kill(pid, signal.SIGCONT)
            await until(lambda: events and events[-1]["event"] == "changes.recorded_again", PATIENCE)
        told = [event["event"] for event in events if event["event"].startswith("changes.")]
        assert recorder.version == change.version
    assert told == ["changes.not_recorded", "changes.recorded_again"], "once, not with every poll"
    assert await on_log(place) == await made(registry)


async def test_the_writer_may_be_killed_at_any_time(registry: Registry, place: Place) -> None:
    async with recording(registry, place) as (recorder, log):
        for number in range(6):
            change = await add_member(registry, number)
            pid = log.writer_pid
            assert pid is not None
            if number % 2:
                recorder._wake.set()
                await asyncio.sleep(0)
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: log.ready and log.writer_pid != pid, PATIENCE)
            await until(lambda version=change.version: recorder.version == version, PATIENCE)
    assert await on_log(place) == await made(registry)


async def test_a_registry_that_was_away_is_taken_up_again(tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    registry = await Registry.open(f"sqlite:///{folder / 'registry.db'}")
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    async with recording(registry, place) as (recorder, _):
        await add_member(registry, 1)
        assert await recorder.recorded(1, timeout=PATIENCE)
        folder.rename(tmp_path / "elsewhere")
        assert not await recorder.recorded(2, timeout=PATIENCE)
        (tmp_path / "elsewhere").rename(folder)
        change = await add_member(registry, 2)
        await until(lambda: recorder.version == change.version, PATIENCE)
    assert await on_log(place) == await made(registry)
    await registry.close()


async def test_a_database_server_that_was_away_is_taken_up_again(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    registry = await Registry.open(postgres_url)
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    async with recording(registry, place) as (recorder, _):
        postgres_server.stop()
        try:
            assert not await recorder.recorded(1, timeout=PATIENCE)
        finally:
            postgres_server.start()
        change = await add_member(registry, 1)
        await until(lambda: recorder.version == change.version, PATIENCE)
    assert await on_log(place) == await made(registry)
    await registry.close()


async def test_what_is_changed_after_an_old_copy_was_put_back_is_recorded_too(tmp_path: Path) -> None:
    """Its versions were used before; neither story is lost."""
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    file, copy = tmp_path / "registry.db", tmp_path / "copy.db"
    registry = await Registry.open(f"sqlite:///{file}")
    await add_member(registry, 1)
    async with recording(registry, place) as (recorder, _):
        assert await recorder.recorded(1, timeout=PATIENCE)
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        await add_member(registry, 2)
        await add_member(registry, 3)
        assert await recorder.recorded(3, timeout=PATIENCE)
        first_story = await made(registry)
    await registry.close()
    for part in ("-wal", "-shm"):
        file.with_name(file.name + part).unlink(missing_ok=True)
    copy.replace(file)
    registry = await Registry.open(f"sqlite:///{file}")
    async with recording(registry, place) as (recorder, _):
        change = await add_member(registry, 4)
        assert change.version == 2
        assert await recorder.recorded(2, timeout=PATIENCE)
    assert await on_log(place) == [*first_story, (await made(registry))[1]]
    await registry.close()


async def test_a_cursor_that_somebody_moved_hides_nothing(registry: Registry, place: Place, database_url: str) -> None:
    version = await registry.version()
    engine = create_engine(database_url)
    async with recording(registry, place) as (_, log):
        name = "+".join(log.vkey.split("+", 2)[:2])
    for moved in (10**9, version):
        async with writing(engine) as connection:
            await connection.execute(sa.text("DELETE FROM recorded_changes"))
            statement = sa.text("INSERT INTO recorded_changes (log_origin, version) VALUES (:name, :moved)")
            await connection.execute(statement, {"name": name, "moved": moved})
        if moved == version:
            # The same key with an empty log: the cursor speaks of a log that is gone.
            place = Place(f"sqlite:///{place.folder / 'other.db'}", place.folder, place.signer)
            place.log_key.with_name("log.key.signed").unlink(missing_ok=True)
        async with recording(registry, place) as (recorder, _):
            assert await recorder.recorded(version, timeout=PATIENCE)
            await until(lambda: cursor_is(recorder.book, name, version), PATIENCE)
        assert await on_log(place) == await made(registry)
    await engine.dispose()


async def cursor_is(book: ChangeBook, name: str, version: int) -> bool:
    return await book.recorded(name) == version
