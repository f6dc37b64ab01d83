"""The index in PostgreSQL, by default in the log's own database: in tables of its own, and never in the log's transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import msgspec

from exchange.search.index_sqlite import row_of_segment, segment_of_row
from exchange.search.index_store import (
    FORMAT,
    FRESH,
    TABLES,
    IndexState,
    IndexUnavailableError,
    MovedError,
    Rows,
    Segment,
    unpack_keys,
)

# Any constant will do, as long as every program that writes an index agrees on it.
_LOCK: Final = 0x6461746F6E68
_FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    msgspec.MsgspecError,
)
_STATE: Final = "SELECT format, generation, removed_seq, rebuild FROM search_state"
_SEGMENTS: Final = "SELECT first, count, earliest_ms, latest_ms, about FROM search_segments ORDER BY first"
# One statement sees one state: what its first row says of the generation holds for all others.
_FETCH: Final = f"""
    SELECT -generation - 1 AS key, NULL AS data FROM search_state WHERE format = {FORMAT}
    UNION ALL
    SELECT found.key, found.data
    FROM unnest($1::bigint[], $2::bigint[]) AS wanted (low, high)
    CROSS JOIN LATERAL (
        SELECT key, data FROM search_rows WHERE key BETWEEN wanted.low AND wanted.high ORDER BY key
    ) AS found"""
_SETTINGS: Final = {
    "application_name": "datong-search",
    # After a power cut the last segments are missing, and are made again.
    "synchronous_commit": "off",
    # The planner knows nothing of ranges that come as arguments: it must not read the table from end to end.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}


class PostgresqlIndex:
    """`IndexStore` on PostgreSQL.

    Args:
        arguments: Keyword arguments of `asyncpg.connect`.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = {"timeout": 5, "command_timeout": 60, **arguments, "server_settings": _SETTINGS}
        self._pool: Any = None
        self._writer: Any = None
        """The connection that holds the lock."""
        self.turn = 0

    async def state(self) -> IndexState | None:
        async with self._reading() as db:
            try:
                row = await db.fetchrow(_STATE)
            except asyncpg.UndefinedTableError:
                return None
        return IndexState(row[1], row[2], bool(row[3])) if row and row[0] == FORMAT else None

    async def segments(self) -> tuple[int, list[Segment]]:
        async with self._reading() as db:
            try:
                async with db.transaction(isolation="repeatable_read", readonly=True):
                    row = await db.fetchrow(_STATE)
                    rows = await db.fetch(_SEGMENTS) if row and row[0] == FORMAT else []
            except asyncpg.UndefinedTableError:
                return 0, []
            return (row[1], [segment_of_row(*each) for each in rows]) if row else (0, [])

    async def fetch(self, generation: int, ranges: Sequence[tuple[int, int]]) -> Rows:
        async with self._reading() as db:
            try:
                rows = await db.fetch(_FETCH, [low for low, _ in ranges], [high for _, high in ranges])
            except asyncpg.UndefinedTableError:
                raise MovedError from None
        if -generation - 1 not in [row[0] for row in rows if row[0] < 0]:
            raise MovedError
        return [(row[0], row[1]) for row in rows if row[0] >= 0]

    async def row_count(self) -> int:
        async with self._reading() as db:
            return int(await db.fetchval("SELECT count(*) FROM search_rows"))

    async def take(self) -> bool:
        async with self._failing():
            if self._writer is None or self._writer.is_closed():
                writer = await asyncpg.connect(**self._arguments)
                try:
                    taken = await writer.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK)
                    if taken:
                        for table in TABLES:
                            await writer.execute(table.format(bytes="BYTEA", key="key BIGINT"))
                        # What is stored hardly gets smaller by compression, and is read often.
                        await writer.execute("ALTER TABLE search_rows ALTER COLUMN data SET STORAGE EXTERNAL")
                except BaseException:
                    writer.terminate()
                    raise
                if not taken:
                    await writer.close()
                    return False
                self._writer = writer
                self.turn += 1
            return True

    async def clear(self) -> None:
        state = await self.state()
        async with self._writing() as db:
            await db.execute("TRUNCATE search_rows, search_segments, search_state")
            await db.execute(FRESH.format(generation=state.generation + 1 if state else 0))

    async def put(self, segment: Segment, rows: Rows, *, instead_of: Sequence[Segment] = ()) -> None:
        async with self._writing() as db:
            for old in instead_of:
                data = await db.fetchval("SELECT rows FROM search_segments WHERE first = $1", old.first)
                keys = unpack_keys(data or b"", old.number)
                await db.execute("DELETE FROM search_rows WHERE key = ANY($1::bigint[])", keys)
                await db.execute("DELETE FROM search_segments WHERE first = $1", old.first)
            await db.copy_records_to_table("search_rows", records=sorted(rows), columns=("key", "data"))
            await db.execute(
                "INSERT INTO search_segments VALUES ($1, $2, $3, $4, $5, $6)", *row_of_segment(segment, rows)
            )
            if instead_of:
                await db.execute("UPDATE search_state SET generation = generation + 1")

    async def set_removed(self, seq: int) -> None:
        async with self._writing() as db:
            await db.execute("UPDATE search_state SET removed_seq = $1", seq)

    async def ask_rebuild(self) -> None:
        async with self._reading() as db:
            await db.execute("UPDATE search_state SET rebuild = 1")

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.terminate()

    @asynccontextmanager
    async def _failing(self) -> AsyncIterator[None]:
        try:
            yield
        except _FAILURES as error:
            raise IndexUnavailableError(str(error) or type(error).__name__) from error

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Any]:
        async with self._failing():
            if self._pool is None:
                self._pool = await asyncpg.create_pool(**self._arguments, min_size=0, max_size=4)
            async with self._pool.acquire() as connection:
                yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Any]:
        """A transaction of the connection that holds the lock; if it is gone, so is the lock."""
        if self._writer is None or self._writer.is_closed():
            raise IndexUnavailableError("the connection that held the lock is gone")
        try:
            async with self._failing(), self._writer.transaction():
                yield self._writer
        except IndexUnavailableError:
            self._writer.terminate()
            self._writer = None
            raise
