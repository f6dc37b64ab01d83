"""`/v1/exchanges/export`: all records that fit, as one file, streamed.

Rules:
1. The export covers what was on the log when it was asked for: all of it stands under the checkpoint that is printed in it.
2. That it was asked for is on record before the first byte, and how much of it was given before the last; where the second
   record is missing, all that the first one covers may have been seen.
3. It goes as fast as the caller takes it, needs little memory however long it is, and few run at once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Receive, Scope, Send

from exchange import MeshError, OverloadedError, Rfc3339, StoredEntry
from gateway.api import exchange_refusals as refusals
from gateway.api.access_records import record_access
from gateway.api.actors import ActorDep
from gateway.api.audit import reading_log
from gateway.api.callers import Caller, CallerDep
from gateway.api.exchange_filters import RecordQuery, wanted_records
from gateway.api.exchanges import BY_AUDITOR
from gateway.api.openapi import problems
from gateway.api.paging import known_parameters
from gateway.exports.export import ExportFormat, export, writer_for
from gateway.exports.heading import Heading
from gateway.problems import language_of

MOST_AT_ONCE: Final = 2
ONLY_HEAD: Final = "only_head"
"""In a request's state: it is a HEAD, so nothing need be read for a body (`gateway.api.management`)."""

router = APIRouter(prefix="/v1/exchanges", tags=["exchanges"])
events = structlog.get_logger("datong.api")
_time_text: Final = Rfc3339()


class ExportQuery(RecordQuery):
    """What to export, and in which form."""

    format: ExportFormat = Field("csv", description="File format. 文件格式。", examples=["xlsx"])


def _forms() -> dict[int | str, dict[str, Any]]:
    text = {"schema": {"type": "string"}}
    return {
        200: {
            "description": "The file. It begins with the filter and the checkpoint, and ends with the number of records.",
            "content": {
                "text/csv": text,
                "application/jsonl": text,
                "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": {
                    "schema": {"type": "string", "format": "binary"}
                },
            },
        }
    }


@router.get(
    "/export",
    response_class=Response,
    responses={**problems(*refusals.SEARCHING, OverloadedError()), **_forms()},
    openapi_extra=BY_AUDITOR,
)
async def export_exchanges(
    request: Request, caller: CallerDep, actor: ActorDep, query: Annotated[ExportQuery, Query()]
) -> Response:
    """All records that fit, oldest first, as CSV, XLSX or JSON Lines. Needs the role auditor. 导出。

    Headings are in Chinese or English, by `Accept-Language`.
    """
    caller.require("auditor")
    known_parameters(request, ExportQuery)
    wanted = await wanted_records(request, query)
    gateway = request.app.state.gateway
    checkpoint = await gateway.log.checkpoint()
    size = int(checkpoint.split("\n", 2)[1])
    details: dict[str, Any] = {"filter": wanted.told, "format": query.format, "size": size}
    running = _running_of(request)
    running.begin()
    try:
        async with reading_log(request):
            # Before anything is said: a search that cannot be made is a problem, and no file.
            records = await _Peeked.of(gateway.search.iterate(wanted.search, size))
        await record_access(request, caller, "exchanges.export", details)
        heading = Heading(
            filter=wanted.told,
            checkpoint=checkpoint,
            size=size,
            made_at=_time_text(time.time_ns() // 1_000_000),
            made_by=actor.by,
            language=language_of(request.headers.get("accept-language", "").encode("latin-1")),
        )
        return _ExportResponse(request, caller, running, query.format, heading, records)
    except BaseException:
        running.end()
        raise


class _Running:
    """How many exports are being made."""

    def __init__(self) -> None:
        self._count = 0

    def begin(self) -> None:
        """Take a place; raises OverloadedError if there is none."""
        if self._count >= MOST_AT_ONCE:
            raise OverloadedError("exports-at-once")
        self._count += 1

    def end(self) -> None:
        """Give it back."""
        self._count -= 1


class _Peeked:
    """An iterator whose first item was asked for already: what keeps a search from beginning is known by then."""

    def __init__(self, records: AsyncIterator[StoredEntry], first: StoredEntry | None) -> None:
        self._records = records
        self._first = first
        self._ended = first is None

    @classmethod
    async def of(cls, records: AsyncIterator[StoredEntry]) -> _Peeked:
        return cls(records, await anext(records, None))

    def __aiter__(self) -> _Peeked:
        return self

    async def __anext__(self) -> StoredEntry:
        if self._ended:
            raise StopAsyncIteration
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await anext(self._records)

    async def aclose(self) -> None:
        """Let go of what is being read."""
        if isinstance(self._records, AsyncGenerator):
            await self._records.aclose()


class _ExportResponse(StreamingResponse):
    """The file, with what has to be done when it ends, however it ends."""

    def __init__(
        self,
        request: Request,
        caller: Caller,
        running: _Running,
        form: ExportFormat,
        heading: Heading,
        records: _Peeked,
    ) -> None:
        self._request, self._caller = request, caller
        self._running, self._records = running, records
        writer = writer_for(form)
        self._parts = export(writer, heading, records, ending=self._whole)
        name = f"exchanges-{heading.made_at[:19].replace(':', '')}.{form}"
        super().__init__(
            _nothing() if request.scope["state"].get(ONLY_HEAD) else self._parts,
            media_type=writer.media_type,
            headers={
                "content-disposition": f'attachment; filename="{name}"',
                "content-language": "zh-CN" if heading.language == "zh" else "en",
                "vary": "accept-language",
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except (MeshError, SQLAlchemyError) as error:
            # The answer has begun and stays without its end: the server closes the connection, so the caller notices.
            events.warning("export.broken", caller=self._caller.subsystem, error=repr(error))
        finally:
            self._running.end()
            await self._parts.aclose()
            await self._records.aclose()

    async def _whole(self, count: int) -> None:
        """All was read: how much it was is on record before the end is given out."""
        await record_access(self._request, self._caller, "exchanges.exported", {"count": count})


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


def _running_of(request: Request) -> _Running:
    state = request.app.state
    if not hasattr(state, "exports"):
        state.exports = _Running()
    running: _Running = state.exports
    return running
