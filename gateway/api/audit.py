"""`/v1/exchanges`: the record, for auditors; and for caller and owner, what concerns them.

Rules:
1. Only an auditor searches. Others are shown a record whose exchange id they know, if it concerns them.
2. A record concerns whose certificate made the attempt, whom it names as caller unless that was the very lie it was refused
   for, and the owner of the service once something was carried to it.
3. Records of changes of the registry stand on the same log. They are listed for those who ask for them (`/v1/changes` is the
   way to search them), and one is shown to auditors, operators, and the subsystem that made the change.
4. Whoever may not see a record is told the same as if there were none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import msgspec
import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from exchange import (
    AccessDeniedError,
    EntryFilter,
    ExchangeLog,
    InvalidClientError,
    InvalidRequestError,
    LogUnavailableError,
    NotFoundError,
    RoleMissingError,
    StoredEntry,
    SubsystemId,
    UnauthenticatedError,
    UnavailableError,
    build_receipt,
    is_change,
)
from gateway.api.callers import Caller, CallerDep
from gateway.api.fields import InstantMs, Service, Subsystem
from gateway.api.openapi import BY_CERTIFICATE, problems
from gateway.api.paging import MAX_PAGE, known_parameters

router = APIRouter(prefix="/v1", tags=["exchanges"])
events = structlog.get_logger("datong.api")

_decode = msgspec.json.decode
_encode = msgspec.json.encode


class Exchange(BaseModel):
    """One record and where it stands in the log."""

    seq: int = Field(description="Number of the entry in the log, from 0.")
    leaf_hash: str = Field(description="RFC 9162 leaf hash of the record's stored bytes, hex.")
    record: dict[str, Any] | None = Field(
        description="The record itself; its canonical JSON (RFC 8785) is the leaf. Null if the stored bytes are damaged. "
        'That of a change of the registry has `kind` "change".'
    )
    receipt: str = Field(description="Where its receipt is.")


class ExchangePage(BaseModel):
    """Records, newest first."""

    exchanges: list[Exchange]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null at the end.")


class ExchangeSearch(BaseModel):
    """Which records to list; what is left out means any."""

    kind: Literal["exchange", "change", "any"] = Field(
        "exchange",
        description="Exchanges, or changes of the registry: their action is found as `rule`.",
        examples=["exchange"],
    )
    client: Subsystem | None = Field(
        None, description="The subsystem that asked.", examples=["CN/GOV/11997001DT0000035E/housing"]
    )
    owner: Subsystem | None = Field(
        None, description="The subsystem that was asked.", examples=["CN/GOV/11997001DT0000019Q/tax"]
    )
    service: Service | None = Field(None, examples=["CN/GOV/11997001DT0000019Q/tax/enterprises"])
    outcome: Literal["answered", "refused", "failed", "unknown"] | None = Field(None, examples=["refused"])
    rule: str | None = Field(
        None, description="The rule that refused.", pattern="^[a-z0-9.-]{1,64}$", examples=["purpose"]
    )
    since: InstantMs | None = Field(None, description="RFC 3339, inclusive.", examples=["2026-11-01T00:00:00+08:00"])
    until: InstantMs | None = Field(None, description="RFC 3339, exclusive.", examples=["2026-12-01T00:00:00+08:00"])
    cursor: str | None = Field(
        None, description="`next_cursor` of the page before.", pattern="^[0-9]{1,18}$", examples=["4711"]
    )
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="How many at most.")


_NOT_FOUND = NotFoundError(what="such exchange", what_zh="该交换")
_REFUSALS = (
    InvalidRequestError("query-parameter", problem="There is no query parameter 'x'.", problem_zh="没有查询参数 'x'。"),
    InvalidClientError(problem="X-Road-Client is missing.", problem_zh="缺少 X-Road-Client。"),
    UnauthenticatedError(
        problem="The connection carries no client certificate.", problem_zh="连接没有出示客户端证书。"
    ),
    UnavailableError("log-readable"),
)
_ROLE = RoleMissingError(
    problem="CN/GOV/…/housing does not hold the role auditor.", problem_zh="CN/GOV/…/housing 没有 auditor 角色。"
)
_NOT_OURS = AccessDeniedError(
    "client-registered",
    problem="CN/GOV/…/housing is not a registered subsystem.",
    problem_zh="CN/GOV/…/housing 不是已登记的子系统。",
)
ExchangeId = Annotated[
    str,
    PathParameter(
        description="`X-Road-Request-Id` of the exchange, a UUID.", examples=["0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"]
    ),
]


@router.get(
    "/exchanges",
    response_model=ExchangePage,
    responses=problems(*_REFUSALS, _ROLE),
    openapi_extra=BY_CERTIFICATE,
)
async def list_exchanges(request: Request, caller: CallerDep, wanted: Annotated[ExchangeSearch, Query()]) -> Response:
    """Records, newest first. Needs the role auditor.

    Pages stay correct while the log grows: what is added meanwhile is newer than the first page.
    """
    caller.require("auditor")
    known_parameters(request, ExchangeSearch)
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise InvalidRequestError(
            "query-parameter", problem="since must be before until.", problem_zh="since 必须早于 until。"
        )
    search = EntryFilter(
        kind=wanted.kind,
        client=wanted.client or "",
        owner=wanted.owner or "",
        service=wanted.service or "",
        outcome=wanted.outcome or "",
        rule=wanted.rule or "",
        since_ms=wanted.since,
        until_ms=wanted.until,
    )
    async with reading_log(request) as log:
        page = await log.reader.page(search, cursor=wanted.cursor, limit=wanted.limit)
    events.info("audit.listed", caller=caller.subsystem, count=len(page.entries), query=request.url.query)
    return _json({"exchanges": [_exchange(request, entry) for entry in page.entries], "next_cursor": page.next_cursor})


@router.get(
    "/exchanges/{exchange_id}",
    response_model=Exchange,
    responses=problems(*_REFUSALS, _NOT_OURS, _NOT_FOUND),
    openapi_extra=BY_CERTIFICATE,
)
async def show_exchange(request: Request, caller: CallerDep, exchange_id: ExchangeId) -> Response:
    """One record: for auditors, the caller and the owner."""
    known_parameters(request)
    async with reading_log(request) as log:
        entry = await _visible(log, caller, exchange_id)
    return _json(_exchange(request, entry))


@router.get(
    "/exchanges/{exchange_id}/receipt",
    response_class=Response,
    responses={
        **problems(*_REFUSALS, LogUnavailableError(), _NOT_OURS, _NOT_FOUND),
        200: {
            "description": "The receipt, canonical JSON (RFC 8785).",
            "content": {
                "application/json": {"schema": {"type": "object", "required": ["format", "record", "tlog_proof"]}}
            },
        },
    },
    openapi_extra=BY_CERTIFICATE,
)
async def show_receipt(request: Request, caller: CallerDep, exchange_id: ExchangeId) -> Response:
    """The receipt of one record, verifiable offline with `datong verify`: for auditors, the caller and the owner."""
    known_parameters(request)
    async with reading_log(request) as log:
        entry = await _visible(log, caller, exchange_id)
        checkpoint = await log.checkpoint()
        # The signature shows the path. An auditor sees who asked and for what, and whom it concerns can show the rest.
        evidence = await log.reader.evidence(entry.exchange_id) if _concerns(entry, caller) else None
        cas = await log.reader.ca_certificates()
        receipt = await build_receipt(log.reader, entry, checkpoint, intermediates=cas, evidence=evidence)
    return Response(
        receipt,
        media_type="application/json",
        headers={"content-disposition": f'attachment; filename="{entry.exchange_id}.receipt.json"'},
    )


def key_list(trust_anchors: bytes, vkey: str) -> dict[str, Any]:
    """The keys that receipts of this gateway are verified with: of its log, and of the accepted CAs."""
    return {"format": "datong-keys/1", "logs": [vkey], "trust_anchors": [trust_anchors.decode("ascii")]}


@router.get("/keys", responses=problems(_REFUSALS[0]))
async def show_keys(request: Request) -> dict[str, Any]:
    """The key list that `datong verify` takes. Compare it with one obtained another way before relying on it."""
    known_parameters(request)
    gateway = request.app.state.gateway
    return key_list(gateway.trust.trust.pem(), gateway.log.vkey)


@router.get(
    "/log/checkpoint",
    response_class=Response,
    responses={
        **problems(_REFUSALS[0], _REFUSALS[-1], LogUnavailableError()),
        200: {
            "description": "A signed note.",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": "log.example/gov\n42\nq3…=\n\n— log.example/gov …\n",
                }
            },
        },
    },
)
async def show_checkpoint(request: Request) -> Response:
    """The newest signed checkpoint (C2SP tlog-checkpoint); a record is under one within the checkpoint interval."""
    known_parameters(request)
    async with reading_log(request) as log:
        # The stored one: anybody may ask, and must not make the writer sign and flush each time.
        newest = await log.reader.latest_checkpoint()
        note = newest.note if newest is not None else await log.checkpoint()
    return Response(note, media_type="text/plain; charset=utf-8")


@asynccontextmanager
async def reading_log(request: Request) -> AsyncIterator[ExchangeLog]:
    """The log, to be read; raises UnavailableError while its database is away."""
    try:
        yield request.app.state.gateway.log
    except (SQLAlchemyError, OSError) as error:
        raise UnavailableError("log-readable") from error


async def _visible(log: ExchangeLog, caller: Caller, exchange_id: str) -> StoredEntry:
    entry = await log.reader.entry(exchange_id) if _is_id(exchange_id) else None
    if entry is None or not (caller.has_role("auditor") or _concerns(entry, caller)):
        raise NotFoundError(what="such exchange", what_zh="该交换")
    if caller.has_role("auditor"):
        events.info("audit.shown", caller=caller.subsystem, exchange=exchange_id)
    return entry


def _is_id(text: str) -> bool:
    return len(text) == 36 and all(character in "0123456789abcdef-" for character in text)


def _concerns(entry: StoredEntry, caller: Caller) -> bool:
    record = _record(entry)
    if record is None:
        return False
    if is_change(entry.leaf):
        return caller.has_role("operator") or made_by(record["by"], caller.subsystem)
    query = record["query"]
    if query.get("certificate") == caller.principal.fingerprint:
        return True
    if query.get("client") == caller.subsystem:
        return bool(record["rule"] != "client-of-certificate")
    # A refused attempt never reached the owner. One whose end is unknown may have.
    carried = "query_seal" in record or record["outcome"] == "unknown"
    return bool(carried and query.get("service", "").rpartition("/")[0] == caller.subsystem)


def made_by(by: str, subsystem: SubsystemId) -> bool:
    """Whether `by` of a change names the subsystem (`registry.Actor.by`)."""
    return by == subsystem or by.startswith(f"{subsystem} (")


def _exchange(request: Request, entry: StoredEntry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "leaf_hash": entry.leaf_hash.hex(),
        "record": _record(entry),
        "receipt": f"{request.app.state.gateway.public_url}/v1/exchanges/{entry.exchange_id}/receipt",
    }


def _record(entry: StoredEntry) -> dict[str, Any] | None:
    """What the leaf says; None if it is no record: a damaged one must not hide the others from an auditor."""
    try:
        record = _decode(entry.leaf, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if is_change(entry.leaf):
        return record if isinstance(record.get("by"), str) else None
    return record if isinstance(record.get("query"), dict) and {"outcome", "rule"} <= record.keys() else None


def _json(content: object) -> Response:
    return Response(_encode(content), media_type="application/json")
