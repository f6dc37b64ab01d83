"""Rows of the log as they stand, for a check: in order, whole tables, and what should not be there.

Rules:
1. Bytes are read as bytes: SQLite lets anyone store a text where bytes belong.
2. What must agree is read in one transaction: a check may run while the log is written, and its salts are erased.
3. Every read is short, or one statement over an index.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from exchange.log.reader import StoredEntry, StoredIntent, StoredRevocation
from exchange.log.store import SignedSize
from exchange.log.tables import (
    certificates,
    checkpoints,
    cosignatures,
    edge,
    entries,
    evidence,
    intents,
    metadata,
    revocations,
    stamps,
    state,
    tiles,
)
from exchange.storage.database import reading
from exchange.transparency.tiles import HEIGHT

_Row = Any
"""A row, its columns by name."""


@dataclass(frozen=True, slots=True)
class StoredStamp:
    """An RFC 3161 token beside a checkpoint."""

    authority: str
    at_ms: int
    token: bytes


@dataclass(frozen=True, slots=True)
class StoredCosignature:
    """A witness's line beside a checkpoint."""

    witness: str
    at_ms: int
    line: str


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint with what others say of it."""

    signed: SignedSize
    cosignatures: list[StoredCosignature] = field(default_factory=list)
    stamps: list[StoredStamp] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StrayRow:
    """A row that should not be there."""

    where: str
    problem: str
    problem_zh: str
    exchange_id: str = ""


def _bytes(table: sa.Table, *names: str) -> list[sa.ColumnElement[Any]]:
    columns = [table.c[name] for name in names or table.c.keys()]
    return [
        sa.cast(column, sa.LargeBinary).label(column.name) if isinstance(column.type, sa.LargeBinary) else column
        for column in columns
    ]


_ENTRY = sa.select(*_bytes(entries, *StoredEntry.__slots__)).order_by(entries.c.seq)
_CHECKPOINT = sa.select(*_bytes(checkpoints, *SignedSize._fields)).order_by(checkpoints.c.size)
_COSIGNATURE = sa.select(*_bytes(cosignatures)).order_by(cosignatures.c.size, cosignatures.c.witness)
_STAMP = sa.select(*_bytes(stamps)).order_by(stamps.c.size, stamps.c.authority)
_EVIDENCE = sa.select(*_bytes(evidence))


class LogRows:
    """Reads one log for a check. Several tasks may use it at once."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def state(self) -> list[tuple[int, int, bytes]]:
        """(id, size, root) of every row of state: there is one, with the id 1."""
        async with reading(self._engine) as connection:
            return [tuple(row) for row in await connection.execute(sa.select(*_bytes(state, "id", "size", "root")))]

    async def entries(self, first: int, end: int, limit: int) -> tuple[list[StoredEntry], Mapping[str, bytes]]:
        """Entries from number `first` up to, not including, `end`, `limit` at most; and their callers' signatures by id."""
        query = _ENTRY.where(entries.c.seq >= first, entries.c.seq < end).limit(limit)
        async with reading(self._engine) as connection:
            rows = [StoredEntry(*row) for row in (await connection.execute(query)).all()]
            if not rows:
                return rows, {}
            bounds = entries.c.seq >= rows[0].seq, entries.c.seq <= rows[-1].seq
            signed = sa.select(entries.c.exchange_id).where(*bounds)
            found = await connection.execute(_EVIDENCE.where(evidence.c.exchange_id.in_(signed)))
            return rows, {row.exchange_id: row.evidence for row in found}

    async def leaf_hashes(self, first: int, end: int) -> dict[int, bytes]:
        """Number -> leaf hash of the entries from `first` up to, not including, `end`."""
        query = sa.select(*_bytes(entries, "seq", "leaf_hash")).where(entries.c.seq >= first, entries.c.seq < end)
        async with reading(self._engine) as connection:
            return {row.seq: row.leaf_hash for row in await connection.execute(query)}

    async def checkpoints(self, after: int | None, most: int, limit: int) -> list[StoredCheckpoint]:
        """Checkpoints of trees larger than `after`, of `most` entries at most, with what others say of them."""
        query = _CHECKPOINT.where(checkpoints.c.size <= most).limit(limit)
        if after is not None:
            query = query.where(checkpoints.c.size > after)
        async with reading(self._engine) as connection:
            found = [StoredCheckpoint(SignedSize(*row)) for row in (await connection.execute(query)).all()]
            by_size = {each.signed.size: each for each in found}
            if found:
                first, last = found[0].signed.size, found[-1].signed.size
                within = (sa.column("size") >= first, sa.column("size") <= last)
                for row in await connection.execute(_COSIGNATURE.where(*within)):
                    if row.size in by_size:
                        by_size[row.size].cosignatures.append(StoredCosignature(row.witness, row.at_ms, row.line))
                for row in await connection.execute(_STAMP.where(*within)):
                    if row.size in by_size:
                        by_size[row.size].stamps.append(StoredStamp(row.authority, row.at_ms, row.token))
        return found

    async def edges(self) -> list[tuple[int, bytes, bool]]:
        """Every row of the edge as (size, hashes, whether there is a checkpoint of that size); there is one at most."""
        signed = sa.select(checkpoints.c.size).where(checkpoints.c.size == edge.c.size).exists()
        query = sa.select(*_bytes(edge, "size", "hashes"), signed).order_by(edge.c.size)
        async with reading(self._engine) as connection:
            return [tuple(row) for row in await connection.execute(query)]

    async def certificates(self) -> AsyncIterator[tuple[str, bytes]]:
        """(fingerprint, DER) of all certificates."""
        async for row in self._all(certificates, "fingerprint", "der"):
            yield row.fingerprint, row.der

    async def revocations(self) -> AsyncIterator[StoredRevocation]:
        """All CRLs and OCSP responses."""
        async for row in self._all(revocations, *StoredRevocation.__slots__):
            yield StoredRevocation(*row)

    async def intents(self) -> AsyncIterator[StoredIntent]:
        """All open intents."""
        async for row in self._all(intents, *StoredIntent.__slots__):
            yield StoredIntent(*row)

    async def stray(self) -> StrayRow | None:
        """The first row found that should not be there."""
        async with reading(self._engine) as connection:
            size = int((await connection.execute(sa.select(state.c.size))).scalar_one())
            for look in (_beyond, _unreached, _stray_tile, _doubled, _unwitnessed, _unsigned):
                found = await look(connection, size)
                if found is not None:
                    return found
        return None

    async def _all(self, table: sa.Table, *names: str) -> AsyncIterator[_Row]:
        key = next(iter(table.primary_key))
        after = None
        while True:
            query = sa.select(*_bytes(table, *names)).order_by(key).limit(200)
            if after is not None:
                query = query.where(key > after)
            async with reading(self._engine) as connection:
                rows = (await connection.execute(query)).all()
            for row in rows:
                yield row
            if len(rows) < 200:
                return
            after = getattr(rows[-1], key.name)


