"""Databases that many processes write small transactions to: SQLite for those of one machine, PostgreSQL for several machines.

Rules:
1. What a transaction wrote is on disk before its caller goes on.
2. On SQLite (WAL, synchronous=FULL) a thread of its own does the work. Writers take turns by a lock on a file beside the
   database: left to itself, SQLite lets them wait longer and longer, which starves some. Nobody waits for ever.
3. A database file that is not there is an error, never a fresh one, which would know nothing of what was written.
4. A connection that failed is dropped; the next call opens another.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from exchange.storage.database import database_url, sqlite_path, upgrade

_T = TypeVar("_T")
_PATIENCE: Final = 2.0
"""Seconds that a transaction waits for another process's."""
_LOOK_AGAIN: Final = 0.0005
"""Seconds; a transaction takes about as long."""
# The last but two are what asyncpg says of a connection that broke while it was idle.
_FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


class DatabaseFailedError(Exception):
    """The database did not do what was asked; whether it wrote anything is unknown. For our events, not for callers."""


class SqliteWriter:
    """Transactions in an SQLite file, which a migration has made.

    Args:
        name: Of what is kept there, for the thread's name.
        patience: Seconds to wait for another process's transaction.
        pragmas: Further settings of the connection, as `secure_delete=ON`.
    """

    def __init__(self, path: Path, name: str, *, patience: float = _PATIENCE, pragmas: Sequence[str] = ()) -> None:
        self.path = path
        self._patience = patience
        self._pragmas = ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={int(patience * 1000)}", *pragmas)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None
        self._lock = -1

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` returns, done in a transaction that is on disk by then.

        Raises:
            DatabaseFailedError: Nothing can be said about what was written.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def truncate_wal(self) -> bool:
        """Move what the write-ahead log holds into the file and cut it to nothing; False if somebody still reads from it.

        Raises:
            DatabaseFailedError: It cannot be said what was done.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._truncate_wal)

    async def close(self) -> None:
        """Let go of the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._give_up)
        self._thread.shutdown(wait=False)

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            db = self._open()
            self._take_turn()
            try:
                db.execute("BEGIN IMMEDIATE")
                done = work(db)
                db.execute("COMMIT")
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        except (sqlite3.Error, OSError) as error:
            self._give_up()
            raise DatabaseFailedError(str(error)) from error
        except BaseException:
            self._give_up()  # a fault in `work`: the transaction must not stay open
            raise
        return done

    def _truncate_wal(self) -> bool:
        try:
            db = self._open()
            self._take_turn()
            try:
                busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        except (sqlite3.Error, OSError) as error:
            self._give_up()
            raise DatabaseFailedError(str(error)) from error
        return not busy

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            uri = f"{self.path.absolute().as_uri()}?mode=rw"
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            for pragma in self._pragmas:
                self._connection.execute(f"PRAGMA {pragma}")
            self._lock = os.open(f"{self.path}-writer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._connection

    def _take_turn(self) -> None:
        give_up_at = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise  # an OSError: another process is frozen in the middle of a transaction
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


class PostgresqlWriter:
    """A connection to PostgreSQL that commits durably, whatever the server's default.

    Args:
        arguments: Keyword arguments of `asyncpg.connect`.
        name: Of what is kept there, for the server's list of connections.
        patience: Seconds to wait for another process's transaction, and for any answer.
    """

    def __init__(self, arguments: Mapping[str, Any], name: str, *, patience: float = _PATIENCE) -> None:
        self._arguments = {
            "timeout": patience,
            "command_timeout": patience,
            **arguments,
            "server_settings": {
                "application_name": f"datong-{name}",
                "synchronous_commit": "on",
                "lock_timeout": str(int(patience * 1000)),
                "idle_in_transaction_session_timeout": "10000",
            },
        }
        self._connection: Any = None
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """The connection, for one task at a time.

        Raises:
            DatabaseFailedError: It or the server failed.
        """
        async with self._turn:
            try:
                if self._connection is None:
                    self._connection = await asyncpg.connect(**self._arguments)
                yield self._connection
            except _FAILURES as error:
                self._drop()
                raise DatabaseFailedError(str(error) or type(error).__name__) from error
            except BaseException:
                self._drop()  # a fault or a cancellation in the middle: the transaction must not stay open
                raise

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


async def open_writer(
    database: str, migrations: str, name: str, *, pragmas: Sequence[str] = ()
) -> SqliteWriter | PostgresqlWriter:
    """Bring the tables at `database` up to date and return what writes to them.

    Args:
        database: A URL as `database_url` accepts it.
        migrations: The package with the migrations.
        name: Of what is kept there: `nonces`.
        pragmas: Further settings of connections to SQLite.

    Raises:
        DatabaseFailedError: The database cannot be reached or written.
    """
    url = database_url(database)
    file = sqlite_path(url)
    try:
        if file is not None:
            # First without a thread: aiosqlite's does not outlive a file that cannot be opened in good order.
            sqlite3.connect(file).close()
        await upgrade(url, migrations)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise DatabaseFailedError(str(error)) from error
    if file is not None:
        return SqliteWriter(file, name, pragmas=pragmas)
    _, arguments = url.get_dialect()().create_connect_args(url)
    return PostgresqlWriter(dict(arguments), name)
