"""Where the search index of a log is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.engine import URL

from exchange.storage.database import database_url, sqlite_path

if TYPE_CHECKING:
    from exchange.search.index_store import IndexStore


def search_url_of(log: str, search: str = "") -> URL:
    """The database of the index of the log at `log`.

    Args:
        search: Its URL if it was set; else `log.db` has `log-search.db` beside it, and in PostgreSQL the log's own database
            holds the index, too.

    Raises:
        ValueError: One of them is not a database URL.
    """
    if search:
        return database_url(search)
    url = database_url(log)
    file = sqlite_path(url)
    return url.set(database=str(file.with_name(f"{file.stem}-search{file.suffix}"))) if file else url


def open_store(url: URL) -> IndexStore:
    """The index there; nothing is connected yet."""
    file = sqlite_path(url)
    if file is not None:
        from exchange.search.index_sqlite import SqliteIndex

        return SqliteIndex(file)
    from exchange.search.index_postgresql import PostgresqlIndex

    _, arguments = url.get_dialect()().create_connect_args(url)
    return PostgresqlIndex(dict(arguments))
