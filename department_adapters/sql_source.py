"""A source over a department's SQL database (PostgreSQL, SQLite): declared operations, each one parameterised query.

Rules:
1. Only declared operations exist. Values reach the database as bound parameters, never as text of a statement.
2. Nothing is written, and the database sees to that, not a look at the statement: a read-only transaction that is always
   rolled back on PostgreSQL, a file opened read-only and an authorizer that lets nothing but reading through on SQLite.
   (On PostgreSQL give the adapter a role that may only read, too: what a function does elsewhere is not rolled back.)
3. A query ends at the exchange's deadline, in the database as well, and rows beyond the limit are not fetched.
4. `one` answers the first row as an object, or 404; `many` an object {"items": [...], "truncated": false}.
5. A parameter is text, or a whole number of 64 bits when it is listed under `integers`; for any other type the query says
   so: `WHERE born = CAST(:born AS date)`. An optional parameter that is not given is NULL:
   `WHERE (:name IS NULL OR name = :name)`.
6. A parameter that is not declared, given twice or not UTF-8 is refused with 400: a filter that is misspelt must not
   answer with everything.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote

import asyncpg
import msgspec
from sqlalchemy import BigInteger, String, bindparam, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.elements import TextClause

from department_adapters.source import SourceAnswer, SourceRequest
from exchange import BackendError

_DATABASE_ERRORS = (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, sqlite3.Error)
"""SQLAlchemy lets the drivers' own errors through when they come while rows are fetched."""
_PARAMETER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_INTEGER = re.compile(r"-?[0-9]{1,18}")  # what fits into 64 bits, in ASCII digits
_SEGMENT_SAFE = "!$&'()*+,;=:@-._~/"
"""As the gateway writes paths, so that a template in other scripts meets them."""
_LONGEST_STATEMENT = 120_000
"""Milliseconds; no exchange waits longer. Cancelling is what ends a query; this is for when that got lost."""

_READING = frozenset(
    (
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
        sqlite3.SQLITE_TRANSACTION,
    )
)
_STEPS = 10_000
"""Of SQLite's machine, after which it looks whether anybody still waits: about a tenth of a millisecond."""

