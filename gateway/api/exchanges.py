"""`/v1/exchanges`: the record, for auditors; and for caller and owner, what concerns them.

Rules:
1. Only an auditor searches. Others are shown a record whose id they know, if it concerns them (`gateway.api.exchange_views`), or if
   it was opened to them: an operator sees counts, and one record when a second person agreed (`gateway.api.openings`).
2. Records of changes of the registry and of acts on the log stand on the same log. They are listed for those who ask for them.
3. Whoever may not see a record is told the same as if there were none.
4. Who sees what does not concern them is put on record before they see it (`gateway.api.access_records`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter

from exchange import ExchangeLog, NotFoundError, StoredEntry
from gateway.api import exchange_refusals as refusals
from gateway.api.access_records import record_access
from gateway.api.actors import ActorDep
from gateway.api.audit import reading_log
from gateway.api.callers import Caller, CallerDep
from gateway.api.changing import consulting
from gateway.api.exchange_filters import SUBJECT_PARAMETER, ExchangeSearch, wanted_records
from gateway.api.exchange_views import Exchange, ExchangePage, concerns, exchange_view
from gateway.api.openapi import BY_CERTIFICATE, problems
from gateway.api.paging import known_parameters
from registry import Actor, Opening, Openings

router = APIRouter(prefix="/v1/exchanges", tags=["exchanges"])

BY_AUDITOR: Final[dict[str, Any]] = {
    **BY_CERTIFICATE,
    "parameters": [*BY_CERTIFICATE["parameters"], SUBJECT_PARAMETER],
}
"""For `openapi_extra` of searches."""
ExchangeId = Annotated[
    str,
    PathParameter(
        description="`X-Road-Request-Id` of the exchange, a UUID.", examples=["0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"]
    ),
]

RETRY_PENDING: Final = "5"
"""Seconds after which a receipt that is pending may be final."""
_ID: Final = re.compile(r"[0-9a-f-]{36}")
_encode = msgspec.json.encode


@router.get("", response_model=ExchangePage, responses=problems(*refusals.SEARCHING), openapi_extra=BY_AUDITOR)
async def list_exchanges(request: Request, caller: CallerDep, query: Annotated[ExchangeSearch, Query()]) -> Response:
    """Records, newest first. Needs the role auditor; that they were looked for is on record. 查询交换记录。

    Pages stay correct while the log grows: what is added meanwhile is newer than the first page.
    """
    caller.require("auditor")
    known_parameters(request, ExchangeSearch)
    wanted = await wanted_records(request, query)
    gateway = request.app.state.gateway
    async with reading_log(request):
        page = await gateway.search.page(wanted.search, cursor=query.cursor, limit=query.limit)
    details = {"filter": wanted.told, "count": len(page.entries), "limit": query.limit}
    if query.cursor is not None:
        details["cursor"] = query.cursor
    await record_access(request, caller, "exchanges.list", details)
    views = [exchange_view(entry, gateway.public_url) for entry in page.entries]
    return json_response({"exchanges": views, "next_cursor": page.next_cursor})


@router.get(
    "/{exchange_id}",
    response_model=Exchange,
    responses=problems(*refusals.READING, refusals.NOT_FOUND),
    openapi_extra=BY_CERTIFICATE,
)
async def show_exchange(request: Request, caller: CallerDep, actor: ActorDep, exchange_id: ExchangeId) -> Response:
    """One record: for auditors, the caller, the owner, and whom it was opened to. 单条交换记录。"""
    known_parameters(request)
    async with reading_log(request) as log:
        entry = await _visible(request, log, caller, actor, exchange_id, "exchange.show")
    return json_response(exchange_view(entry, request.app.state.gateway.public_url))


@router.get(
    "/{exchange_id}/receipt",
    response_class=Response,
    responses={
        **problems(*refusals.READING, refusals.NOT_FOUND),
        200: {
            "description": "The receipt, canonical JSON (RFC 8785).",
            "content": {
                "application/json": {"schema": {"type": "object", "required": ["format", "record", "tlog_proof"]}}
            },
        },
    },
    openapi_extra=BY_CERTIFICATE,
)
async def show_receipt(request: Request, caller: CallerDep, actor: ActorDep, exchange_id: ExchangeId) -> Response:
    """The receipt of one record, verifiable offline with `datong verify`: for whoever is shown the record. 回执。"""
    known_parameters(request)
    async with reading_log(request) as log:
        entry = await _visible(request, log, caller, actor, exchange_id, "exchange.receipt")
        # The signature shows the path. An auditor sees who asked and for what, and whom it concerns can show the rest.
        evidence = await log.reader.evidence(entry.exchange_id) if concerns(entry, caller) else None
        receipt = await request.app.state.gateway.vouching.receipt(entry, evidence=evidence)
    headers = {
        "content-disposition": f'attachment; filename="{entry.exchange_id}.receipt.json"',
        "datong-receipt-state": "final" if receipt.final else "pending",
    }
    if not receipt.final:
        headers["retry-after"] = RETRY_PENDING
    return Response(receipt.content, media_type="application/json", headers=headers)


def json_response(content: object) -> Response:
    return Response(_encode(content), media_type="application/json")


async def _visible(
    request: Request, log: ExchangeLog, caller: Caller, actor: Actor, exchange_id: str, act: str
) -> StoredEntry:
    """The record, once it is durable that somebody sees it whom it does not concern; raises NotFoundError."""
    entry = await log.reader.entry(exchange_id) if _ID.fullmatch(exchange_id) else None
    if entry is not None and concerns(entry, caller):
        return entry
    details: dict[str, Any] = {"exchange": exchange_id, "found": entry is not None}
    if caller.has_role("auditor"):
        if _ID.fullmatch(exchange_id):
            await record_access(request, caller, act, details)
    elif entry is not None:
        opening = await _opened(request, actor, exchange_id)
        if opening is None:
            entry = None
        else:
            await record_access(request, caller, act, {**details, "opening": opening.id}, why=opening.why)
    if entry is None:
        raise NotFoundError(what="such exchange", what_zh="该交换")
    return entry


async def _opened(request: Request, actor: Actor, exchange_id: str) -> Opening | None:
    """The opening by which somebody may look at the record who else may not."""
    if not actor.holds("operator"):
        return None
    async with consulting():
        return await Openings(request.app.state.gateway.database).opened_to(actor, exchange_id)
