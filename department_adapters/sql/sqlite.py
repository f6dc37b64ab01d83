"""A file of SQLite as a department's database.

Rules:
1. The file is opened read-only, and an authorizer lets nothing but reading be compiled.
2. Who no longer waits has the query ended: SQLite's thread looks, every so many steps, whether it is to go on.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.elements import TextClause

from department_adapters.sql.database import CHUNK, Sink
from exchange import BackendError

ERRORS = (SQLAlchemyError, OSError, sqlite3.Error)

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


class SqliteDatabase:
    """Runs queries, each in a thread of its connection."""

    def __init__(self, url: URL, connections: int) -> None:
        self.url = url
        self._connections = connections
        self._engine: AsyncEngine | None = None

    async def start(self) -> None:
        made = self._engine = engine(self.url, self._connections)

        @event.listens_for(made.sync_engine, "connect")
        def prepare(connection: Any, record: Any) -> None:
            brake = record.info["brake"] = _Brake()
            connection.run_async(lambda driver: driver.set_progress_handler(brake, _STEPS))
            connection.run_async(lambda driver: driver.set_authorizer(_only_reading))

    async def stop(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    async def read(self, query: TextClause, values: Mapping[str, object], sink: Sink) -> None:
        # Cancelled in the middle, the connection would be closed, and that would wait for its thread to come to the end of
        # the query. So the query is a task of its own, which is stopped, not cancelled.
        brakes: list[_Brake] = []
        task = asyncio.create_task(self._read(query, values, sink, brakes))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if brakes:
                brakes[0].pulled = True
            else:
                task.cancel()  # it has no connection yet
            await asyncio.gather(task, return_exceptions=True)
            raise
        except ERRORS as error:
            raise BackendError from error

    async def _read(self, query: TextClause, values: Mapping[str, object], sink: Sink, brakes: list[_Brake]) -> None:
        assert self._engine is not None, "start() comes first"
        async with self._engine.connect() as connection:
            brake: _Brake = (await connection.get_raw_connection()).info["brake"]
            brake.pulled = False
            brakes.append(brake)
            async with connection.stream(query, values) as result:
                sink.begin(list(result.keys()))
                while (wanted := min(sink.wanted, CHUNK)) and (rows := await result.fetchmany(wanted)):
                    sink.take(rows)


class _Brake:
    """Of one connection to SQLite: pulled, the query that runs there ends with an error."""

    pulled = False

    def __call__(self) -> bool:
        return self.pulled


def engine(url: URL, connections: int) -> AsyncEngine:
    """Connections to the file that cannot write to it."""
    # `%`, `?` and `#` in a path would be read as parts of SQLite's own URI.
    file = f"file:{quote(url.database or '')}"
    return create_async_engine(
        URL.create("sqlite+aiosqlite", database=file, query={"mode": "ro", "uri": "true"}),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        execution_options={"max_row_buffer": CHUNK},
    )


def _only_reading(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
