"""The log in PostgreSQL.

Rules:
1. synchronous_commit is set on our connection: a commit returns when the bytes are on disk, whatever the server's
   default.
2. The row of `log_state` is the lock between writers. Compare-and-swap first; who lost takes the lock, reads on, and
   writes.
3. A batch is one COPY. A connection that failed is dropped: whether its last commit happened shows in the size of the
   log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from exchange.log.store import (
    ANNEXES,
    Batch,
    CorruptLogError,
    DuplicateRecordError,
    Sign,
    SignedSize,
    StoreError,
    caught_up,
    check_removals,
    edge_of,
    edge_ranges,
    first_hash,
    tiles_since,
)
from exchange.transparency.tiles import WIDTH, Edge, Tile, Wanted

_COLUMNS = ("seq", "leaf_hash", "exchange_id", "at_ms", "client", "service", "outcome", "rule", "salt", "leaf")
_FEW = 8
"""Up to so many rows, INSERT has fewer round trips than COPY."""
_INSERT_ENTRY = f"INSERT INTO log_entries ({', '.join(_COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_INSERT_INTENT = (
    "INSERT INTO log_intents (gateway, boot, exchange_id, at_ms, deadline_ms, salt, record)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"
)
_INSERT_CERTIFICATE = (
    "INSERT INTO log_certificates (fingerprint, der, first_seen_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
)
_INSERT_EVIDENCE = "INSERT INTO log_evidence (exchange_id, evidence) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_INSERT_ANNEX = {
    kind: f"INSERT INTO {table} ({', '.join(columns)})"
    f" VALUES ({', '.join(f'${number}' for number in range(1, len(columns) + 1))}) ON CONFLICT DO NOTHING"
    for kind, (table, columns) in ANNEXES.items()
}
# The last is what asyncpg says of a connection that broke while it was idle.
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_NEWEST = "SELECT size, root, note FROM log_checkpoints ORDER BY size DESC LIMIT 1"
_SETTINGS = {
    "application_name": "datong-log",
    "synchronous_commit": "on",
    "lock_timeout": "2000",
    "idle_in_transaction_session_timeout": "10000",
}


class PostgresqlStore:
    """`LogStore` on PostgreSQL.

    Args:
        arguments: Keyword arguments of `asyncpg.connect`.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._connection: Any = None

    async def load(self) -> Edge:
        async with self._failing() as db, db.transaction(isolation="repeatable_read", readonly=True):
            size, root = await self._state(db, "SELECT size, root FROM log_state")
            last = await db.fetchval("SELECT max(seq) FROM log_entries")
            leaves, *above = edge_ranges(size)
            rows = await db.fetch(
                "SELECT leaf_hash, leaf FROM log_entries WHERE seq >= $1 AND seq < $2 ORDER BY seq",
                leaves.start,
                leaves.stop,
            )
            roots = [await self._tile_roots(db, level, numbers) for level, numbers in enumerate(above)]
        return edge_of(size, root, last, [(row[0], row[1]) for row in rows], roots)

    async def append(self, edge: Edge, batch: Batch) -> Edge:
        hashes = batch.leaf_hashes()
        async with self._failing() as db:
            try:
                grown, tiles = edge.extended(hashes)
                if await db.execute("BEGIN; " + _update_state(edge, grown)) != "UPDATE 1":
                    await db.execute("ROLLBACK; BEGIN")
                    edge = await self._catch_up(db, edge)
                    grown, tiles = edge.extended(hashes)
                    await db.execute(_update_state(edge, grown))
                await self._write(db, batch, edge.size, hashes, tiles)
                if batch.removals:
                    await self._remove(db, batch, edge, grown.size - 1)
                await db.execute("COMMIT")
            except asyncpg.UniqueViolationError as error:
                raise DuplicateRecordError(await self._duplicates(db, batch)) from error
            except (CorruptLogError, StoreError, ValueError):
                await db.execute("ROLLBACK")
                raise
        return grown

    async def checkpoint(self, edge: Edge, sign: Sign) -> tuple[Edge, str]:
        async with self._failing() as db, db.transaction():
            edge = await self._catch_up(db, edge)
            newest = await self._newest_checkpoint(db)
            if newest and newest.size == edge.size and newest.root == edge.root:
                return edge, newest.note
            note = sign(edge.size, edge.root)
            await db.execute(
                "INSERT INTO log_checkpoints (size, root, note) VALUES ($1, $2, $3)", edge.size, edge.root, note
            )
            await db.execute("DELETE FROM log_edge")
            await db.execute("INSERT INTO log_edge (size, hashes) VALUES ($1, $2)", edge.size, b"".join(edge.levels[0]))
        return edge, note

    async def newest_checkpoint(self) -> SignedSize | None:
        async with self._failing() as db:
            return await self._newest_checkpoint(db)

    async def tiles(self, wanted: Sequence[Wanted]) -> list[bytes]:
        async with self._failing() as db:
            return [await self._tile(db, tile) for tile in wanted]

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @asynccontextmanager
    async def _failing(self) -> AsyncIterator[Any]:
        """The connection; when it or the server fails, it is dropped."""
        try:
            if self._connection is None:
                self._connection = await asyncpg.connect(
                    **{"timeout": 5, "command_timeout": 5, **self._arguments, "server_settings": _SETTINGS}
                )
            yield self._connection
        except (*_FAILURES, OSError, TimeoutError) as error:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.terminate()
            raise StoreError(str(error) or type(error).__name__) from error

    async def _write(self, db: Any, batch: Batch, first: int, hashes: list[bytes], tiles: list[Tile]) -> None:
        rows = [
            (seq, hashed, *entry) for seq, (hashed, entry) in enumerate(zip(hashes, batch.entries, strict=True), first)
        ]
        if len(rows) > _FEW:
            await db.copy_records_to_table("log_entries", records=rows, columns=_COLUMNS)
        elif rows:
            await db.executemany(_INSERT_ENTRY, rows)
        if tiles:
            await db.executemany("INSERT INTO log_tiles (level, number, root, hashes) VALUES ($1, $2, $3, $4)", tiles)
        if batch.settled:
            await db.execute("DELETE FROM log_intents WHERE exchange_id = ANY($1::text[])", batch.settled)
        if batch.intents:
            who = (batch.gateway, batch.boot)
            await db.executemany(_INSERT_INTENT, [(*who, *intent) for intent in batch.intents])
        if batch.certificates:
            await db.executemany(_INSERT_CERTIFICATE, [(*one, batch.at_ms) for one in batch.certificates])
        if batch.evidence:
            await db.executemany(_INSERT_EVIDENCE, batch.evidence)
        for kind, row in batch.annexes:
            await db.execute(_INSERT_ANNEX[kind], *row)

    async def _state(self, db: Any, query: str) -> tuple[int, bytes]:
        row = await db.fetchrow(query)
        if row is None:
            raise CorruptLogError("the row that holds the size of the log is missing")
        return row[0], row[1]

    async def _catch_up(self, db: Any, edge: Edge) -> Edge:
        """Take the lock between writers, and read what they wrote since `edge`."""
        size, root = await self._state(db, "SELECT size, root FROM log_state FOR UPDATE")
        if size == edge.size:
            return edge
        complete, first = tiles_since(edge, size)
        query = "SELECT hashes FROM log_tiles WHERE level = 0 AND number >= $1 AND number < $2 ORDER BY number"
        tiles = await db.fetch(query, complete.start, complete.stop) if complete else []
        rows = await db.fetch("SELECT leaf_hash FROM log_entries WHERE seq >= $1 ORDER BY seq", first)
        return caught_up(edge, size, root, [row[0] for row in tiles], [row[0] for row in rows])

    async def _remove(self, db: Any, batch: Batch, edge: Edge, seq: int) -> None:
        check_removals(batch, edge)
        for removal in batch.removals:
            bounds = (removal.first, removal.end)
            done = await db.execute("DELETE FROM log_entries WHERE seq >= $1 AND seq < $2", *bounds)
            if done != f"DELETE {removal.end - removal.first}":
                raise StoreError("some of the entries that were to be removed are not there")
            query = 'INSERT INTO log_removed (first, "end", seq, segment) VALUES ($1, $2, $3, $4)'
            await db.execute(query, *bounds, seq, removal.segment)

    async def _duplicates(self, db: Any, batch: Batch) -> set[str]:
        await db.execute("ROLLBACK")
        ids = [entry[0] for entry in batch.entries]
        found = await db.fetch("SELECT exchange_id FROM log_entries WHERE exchange_id = ANY($1::text[])", ids)
        if not found and len(set(ids)) == len(ids):
            raise CorruptLogError("there are entries beyond the size that the log says it has")
        return {row[0] for row in found}

    async def _newest_checkpoint(self, db: Any) -> SignedSize | None:
        row = await db.fetchrow(_NEWEST)
        return SignedSize(*row) if row else None

    async def _tile(self, db: Any, tile: Wanted) -> bytes:
        if tile.width == WIDTH:
            query = "SELECT hashes FROM log_tiles WHERE level = $1 AND number = $2"
            return await db.fetchval(query, tile.level, tile.number) or b""
        numbers = range(first_hash(tile), first_hash(tile) + tile.width)
        if tile.level:
            return b"".join(await self._tile_roots(db, tile.level - 1, numbers))
        if complete := await self._tile(db, tile._replace(width=WIDTH)):
            return bytes(complete)  # entries may have been removed; tiles stay
        query = "SELECT leaf_hash FROM log_entries WHERE seq >= $1 AND seq < $2 ORDER BY seq"
        return b"".join([row[0] for row in await db.fetch(query, numbers.start, numbers.stop)])

    async def _tile_roots(self, db: Any, level: int, numbers: range) -> list[bytes]:
        query = "SELECT root FROM log_tiles WHERE level = $1 AND number >= $2 AND number < $3 ORDER BY number"
        return [row[0] for row in await db.fetch(query, level, numbers.start, numbers.stop)]


def _update_state(edge: Edge, grown: Edge) -> str:
    # A text of our own numbers and hashes: only texts, not statements with arguments, may hold several commands.
    return f"UPDATE log_state SET size = {grown.size}, root = '\\x{grown.root.hex()}' WHERE size = {edge.size}"