# Decimals as text keep their digits; what JSON has no form for (an address, a range) is told as text.
_encode = msgspec.json.Encoder(decimal_format="string", enc_hook=str).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlOperation:
    """One declared question to the database.

    Args:
        path: Template such as `/divisions/{code}`; the parameters in braces are bound to the query by name.
        query: SQL with named parameters, `SELECT ... WHERE code = :code`.
        result: `one` row or `many`.
        optional: Parameters taken from the query string, absent ones bound as NULL.
        required: Parameters that must be in the query string, else 400.
        integers: Parameters that must be whole numbers, else 400.

    Raises:
        ValueError: The parts contradict each other; the message says how.
    """

    method: Literal["GET"] = "GET"
    path: str
    query: str
    result: Literal["one", "many"] = "one"
    optional: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    max_rows: int = 500

    def __post_init__(self) -> None:
        names = [*_PARAMETER.findall(self.path), *self.optional, *self.required]
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"the parameter {name!r} must be a-z, 0-9 and _, and not begin with a digit")
            if names.count(name) > 1:
                raise ValueError(f"the parameter {name!r} is declared twice")
        if "{" in _PARAMETER.sub("", self.path) or "}" in _PARAMETER.sub("", self.path):
            raise ValueError(f"the path {self.path!r} has a brace that belongs to no parameter")
        if unknown := set(self.integers) - set(names):
            raise ValueError(f"integers names {min(unknown)!r}, which is no parameter")
        bound = set(text(self.query).compile().params)
        if unknown := bound - set(names):
            raise ValueError(f"the query binds :{min(unknown)}, which is no parameter (a colon of its own is \\:)")
        if unused := set(names) - bound:
            raise ValueError(f"the parameter {min(unused)!r} is not used in the query")

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of those in the path, then of those in the query string."""
        return (*_PARAMETER.findall(self.path), *self.required, *self.optional)


class SqlSource:
    """Answers declared operations from a database."""

    def __init__(self, database: str, operations: Sequence[SqlOperation], *, connections: int = 10) -> None:
        """
        Args:
            database: `sqlite:///path`, `postgresql://user@host/name`.
            operations: What may be asked; of those whose path matches, the first.
            connections: Most connections at once.

        Raises:
            ValueError: The URL names no such database.
        """
        self._url = database_url(database)
        self._connections = connections
        self._operations = [(_pattern(each.path), _statement(each), each) for each in operations]
        self._engine: AsyncEngine | None = None

    async def start(self) -> None:
        self._engine = _read_only_engine(self._url, self._connections)

    async def stop(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        if request.method not in ("GET", "HEAD"):
            return _problem(405, "Only GET and HEAD are offered here.", (b"allow", b"GET, HEAD"))
        path, _, query_string = request.target.decode("latin-1").partition("?")
        for pattern, statement, operation in self._operations:
            if match := pattern.fullmatch(path or "/"):
                try:
                    values = _values(operation, match.groupdict(), query_string)
                except ValueError as error:
                    answer = _problem(400, str(error))
                else:
                    answer = await self._run(statement, operation, values)
                return SourceAnswer(answer.status, answer.headers, b"") if request.method == "HEAD" else answer
        return _problem(404, "There is no such operation.")

    async def _run(
        self, statement: TextClause, operation: SqlOperation, values: dict[str, str | int | None]
    ) -> SourceAnswer:
        limit = 1 if operation.result == "one" else operation.max_rows + 1
        try:
            try:
                rows = await self._rows(statement, values, limit)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # A kept connection was closed by the database, so all of them are renewed. Reading twice harms nobody.
                rows = await self._rows(statement, values, limit)
        except _DATABASE_ERRORS as error:
            raise BackendError from error
        if operation.result == "one":
            return _json(200, rows[0]) if rows else _problem(404, "There is no such record.")
        truncated = len(rows) > operation.max_rows
        return _json(200, {"items": rows[: operation.max_rows], "truncated": truncated})

    async def _rows(self, statement: TextClause, values: dict[str, Any], limit: int) -> list[dict[str, Any]]:
        assert self._engine is not None, "start() comes first"
        if self._engine.dialect.name != "sqlite":
            return await _fetch(self._engine, statement, values, limit, _Brake())
        # PostgreSQL is told by its driver that nobody waits any more. A thread in SQLite is not, and closing its
        # connection would wait for it: so the query runs in a task of its own, and is stopped, not cancelled.
        brake = _Brake()
        task = asyncio.create_task(_fetch(self._engine, statement, values, limit, brake))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not brake.pull():
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise


class _Brake:
    """Stops what one connection to SQLite is doing, from another thread."""

    def __init__(self) -> None:
        self._pulled: list[bool] | None = None

    def hold(self, pulled: list[bool]) -> None:
        """Take over a connection; its progress handler looks at `pulled`."""
        pulled[0] = False
        self._pulled = pulled

    def pull(self) -> bool:
        """Stop it; returns whether there is a connection yet."""
        if self._pulled is None:
            return False
        self._pulled[0] = True
        return True


async def _fetch(
    engine: AsyncEngine, statement: TextClause, values: dict[str, Any], limit: int, brake: _Brake
) -> list[dict[str, Any]]:
    async with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            brake.hold((await connection.get_raw_connection()).info["pulled"])
        async with connection.stream(statement, values) as result:
            return [dict(row) for row in await result.mappings().fetchmany(limit)]


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


def _pattern(template: str) -> re.Pattern[str]:
    """What matches the paths of a template, still percent-encoded."""
    parts = _PARAMETER.split(template)
    return re.compile(
        "".join(
            f"(?P<{part}>[^/]+)" if index % 2 else re.escape(quote(part, safe=_SEGMENT_SAFE))
            for index, part in enumerate(parts)
        )
    )


def _statement(operation: SqlOperation) -> TextClause:
    # With a type, a parameter that is NULL or stands where any type may stand has one in PostgreSQL as well.
    return text(operation.query).bindparams(
        *(
            bindparam(name, type_=BigInteger() if name in operation.integers else String())
            for name in operation.parameters
        )
    )


def _values(operation: SqlOperation, in_path: dict[str, str], query_string: str) -> dict[str, str | int | None]:
    """The parameters' values; raises ValueError with a text for the caller."""
    given: dict[str, str] = {}
    try:
        for name, value in in_path.items():
            given[name] = unquote(value, errors="strict")
        pairs = parse_qsl(query_string, keep_blank_values=True, errors="strict", max_num_fields=100)
    except UnicodeDecodeError as error:
        raise ValueError("A parameter is not UTF-8.") from error
    except ValueError as error:
        raise ValueError("There are too many parameters.") from error
    for name, value in pairs:
        if name not in operation.required and name not in operation.optional:
            raise ValueError(f"The query parameter {name[:40]!r} is not known here.")
        if name in given:
            raise ValueError(f"The query parameter {name!r} is given twice.")
        given[name] = value
    values: dict[str, str | int | None] = dict.fromkeys(operation.optional)
    for name in operation.required:
        if not given.get(name):
            raise ValueError(f"The query parameter {name!r} is required.")
    for name, value in given.items():
        if name in operation.integers:
            if not _INTEGER.fullmatch(value):
                raise ValueError(f"The parameter {name!r} must be a whole number.")
            values[name] = int(value)
        elif "\0" in value:  # which PostgreSQL has no place for
            raise ValueError(f"The parameter {name!r} holds a character that cannot be stored.")
        else:
            values[name] = value
    return values


def _json(status: int, value: object) -> SourceAnswer:
    return SourceAnswer(status, [(b"content-type", b"application/json")], _encode(value))


def _problem(status: int, detail: str, *headers: tuple[bytes, bytes]) -> SourceAnswer:
    body = _encode({"type": "about:blank", "status": status, "detail": detail})
    return SourceAnswer(status, [(b"content-type", b"application/problem+json"), *headers], body)


def _read_only_engine(url: URL, connections: int) -> AsyncEngine:
    if url.get_backend_name() == "postgresql":
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
        pulled = record.info["pulled"] = [False]
        connection.run_async(lambda driver: driver.set_progress_handler(lambda: pulled[0], _STEPS))
        connection.run_async(lambda driver: driver.set_authorizer(_only_reading))

    return engine


def _only_reading(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