async def _first(connection: AsyncConnection, query: sa.Select[Any]) -> _Row | None:
    return (await connection.execute(query.limit(1))).first()


async def _beyond(connection: AsyncConnection, size: int) -> StrayRow | None:
    """An entry beyond the size of the log, or before its first."""
    outside = sa.or_(entries.c.seq >= size, entries.c.seq < 0)
    query = sa.select(entries.c.seq, entries.c.exchange_id).where(outside).order_by(entries.c.seq)
    row = await _first(connection, query)
    if row is None:
        return None
    return StrayRow(f"entry {row.seq}", "it lies beyond the size of the log", "超出日志长度", row.exchange_id)


async def _unreached(connection: AsyncConnection, size: int) -> StrayRow | None:
    """A checkpoint of more entries than the log has."""
    query = sa.select(checkpoints.c.size, checkpoints.c.note).where(checkpoints.c.size > size)
    row = await _first(connection, query.order_by(checkpoints.c.size))
    if row is None:
        return None
    if row.note.split("\n")[1:2] != [str(row.size)]:
        return StrayRow(f"checkpoint {row.size}", "its note speaks of another size", "其签署的是另一个长度")
    return StrayRow(
        f"entry {size}",
        f"a checkpoint of {row.size} entries was signed, the log ends here: entries were removed",
        f"已签署 {row.size} 条记录的检查点，而日志到此为止：记录被删除",
    )


async def _stray_tile(connection: AsyncConnection, size: int) -> StrayRow | None:
    """A tile that is not, or not yet, one of the tree."""
    level, number = tiles.c.level, tiles.c.number
    counts: list[int] = []
    while count := size >> (HEIGHT * (len(counts) + 1)):
        counts.append(count)
    within = sa.or_(sa.false(), *[sa.and_(level == at, number < count) for at, count in enumerate(counts)])
    query = sa.select(level, number).where(sa.or_(level < 0, number < 0, sa.not_(within)))
    row = await _first(connection, query.order_by(level, number))
    if row is None:
        return None
    return StrayRow(f"tile {row.level}/{row.number}", "it lies beyond the log", "超出日志长度")


async def _doubled(connection: AsyncConnection, _: int) -> StrayRow | None:
    """Two rows where one may be, if a key was taken off a table to allow it."""
    keys: list[Sequence[sa.Column[Any]]] = [[entries.c.exchange_id]]
    keys += [list(table.primary_key) for table in metadata.sorted_tables if table is not entries]
    for key in keys:
        row = await _first(connection, sa.select(*key).group_by(*key).having(sa.func.count() > 1))
        if row is None:
            continue
        named = "/".join(map(str, row))
        if key[0] is entries.c.exchange_id:
            return StrayRow(f"exchange {named}", "it has two records", "存在两条记录", named)
        table = key[0].table.name.removeprefix("log_").removesuffix("s")
        return StrayRow(f"{table} {named}", "it stands there twice", "重复出现")
    return None


async def _unwitnessed(connection: AsyncConnection, _: int) -> StrayRow | None:
    """Word of others about a checkpoint that is not there."""
    for table, what in ((cosignatures, "cosignature"), (stamps, "stamp")):
        known = sa.select(checkpoints.c.size).where(checkpoints.c.size == table.c.size).exists()
        row = await _first(connection, sa.select(table).where(sa.not_(known)).order_by(table.c.size))
        if row is not None:
            size, name, *_ = row
            where = f"{what} {size}/{name}"
            return StrayRow(where, "the checkpoint that it speaks of is missing", "其所指的检查点缺失")
    return None


async def _unsigned(connection: AsyncConnection, _: int) -> StrayRow | None:
    """A caller's signature of an exchange that has neither a record nor an intent."""
    recorded = sa.select(entries.c.seq).where(entries.c.exchange_id == evidence.c.exchange_id).exists()
    intended = sa.select(intents.c.gateway).where(intents.c.exchange_id == evidence.c.exchange_id).exists()
    row = await _first(connection, sa.select(evidence.c.exchange_id).where(sa.not_(recorded), sa.not_(intended)))
    if row is None:
        return None
    return StrayRow(
        f"signature {row.exchange_id}", "it belongs to no record and no intent", "无对应的记录或意向", row.exchange_id
    )
