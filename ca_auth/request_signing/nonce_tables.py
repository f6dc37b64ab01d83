"""Where nonces are kept: SQLite for the gateway processes of one machine, PostgreSQL for those of several.

Rules:
1. A nonce is there or not, decided by the primary key, in one transaction that is on disk before anyone is told.
2. On SQLite (WAL, synchronous=FULL) a thread of its own does the work. Writers take turns by a lock on a file beside the
   database: left to itself, SQLite lets them wait longer and longer, which starves some. Nobody waits for ever.
3. On PostgreSQL a batch is one statement, its rows sorted: two gateways that insert the same ones cannot deadlock.
4. A connection that failed is dropped; the next call opens another.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

import asyncpg
import sqlalchemy as sa

metadata = sa.MetaData()

nonces = sa.Table(
    "request_nonces",
    metadata,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Index("request_nonces_until", "until"),
    sqlite_with_rowid=False,
)

_BUSY_MS: Final = 2000
_LOOK_AGAIN: Final = 0.0005
"""Seconds; a transaction takes about as long."""
_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}")
_SETTINGS: Final = {
    "application_name": "datong-nonces",
    "synchronous_commit": "on",
    "lock_timeout": str(_BUSY_MS),
    "idle_in_transaction_session_timeout": "10000",
}
_INSERT: Final = (
    "INSERT INTO request_nonces (key, until) SELECT * FROM unnest($1::bytea[], $2::bigint[])"
    " ON CONFLICT DO NOTHING RETURNING key"
)


class NonceTableError(Exception):
    """The database did not do what was asked; which of the nonces are there is unknown."""


class NonceTable(Protocol):
    """Keeps nonces. One task at a time calls it; other processes may write to the same table."""

    async def add(self, keys: Mapping[bytes, int], forget_before: int | None) -> set[bytes]:
        """Write the keys that are not there yet and return those; they would survive a power cut.

        Args:
            keys: Key -> Unix second until which it must be known.
            forget_before: Forget what was to be known until before this second; None: forget nothing now.

        Raises:
            NonceTableError: The database failed.
        """

    async def close(self) -> None:
        """Let go of the database."""


class SqliteNonceTable:
    """`NonceTable` in an SQLite file, which a migration has made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nonces")
        self._connection: sqlite3.Connection | None = None
        self._lock = -1

    async def add(self, keys: Mapping[bytes, int], forget_before: int | None) -> set[bytes]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._add, keys, forget_before)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._give_up)
        self._thread.shutdown(wait=False)

    def _add(self, keys: Mapping[bytes, int], forget_before: int | None) -> set[bytes]:
        try:
            db = self._open()
            self._take_turn()
            try:
                db.execute("BEGIN IMMEDIATE")
                insert = "INSERT INTO request_nonces (key, until) VALUES (?, ?) ON CONFLICT DO NOTHING"
                new = {key for key, until in keys.items() if db.execute(insert, (key, until)).rowcount == 1}
                if forget_before is not None:
                    db.execute("DELETE FROM request_nonces WHERE until < ?", (forget_before,))
                db.execute("COMMIT")
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        except (sqlite3.Error, OSError) as error:
            self._give_up()
            raise NonceTableError(str(error)) from error
        return new

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            # "rw": a database that is not there is an error, never a fresh one, which would know no nonce.
            uri = f"{self._path.absolute().as_uri()}?mode=rw"
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            for pragma in _PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
            self._lock = os.open(f"{self._path}-writer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._connection

    def _take_turn(self) -> None:
        give_up_at = time.monotonic() + _BUSY_MS / 1000
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise  # an OSError: another gateway is frozen in the middle of a transaction
                time.sleep(_LOOK_AGAIN)

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.close()
        except sqlite3.Error:
            pass  # it is gone either way, and the first error is the one to tell
        finally:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1


class PostgresqlNonceTable:
    """`NonceTable` in PostgreSQL.

    Args:
        arguments: Keyword arguments of `asyncpg.connect`.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = arguments
        self._connection: Any = None

    async def add(self, keys: Mapping[bytes, int], forget_before: int | None) -> set[bytes]:
        try:
            if self._connection is None:
                self._connection = await asyncpg.connect(
                    **{"timeout": 2, "command_timeout": 2, **self._arguments, "server_settings": _SETTINGS}
                )
            ordered = sorted(keys)
            rows = await self._connection.fetch(_INSERT, ordered, [keys[key] for key in ordered])
            if forget_before is not None:
                await self._connection.execute("DELETE FROM request_nonces WHERE until < $1", forget_before)
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
            TimeoutError,
        ) as error:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.terminate()
            raise NonceTableError(str(error) or type(error).__name__) from error
        return {row[0] for row in rows}

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
