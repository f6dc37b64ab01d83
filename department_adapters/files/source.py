"""A source over a folder of files: rows of a table, by key and by declared columns.

Rules:
1. `GET /{table}/{key}` answers one row as an object, or 404; `GET /{table}`, where it is offered, {"items": [...], "next": ...}
   in the order of the keys. `next` is given back as `cursor`; rows that come or go meanwhile repeat and hide no others.
2. Only declared columns exist, in answers as in filters. A parameter that is not declared is refused with 400.
3. The files are looked at again and again. A change counts when two looks in a row find it the same and nothing has changed
   while it was read, so a file that is being written is left alone; the new rows take the place of the old ones at once.
4. Files that cannot be used change nothing: the rows that were good stay, and the log says which line is wrong.
5. Without any file, and until the first could be read, the department's system is away (BackendError).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from email.utils import formatdate

import msgspec
import structlog

from department_adapters.cursors import Cursors
from department_adapters.files.columns import CellError, searched
from department_adapters.files.loading import FileMark, LoadError, StoppedError, TableForm, load, look
from department_adapters.files.table import Table
from department_adapters.replies import (
    CallerError,
    decoded,
    encode,
    not_allowed,
    path_of,
    path_pattern,
    problem_answer,
    query_pairs,
    unknown_parameter,
    without_body,
)
from department_adapters.source import SourceAnswer, SourceRequest
from exchange import BackendError, Headers

CURSOR = "cursor"
"""The parameter that goes on where the last page ended."""

events = structlog.get_logger("datong.adapter")


class FilesSource:
    """Answers from the files of one table."""

    def __init__(
        self,
        name: str,
        table: TableForm,
        *,
        listing: bool = False,
        required: Sequence[str] = (),
        page: int = 100,
        look_every: float = 2.0,
        max_answer: int = 64 << 20,
        cursor_secret: bytes = b"",
    ) -> None:
        """
        Args:
            name: First segment of the paths.
            listing: Whether rows may be listed; then by each of `table.searched`.
            required: Those of them that must be given.
            page: Most rows of an answer.
            look_every: Seconds between looks at the files.
            max_answer: Most bytes of a page of several rows.
            cursor_secret: What instances share, so that they take each other's cursors; empty: a secret of this source.
        """
        self._name, self._form = name, table
        self._types = {column.name: column.type for column in table.columns}
        self._listing, self._required = listing, tuple(required)
        self._page, self._max_answer = page, max_answer
        self._one = path_pattern("/" + "/".join([name, *(f"{{{part}}}" for part in table.key)]))
        self._many = (f"/{name}", f"/{name}/")
        self._look_every = look_every
        self._table: Table | None = None
        self._headers: Headers = []
        self._known: tuple[FileMark, ...] | None = None
        """What was loaded or refused last."""
        self._seen: tuple[FileMark, ...] | None = None
        """What the last look found."""
        self._cursors = Cursors(cursor_secret)
        self._looked = asyncio.Event()
        self._stop = threading.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when the files have been looked at, and read if there are any: whoever is asked has an answer."""
        self._task = asyncio.create_task(self._follow())
        try:
            await self._looked.wait()
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        self._stop.set()
        self._looked.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        if request.method not in ("GET", "HEAD"):
            return not_allowed(request, "GET, HEAD")
        try:
            answer = self._answer(request)
        except CallerError as error:
            answer = problem_answer(request, error)
        return without_body(answer) if request.method == "HEAD" else answer

    def _answer(self, request: SourceRequest) -> SourceAnswer:
        path = path_of(request)
        if match := self._one.fullmatch(path):
            for name, _ in query_pairs(request):
                raise unknown_parameter(name)
            row = self._current().row(self._key(match.groups()))
            if row is None:
                raise CallerError(404, "There is no such record.", "没有这条记录。")
            return SourceAnswer(200, self._headers, row)
        if self._listing and path in self._many:
            return self._list(request)
        raise CallerError(404, "There is no such operation.", "没有这个操作。")

    def _current(self) -> Table:
        if self._table is None:
            raise BackendError from FileNotFoundError(f"no usable file matches {self._form.files}")
        return self._table

    def _key(self, segments: Sequence[str]) -> list[str]:
        key = []
        for name, segment in zip(self._form.key, segments, strict=True):
            try:
                key.append(searched(self._types[name], decoded(segment)) or "")
            except CellError:
                key.append("")  # no row has an empty part of a key
        return key

    def _list(self, request: SourceRequest) -> SourceAnswer:
        where: dict[str, str] = {}
        cursor: str | None = None
        for name, text in query_pairs(request):
            if name in where or (name == CURSOR and cursor is not None):
                raise _parameter(name, "is given twice", "重复")
            if name == CURSOR:
                cursor = text
            elif name in self._form.searched:
                where[name] = self._wanted(name, text)
            else:
                raise unknown_parameter(name)
        for name in self._required:
            if name not in where:
                raise _parameter(name, "is required", "必填")
        table = self._current()
        after = None if cursor is None else self._after(cursor, where)
        rows, following = table.page(where, after, self._page, self._max_answer)
        place = None if following is None else self._cursors.seal(encode(following), self._question(where))
        return SourceAnswer(200, self._headers, b'{"items":[%b],"next":%b}' % (b",".join(rows), encode(place)))

    def _wanted(self, name: str, text: str) -> str:
        try:
            value = searched(self._types[name], text)
        except CellError as error:
            raise _parameter(name, f"is {error}", "格式不正确") from error
        if value is None:
            raise _parameter(name, "is empty", "为空")
        return value

    def _after(self, cursor: str, where: dict[str, str]) -> list[str]:
        try:
            place: list[str] = msgspec.json.decode(self._cursors.open(cursor, self._question(where)))
        except ValueError as error:
            raise _parameter(CURSOR, "is not one that was given for this question", "不是此查询给出的游标") from error
        return place

    def _question(self, where: dict[str, str]) -> list[bytes]:
        return [self._name.encode(), encode(self._form.key), encode(sorted(where.items()))]

    # -- the files

    async def _follow(self) -> None:
        while True:
            try:
                await self.look()
            except OSError as error:
                events.warning("files.not_read", table=self._name, problem=error.strerror)
            except Exception as error:  # noqa: BLE001  # the end of a task: without it nobody would look again
                events.exception("files.fault", table=self._name, error=repr(error))
            self._looked.set()
            await asyncio.sleep(self._look_every)

    async def look(self) -> None:
        """Look at the files once, and load them if they have changed and nobody writes to them; the source does so by itself.

        Raises:
            OSError: The folder cannot be read.
        """
        marks = await asyncio.to_thread(look, self._form.files)
        before, self._seen = self._seen, marks
        if marks == self._known:
            return
        if self._table is not None and marks != before:
            return  # it may still be written to
        if marks:
            await self._load(marks)
            return
        self._known = marks
        self._table = None
        events.warning("files.none", table=self._name, files=self._form.files)

    async def _load(self, marks: tuple[FileMark, ...]) -> None:
        started = time.perf_counter()
        table: Table | None = None
        refusal: LoadError | None = None
        try:
            table, replaced = await asyncio.to_thread(load, self._form, marks, self._stop)
        except LoadError as error:
            refusal, replaced = error, 0
        except StoppedError:
            return
        if await asyncio.to_thread(look, self._form.files) != marks:
            return  # written to while it was read: the next look finds it
        self._known = marks
        if table is None:
            assert refusal is not None
            events.error(
                "files.refused",
                table=self._name,
                file=refusal.file,
                line=refusal.line,
                problem=refusal.problem,
                kept=self._table is not None,
            )
            return
        self._table = table
        modified = formatdate(max(mark.modified_ns for mark in marks) / 1e9, usegmt=True)
        self._headers = [(b"content-type", b"application/json"), (b"last-modified", modified.encode())]
        events.info(
            "files.loaded",
            table=self._name,
            files=len(marks),
            rows=len(table),
            replaced=replaced,
            bytes=table.held,
            seconds=round(time.perf_counter() - started, 3),
        )


def _parameter(name: str, what: str, what_zh: str) -> CallerError:
    return CallerError(
        400,
        f"The query parameter {name!r} {what}.",
        f"查询参数 {name!r} {what_zh}。",
        [{"parameter": name, "detail": what}],
    )
