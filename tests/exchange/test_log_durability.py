"""What was acknowledged is there after a power cut, a kill at any point, a disk put back: counted, copied, killed in turn."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

import exchange.log.writer
from exchange.audit.log_check import check_log
from exchange.log.frames import Frame, Reply
from exchange.log.store import CorruptLogError, LogStore, StoreError
from exchange.log.store_sqlite import SqliteStore, create_file
from exchange.log.stores import log_store
from exchange.log.writer import LastSigned, LogWriter
from exchange.storage.database import create_engine, sqlite_path, upgrade, writing
from exchange.storage.database import database_url as parse_database_url
from exchange.transparency.checkpoint import Checkpoint, open_checkpoint
from exchange.transparency.merkle import hash_leaf, root_of
from exchange.transparency.tiles import Edge
from tests.ci import missing
from tests.databases import PostgresServer, _free_port, postgres_binaries
from tests.exchange.log_kit import ORIGIN, Attempt, Place, attempt, until

pytestmark = pytest.mark.faults


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> Place:
    """A place with tables, and without entries."""
    url = parse_database_url(database_url)
    if file := sqlite_path(url):
        create_file(file)
    await upgrade(url, "exchange.migrations")
    return Place(database_url, tmp_path)


OpenWriter = Callable[..., LogWriter]


@pytest.fixture
async def writer_at() -> AsyncIterator[OpenWriter]:
    """Opens log writers; their stores are closed after the test."""
    stores: list[LogStore] = []

    def opened(place: Place, store: LogStore | None = None, log_key: Path | None = None) -> LogWriter:
        stores.append(store or log_store(parse_database_url(place.database)))
        return LogWriter(stores[-1], place.signer, LastSigned(log_key or place.log_key), "gateway-1", "boot")

    yield opened
    for store in stores:
        await store.close()


def frame(attempts: Sequence[Attempt]) -> Frame:
    return Frame(entries=[one.row for one in attempts])


async def append(writer: LogWriter, count: int) -> list[str]:
    attempts = [attempt(number) for number in range(count)]
    [reply] = await writer.write([frame(attempts)])
    assert not reply.problem
    return [one.exchange_id for one in attempts]


POINTS = {
    "intents: before INSERT INTO log_intents",
    "intents: before COMMIT",
    "entries: before INSERT INTO log_tiles",
    "entries: before COMMIT",
    "entries: after the write, before anybody is told",
    "settling: before DELETE FROM log_intents",
    "settling: before COMMIT",
    "settling: before INSERT INTO log_checkpoints",
    "settling: before a file of the key is durable",
    "settling: before the file of the key is replaced",
    "settling: after the file of the key was replaced",
    "settling: after the write, before anybody is told",
    "signing: after the write, before anybody is told",
    "signing: before INSERT INTO log_checkpoints",
    "signing: before COMMIT",
    "signing: before a file of the key is durable",
}
"""Where a writer dies, among others."""
OF_DATABASE = {
    "sqlite": {
        "entries: before BEGIN IMMEDIATE",
        "entries: before UPDATE log_state SET",
        "entries: before INSERT INTO log_entries",
        "signing: before BEGIN IMMEDIATE",
    },
    "postgresql": {
        "entries: before BEGIN; UPDATE log_state",
        "entries: before COPY log_entries",
        "settling: before INSERT INTO log_entries",
        "signing: before BEGIN",
    },
}


async def test_a_writer_killed_at_every_point_in_turn_loses_nothing_and_records_nothing_twice(place: Place) -> None:
    program = Path(__file__).with_name("log_writer_victim.py")
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(program), place.database, str(place.log_key)],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, *lives, last = [json.loads(line) for line in done.stdout.splitlines()]
    points = {life["point"] for life in lives}
    assert points >= POINTS | OF_DATABASE[place.database.partition(":")[0]], sorted(points)
    assert [life for life in lives if not life["killed"]] == []
    for life in (first, last):
        assert "passed" in life["told"][-1], life["told"][-1]

    recorded: dict[str, int] = {}
    again: set[str] = set()
    intended: set[str] = set()
    for told in [told for life in (first, *lives, last) for told in life["told"]]:
        assert "error" not in told, told
        recorded |= told.get("recorded", {})
        again |= set(told.get("known", ()))
        intended |= set(told.get("intended") or ())
    # Some were stored when their writer died, and some were not: both were appended again.
    assert again
    async with place.log():
        pass  # the next life of the gateway settles what was left open
    async with place.reader() as reader:
        stored = {entry.exchange_id: entry async for entry in reader.iter_entries()}
        assert await reader.intents() == []
        held = open_checkpoint(place.log_key.with_name("log.key.signed").read_text(), place.verifiers)
        summary = await check_log(reader, place.verifiers, held=[held])
    assert {one: stored[one].seq for one in recorded} == recorded
    assert again | intended <= stored.keys()
    assert summary.size == len(stored)
    assert held.size == summary.signed_size


class Hasty(SqliteStore):
    """Copies its write-ahead log into the database all the time, as it does now and then under load."""

    def _open(self) -> Any:
        connection = super()._open()
        connection.execute("PRAGMA wal_autocheckpoint=20")
        return connection


async def test_a_copy_of_the_files_taken_at_each_acknowledgement_holds_all_that_was_acknowledged(
    tmp_path: Path, writer_at: OpenWriter
) -> None:
    """As after a power cut in that moment: the files alone, no lock, no shared memory."""
    file = tmp_path / "log.db"
    place = Place(f"sqlite:///{file}", tmp_path)
    await place.fill(0, [])
    writer = writer_at(place, Hasty(file))
    acknowledged: list[str] = []
    for number in range(40):
        acknowledged += await append(writer, 1 + number % 7 * 9)
        if number % 5 == 0:
            await writer.checkpoint()
        folder = tmp_path / str(number)
        folder.mkdir()
        copy = Place(f"sqlite:///{folder / 'log.db'}", folder, place.signer)
        for name in ("log.db", "log.db-wal", "log.key.signed"):
            shutil.copy(tmp_path / name, copy.folder)
        other = writer_at(copy)
        await other.check()
        assert other.size == len(acknowledged)
        assert await copy.stored_ids() == acknowledged
        assert (await append(other, 1))[0] not in acknowledged
        shutil.rmtree(copy.folder)


class DurableServer(PostgresServer):
    """As in production."""

    settings = "-c fsync=on"

    def copy(self, folder: Path) -> DurableServer:
        """A server that is not started yet, on a copy of the files as they are now."""
        return CopiedServer(self, folder)


class CopiedServer(DurableServer):
    """On the files of another one."""

    def __init__(self, of: PostgresServer, folder: Path) -> None:
        shutil.copytree(of.folder / "data", folder / "data")
        (folder / "data" / "postmaster.pid").unlink()
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, of.folder.owner(), of.folder.group())
        self._binaries = of._binaries
        self._account = of._account
        self.folder = folder
        self.port = _free_port()


@pytest.fixture(scope="module")
def durable_server() -> Iterator[DurableServer]:
    binaries = postgres_binaries()
    if binaries is None:
        missing("PostgreSQL (initdb and pg_ctl)")
    folder = Path(tempfile.mkdtemp(prefix="datong-pg-"))
    try:
        server = DurableServer(binaries, folder)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_copy_of_the_servers_files_taken_at_acknowledgement_holds_all_that_was_acknowledged(
    durable_server: DurableServer, tmp_path: Path, writer_at: OpenWriter
) -> None:
    """PostgreSQL: the copied folder is recovered by a server of its own."""
    place = Place(await durable_server.create_database(), tmp_path)
    await place.fill(0, [])
    writer = writer_at(place)
    acknowledged = [one for count in (1, 300, 7) for one in await append(writer, count)]
    note = await writer.checkpoint()
    acknowledged += await append(writer, 5)
    folder = Path(tempfile.mkdtemp(prefix="datong-pg-"))
    try:
        copied = durable_server.copy(folder)
        acknowledged_later = await append(writer, 3)
        copied.start()
        try:
            copy = Place(copied.url(place.database.rpartition("/")[2]), tmp_path, place.signer)
            other = writer_at(copy)
            await other.check()
            assert await copy.stored_ids() == acknowledged
            held = open_checkpoint(note, place.verifiers)
            async with copy.reader() as reader:
                assert (await check_log(reader, place.verifiers, held=[held])).signed_size == held.size
        finally:
            copied.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert await place.stored_ids() == [*acknowledged, *acknowledged_later]


async def test_postgresql_syncs_before_each_acknowledgement(
    durable_server: DurableServer, tmp_path: Path, writer_at: OpenWriter
) -> None:
    """Counted by the kernel; even where the server's own default is not to wait."""
    strace = shutil.which("strace")
    if strace is None:
        missing("strace")
    place = Place(await durable_server.create_database(), tmp_path)
    await place.fill(0, [])
    connection = await asyncpg.connect(place.database)
    try:
        await connection.execute("ALTER SYSTEM SET synchronous_commit = off")
        await connection.execute("SELECT pg_reload_conf()")
        writer = writer_at(place)
        await append(writer, 1)
        # Whoever commits syncs, or the server's own writer does it for them.
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'datong-log' OR backend_type = 'walwriter'"
        pids = [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()
    output = tmp_path / "strace"
    attached = [option for pid in pids for option in ("-p", str(pid))]
    tracer = await asyncio.create_subprocess_exec(
        *(strace, "-f", "-e", "trace=fsync,fdatasync", "-o", str(output), *attached), stderr=asyncio.subprocess.PIPE
    )
    assert tracer.stderr is not None
    for _ in pids:
        if b"attached" not in await tracer.stderr.readline():
            tracer.kill()
            await tracer.wait()
            missing("the right to trace processes")
    for _ in range(25):
        await append(writer, 1)
    tracer.send_signal(signal.SIGINT)
    await tracer.wait()
    assert output.read_text().count("sync(") >= 25


def cut(place: Place, size: int, hashes: list[bytes], checkpoint: Checkpoint | None) -> list[str]:
    """SQL that makes the database what a copy taken at `size` entries would be, with nothing wrong in itself."""
    postgresql = place.database.startswith("postgresql")

    def blob(data: bytes) -> str:
        return f"'\\x{data.hex()}'" if postgresql else f"x'{data.hex()}'"

    return [
        f"DELETE FROM log_entries WHERE seq >= {size}",
        f"DELETE FROM log_tiles WHERE number >= {size // 256}",
        f"DELETE FROM log_checkpoints WHERE size > {checkpoint.size if checkpoint else -1}",
        f"UPDATE log_state SET size = {size}, root = {blob(root_of(hashes[:size]))}",
    ]


async def test_an_old_copy_put_back_is_found_by_every_gateway_that_signed_more(
    place: Place, writer_at: OpenWriter
) -> None:
    """Two gateways with copies of the key on machines of their own: each knows what itself has signed."""
    keys = []
    for number in (1, 2):
        folder = place.folder / f"gateway-{number}"
        folder.mkdir()
        shutil.copy(place.log_key, folder)
        keys.append(folder / "log.key")
    one, two = (writer_at(place, log_key=key) for key in keys)
    await append(one, 3)
    first = open_checkpoint(await one.checkpoint(), place.verifiers)
    await append(two, 4)
    second = open_checkpoint(await two.checkpoint(), place.verifiers)
    await append(one, 5)
    assert (first.size, second.size) == (3, 7)
    async with place.reader() as reader:
        hashes = [entry.leaf_hash async for entry in reader.iter_entries()]
    await execute(place, *cut(place, 5, hashes, first))
    # A gateway at work finds out by what it knows of the tree, whatever it signed.
    for writer in (one, two):
        with pytest.raises(CorruptLogError, match="shrank"):
            await append(writer, 1)
    # One that starts finds out by what it has signed: the first has signed no more than the copy holds.
    await writer_at(place, log_key=keys[0]).check()
    with pytest.raises(CorruptLogError, match="old copy"):
        await writer_at(place, log_key=keys[1]).check()
    await execute(place, *cut(place, 2, hashes, None))
    for key in keys:
        with pytest.raises(CorruptLogError, match="old copy"):
            await writer_at(place, log_key=key).check()


async def test_an_old_copy_that_was_written_on_is_found_too(place: Place, writer_at: OpenWriter) -> None:
    writer = writer_at(place)
    await append(writer, 5)
    await writer.checkpoint()
    async with place.reader() as reader:
        hashes = [entry.leaf_hash async for entry in reader.iter_entries()]
    await execute(place, *cut(place, 3, hashes, None))
    signed = place.log_key.with_name("log.key.signed")
    signed.rename(signed.with_name("away"))
    await append(writer_at(place), 4)
    signed.with_name("away").rename(signed)
    with pytest.raises(CorruptLogError, match="first 5 entries are not those"):
        await writer_at(place).check()


@pytest.mark.parametrize("content", ["", "x", "log.example/test\n5\n", "\x00" * 200])
async def test_a_damaged_file_of_the_last_checkpoint_is_told(place: Place, content: str, writer_at: OpenWriter) -> None:
    writer = writer_at(place)
    await append(writer, 5)
    note = await writer.checkpoint()
    signed = place.log_key.with_name("log.key.signed")
    for damaged in (content, note.replace("\n5\n", "\n4\n"), note[:-9] + "AAAAAAA=\n"):
        signed.write_text(damaged)
        with pytest.raises(CorruptLogError, match=r"log\.key\.signed"):
            await writer_at(place).check()


def test_writers_that_share_a_key_never_undo_what_another_has_signed(place: Place) -> None:
    notes = {size: Checkpoint(ORIGIN, size, hash_leaf(b"")).signed(place.signer) for size in (5, 9, 12)}
    one, two = LastSigned(place.log_key), LastSigned(place.log_key)
    two.write(9, notes[9])
    one.write(5, notes[5])
    signed = two.read(place.signer)
    assert signed is not None
    assert signed.size == 9
    one.write(12, notes[12])
    two.write(9, notes[9])
    signed = one.read(place.signer)
    assert signed is not None
    assert signed.size == 12
    assert sorted(path.name for path in place.folder.glob("log.key*")) == ["log.key", "log.key.signed"]


class Unsigned(SqliteStore):
    """Cannot store a checkpoint."""

    failing = True

    async def checkpoint(self, edge: Edge, sign: Any) -> tuple[Edge, str]:
        if self.failing:
            raise StoreError("not now")
        return await super().checkpoint(edge, sign)


async def test_entries_that_cannot_be_signed_in_time_stop_the_log_until_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer_at: OpenWriter
) -> None:
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    await place.fill(0, [])
    store = Unsigned(tmp_path / "log.db")
    writer = writer_at(place, store)
    await append(writer, 3)
    with pytest.raises(StoreError):
        await writer.checkpoint()
    await append(writer, 3)  # not yet
    waited = writer.sign_at(0.0)
    monkeypatch.setattr(exchange.log.writer, "COVERED_WITHIN", 0.0)
    replies: list[Reply] = await writer.write([frame([attempt()]), Frame(probe=True), Frame(checkpoint=True)])
    assert [reply.problem.partition(":")[0] for reply in replies] == ["checkpoint-signed"] * 3
    assert await place.stored_ids() != []
    assert writer.size == 6
    assert writer.sign_at(0.0) == waited
    store.failing = False
    [reply] = await writer.write([Frame(probe=True)])
    assert not reply.problem
    assert writer.sign_at(0.0) is None
    await append(writer, 1)
    assert (await place.check()).signed_size == 6


async def test_entries_that_a_writer_left_unsigned_are_signed_by_the_next_one_without_being_asked(
    place: Place, writer_at: OpenWriter
) -> None:
    await append(writer_at(place), 3)
    async with place.log(checkpoint_interval=0.05) as log:

        async def signed() -> bool:
            newest = await log.reader.latest_checkpoint()
            return newest is not None and newest.size == 3

        await until(signed)


async def test_entries_of_a_writer_that_is_gone_are_signed_by_another_that_has_nothing_to_do(
    place: Place, monkeypatch: pytest.MonkeyPatch, writer_at: OpenWriter
) -> None:
    one, two = writer_at(place), writer_at(place)
    await two.check()
    await append(one, 3)
    assert two.sign_at(1.0) is None, "it does not know of them"
    await two.checkpoint()
    assert (await place.check()).signed_size == 3


async def execute(place: Place, *statements: str) -> None:
    engine = create_engine(place.database)
    try:
        async with writing(engine) as connection:
            for statement in statements:
                await connection.execute(text(statement))
    finally:
        await engine.dispose()
