"""Where nonces are kept: SQLite for the gateway processes of one machine, PostgreSQL for those of several.

Rules:
1. A nonce is there or not, decided by the primary key, in one transaction that is on disk before anyone is told.
2. On PostgreSQL a batch is one statement, its rows sorted: two gateways that insert the same ones cannot deadlock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final, Protocol

import sqlalchemy as sa

from exchange import PostgresqlWriter, SqliteWriter

metadata = sa.MetaData()

nonces = sa.Table(
    "request_nonces",
    metadata,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Index("request_nonces_until", "until"),
    sqlite_with_rowid=False,
)

_INSERT: Final = (
    "INSERT INTO request_nonces (key, until) SELECT * FROM unnest($1::bytea[], $2::bigint[])"
    " ON CONFLICT DO NOTHING RETURNING key"
)


class NonceTable(Protocol):
    """Keeps nonces. One task at a time calls it; other processes may write to the same table."""

    async def add(self, keys: Mapping[bytes, int], forget_before: int | None) -> set[bytes]:
        """Write the keys that are not there yet and return those; they would survive a power cut.

        Args:
            keys: Key -> Unix second until which it must be known.
            forget_before: Forget what was to be known until before this second; None: forget nothing now.

        Raises:
            DatabaseFailedError: The database failed; which of the nonces are there is unknown.
        """

    async def close(self) -> None:
        """Let go of the database."""


class SqliteNonceTable:
    """`NonceTable` in an SQLite file."""

    def __init__(self, writer: SqliteWriter) -> None:
        self._writer = writer

    async def add(self, keys: Mapping[bytes, int], forget_before: int | None) -> set[bytes]:
        def write(db: sqlite3.Connection) -> set[bytes]:
            insert = "INSERT INTO request_nonces (key, until) VALUES (?, ?) ON CONFLICT DO NOTHING"
            new = {key for key, until in keys.items() if db.execute(insert, (key, until)).rowcount == 1}
            if forget_before is not None:
                db.execute("DELETE FROM request_nonces WHERE until < ?", (forget_before,))
            return new

        return await self._writer.run(write)

    async def close(self) -> None:
        await self._writer.close()


class PostgresqlNonceTable:
    """`NonceTable` in PostgreSQL."""

    def __init__(self, writer: PostgresqlWriter) -> None:
        self._writer = writer

    async def add(self, keys: Mapping[bytes, int], forget_before: int | None) -> set[bytes]:
        async with self._writer.connection() as connection:
            ordered = sorted(keys)
            rows = await connection.fetch(_INSERT, ordered, [keys[key] for key in ordered])
            if forget_before is not None:
                await connection.execute("DELETE FROM request_nonces WHERE until < $1", forget_before)
        return {row[0] for row in rows}

    async def close(self) -> None:
        await self._writer.close()
