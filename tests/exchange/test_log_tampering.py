"""Every column of every table of the log is changed in turn, rows are taken, put in and swapped: the check names each.

The tables are taken from the schema, so that a new column is either proven or stands in UNPROVEN with its reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from exchange.audit.log_check import LogSummary, check_log
from exchange.audit.log_damage import DamagedLogError
from exchange.log.reader import LogReader
from exchange.log.store_sqlite import create_file
from exchange.log.tables import (
    certificates,
    checkpoints,
    cosignatures,
    edge,
    entries,
    evidence,
    intents,
    metadata,
    removed,
    revocations,
    stamps,
    state,
    tiles,
)
from exchange.storage.database import create_engine, database_url, sqlite_path, upgrade, writing
from exchange.transparency.merkle import hash_leaf
from tests.databases import PostgresServer
from tests.exchange import full_log
from tests.exchange.full_log import ACCESS, CHANGE, LAST, REMOVED, RETENTION, SIGNED_ENTRY, SIZE, UNWITNESSED, WITNESSED
from tests.exchange.log_kit import Place, attempt

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNPROVEN = {
    ("log_entries", "salt", "none"): "erased: whoever does it unlinks digests, and breaks no proof",
    ("log_stamps", "authority", "changed"): "a name that the operator of the gateway gave; the token names its signer",
    ("log_certificates", "first_seen_ms", "changed"): "a gateway's clock, and nothing goes by it",
    ("log_revocations", "first_seen_ms", "changed"): "a gateway's clock, and nothing goes by it",
    ("log_intents", "gateway", "changed"): "not on record yet: who works on it",
    ("log_intents", "boot", "changed"): "not on record yet: in which of its lives",
    ("log_intents", "at_ms", "changed"): "not on record yet: since when",
    ("log_intents", "deadline_ms", "changed"): "not on record yet: until when",
    ("log_intents", "salt", "changed"): "not on record yet: the answer's digests will show another salt",
    ("log_intents", "salt", "none"): "likewise",
}
"""(table, column, what is done to it) -> why nothing can tell, and why that harms no proof."""

VICTIMS: dict[str, tuple[sa.ColumnElement[bool], tuple[str, ...]]] = {
    "log_entries": (entries.c.seq == SIGNED_ENTRY, (f"entry {SIGNED_ENTRY}",)),
    "log_tiles": (sa.and_(tiles.c.level == 0, tiles.c.number == 1), ("tile 0/1",)),
    "log_state": (state.c.id == 1, ("state", f"entry {SIZE}", f"entries {LAST} to {SIZE - 1}")),
    "log_checkpoints": (checkpoints.c.size == WITNESSED, (f"checkpoint {WITNESSED}", f"checkpoint {WITNESSED + 1}")),
    "log_edge": (edge.c.size == LAST, (f"edge {LAST}", f"edge {LAST + 1}")),
    "log_cosignatures": (
        sa.and_(cosignatures.c.size == WITNESSED, cosignatures.c.witness == "witness.example/audit"),
        (f"cosignature {WITNESSED}/", f"cosignature {WITNESSED + 1}/"),
    ),
    "log_stamps": (stamps.c.size == WITNESSED, (f"stamp {WITNESSED}/", f"stamp {WITNESSED + 1}/")),
    "log_certificates": (certificates.c.fingerprint != "", ("certificate ",)),
    "log_revocations": (revocations.c.digest != "", ("revocation ",)),
    "log_evidence": (evidence.c.exchange_id != "", (f"entry {SIGNED_ENTRY}",)),
    "log_intents": (intents.c.exchange_id != "", ("intent ",)),
    "log_removed": (removed.c.first == REMOVED[0][0], ("removed 10", "entry 10", "entry 19")),
}
"""Table -> the row that is changed, and what the check may name then."""


@dataclass(frozen=True, slots=True)
class Log:
    """A log that is damaged and repaired again and again."""

    place: Place
    engine: AsyncEngine

    async def check(self) -> LogSummary:
        return await full_log.check(self.place, LogReader(self.engine))

    @asynccontextmanager
    async def damaged(self, *statements: sa.Executable, values: dict[str, Any] | None = None) -> AsyncIterator[None]:
        """Whatever the statements did is undone at the end of the block."""
        near = sa.or_(
            entries.c.seq.in_([0, 1, *range(8, 45), 299, 300, *range(LAST - 10, LAST)]),
            entries.c.seq >= SIZE,
            entries.c.seq < 0,
        )
        async with writing(self.engine) as connection:
            kept = [(table, await _rows(connection, table, near)) for table in metadata.sorted_tables]
            for statement in statements:
                await connection.execute(statement, values or {})
        try:
            yield
        finally:
            async with writing(self.engine) as connection:
                for table, _ in kept:
                    await connection.execute(sa.delete(table).where(near if table is entries else sa.true()))
                for table, rows in kept:
                    if rows:
                        await connection.execute(sa.insert(table), rows)

    async def names(self, *statements: sa.Executable, values: dict[str, Any] | None = None) -> DamagedLogError:
        """What the check says of the damage."""
        async with self.damaged(*statements, values=values):
            with pytest.raises(DamagedLogError) as raised:
                await self.check()
            assert raised.value.problem_zh
            return raised.value


async def _rows(connection: AsyncConnection, table: sa.Table, near: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    query = sa.select(table).where(near) if table is entries else sa.select(table)
    return [dict(row._mapping) for row in await connection.execute(query)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('tampered') / 'log.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return asyncio.run(server.create_database())


@pytest.fixture(scope="module")
def place(database: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(database, tmp_path_factory.mktemp("key"))
    asyncio.run(_fill(place))
    return place


async def _fill(place: Place) -> None:
    url = database_url(place.database)
    if file := sqlite_path(url):
        create_file(file)
    await upgrade(url, "exchange.migrations")
    await full_log.fill(place)


@pytest.fixture(scope="module")
def log(place: Place) -> Iterator[Log]:
    engine = create_engine(place.database)
    yield Log(place, engine)
    asyncio.run(engine.dispose())


async def test_the_log_is_in_order(log: Log) -> None:
    summary = await log.check()
    assert (summary.size, summary.signed_size, summary.tiles, summary.checkpoints) == (SIZE, LAST, 2, 3)
    assert (summary.cosignatures, summary.stamps, summary.unverified, summary.removed) == (3, 1, 0, 20)


COLUMNS = [
    pytest.param(table, column, how, id=f"{table.name}.{column.name}-{how}")
    for table in metadata.sorted_tables
    for column in table.columns
    for how in (("changed", "none") if column.nullable else ("changed",))
]


@pytest.mark.parametrize(("table", "column", "how"), COLUMNS)
async def test_whatever_column_is_changed_the_row_is_named(
    log: Log, table: sa.Table, column: sa.Column[Any], how: str
) -> None:
    row, named = VICTIMS[table.name]
    async with log.engine.connect() as connection:
        before = (await connection.execute(sa.select(*table.primary_key, column).where(row).limit(1))).one()
    key = sa.and_(*[one == before[place] for place, one in enumerate(table.primary_key)])
    damage = sa.update(table).where(key).values({column: None if how == "none" else another(before[-1])})
    if (table.name, column.name, how) in UNPROVEN:
        async with log.damaged(damage):
            await log.check()
        return
    assert (await log.names(damage)).where.startswith(named)


def another(value: object) -> object:
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(value, int):
        return value + (1 if value != SIGNED_ENTRY else 10**6)  # the number after it is taken
    assert isinstance(value, str)
    return value + "x"


async def test_every_reason_is_of_a_column_that_is_there() -> None:
    assert {(table, column) for table, column, _ in UNPROVEN} <= {
        (table.name, column.name) for table in metadata.sorted_tables for column in table.columns
    }


VANISHES = {
    "log_checkpoints": "a later one covers the same entries, and one that was released is held elsewhere",
    "log_edge": "of a changed entry in the unfinished tile only the neighbourhood is named",
    "log_cosignatures": "a checkpoint without them is not final any more",
    "log_stamps": "a checkpoint without them has no time",
    "log_certificates": "receipts that need it fail",
    "log_revocations": "receipts that need it fail",
    "log_intents": "what ends as a record, or never began",
}
"""Tables of which nothing says that a row must be there, and why that can pass."""


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
async def test_a_row_that_was_taken_away_is_named(log: Log, table: sa.Table) -> None:
    row, named = VICTIMS[table.name]
    if table.name in VANISHES:
        # Of one that nobody has vouched for.
        row = checkpoints.c.size == UNWITNESSED if table is checkpoints else row
        async with log.damaged(sa.delete(table).where(row)):
            await log.check()
        return
    assert (await log.names(sa.delete(table).where(row))).where.startswith(named)


async def test_a_checkpoint_that_others_vouched_for_cannot_be_taken_away_alone(log: Log) -> None:
    found = await log.names(sa.delete(checkpoints).where(checkpoints.c.size == WITNESSED))
    assert found.where.startswith(f"cosignature {WITNESSED}/")


@pytest.mark.parametrize("seq", [CHANGE, ACCESS, RETENTION])
async def test_acts_are_named_as_exchanges_are(log: Log, seq: int) -> None:
    async with log.engine.connect() as connection:
        row = (await connection.execute(sa.select(entries).where(entries.c.seq == seq))).one()
    for column in ("exchange_id", "at_ms", "client", "service", "outcome", "rule", "salt"):
        value = b"salt" if column == "salt" else another(row._mapping[column])
        found = await log.names(sa.update(entries).where(entries.c.seq == seq).values({column: value}))
        assert found.where == f"entry {seq}"


async def test_another_salt_is_named_whether_or_not_its_caller_signed(log: Log) -> None:
    found = await log.names(sa.update(entries).where(entries.c.seq == 34).values(salt=b"another salt 16b"))
    assert found.where == "entry 34"
    assert "salt" in found.problem


async def test_rows_that_changed_places_are_named(log: Log) -> None:
    spare = 10**6

    def swap(table: sa.Table, column: str, one: int, two: int) -> list[sa.Executable]:
        return [
            sa.update(table).where(table.c[column] == old).values({column: new})
            for old, new in ((one, spare), (two, one), (spare, two))
        ]

    assert (await log.names(*swap(entries, "seq", 8, 9))).where == "entry 8"
    assert (await log.names(*swap(entries, "seq", 299, 300))).where == "entry 299"
    # Where no tile is complete the edge tells that was kept with the newest checkpoint.
    assert (await log.names(*swap(entries, "seq", LAST - 9, LAST - 2))).where == f"entry {LAST - 9}"
    # Of removed entries the tiles alone tell the hashes: it may be the first checkpoint that tells.
    assert (await log.names(*swap(tiles, "number", 0, 1))).where in ("tile 0/0", f"entries 0 to {UNWITNESSED - 1}")
    assert (await log.names(*swap(checkpoints, "size", UNWITNESSED, LAST))).where == f"checkpoint {UNWITNESSED}"
    assert (await log.names(*swap(cosignatures, "size", WITNESSED, LAST))).where.startswith("cosignature ")
    assert (await log.names(*swap(removed, "first", *[low for low, _ in REMOVED]))).where.startswith(("removed", "ent"))


INSERTS = [
    ("log_entries", {"seq": SIZE}, f"entry {SIZE}"),
    ("log_entries", {"seq": -1}, "entry -1"),
    ("log_entries", {"seq": REMOVED[0][0]}, f"entry {REMOVED[0][0]}"),
    ("log_tiles", {"number": 2}, "tile 0/2"),
    ("log_tiles", {"number": -1}, "tile 0/-1"),
    ("log_tiles", {"level": 1}, "tile 1/1"),
    ("log_tiles", {"level": -1}, "tile -1/1"),
    ("log_state", {"id": 2}, "state"),
    ("log_checkpoints", {"size": 5}, "checkpoint 5"),
    ("log_checkpoints", {"size": -5}, "checkpoint -5"),
    ("log_checkpoints", {"size": 9999}, "checkpoint 9999"),
    ("log_edge", {"size": 5}, "edge 5"),
    ("log_edge", {"size": WITNESSED}, f"edge {WITNESSED}"),
    ("log_cosignatures", {"size": 5}, "cosignature 5/"),
    ("log_cosignatures", {"witness": "witness.example/other"}, f"cosignature {WITNESSED}/witness.example/other"),
    ("log_stamps", {"size": 5}, "stamp 5/"),
    ("log_certificates", {"fingerprint": "ab"}, "certificate ab"),
    ("log_revocations", {"digest": "ab"}, "revocation ab"),
    ("log_evidence", {"exchange_id": "nobody"}, "signature nobody"),
    ("log_intents", {"exchange_id": "other"}, "intent other"),
    ("log_removed", {"first": 400, "end": 410}, "removed 400"),
]


@pytest.mark.parametrize(("table", "changed", "named"), INSERTS)
async def test_a_row_that_was_put_in_is_named(log: Log, table: str, changed: dict[str, Any], named: str) -> None:
    """A copy of a good row under another key: no more can be made without the keys of the log and of others."""
    into = metadata.tables[table]
    async with log.engine.connect() as connection:
        row = (await connection.execute(sa.select(into).where(VICTIMS[table][0]).limit(1))).one()
    values = dict(row._mapping) | changed
    if into is entries:
        # As good as it can be: a well-formed record of its own.
        one = attempt(7)
        values |= {
            name: getattr(one, name) for name in ("exchange_id", "at_ms", "client", "service", "outcome", "rule")
        }
        values |= {"leaf": one.record, "leaf_hash": hash_leaf(one.record)}
    assert (await log.names(sa.insert(into).values(values))).where.startswith(named)


async def test_putting_in_is_tried_on_every_table() -> None:
    assert {table for table, _, _ in INSERTS} == set(metadata.tables)


async def test_a_signature_beside_a_record_that_knows_of_none_is_named(log: Log) -> None:
    reader = LogReader(log.engine)
    for seq, where in ((34, "entry 34"), (CHANGE, f"entry {CHANGE}")):
        entry = await reader.entry_at(seq)
        assert entry is not None
        put = sa.insert(evidence).values(exchange_id=entry.exchange_id, evidence=full_log.EVIDENCE)
        assert (await log.names(put)).where == where


async def test_without_keys_of_others_their_word_is_counted_and_not_believed(log: Log) -> None:
    summary = await check_log(LogReader(log.engine), log.place.verifiers)
    assert (summary.cosignatures, summary.stamps, summary.unverified) == (0, 0, 4)


async def test_what_cannot_be_read_is_named(log: Log) -> None:
    """SQLite takes any bytes for a text."""
    if log.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL refuses such a text")
    for table, column, named in (
        ("log_entries", "rule", f"entry {SIGNED_ENTRY}"),
        ("log_checkpoints", "note", "the first checkpoints"),
        ("log_certificates", "fingerprint", "a table beside the log"),
    ):
        into = metadata.tables[table]
        damage = sa.update(into).where(VICTIMS[table][0]).values({column: sa.text("CAST(x'ff' AS TEXT)")})
        if table == "log_certificates":
            damage = damage.where(
                certificates.c.first_seen_ms.in_(sa.select(sa.func.min(certificates.c.first_seen_ms)))
            )
            damage = damage.where(sa.text("rowid = 1"))
        async with log.damaged():
            async with writing(log.engine) as connection:
                kept = (await connection.execute(sa.select(into))).all()
                await connection.execute(damage)
            try:
                with pytest.raises(DamagedLogError) as raised:
                    await log.check()
                assert raised.value.where == named
            finally:
                async with writing(log.engine) as connection:
                    await connection.execute(sa.delete(into))
                    await connection.execute(sa.insert(into), [dict(row._mapping) for row in kept])


async def test_after_all_that_the_log_is_in_order(log: Log) -> None:
    assert (await log.check()).size == SIZE


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
async def test_a_row_that_stands_there_twice_is_named(log: Log, table: sa.Table) -> None:
    """Whoever can take the keys off a table can double its rows."""
    bare = table.name + "_bare"
    row = VICTIMS[table.name][0]
    async with writing(log.engine) as connection:
        await connection.execute(sa.text(f"CREATE TABLE {bare} AS SELECT * FROM {table.name}"))
        await connection.execute(sa.text(f"ALTER TABLE {table.name} RENAME TO {table.name}_kept"))
        await connection.execute(sa.text(f"ALTER TABLE {bare} RENAME TO {table.name}"))
    try:
        await log.check()
        async with writing(log.engine) as connection:
            one = (await connection.execute(sa.select(table).where(row).limit(1))).one()
            await connection.execute(sa.insert(table).values(dict(one._mapping)))
        with pytest.raises(DamagedLogError):
            await log.check()
    finally:
        async with writing(log.engine) as connection:
            await connection.execute(sa.text(f"DROP TABLE {table.name}"))
            await connection.execute(sa.text(f"ALTER TABLE {table.name}_kept RENAME TO {table.name}"))
