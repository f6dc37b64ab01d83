"""A department's database, read and nothing else: the part of the SQL source in which PostgreSQL and SQLite differ.

Rules:
1. PostgreSQL: each query is a read-only transaction of its own, always rolled back. SQLite: the file is opened read-only,
   and an authorizer lets nothing but reading be compiled.
2. Rows come as they are asked for; those beyond the limit stay in the database.
3. Who no longer waits has the query ended in the database. PostgreSQL is told by its driver; SQLite's thread looks, every
   so many steps, whether it is to go on.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.elements import TextClause

from exchange import BackendError

Row = dict[str, Any]

_DATABASE_ERRORS = (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, sqlite3.Error)
"""SQLAlchemy lets the drivers' own errors through when they come while rows are fetched."""
_LONGEST_STATEMENT = 120_000
"""Milliseconds; no exchange waits longer. Cancelling is what ends a query; this is for when that got lost."""
_STEPS = 10_000
"""Of SQLite's machine, after which it looks whether anybody still waits: about a tenth of a millisecond."""
_READING = frozenset(
    (
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
        sqlite3.SQLITE_TRANSACTION,
    )
)


def database_url(database: str) -> URL:
    """The URL of a database an adapter can read; raises ValueError with a message that tells no password."""
    try:
        url = make_url(database)
    except (ArgumentError, ValueError) as error:
        raise ValueError("not a database URL, postgresql://user@host/name or sqlite:///path") from error
    backend = url.get_backend_name()
    if backend not in ("postgresql", "sqlite") or not url.database or url.database == ":memory:":
        raise ValueError("an adapter's database is postgresql://user@host/name or a file, sqlite:///path")
    return url


class ReadOnlyDatabase:
    """Runs queries."""

    def __init__(self, url: URL, connections: int) -> None:
        """
        Args:
            url: From `database_url`.
            connections: Most connections at once.
        """
        self.url = url
        self._connections = connections
        self._sqlite = url.get_backend_name() == "sqlite"
        self._engine: AsyncEngine | None = None

    async def start(self) -> None:
        self._engine = (_sqlite_engine if self._sqlite else _postgresql_engine)(self.url, self._connections)

    async def stop(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    async def rows(self, query: TextClause, values: Mapping[str, object], limit: int) -> list[Row]:
        """The first `limit` rows of a query; may be cancelled.

        Raises:
            BackendError: The database is away, or did not do what the query says.
        """
        read = self._from_sqlite if self._sqlite else self._from_postgresql
        try:
            try:
                return await read(query, values, limit)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # A kept connection was closed by the database, so all of them are renewed. Reading twice harms nobody.
                return await read(query, values, limit)
        except _DATABASE_ERRORS as error:
            raise BackendError from error

    async def _from_postgresql(self, query: TextClause, values: Mapping[str, object], limit: int) -> list[Row]:
        assert self._engine is not None, "start() comes first"
        async with self._engine.connect() as connection, connection.stream(query, values) as result:
            return [dict(row) for row in await result.mappings().fetchmany(limit)]

    async def _from_sqlite(self, query: TextClause, values: Mapping[str, object], limit: int) -> list[Row]:
        # Cancelled in the middle, the connection would be closed, and that would wait for its thread to come to the end of
        # the query. So the query is a task of its own, which is stopped, not cancelled.
        brakes: list[_Brake] = []
        task = asyncio.create_task(self._with_brake(query, values, limit, brakes))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if brakes:
                brakes[0].pulled = True
            else:
                task.cancel()  # it has no connection yet
            await asyncio.gather(task, return_exceptions=True)
            raise

    async def _with_brake(
        self, query: TextClause, values: Mapping[str, object], limit: int, brakes: list[_Brake]
    ) -> list[Row]:
        assert self._engine is not None, "start() comes first"
        async with self._engine.connect() as connection:
            brake: _Brake = (await connection.get_raw_connection()).info["brake"]
            brake.pulled = False
            brakes.append(brake)
            async with connection.stream(query, values) as result:
                return [dict(row) for row in await result.mappings().fetchmany(limit)]


class _Brake:
    """Of one connection to SQLite: pulled, the query that runs there ends with an error."""

    pulled = False

    def __call__(self) -> bool:
        return self.pulled


def _postgresql_engine(url: URL, connections: int) -> AsyncEngine:
    return create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,  # an error is logged, the person asked about is not
        execution_options={"postgresql_readonly": True},
        connect_args={
            "server_settings": {
                "application_name": "datong adapter",
                "default_transaction_read_only": "on",
                "statement_timeout": str(_LONGEST_STATEMENT),
            }
        },
    )


def _sqlite_engine(url: URL, connections: int) -> AsyncEngine:
    # `%`, `?` and `#` in a path would be read as parts of SQLite's own URI.
    file = f"file:{quote(url.database or '')}"
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=file, query={"mode": "ro", "uri": "true"}),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        brake = record.info["brake"] = _Brake()
        connection.run_async(lambda driver: driver.set_progress_handler(brake, _STEPS))
        connection.run_async(lambda driver: driver.set_authorizer(_only_reading))

    return engine


def _only_reading(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
