"""A nonce is used once: in one process, in several, after a kill, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import Connection

from ca_auth.request_signing.nonce_tables import SqliteNonceTable, metadata
from ca_auth.request_signing.nonces import REMEMBERED_SECONDS, NonceStore, NoncesUnavailableError
from ca_auth.request_signing.signature_refusals import RequestSignatureError
from exchange import DatabaseFailedError, SqliteWriter, create_engine, reading, sqlite_path, upgrade
from exchange import database_url as parsed_url
from tests.ca_auth.signed_requests import NOW, QUESTION
from tests.ci import missing

TAX, HOUSING = "a" * 64, "b" * 64
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def store_at(url: str, clock: float = NOW) -> AsyncIterator[NonceStore]:
    store = await NonceStore.open(url, clock=lambda: clock)
    try:
        yield store
    finally:
        await store.close()


async def rows_of(url: str) -> int:
    """How many nonces the database holds, asked without our code."""
    path = sqlite_path(parsed_url(url))
    if path is not None:
        connection = sqlite3.connect(path)
        try:
            return int(connection.execute("SELECT count(*) FROM request_nonces").fetchone()[0])
        finally:
            connection.close()
    server = await asyncpg.connect(url)
    try:
        return int(await server.fetchval("SELECT count(*) FROM request_nonces"))
    finally:
        await server.close()


async def test_a_nonce_is_used_once_per_certificate(database_url: str) -> None:
    async with store_at(database_url) as store:
        assert await store.use(TAX, "nonce-0000000001", NOW + 120)
        assert not await store.use(TAX, "nonce-0000000001", NOW + 120)
        assert not await store.use(TAX, "nonce-0000000001", NOW + 60)
        assert await store.use(HOUSING, "nonce-0000000001", NOW + 120)
        assert await store.use(TAX, "nonce-0000000002", NOW + 120)
    assert await rows_of(database_url) == 3


async def test_certificate_and_nonce_cannot_be_shifted_into_each_other(database_url: str) -> None:
    async with store_at(database_url) as store:
        assert await store.use("ab", "c", NOW + 120)
        assert await store.use("a", "bc", NOW + 120)


async def test_a_replay_at_another_gateway_and_after_a_restart_is_refused(database_url: str) -> None:
    async with store_at(database_url) as one, store_at(database_url) as other:
        assert await one.use(TAX, "nonce-0000000001", NOW + 120)
        assert not await other.use(TAX, "nonce-0000000001", NOW + 120)
    async with store_at(database_url) as later:
        assert not await later.use(TAX, "nonce-0000000001", NOW + 120)


async def test_a_signed_request_is_carried_out_once(database_url: str) -> None:
    async with store_at(database_url) as store:
        signature = QUESTION.signed().verified()
        await store.spend(signature)
        for replayed in (signature, QUESTION.signed(nonce=signature.nonce, created=NOW + 30).verified()):
            with pytest.raises(RequestSignatureError) as caught:
                await store.spend(replayed)
            assert caught.value.rule == "signature-nonce"
        await store.spend(QUESTION.signed().verified())


async def test_of_a_hundred_at_once_one_wins(database_url: str) -> None:
    async with store_at(database_url) as one, store_at(database_url) as other:
        uses = [store.use(TAX, "nonce-0000000001", NOW + 120) for store in (one, other) for _ in range(50)]
        assert (await asyncio.gather(*uses)).count(True) == 1


async def test_the_migrations_make_the_tables_that_the_code_knows(database_url: str) -> None:
    await upgrade(database_url, "ca_auth.request_signing.migrations")
    await upgrade(database_url, "ca_auth.request_signing.migrations")
    engine = create_engine(database_url)

    def differences(connection: Connection) -> list[object]:
        def ours(name: str | None, kind: str, _parents: object) -> bool:
            return kind != "table" or name != "ca_auth_schema_version"

        return list(compare_metadata(MigrationContext.configure(connection, opts={"include_name": ours}), metadata))

    try:
        async with reading(engine) as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()


class Counting(SqliteNonceTable):
    """Says how large the transactions were."""

    def __init__(self, path: Path) -> None:
        super().__init__(SqliteWriter(path, "nonces"))
        self.sizes: list[int] = []

    async def add(self, keys: Mapping[bytes, int], forget_before: int | None) -> set[bytes]:
        self.sizes.append(len(keys))
        return await super().add(keys, forget_before)


@pytest.fixture
async def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'nonces.db'}"
    async with store_at(url):
        pass
    return url


async def test_all_nonces_of_a_turn_share_a_transaction(sqlite_url: str) -> None:
    path = sqlite_path(parsed_url(sqlite_url))
    assert path is not None
    table = Counting(path)
    store = NonceStore(table, clock=lambda: NOW)
    assert all(await asyncio.gather(*(store.use(TAX, f"nonce-{number:010}", NOW + 120) for number in range(200))))
    assert table.sizes == [200]
    await store.close()


async def test_what_is_over_is_forgotten(database_url: str) -> None:
    now = [float(NOW)]
    store = await NonceStore.open(database_url, clock=lambda: now[0])
    for number in range(10):
        assert await store.use(TAX, f"nonce-{number:010}", NOW + REMEMBERED_SECONDS)
    now[0] = NOW + REMEMBERED_SECONDS
    assert not await store.use(TAX, "nonce-0000000000", NOW + REMEMBERED_SECONDS)
    assert await rows_of(database_url) == 10
    now[0] += 11
    assert await store.use(HOUSING, "nonce-0000000000", now[0] + REMEMBERED_SECONDS)
    assert await rows_of(database_url) == 1
    assert len(store._seen) == len(store._order) == 1  # nothing outside tells what the memory holds
    await store.close()


async def test_a_database_that_fails_lets_nothing_through_and_is_used_again_when_it_works(sqlite_url: str) -> None:
    path = sqlite_path(parsed_url(sqlite_url))
    assert path is not None
    async with store_at(sqlite_url) as store:
        assert await store.use(TAX, "nonce-0000000001", NOW + 120)
        other = sqlite3.connect(path)
        other.execute("ALTER TABLE request_nonces RENAME TO away")
        with pytest.raises(NoncesUnavailableError) as caught:
            await store.use(TAX, "nonce-0000000002", NOW + 120)
        assert (caught.value.status, caught.value.rule) == (503, "nonce-store")
        assert caught.value.detail_in("zh") != caught.value.detail_in("en")
        other.execute("ALTER TABLE away RENAME TO request_nonces")
        other.close()
        assert await store.use(TAX, "nonce-0000000002", NOW + 120)
        assert not await store.use(TAX, "nonce-0000000001", NOW + 120)


async def test_a_database_that_is_gone_is_not_made_anew(sqlite_url: str) -> None:
    """An empty one would accept every replay."""
    path = sqlite_path(parsed_url(sqlite_url))
    assert path is not None
    async with store_at(sqlite_url) as store:
        path.unlink()
        with pytest.raises(NoncesUnavailableError):
            await store.use(TAX, "nonce-0000000001", NOW + 120)
        assert not path.exists()


async def test_a_postgresql_that_restarts_costs_refusals_and_no_nonce(postgres_url: str) -> None:
    async with store_at(postgres_url) as store:
        assert await store.use(TAX, "nonce-0000000001", NOW + 120)
        admin = await asyncpg.connect(postgres_url)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'datong-nonces'"
            " AND datname = current_database()"
        )
        await admin.close()
        with pytest.raises(NoncesUnavailableError):
            await store.use(TAX, "nonce-0000000002", NOW + 120)
        assert await store.use(TAX, "nonce-0000000003", NOW + 120)
        assert not await store.use(TAX, "nonce-0000000001", NOW + 120)


class Silent:
    """A table that says nothing until it is let."""

    def __init__(self, inner: SqliteNonceTable) -> None:
        self.inner = inner
        self.may = asyncio.Event()
        self.asked = 0

    async def add(self, keys: Mapping[bytes, int], forget_before: int | None) -> set[bytes]:
        self.asked += 1
        await self.may.wait()
        return await self.inner.add(keys, forget_before)

    async def close(self) -> None:
        await self.inner.close()


async def test_nobody_queues_behind_a_silent_database(sqlite_url: str) -> None:
    path = sqlite_path(parsed_url(sqlite_url))
    assert path is not None
    table = Silent(SqliteNonceTable(SqliteWriter(path, "nonces")))
    store = NonceStore(table, clock=lambda: NOW, timeout=0.05)
    with pytest.raises(NoncesUnavailableError):
        await store.use(TAX, "nonce-0000000001", NOW + 120)
    for number in range(100):
        with pytest.raises(NoncesUnavailableError):
            await store.use(TAX, f"another-{number:010}", NOW + 120)
    assert not store._commits.waiting  # refused at once, and nothing piles up
    assert table.asked == 1
    table.may.set()
    while store._commits.busy:
        await asyncio.sleep(0)
    assert await store.use(TAX, "nonce-0000000002", NOW + 120)
    assert not await store.use(TAX, "nonce-0000000001", NOW + 120)  # it got there after all
    await store.close()


async def test_a_table_held_by_a_frozen_process_is_an_error_and_no_hang(sqlite_url: str) -> None:
    path = sqlite_path(parsed_url(sqlite_url))
    assert path is not None
    holder = os.open(f"{path}-writer", os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    table = SqliteNonceTable(SqliteWriter(path, "nonces", patience=0.05))
    with pytest.raises(DatabaseFailedError):
        await table.add({b"k": NOW}, None)
    os.close(holder)
    assert await table.add({b"k": NOW}, None) == {b"k"}
    await table.close()


async def test_a_database_that_cannot_be_opened_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NoncesUnavailableError):
        await NonceStore.open(f"sqlite:///{tmp_path / 'no such folder' / 'nonces.db'}")
    with pytest.raises(NoncesUnavailableError):
        await NonceStore.open("postgresql://nobody@127.0.0.1:1/none")


# Real processes

GATEWAY = """
import asyncio, sys
from ca_auth.request_signing.nonces import NonceStore

