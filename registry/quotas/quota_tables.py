"""Where the counts of quotas are kept: SQLite for the gateways of one machine, PostgreSQL for those of several.

Rules:
1. Counts change under a lock on their rows, in one transaction that is on disk before anyone is told.
2. On PostgreSQL the rows are locked in the order of their names, so that two gateways cannot deadlock, and the clock is the
   database's, read when they are locked: gateways need not agree on the time.
3. On SQLite it is the machine's clock, read when the turn has come.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol

import sqlalchemy as sa

from exchange import DatabaseFailedError, PostgresqlWriter, SqliteWriter
from registry.quotas.counting import Counts, day_of

metadata = sa.MetaData()

quota_counts = sa.Table(
    "quota_counts",
    metadata,
    sa.Column("grant_id", sa.Text, primary_key=True),
    sa.Column("day", sa.Integer, nullable=False),
    sa.Column("used", sa.BigInteger, nullable=False),
    sa.Column("accepted", sa.BigInteger, nullable=False),
    sa.Column("newest", sa.BigInteger, nullable=False),
    sa.Column("instants", sa.LargeBinary, nullable=False),
    sa.Index("quota_counts_day", "day"),
)

Decide = Callable[[dict[str, Counts], int], Collection[Counts]]
"""Gets the counts of all grants that were named and what the clock shows, in microseconds since 1970; returns those to write."""

_COLUMNS: Final = "grant_id, day, used, accepted, newest, instants"
_UPSERT: Final = f"INSERT OR REPLACE INTO quota_counts ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
_NOW: Final = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
# The clock is read for each row when it has been locked: the latest of them is read when all are.
_LOCK: Final = (
    f"WITH locked AS MATERIALIZED (SELECT {_COLUMNS} FROM quota_counts WHERE grant_id = ANY($1::text[])"
    f" ORDER BY grant_id FOR UPDATE) SELECT {_COLUMNS}, {_NOW} AS clock FROM locked"
)
_MAKE: Final = (
    "INSERT INTO quota_counts (grant_id, day, used, accepted, newest, instants)"
    f" SELECT name, ({_NOW} / 1000000 + 28800) / 86400, 0, 0, 0, ''::bytea FROM unnest($1::text[]) AS name"
    " ON CONFLICT DO NOTHING"
)
_WRITE: Final = (
    "UPDATE quota_counts AS kept SET day = new.day, used = new.used, accepted = new.accepted, newest = new.newest,"
    " instants = new.instants FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[])"
    " AS new (grant_id, day, used, accepted, newest, instants) WHERE kept.grant_id = new.grant_id"
)
_READ: Final = (
    f"SELECT {_COLUMNS}, name, {_NOW} AS clock FROM unnest($1::text[]) AS asked (name)"
    " LEFT JOIN quota_counts ON grant_id = name"
)
# Rows that a gateway has locked are left to the next time: waiting for them out of order could deadlock.
_CLEAR: Final = (
    "DELETE FROM quota_counts WHERE grant_id IN"
    " (SELECT grant_id FROM quota_counts WHERE day < $1 ORDER BY grant_id FOR UPDATE SKIP LOCKED)"
)
_TRIES: Final = 3


class QuotaTable(Protocol):
    """Keeps counts. Other processes may change the same rows, before or after, never during `change`."""

    async def change(self, grants: Sequence[str], decide: Decide, *, clear: bool) -> None:
        """Read the counts of the grants, let `decide` change them, and write what it returns; durable on return.

        Args:
            grants: Names, without repetition.
            clear: Whether counts of days long past are removed, too.

        Raises:
            DatabaseFailedError: The database failed; whether anything was written is unknown.
        """

    async def read(self, grants: Sequence[str]) -> tuple[dict[str, Counts], int]:
        """The counts of the grants and what the clock shows; raises DatabaseFailedError."""

    async def close(self) -> None:
        """Let go of the database."""


class SqliteQuotaTable:
    """`QuotaTable` in an SQLite file.

    Args:
        clock: Microseconds since 1970.
    """

    def __init__(self, writer: SqliteWriter, clock: Callable[[], int]) -> None:
        self._writer = writer
        self._clock = clock

    async def change(self, grants: Sequence[str], decide: Decide, *, clear: bool) -> None:
        def work(db: sqlite3.Connection) -> None:
            clock = self._clock()
            changed = decide(self._counts(db, grants), clock)
            db.executemany(_UPSERT, [_row(counts) for counts in changed])
            if clear:
                db.execute("DELETE FROM quota_counts WHERE day < ?", (day_of(clock) - 1,))

        await self._writer.run(work)

    async def read(self, grants: Sequence[str]) -> tuple[dict[str, Counts], int]:
        return await self._writer.run(lambda db: (self._counts(db, grants), self._clock()))

    async def close(self) -> None:
        await self._writer.close()

    @staticmethod
    def _counts(db: sqlite3.Connection, grants: Sequence[str]) -> dict[str, Counts]:
        select = f"SELECT {_COLUMNS} FROM quota_counts WHERE grant_id = ?"
        return {grant: _counts(grant, db.execute(select, (grant,)).fetchone()) for grant in grants}


class PostgresqlQuotaTable:
    """`QuotaTable` in PostgreSQL."""

    def __init__(self, writer: PostgresqlWriter) -> None:
        self._writer = writer

    async def change(self, grants: Sequence[str], decide: Decide, *, clear: bool) -> None:
        ordered = sorted(grants)
        async with self._writer.connection() as db:
            for _ in range(_TRIES):
                if await self._change(db, ordered, decide):
                    break
                # New grants, or rows that were cleared just now. Made on their own: no lock is held meanwhile.
                await db.execute(_MAKE, ordered)
            else:
                raise DatabaseFailedError("rows of quotas vanish as fast as they are made")
            if clear:
                today = day_of(await db.fetchval(f"SELECT {_NOW}"))
                await db.execute(_CLEAR, today - 1)

    @staticmethod
    async def _change(db: Any, ordered: list[str], decide: Decide) -> bool:
        """Whether it was done; not if a row is missing."""
        transaction = db.transaction()
        await transaction.start()
        rows = await db.fetch(_LOCK, ordered)
        if len(rows) < len(ordered):
            await transaction.rollback()
            return False
        changed = decide({row[0]: _counts(row[0], row) for row in rows}, max(row["clock"] for row in rows))
        if not changed:
            await transaction.rollback()  # nothing to make durable
            return True
        await db.execute(_WRITE, *(list(column) for column in zip(*map(_row, changed), strict=True)))
        await transaction.commit()
        return True

    async def read(self, grants: Sequence[str]) -> tuple[dict[str, Counts], int]:
        async with self._writer.connection() as db:
            rows = await db.fetch(_READ, list(grants))
        counts = {row["name"]: _counts(row["name"], row if row["grant_id"] else None) for row in rows}
        return counts, max((row["clock"] for row in rows), default=0)

    async def close(self) -> None:
        await self._writer.close()


def _counts(grant: str, row: Any) -> Counts:
    if row is None:
        return Counts(grant)
    return Counts(grant, day=row[1], used=row[2], accepted=row[3], newest=row[4], instants=row[5])


def _row(counts: Counts) -> tuple[object, ...]:
    return (counts.grant, counts.day, counts.used, counts.accepted, counts.newest, counts.packed())
