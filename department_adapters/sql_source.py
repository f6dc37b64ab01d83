"""A source over a department's SQL database (PostgreSQL, SQLite): declared operations, each one parameterised query.

Rules:
1. Only declared operations exist. Values reach the database as bound parameters, never as text of a statement.
2. The session is read-only, set in the database, not by inspecting statements: `default_transaction_read_only` on
   PostgreSQL, an immutable-mode connection with `query_only` on SQLite.
3. A query has a time limit (what is left of the exchange's deadline) and a row limit.
4. `one` answers an object or 404, `many` an object {"items": [...], "truncated": false}.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

import msgspec
from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.elements import TextClause

from department_adapters.source import SourceAnswer, SourceRequest
from exchange import AnswerTimeoutError, BackendError

_encode = msgspec.json.Encoder(decimal_format="string").encode
_TEMPLATE_PARAMETER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlOperation:
    """One declared question to the database.

    Args:
        path: Template such as `/divisions/{code}`; the parameters in braces are bound to the query by name.
        query: SQL with named parameters, `SELECT ... WHERE code = :code`.
        result: `one` row or `many`.
        optional: Parameters taken from the query string, absent ones bound as NULL.
        required: Parameters that must be in the query string, else 400.
        integers: Parameters converted to integers, else 400.
    """

    method: Literal["GET"] = "GET"
    path: str
    query: str
    result: Literal["one", "many"] = "one"
    optional: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    max_rows: int = 500


class SqlSource:
    """Answers declared operations from a database."""

    def __init__(self, database: str, operations: list[SqlOperation], *, connections: int = 10) -> None:
        """
        Args:
            database: `sqlite:///path`, `postgresql://user@host/name`.
            operations: What may be asked.
            connections: Most connections at once.
        """
        self._url = database
        self._connections = connections
        self._operations = [(_compile(operation.path), text(operation.query), operation) for operation in operations]
        self._engine: AsyncEngine | None = None

    async def start(self) -> None:
        self._engine = _read_only_engine(self._url, self._connections)

    async def stop(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        path, _, query_string = request.target.decode("ascii").partition("?")
        if request.method not in ("GET", "HEAD"):
            return _problem(405, "Only GET is offered here.")
        for pattern, statement, operation in self._operations:
            if match := pattern.fullmatch(path or "/"):
                values: dict[str, Any] = {name: unquote(value) for name, value in match.groupdict().items()}
                values |= _from_query_string(operation, query_string)
                missing = [name for name in operation.required if values.get(name) is None]
                if missing:
                    return _problem(400, f"The query parameter {missing[0]} is required.")
                try:
                    for name in operation.integers:
                        if values.get(name) is not None:
                            values[name] = int(values[name])
                except ValueError:
                    return _problem(400, f"The parameter {name} must be a whole number.")
                return await self._run(statement, operation, values, request.timeout)
        return _problem(404, "There is no such operation.")

    async def _run(
        self, statement: TextClause, operation: SqlOperation, values: dict[str, Any], timeout: float
    ) -> SourceAnswer:
        assert self._engine is not None, "start() comes first"
        try:
            async with asyncio.timeout(timeout), self._engine.connect() as connection:
                result = await connection.execute(statement, values)
                rows = [dict(row) for row in result.mappings().fetchmany(operation.max_rows + 1)]
        except TimeoutError as error:
            raise AnswerTimeoutError(seconds=f"{timeout:g}") from error
        except (SQLAlchemyError, OSError) as error:
            raise BackendError from error
        if operation.result == "one":
            return _json(200, rows[0]) if rows else _problem(404, "There is no such record.")
        kept = rows[: operation.max_rows]
        return _json(200, {"items": kept, "truncated": len(rows) > operation.max_rows})


def _compile(template: str) -> re.Pattern[str]:
    parts = _TEMPLATE_PARAMETER.split(template)
    return re.compile(
        "".join(f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    )


def _from_query_string(operation: SqlOperation, query_string: str) -> dict[str, str | None]:
    given = dict(parse_qsl(query_string, keep_blank_values=True))
    return {name: given.get(name) for name in (*operation.required, *operation.optional)}


def _json(status: int, value: object) -> SourceAnswer:
    return SourceAnswer(status, [(b"content-type", b"application/json")], _encode(value))


def _problem(status: int, detail: str) -> SourceAnswer:
    body = _encode({"type": "about:blank", "status": status, "detail": detail})
    return SourceAnswer(status, [(b"content-type", b"application/problem+json")], body)


def _read_only_engine(database: str, connections: int) -> AsyncEngine:
    url = make_url(database)
    if url.get_backend_name() == "postgresql":
        return create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_size=connections,
            max_overflow=0,
            pool_pre_ping=True,
            isolation_level="AUTOCOMMIT",  # one statement, no transaction of ours: nothing stays open on an error
            connect_args={"server_settings": {"default_transaction_read_only": "on", "statement_timeout": "60000"}},
        )
    if url.get_backend_name() != "sqlite" or not url.database:
        raise ValueError(f"an adapter's database is PostgreSQL or an SQLite file, not {url.get_backend_name()}")
    engine = create_async_engine(f"sqlite+aiosqlite:///file:{url.database}?mode=ro&uri=true", pool_size=connections)

    @event.listens_for(engine.sync_engine, "connect")
    def read_only(connection: Any, _: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    return engine
