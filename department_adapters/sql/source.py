"""A source over a department's SQL database (PostgreSQL, SQLite): declared operations, each one parameterised query.

Rules:
1. Only declared operations exist. Values reach the database as bound parameters, never as text of a statement.
2. Nothing is written; the database sees to that, not a look at the statement (`department_adapters.sql.database`). Give the
   adapter a role that may only read as well, on PostgreSQL: what a function does elsewhere is not rolled back.
3. A query ends at the exchange's deadline, in the database as well, and rows beyond the limit are not fetched.
4. `one` answers the first row as an object, or 404; `many` an object {"items": [...], "truncated": false}.
5. A parameter is text, or a whole number of 64 bits when it is listed under `integers`; for any other type the query says
   so: `WHERE born = CAST(:born AS date)`. An optional parameter that is not given is NULL:
   `WHERE (:name IS NULL OR name = :name)`.
6. A parameter that is not declared, given twice or not UTF-8 is refused with 400: a filter that is misspelt must not
   answer with everything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote

import msgspec
from sqlalchemy import BigInteger, String, bindparam, text
from sqlalchemy.sql.elements import TextClause

from department_adapters.source import SourceAnswer, SourceRequest
from department_adapters.sql.database import ReadOnlyDatabase, database_url

_PARAMETER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_INTEGER = re.compile(r"-?[0-9]{1,18}")  # what fits into 64 bits, in ASCII digits
_SEGMENT_SAFE = "!$&'()*+,;=:@-._~/"
"""As the gateway writes paths, so that a template in other scripts meets them."""
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
        self._database = ReadOnlyDatabase(database_url(database), connections)
        self._operations = [(_pattern(each.path), _statement(each), each) for each in operations]

    async def start(self) -> None:
        await self._database.start()

    async def stop(self) -> None:
        await self._database.stop()

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
        rows = await self._database.rows(statement, values, limit)
        if operation.result == "one":
            return _json(200, rows[0]) if rows else _problem(404, "There is no such record.")
        truncated = len(rows) > operation.max_rows
        return _json(200, {"items": rows[: operation.max_rows], "truncated": truncated})


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
