"""The store of a log by its URL, for commands that append to it beside its gateways: they take turns with their writers."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import URL

from exchange.log.store import LogStore
from exchange.storage.database import sqlite_path


def log_store(url: URL, *, erases: bool = False) -> LogStore:
    """The store; nothing is connected yet.

    Args:
        url: From `exchange.storage.database.database_url`.
        erases: What is deleted is overwritten (SQLite; PostgreSQL does so by its own VACUUM).
    """
    if (file := sqlite_path(url)) is not None:
        from exchange.log.store_sqlite import SqliteStore

        return SqliteStore(file, erases=erases)
    from exchange.log.store_postgresql import PostgresqlStore

    _, arguments = url.get_dialect()().create_connect_args(url)
    connect: dict[str, Any] = dict(arguments)
    return PostgresqlStore(connect)
