"""`/v1/exchanges`: the record, for auditors; and for caller and owner, what concerns them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from exchange import EntryFilter, NotFoundError, StoredEntry, build_receipt, owner_of, read_record
from gateway.callers import Caller, CallerDep

router = APIRouter(prefix="/v1", tags=["exchanges"])

_decode = msgspec.json.decode


class Exchange(BaseModel):
    """One record and where it stands in the log."""

    seq: int = Field(description="Number of the entry in the log, from 0.")
    leaf_hash: str = Field(description="RFC 9162 leaf hash of the record's stored bytes, hex.")
    record: dict[str, Any] = Field(description="The record itself; its canonical JSON (RFC 8785) is the leaf.")
    receipt: str = Field(description="Where its receipt is.")


class ExchangePage(BaseModel):
    """Records, newest first."""

    exchanges: list[Exchange]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null at the end.")


Outcome = Literal["answered", "refused", "failed", "unknown"]


@router.get("/exchanges")
async def list_exchanges(
    request: Request,
    caller: CallerDep,
    client: Annotated[str, Query(description="The subsystem that asked.")] = "",
    owner: Annotated[str, Query(description="The subsystem that was asked.")] = "",
    service: str = "",
    outcome: Outcome | None = None,
    rule: Annotated[str, Query(description="The rule that refused.")] = "",
    since: Annotated[datetime | None, Query(description="RFC 3339, inclusive.")] = None,
    until: Annotated[datetime | None, Query(description="RFC 3339, exclusive.")] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> ExchangePage:
    """Records, newest first. Needs the role auditor."""
    caller.require("auditor")
    wanted = EntryFilter(
        client=client,
        owner=owner,
        service=service,
        outcome=outcome or "",
        rule=rule,
        since_ms=_unix_ms(since),
        until_ms=_unix_ms(until),
    )
    page = await request.app.state.gateway.log.reader.page(wanted, cursor=cursor, limit=limit)
    return ExchangePage(exchanges=[_exchange(request, entry) for entry in page.entries], next_cursor=page.next_cursor)


@router.get("/exchanges/{exchange_id}")
async def show_exchange(request: Request, caller: CallerDep, exchange_id: str) -> Exchange:
    """One record: for auditors, the caller and the owner."""
    return _exchange(request, await _visible(request, caller, exchange_id))


@router.get("/exchanges/{exchange_id}/receipt")
async def show_receipt(request: Request, caller: CallerDep, exchange_id: str) -> Response:
    """The receipt of one record, verifiable offline with `datong verify`: for auditors, the caller and the owner."""
    entry = await _visible(request, caller, exchange_id)
    log = request.app.state.gateway.log
    note = await log.checkpoint()
    receipt = await build_receipt(log.reader, entry, note)
    return Response(
        receipt,
        media_type="application/json",
        headers={"content-disposition": f'attachment; filename="{entry.exchange_id}.receipt.json"'},
    )


def key_list(trust_anchors: Path, vkey: str) -> dict[str, Any]:
    """The keys that receipts of this gateway are verified with: of its log, and of the accepted CAs."""
    return {"format": "datong-keys/1", "logs": [vkey], "trust_anchors": [trust_anchors.read_text(encoding="ascii")]}


@router.get("/keys")
async def show_keys(request: Request) -> dict[str, Any]:
    """The key list that `datong verify` takes. Compare it with one obtained another way before relying on it."""
    gateway = request.app.state.gateway
    return key_list(gateway.settings.trust_anchors, gateway.log.vkey)


@router.get("/log/checkpoint")
async def show_checkpoint(request: Request) -> Response:
    """A signed checkpoint (C2SP tlog-checkpoint) that covers everything recorded so far."""
    return Response(await request.app.state.gateway.log.checkpoint(), media_type="text/plain; charset=utf-8")


async def _visible(request: Request, caller: Caller, exchange_id: str) -> StoredEntry:
    entry: StoredEntry | None = await request.app.state.gateway.log.reader.entry(exchange_id)
    # Whoever may not see a record is told the same as if there were none.
    if entry is None or not (
        caller.has_role("auditor") or caller.subsystem == entry.client or caller.subsystem == _owner(entry)
    ):
        raise NotFoundError(what=f"exchange {exchange_id[:64]}")
    return entry


def _owner(entry: StoredEntry) -> str:
    # A refused attempt concerns nobody but its caller: it never reached the owner.
    return owner_of(entry.service) if entry.service and read_record(entry.leaf).query_seal else ""  # type: ignore[arg-type]


def _exchange(request: Request, entry: StoredEntry) -> Exchange:
    return Exchange(
        seq=entry.seq,
        leaf_hash=entry.leaf_hash.hex(),
        record=_decode(entry.leaf),
        receipt=f"{request.base_url}v1/exchanges/{entry.exchange_id}/receipt",
    )


def _unix_ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
