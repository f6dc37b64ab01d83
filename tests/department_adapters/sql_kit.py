"""What tests of the SQL source share: databases to write to, a running source, questions to it."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncmy
import asyncpg
import pytest
from sqlalchemy.engine import make_url

from department_adapters import SourceRequest, SqlOperation, SqlSource
from department_adapters.source import ask
from tests.department_adapters.adapter_kit import until

SLOW = {
    "postgresql": "SELECT 'slow' AS mark, CAST(pg_sleep(600) AS text) AS slept",
    # Not SLEEP, during which MariaDB does look whether anybody is left.
    "mysql": "SELECT COUNT(*) AS n FROM seq_1_to_1000000000 a, seq_1_to_1000000000 b WHERE a.seq + b.seq < 0",
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) AS n FROM c",
}
RUNNING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%'"
    " AND pid <> pg_backend_pid()",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%a.seq + b.seq < 0%'"
    " AND id <> connection_id()",
}
"""How many slow queries run in the database. SQLite's run in the adapter, which would not end."""


async def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Do it in the database, with rights to write; the rows of the last statement."""
    rows: list[tuple[Any, ...]] = []
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            for statement in statements:
                rows = connection.execute(statement).fetchall()
        connection.close()
    elif url.startswith("mysql"):
        at = make_url(url)
        maria = await asyncmy.connect(
            host=at.host, port=at.port or 0, user=at.username, database=at.database, autocommit=True
        )
        async with maria.cursor() as cursor:
            for statement in statements:
                await cursor.execute(statement)
                rows = list(await cursor.fetchall()) if cursor.description else []
        await maria.ensure_closed()
    else:
        postgres = await asyncpg.connect(url)
        for statement in statements:
            rows = [tuple(row) for row in await postgres.fetch(statement)]
        await postgres.close()
    return rows


async def count(url: str, table: str = "people") -> int:
    return int((await execute(url, f"SELECT count(*) FROM {table}"))[0][0])


def kind(url: str) -> str:
    return url.partition(":")[0]


async def database_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of a fresh database of a kind: `sqlite`, `postgresql` or `mysql`."""
    if kind == "sqlite":
        return f"sqlite:///{folder / '数据 库.db'}"  # a space and other scripts in a path are normal
    server = request.getfixturevalue("postgres_server" if kind == "postgresql" else "maria_server")
    return str(await server.create_database())


@dataclass(frozen=True, slots=True)
class Asked:
    status: int
    content_type: str
    body: Any


_open: set[SqlSource] = set()


@asynccontextmanager
async def started(source: SqlSource) -> AsyncIterator[SqlSource]:
    """The source, until it is no longer needed."""
    _open.add(source)
    await source.start()
    try:
        yield source
    finally:
        await source.stop()
        _open.remove(source)
        if not _open:
            # The thread of a connection that could not be made says so to the event loop, which must still be there.
            await until(lambda: not any("_connection_worker" in thread.name for thread in threading.enumerate()))


def running(
    url: str, *operations: SqlOperation, connections: int = 3, **limits: Any
) -> AbstractAsyncContextManager[SqlSource]:
    """A source with these operations."""
    return started(SqlSource(url, operations, connections=connections, **limits))


async def get(source: SqlSource, target: str, *, method: str = "GET", timeout: float = 10.0) -> Asked:
    answer = await ask(source, SourceRequest("id", method, target.encode(), [], b"", timeout))
    return Asked(
        answer.status, dict(answer.headers)[b"content-type"].decode(), json.loads(answer.body) if answer.body else None
    )
