"""One contract for every place a log is kept in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from exchange.log.log import _asyncpg_arguments
from exchange.log.store import Batch, CorruptLogError, DuplicateRecordError, LogStore, StoreError
from exchange.log.store_postgresql import PostgresqlStore
from exchange.log.store_sqlite import SqliteStore, create_file
from exchange.log.tables import metadata
from exchange.storage.database import create_engine, reading, sqlite_path, upgrade, writing
from exchange.storage.database import database_url as parse_database_url
from exchange.transparency.checkpoint import Checkpoint, NoteSigner
from exchange.transparency.merkle import hash_leaf, root_of
from exchange.transparency.tiles import Edge, Wanted, inclusion_proof, tree_root
from tests.exchange.log_kit import ORIGIN, Attempt, attempt, new_id, now_ms

OpenStore = Callable[[], LogStore]
SIGNER = NoteSigner.generate(ORIGIN)


@pytest.fixture
async def open_store(database_url: str) -> AsyncIterator[OpenStore]:
    """Each call gives another store on one database."""
    url = parse_database_url(database_url)
    file = sqlite_path(url)
    if file:
        create_file(file)
    await upgrade(url, "exchange.migrations")
    opened: list[LogStore] = []

    def store() -> LogStore:
        opened.append(SqliteStore(file) if file else PostgresqlStore(_asyncpg_arguments(url)))
        return opened[-1]

    yield store
    for one in opened:
        await one.close()


@pytest.fixture
def store(open_store: OpenStore) -> LogStore:
    return open_store()


def batch(*attempts: Attempt) -> Batch:
    return Batch("gateway-1", "boot-1", [one.row for one in attempts], at_ms=now_ms())


def sign(size: int, root: bytes) -> str:
    return Checkpoint(ORIGIN, size, root).signed(SIGNER)


async def test_an_empty_log_has_an_empty_tree(store: LogStore) -> None:
    edge = await store.load()
    assert (edge.size, edge.root) == (0, root_of([]))
    assert await store.newest_checkpoint() is None


async def test_what_was_appended_is_there_for_the_next_store(open_store: OpenStore) -> None:
    attempts = [attempt(number) for number in range(700)]
    edge = await open_store().load()
    store = open_store()
    for start in range(0, 700, 70):
        edge = await store.append(edge, batch(*attempts[start : start + 70]))
    hashes = [hash_leaf(one.record) for one in attempts]
    assert edge.size == 700
    assert edge.root == root_of(hashes)
    other = open_store()
    assert await other.load() == edge
    assert await tree_root(other, 700) == edge.root
    assert await tree_root(other, 300) == root_of(hashes[:300])
    assert len(await inclusion_proof(other, 699, 700)) > 3
    [tile] = await other.tiles([Wanted(0, 1, 256)])
    assert tile == b"".join(hashes[256:512])


async def test_a_second_record_of_an_exchange_is_refused_and_nothing_is_written(store: LogStore) -> None:
    first, second = attempt(1), attempt(2)
    edge = await store.append(await store.load(), batch(first))
    again = attempt(3, exchange_id=first.exchange_id)
    with pytest.raises(DuplicateRecordError) as raised:
        await store.append(edge, batch(second, again))
    assert raised.value.exchange_ids == {first.exchange_id}
    assert await store.load() == edge
    with pytest.raises(DuplicateRecordError) as raised:
        await store.append(edge, batch(second, second))
    assert raised.value.exchange_ids == set()
    assert (await store.append(edge, batch(second))).size == 2


async def test_a_writer_with_an_old_edge_first_reads_what_others_wrote(open_store: OpenStore) -> None:
    one, two = open_store(), open_store()
    edge_one = edge_two = await one.load()
    attempts = [attempt(number) for number in range(600)]
    for number, each in enumerate(attempts):
        if number % 3:
            edge_one = await one.append(edge_one, batch(each))
        else:
            edge_two = await two.append(edge_two, batch(each))
    edge_one = await one.append(edge_one, batch())
    assert edge_one.size == 600
    assert edge_one.root == root_of([hash_leaf(each.record) for each in attempts])
    assert await two.load() == edge_one


async def test_two_writers_at_once_make_one_log(open_store: OpenStore) -> None:
    async def write(store: LogStore) -> set[str]:
        edge, ids = await store.load(), set()
        for _ in range(40):
            attempts = [attempt(number) for number in range(7)]
            edge = await store.append(edge, batch(*attempts))
            ids |= {one.exchange_id for one in attempts}
        return ids

    one, two = await asyncio.gather(write(open_store()), write(open_store()))
    edge = await open_store().load()
    assert edge.size == len(one | two) == 560


async def test_an_intent_ends_in_the_transaction_of_its_record(store: LogStore) -> None:
    intended, other = new_id(), new_id()
    edge = await store.load()
    intents = batch()
    intents.intents = [(intended, 1, 2, b"salt", b"{}"), (other, 1, 2, None, b"{}"), (other, 1, 2, None, b"{}")]
    edge = await store.append(edge, intents)
    assert edge.size == 0
    ending = batch(attempt(exchange_id=intended))
    ending.settled = [intended]
    edge = await store.append(edge, ending)
    # A transaction that fails leaves the intent as it was.
    failing = batch(attempt(exchange_id=intended))
    failing.settled = [other]
    with pytest.raises(DuplicateRecordError):
        await store.append(edge, failing)
    assert await intents_of(store) == {other}


async def test_a_checkpoint_covers_what_is_stored_and_is_signed_once(open_store: OpenStore) -> None:
    one, two = open_store(), open_store()
    old = await two.load()
    edge = await one.append(old, batch(attempt(1), attempt(2)))
    signed: list[int] = []

    def count(size: int, root: bytes) -> str:
        signed.append(size)
        return sign(size, root)

    edge_two, note = await two.checkpoint(old, count)
    assert edge_two == edge
    assert (await one.checkpoint(edge, count))[1] == note
    assert signed == [2]
    newest = await one.newest_checkpoint()
    assert newest is not None
    assert (newest.size, newest.root, newest.note) == (2, edge.root, note)


async def test_a_checkpoint_that_may_not_be_signed_leaves_nothing_behind(store: LogStore) -> None:
    edge = await store.append(await store.load(), batch(attempt()))

    def refuse(size: int, root: bytes) -> str:
        raise CorruptLogError("no")

    with pytest.raises(CorruptLogError):
        await store.checkpoint(edge, refuse)
    assert await store.newest_checkpoint() is None
    assert (await store.append(edge, batch(attempt()))).size == 2


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE log_entries SET leaf = leaf || leaf WHERE seq = 299",
        "UPDATE log_entries SET leaf_hash = (SELECT leaf_hash FROM log_entries WHERE seq = 1) WHERE seq = 299",
        "DELETE FROM log_entries WHERE seq = 299",
        "DELETE FROM log_entries WHERE seq = 280",
        "DELETE FROM log_tiles",
        "UPDATE log_tiles SET root = (SELECT root FROM log_state)",
        "UPDATE log_state SET size = 299",
        "UPDATE log_state SET root = (SELECT root FROM log_tiles)",
        "DELETE FROM log_state",
    ],
)
async def test_a_damaged_end_of_the_log_is_refused(open_store: OpenStore, damage: str) -> None:
    store = open_store()
    await store.append(await store.load(), batch(*[attempt(number) for number in range(300)]))
    await execute(store, damage)
    with pytest.raises(CorruptLogError):
        await open_store().load()


@pytest.mark.parametrize("damage", ["UPDATE log_state SET size = 0", "DELETE FROM log_entries WHERE seq = 3"])
async def test_a_writer_notices_a_log_that_others_cut(open_store: OpenStore, damage: str) -> None:
    one, two = open_store(), open_store()
    edge = await one.append(await one.load(), batch(attempt()))
    await two.append(edge, batch(attempt(), attempt(), attempt()))
    await execute(two, damage)
    with pytest.raises(CorruptLogError):
        await one.append(edge, batch(attempt()))


async def test_a_database_that_is_away_is_an_error_and_then_works_again(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store()
    edge = await store.append(await store.load(), batch(attempt()))
    if isinstance(store, SqliteStore):
        await store.close()
        hidden = tmp_path / "hidden"
        store._path.rename(hidden)
        with pytest.raises(StoreError):
            await store.append(edge, batch(attempt()))
        hidden.rename(store._path)
    else:
        assert isinstance(store, PostgresqlStore)
        await kill_connections(open_store())
        with pytest.raises(StoreError):
            await store.append(edge, batch(attempt()))
    assert (await store.append(edge, batch(attempt()))).size == 2


def test_an_edge_from_nothing_is_empty() -> None:
    assert Edge.empty().root == root_of([])


async def execute(store: LogStore, statement: str) -> None:
    if isinstance(store, SqliteStore):
        store._open().execute(statement)
    else:
        assert isinstance(store, PostgresqlStore)
        async with store._failing() as db:
            await db.execute(statement)


async def intents_of(store: LogStore) -> set[str]:
    query = "SELECT exchange_id FROM log_intents"
    if isinstance(store, SqliteStore):
        return {row[0] for row in store._open().execute(query)}
    assert isinstance(store, PostgresqlStore)
    async with store._failing() as db:
        return {row[0] for row in await db.fetch(query)}


async def kill_connections(store: LogStore) -> None:
    assert isinstance(store, PostgresqlStore)
    async with store._failing() as db:
        await db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_the_migrations_make_the_tables_that_the_code_knows(open_store: OpenStore, database_url: str) -> None:
    """Also on a log from before its index of clients was dropped, and nothing that it holds is lost by that."""
    attempts = [attempt(number) for number in range(300)]
    store = open_store()
    edge = await store.append(await store.load(), batch(*attempts))
    await store.close()
    engine = create_engine(database_url)

    def differences(connection: Connection) -> list[object]:
        def ours(name: str | None, kind: str, _parents: object) -> bool:
            return kind != "table" or name != "log_schema_version"

        return list(compare_metadata(MigrationContext.configure(connection, opts={"include_name": ours}), metadata))

    try:
        async with reading(engine) as connection:
            assert await connection.run_sync(differences) == []
        async with writing(engine) as connection:
            await connection.execute(sa.text("CREATE INDEX log_entries_client ON log_entries (client, seq)"))
            await connection.execute(sa.text("UPDATE log_schema_version SET version_num = '0009'"))
        async with reading(engine) as connection:
            assert len(await connection.run_sync(differences)) == 1
        await upgrade(database_url, "exchange.migrations")
        async with reading(engine) as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()
    assert await store.load() == edge
    grown = await store.append(edge, batch(attempt(300)))
    assert grown.size == 301
