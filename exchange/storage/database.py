"""Databases: SQLite by default, PostgreSQL in production, the same code and the same tests on both.

Rules:
1. SQLite and PostgreSQL are driven through asyncio (aiosqlite, asyncpg); a URL may name the plain database.
2. A transaction that will write says so at its start (`writing`): on SQLite it takes the write lock at once, because
   two readers that both want to become writers would deadlock; one of them would fail at random.
3. A read of several statements (`reading`) sees one state of the database.
4. Every connection to SQLite is durable and strict: WAL, synchronous=FULL, foreign keys on.
5. Times are stored as UTC; a naive datetime is refused on its way in, never guessed.
6. Each room ships its migrations inside its package. A schema is changed by them only.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Dialect, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_BUSY_SECONDS = 10.0
_CONNECT_SECONDS = 5.0
# Any constant will do, as long as every program that migrates agrees on it.
_MIGRATION_LOCK_KEY = 0x6461746F6E67

# Alembic keeps the migration in progress in module globals (`alembic.op`, `alembic.context`): one at a time.
_migration_lock = threading.Lock()


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware datetime, stored and returned in UTC. SQLite has no time zones, so they are put on again when read."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def database_url(text: str) -> URL:
    """Return `text` as the URL of an asyncio driver.

    Accepts `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://user:password@host/name` and the same with
    the driver named. libpq's `sslmode` is understood.

    Raises:
        ValueError: Another kind of database, SQLite in memory (no second process could see it), or not a URL.
    """
    try:
        url = make_url(text)
    except sa.exc.ArgumentError as error:
        # The text may hold a password: it is not repeated.
        raise ValueError("not a database URL; write sqlite:///PATH or postgresql://USER@HOST/NAME") from error
    if url.drivername not in _DRIVERS:
        raise ValueError(f"no support for {url.drivername!r} databases; use sqlite:///PATH or postgresql://...")
    url = url.set(drivername=_DRIVERS[url.drivername])
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise ValueError("SQLite in memory cannot be shared between processes; name a file: sqlite:///PATH")
        return url
    if not url.database:
        raise ValueError("the PostgreSQL URL names no database; write postgresql://USER@HOST/NAME")
    if "sslmode" in url.query:
        url = url.update_query_dict({"ssl": url.query["sslmode"]}).difference_update_query(["sslmode"])
    return url


def sqlite_path(url: URL) -> Path | None:
    """The file of an SQLite URL, None for other databases."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def create_engine(url: str | URL, *, foreign_keys: bool = True) -> AsyncEngine:
    """Return an engine for `url`; nothing is connected yet. The caller disposes of it.

    Args:
        url: As `database_url` accepts it.
        foreign_keys: Only migrations switch them off, while they rebuild tables on SQLite.
    """
    url = database_url(url if isinstance(url, str) else url.render_as_string(hide_password=False))
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, connect_args={"timeout": _BUSY_SECONDS})
        _make_strict(engine, foreign_keys)
        return engine
    return create_async_engine(
        url,
        # A restarted server leaves dead connections in the pool: find out before use, not during it.
        pool_pre_ping=True,
        connect_args={"timeout": _CONNECT_SECONDS, "server_settings": {"application_name": "datong"}},
    )


def _make_strict(engine: AsyncEngine, foreign_keys: bool) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def set_pragmas(connection: Any, _record: object) -> None:
        # The driver's own transaction handling skips DDL and begins late; ours is the BEGIN below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={int(_BUSY_SECONDS * 1000)}",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("datong_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that writes: committed at the end of the block, rolled back when the block raises."""
    async with engine.connect() as connection:
        await connection.execution_options(datong_writes=True)
        async with connection.begin():
            yield connection


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction whose statements all see the same state."""
    async with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin():
            yield connection


async def upgrade(url: str | URL, migrations_package: str) -> None:
    """Bring the schema at `url` to the newest version that `migrations_package` knows; a no-op when it is there.

    Several processes may do this at once: they queue on a lock in the database. An SQLite file is created when missing,
    its folder is not.

    Args:
        migrations_package: Dotted name of the package that holds `env.py` and `versions`, e.g. `registry.migrations`.
    """
    # In a thread with a loop of its own: Alembic is synchronous, and its globals want a lock that may be waited on.
    await asyncio.to_thread(_upgrade, url, migrations_package)


def _upgrade(url: str | URL, migrations_package: str) -> None:
    from alembic import command  # slow to import, and most commands never migrate
    from alembic.config import Config

    def to_head(connection: Connection, folder: Path) -> None:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async def run() -> None:
        engine = create_engine(url, foreign_keys=False)
        try:
            async with writing(engine) as connection:
                if engine.dialect.name == "postgresql":
                    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK_KEY)))
                with importlib.resources.as_file(importlib.resources.files(migrations_package)) as folder:
                    await connection.run_sync(to_head, folder)
        finally:
            await engine.dispose()

    with _migration_lock:
        asyncio.run(run())


def run_migrations(metadata: sa.MetaData, version_table: str) -> None:
    """What a room's `migrations/env.py` calls.

    Args:
        metadata: The room's tables.
        version_table: Where the room's schema version is kept; rooms may share one PostgreSQL database, so each has
            its own.
    """
    from alembic import context

    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=version_table,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()
