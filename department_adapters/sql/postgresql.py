"""PostgreSQL as a department's database.

Rules:
1. Each query is a read-only transaction of its own, always rolled back.
2. Rows come through a cursor of the database. Who no longer waits has the query cancelled by the driver.
3. Kept connections that the database has closed are renewed and the query is put again: to read twice harms nobody.
4. JSON of the database is passed on as it is, its numbers digit by digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.elements import TextClause

from department_adapters.sql.database import CHUNK, LONGEST_STATEMENT, Sink, UnfitValueError, tls_of
from exchange import BackendError

ERRORS = (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""SQLAlchemy lets the driver's own errors through when they come while rows are fetched."""

_DATA_EXCEPTION = "22"
"""Class of SQLSTATE."""


class PostgresqlDatabase:
    """Runs queries."""

    def __init__(self, url: URL, connections: int) -> None:
        tls_of(url)  # what is wrong with it is said now
        self.url = url
        self._connections = connections
        self._engine: AsyncEngine | None = None

    async def start(self) -> None:
        self._engine = engine(self.url, self._connections)

    async def stop(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    async def read(self, query: TextClause, values: Mapping[str, object], sink: Sink) -> None:
        try:
            try:
                await self._read(query, values, sink)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # A kept connection was closed by the database, so all of them are renewed.
                await self._read(query, values, sink)
        except ERRORS as error:
            state = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
            raise (UnfitValueError if state.startswith(_DATA_EXCEPTION) else BackendError) from error

    async def _read(self, query: TextClause, values: Mapping[str, object], sink: Sink) -> None:
        assert self._engine is not None, "start() comes first"
        async with self._engine.connect() as connection, connection.stream(query, values) as result:
            sink.begin(list(result.keys()))
            while (wanted := min(sink.wanted, CHUNK)) and (rows := await result.fetchmany(wanted)):
                sink.take(rows)


def engine(url: URL, connections: int) -> AsyncEngine:
    """Connections that only read."""
    url, tls = tls_of(url)
    made = create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,  # an error is logged, the person asked about is not
        execution_options={"postgresql_readonly": True, "max_row_buffer": CHUNK},
        connect_args={
            "server_settings": {
                "application_name": "datong adapter",
                "default_transaction_read_only": "on",
                "statement_timeout": str(LONGEST_STATEMENT * 1000),
            },
            **({"ssl": tls} if tls else {}),
        },
    )

    @event.listens_for(made.sync_engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.run_async(_json_as_it_is)

    return made


async def _json_as_it_is(driver: Any) -> None:
    for name in ("json", "jsonb"):
        await driver.set_type_codec(name, encoder=str, decoder=_raw, schema="pg_catalog", format="text")


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())
