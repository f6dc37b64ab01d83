"""A source over a department's SQL database (PostgreSQL, MySQL, MariaDB, SQLite): declared operations, each one query.

Rules:
1. Only declared operations exist. Values reach the database as bound parameters, never as text of a statement.
2. Nothing is written; the database sees to that, not a look at the statement (`department_adapters.sql.database`). Give the
   adapter an account that may only read as well: what a function does elsewhere is not rolled back.
3. A query ends at the exchange's deadline, or at its own if that comes first, in the database as well; rows that do not fit
   are not fetched.
4. `one` answers the first row as an object, or 404; `many` an object {"items": [...], "truncated": false}; in pages it is
   {"items": [...], "next": "..."}, `next` being what to send as `cursor` for the next page, or null. A page may be shorter
   than its size: the limit of bytes holds for it as well.
5. What is wrong with a parameter or a cursor is told with 400: by the adapter, or, where the query makes a date or the like
   of a text, by the database. In whose words, nobody is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.sql.elements import TextClause

from department_adapters.cursors import Cursors
from department_adapters.source import SourceAnswer, SourceRequest
from department_adapters.sql.database import UnfitValueError, database_url, kind_of, open_database
from department_adapters.sql.operation import SqlOperation, Values, path_pattern, statement, values_of
from department_adapters.sql.pages import PagedQuery, PageRows, place_of
from department_adapters.sql.rows import Rows, encode
from exchange import AnswerTimeoutError, BackendError

_MAX_ANSWER = 64 << 20
_AROUND = 1024
"""Bytes of an answer that are no rows."""


@dataclass(frozen=True, slots=True)
class _Declared:
    operation: SqlOperation
    all_rows: TextClause
    pages: PagedQuery | None


class SqlSource:
    """Answers declared operations from a database."""

    def __init__(
        self,
        database: str,
        operations: Sequence[SqlOperation],
        *,
        connections: int = 10,
        max_answer: int = _MAX_ANSWER,
        cursor_secret: bytes = b"",
    ) -> None:
        """
        Args:
            database: `postgresql://user@host/name`, `mysql://user@host/name`, `sqlite:///path`.
            operations: What may be asked; of those whose path matches, the first.
            connections: Most connections at once.
            max_answer: Largest answer in bytes.
            cursor_secret: As in `Cursors`.

        Raises:
            ValueError: The URL names no such database, or its driver is not installed.
        """
        url = database_url(database)
        kind = kind_of(url)
        self._database = open_database(url, connections)
        self._max_bytes = max(max_answer - _AROUND, 1)
        self._cursors = Cursors(cursor_secret)
        self._operations = [
            (
                path_pattern(each.path),
                _Declared(each, statement(each), PagedQuery(each, each.page, kind) if each.page else None),
            )
            for each in operations
        ]

    async def start(self) -> None:
        await self._database.start()

    async def stop(self) -> None:
        await self._database.stop()

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        if request.method not in ("GET", "HEAD"):
            return _problem(405, "Only GET and HEAD are offered here.", (b"allow", b"GET, HEAD"))
        path, _, query_string = request.target.decode("latin-1").partition("?")
        for pattern, declared in self._operations:
            if match := pattern.fullmatch(path or "/"):
                answer = await self._answer(declared, match.groupdict(), query_string)
                return SourceAnswer(answer.status, answer.headers, b"") if request.method == "HEAD" else answer
        return _problem(404, "There is no such operation.")

    async def _answer(self, declared: _Declared, in_path: dict[str, str], query_string: str) -> SourceAnswer:
        operation = declared.operation
        try:
            values, cursor = values_of(operation, in_path, query_string)
        except ValueError as error:
            return _problem(400, str(error))
        try:
            if declared.pages is not None:
                return await self._page(operation, declared.pages, values, cursor)
            return await self._whole(operation, declared.all_rows, values)
        except UnfitValueError as error:
            if not values:
                raise BackendError from error
            return _problem(400, "The database takes no such value for a parameter.")

    async def _whole(self, operation: SqlOperation, query: TextClause, values: Values) -> SourceAnswer:
        one = operation.result == "one"
        rows = Rows(
            max_rows=1 if one else operation.max_rows,
            look_beyond=not one,
            max_bytes=self._limit(operation),
            booleans=operation.booleans,
            json=operation.json,
        )
        await self._read(operation, query, values, rows)
        if not one:
            return _json(b'{"items":[', b",".join(rows.items), b'],"truncated":', encode(rows.more), b"}")
        return _json(rows.items[0]) if rows.items else _problem(404, "There is no such record.")

    async def _page(
        self, operation: SqlOperation, pages: PagedQuery, values: Values, cursor: str | None
    ) -> SourceAnswer:
        assert operation.page is not None
        question = [operation.path.encode(), encode(list(operation.page.by)), encode(sorted(values.items()))]
        query, all_values = pages.first, dict[str, object](values)
        if cursor is not None:
            try:
                query, place = pages.after(self._cursors.open(cursor, question))
            except ValueError:
                return _problem(400, "The cursor is not one of this question: begin again without it.")
            all_values |= place
        rows = PageRows(
            operation.page, max_bytes=self._limit(operation), booleans=operation.booleans, json=operation.json
        )
        await self._read(operation, query, all_values, rows)
        following = self._cursors.seal(place_of(rows.last), question) if rows.more else None
        return _json(b'{"items":[', b",".join(rows.items), b'],"next":', encode(following), b"}")

    async def _read(self, operation: SqlOperation, query: TextClause, values: Mapping[str, object], rows: Rows) -> None:
        if operation.timeout is None:  # the exchange's deadline is kept by who asks
            await self._database.read(query, values, rows)
            return
        try:
            async with asyncio.timeout(operation.timeout):
                await self._database.read(query, values, rows)
        except TimeoutError as error:
            raise AnswerTimeoutError(seconds=f"{operation.timeout:g}") from error

    def _limit(self, operation: SqlOperation) -> int:
        return self._max_bytes if operation.max_bytes is None else min(self._max_bytes, operation.max_bytes)


def _json(*parts: bytes) -> SourceAnswer:
    return SourceAnswer(200, [(b"content-type", b"application/json")], b"".join(parts))


def _problem(status: int, detail: str, *headers: tuple[bytes, bytes]) -> SourceAnswer:
    body = encode({"type": "about:blank", "status": status, "detail": detail})
    return SourceAnswer(status, [(b"content-type", b"application/problem+json"), *headers], body)