async def main(url, count):
    store = await NonceStore.open(url, clock=lambda: 1_800_000_000)
    print("ready", flush=True)
    sys.stdin.readline()
    uses = [store.use("a" * 64, f"nonce-{number:010}", 1_800_000_120) for number in range(int(count))]
    for use in asyncio.as_completed(uses):
        print(int(await use), flush=True)
    print("done", flush=True)
    sys.stdin.readline()

asyncio.run(main(*sys.argv[1:]))
"""


async def gateway(url: str, count: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", GATEWAY, url, str(count)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def go(process: asyncio.subprocess.Process) -> list[bool]:
    """Let it use its nonces; what it was told for them, in whatever order."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"go\n")
    told = []
    while (line := await process.stdout.readline()) in (b"0\n", b"1\n"):
        told.append(line == b"1\n")
    assert line == b"done\n"
    return told


async def kill(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)
    await process.communicate()


async def test_of_two_gateway_processes_each_nonce_passes_one(database_url: str) -> None:
    one, other = await gateway(database_url, 300), await gateway(database_url, 300)
    told = await asyncio.gather(go(one), go(other))
    assert [len(each) for each in told] == [300, 300]
    assert sum(told[0]) + sum(told[1]) == 300
    await asyncio.gather(kill(one), kill(other))
    assert await rows_of(database_url) == 300


