"""A department's database, read and nothing else: what the SQL source needs of one, and which URLs name one.

Rules, kept by each kind (`postgresql.py`, `mysql.py`, `sqlite.py`) in its own way:
1. Nothing is written, and the database itself sees to that.
2. Values travel beside the statement, never in its text.
3. Rows come a few at a time; those nobody wants stay in the database.
4. Who no longer waits has the query ended in the database.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import dialects
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.sql.elements import TextClause

LONGEST_STATEMENT = 120
"""Seconds; no exchange waits longer. Cancelling is what ends a query; this is for when that got lost."""
CHUNK = 64
"""Rows fetched at once: so many may be in memory beyond what the answer holds."""

_TLS_OPTIONS = frozenset(("ssl_ca", "ssl_cert", "ssl_key"))
_MYSQL_OPTIONS = _TLS_OPTIONS | {"unix_socket"}
"""What may follow the `?` of its URL: the driver would take every one of its own arguments from there."""

_KINDS = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite"}


class UnfitValueError(Exception):
    """A value is none of the type that the query makes of it: a date that no calendar has, say. The database is well."""


class Sink(Protocol):
    """Where rows go while they are read."""

    def begin(self, names: Sequence[str]) -> None:
        """The columns' names. Called again if the query had to be put a second time: what was taken so far is void."""

    @property
    def wanted(self) -> int:
        """The most rows that may still be taken; 0: no more."""

    def take(self, rows: Sequence[Sequence[Any]]) -> None:
        """Some rows, in order."""


class Database(Protocol):
    """One database. Many queries run at once; `start` and `stop` are called once each."""

    url: URL

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def read(self, query: TextClause, values: Mapping[str, object], sink: Sink) -> None:
        """Put a query and hand its rows over until no more are wanted; may be cancelled.

        Raises:
            UnfitValueError: A value is not one that the database takes in its place.
            BackendError: The database is away, or did not do what the query says.
        """


def database_url(database: str) -> URL:
    """The URL of a database an adapter can read; raises ValueError with a message that tells no password."""
    try:
        url = make_url(database)
    except (ArgumentError, ValueError) as error:
        raise ValueError("not a database URL, postgresql://user@host/name, mysql://... or sqlite:///path") from error
    if url.get_backend_name() not in _KINDS or not url.database or url.database == ":memory:":
        raise ValueError(
            "an adapter's database is postgresql://user@host/name, mysql://user@host/name or a file, sqlite:///path"
        )
    if kind_of(url) == "mysql" and (unknown := set(url.query) - _MYSQL_OPTIONS):
        raise ValueError(f"the database URL's option {min(unknown)!r} is not known")
    return url


def kind_of(url: URL) -> str:
    """`postgresql`, `mysql` (MariaDB as well) or `sqlite`."""
    return _KINDS[url.get_backend_name()]


def tls_of(url: URL) -> tuple[URL, ssl.SSLContext | None]:
    """The URL without the options `ssl_ca`, `ssl_cert` and `ssl_key`, and what they say; None: they are not given.

    Raises:
        ValueError: A file cannot be used, or a certificate is given without what the server is to be checked by.
    """
    given = {name: str(url.query[name]) for name in _TLS_OPTIONS if name in url.query}
    if not given:
        return url, None
    if "ssl_ca" not in given:
        raise ValueError("the database URL's ssl_cert and ssl_key go with ssl_ca, by which the server is checked")
    try:
        context = ssl.create_default_context(cafile=given["ssl_ca"])
        if "ssl_cert" in given:
            context.load_cert_chain(given["ssl_cert"], given.get("ssl_key"), password="")
    except OSError as error:
        raise ValueError(f"the database URL's ssl_ca, ssl_cert or ssl_key: {error}") from error
    return url.difference_update_query(_TLS_OPTIONS), context


def dialect_of(kind: str) -> Dialect:
    """How a kind of database spells things; its driver is not loaded."""
    made: Dialect = dialects.registry.load(kind)()
    return made


def quoted(dialect: Dialect, name: str) -> str:
    """The name of a column, table or schema as it stands in a query of `adapter.toml`: a colon in it is no parameter."""
    return dialect.identifier_preparer.quote(name).replace(":", "\\:")


def open_database(url: URL, connections: int) -> Database:
    """The database at a URL, not yet connected; drivers of other kinds are not loaded.

    Args:
        url: From `database_url`.
        connections: Most connections at once.

    Raises:
        ValueError: The driver is not installed; the message says what to install.
    """
    match kind_of(url):
        case "postgresql":
            from department_adapters.sql.postgresql import PostgresqlDatabase

            return PostgresqlDatabase(url, connections)
        case "mysql":
            try:
                from department_adapters.sql.mysql import MysqlDatabase
            except ModuleNotFoundError as error:
                raise ValueError("MySQL and MariaDB need another library: pip install 'datong[mysql]'") from error

            return MysqlDatabase(url, connections)
        case _:
            from department_adapters.sql.sqlite import SqliteDatabase

            return SqliteDatabase(url, connections)