async def test_a_gateway_killed_right_after_a_nonce_was_used_still_used_it(database_url: str) -> None:
    for first in (True, False, False):
        process = await gateway(database_url, 1)
        assert await go(process) == [first]
        await kill(process)
    async with store_at(database_url) as store:
        assert not await store.use(TAX, "nonce-0000000000", NOW + 120)


async def test_a_nonce_is_on_disk_before_it_counts(sqlite_url: str, tmp_path: Path) -> None:
    """Counted by the kernel: not fewer syncs than nonces that were used one after the other."""
    strace = shutil.which("strace") or missing("strace")
    output = tmp_path / "strace"
    async with store_at(sqlite_url) as store:
        assert await store.use(TAX, "nonce-0000000000", NOW + 120)
        tracer = await asyncio.create_subprocess_exec(
            *(strace, "-f", "-e", "trace=fsync,fdatasync", "-o", str(output), "-p", str(os.getpid())),
            stderr=asyncio.subprocess.PIPE,
        )
        assert tracer.stderr is not None
        if b"attached" not in await tracer.stderr.readline():
            await tracer.wait()
            missing("the right to trace processes")
        for number in range(1, 21):
            assert await store.use(TAX, f"nonce-{number:010}", NOW + 120)
        tracer.send_signal(signal.SIGINT)
        await tracer.wait()
    assert output.read_text().count("sync(") >= 20
