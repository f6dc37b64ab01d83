"""`/v1/grants`: who may ask for what. Given by operators and owners; shown to the two sides and to who watches over them.

Rules:
1. Operators and auditors see every grant, others those given to them or to a group they are in, and those for what they
   offer. Of any other grant they are told the same as if there were none.
2. A grant is never edited: it is revoked, and another is given.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from exchange import NotFoundError
from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.bodies import Why, read_body, takes
from gateway.api.callers import Caller, CallerDep
from gateway.api.changing import Recorded, answer, changed, changing, consulting, plain
from gateway.api.grant_terms import GrantGiving, GrantView
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import PageQuery, cursor_of, known_parameters, read_cursor
from registry import (
    ChangeFilter,
    Changes,
    Grant,
    GrantFilter,
    GrantState,
    find_grant,
    give_grant,
    revoke_grant,
    search_grants,
)

router = APIRouter(prefix="/v1/grants", tags=["grants"])

LONGEST_HISTORY = 100
GrantId = Annotated[str, Path(description="Identifier of the grant. 授权编号。", examples=["g42"])]


class Decided(BaseModel):
    """A change of a grant: who decided what, when and why."""

    version: int
    at: fields.Moment
    by: str
    why: str
    action: str


class GrantDetails(GrantView):
    """A grant, and how it came to be so."""

    history: list[Decided] = Field(description="Oldest first.")


class GrantPage(BaseModel):
    """Grants, by identifier."""

    grants: list[GrantView]
    next_cursor: str | None


class GrantChanged(Recorded):
    """A grant as it is now, and the change that made it so."""

    grant: GrantView


class GrantSearch(PageQuery):
    """Which grants to list; what is left out means any."""

    client: fields.Subsystem | None = Field(None, description="Given to this subsystem itself. 调用方。")
    group: str | None = Field(None, min_length=1, max_length=64, description="Given to this group. 分组。")
    service: fields.Service | None = Field(None, description="For this service. 服务。")
    resource: str | None = Field(None, min_length=1, max_length=128, description="For this resource. 资源。")
    owner: fields.Subsystem | None = Field(None, description="For what this subsystem offers. 提供方。")
    application: str | None = Field(None, min_length=1, max_length=64, description="From this application. 申请。")
    state: GrantState | None = Field(None, description="In this state. 状态。")


def no_grant() -> NotFoundError:
    return NotFoundError(what="such grant", what_zh="该授权")


@router.get("", response_model=GrantPage, responses=problems(*refusals.READING), openapi_extra=BY_CERTIFICATE)
async def list_grants(
    request: Request, caller: CallerDep, actor: ActorDep, wanted: Annotated[GrantSearch, Query()]
) -> Response:
    """Grants that the caller may know of, by identifier."""
    known_parameters(request, GrantSearch)
    registry = request.app.state.gateway.database
    search = GrantFilter(
        client=wanted.client or "",
        group=wanted.group or "",
        service=wanted.service or "",
        resource=wanted.resource or "",
        owner=wanted.owner or "",
        application=wanted.application or "",
        state=wanted.state,
    )
    after = str(read_cursor(wanted.cursor, str)[0]) if wanted.cursor else ""
    async with consulting():
        found, more = await search_grants(registry, actor, groups_of(caller), search, after=after, limit=wanted.limit)
    cursor = cursor_of(found[-1].id) if more else None
    return answer({"grants": [plain(GrantView.of(each, registry.now())) for each in found], "next_cursor": cursor})


@router.post(
    "",
    status_code=201,
    responses=made(GrantChanged) | problems(*refusals.CHANGING, refusals.CONFLICT, refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(GrantGiving),
)
async def create_grant(request: Request, actor: ActorDep) -> Response:
    """Let a subsystem or group call. For operators, and for the owner of what is granted; gateways follow within a second.

    The same call twice is one if it names an `id`. A grant that overlaps another one of the same subject is refused.
    """
    known_parameters(request)
    body = await read_body(request, GrantGiving)
    async with changing(request, actor, body.why) as change:
        granted = await give_grant(change, actor, body.record(actor, await _begins(change, body)))
    return await _changed(request, change, granted)


@router.get(
    "/{grant}",
    response_model=GrantDetails,
    responses=problems(*refusals.READING, no_grant()),
    openapi_extra=BY_CERTIFICATE,
)
async def show_grant(request: Request, caller: CallerDep, actor: ActorDep, grant: GrantId) -> Response:
    """One grant, and who decided what about it: for its two sides, operators and auditors."""
    known_parameters(request)
    gateway = request.app.state.gateway
    async with consulting():
        found = await find_grant(gateway.database, actor, groups_of(caller), grant)
        if found is None:
            raise no_grant()
        changes, _ = await gateway.recorder.book.page(
            ChangeFilter(target=found.id, action="grant."), limit=LONGEST_HISTORY
        )
    history = [
        plain(Decided(version=each.version, at=each.at, by=each.by, why=each.why, action=each.action))
        for each in reversed(changes)
    ]
    return answer({**plain(GrantView.of(found, gateway.database.now())), "history": history})


@router.post(
    "/{grant}/revoke",
    response_model=GrantChanged,
    responses=problems(*refusals.CHANGING, no_grant()),
    openapi_extra=BY_CERTIFICATE | takes(Why),
)
async def revoke_given_grant(request: Request, actor: ActorDep, grant: GrantId) -> Response:
    """End a grant now; it stays on record and does not come back. For operators, and for the owner of what was granted."""
    known_parameters(request)
    body = await read_body(request, Why)
    async with changing(request, actor, body.why) as change:
        await revoke_grant(change, actor, grant)
        found = await change.find_grant(grant)
    assert found is not None  # it was revoked, or found revoked
    return await _changed(request, change, found)


async def _begins(change: Changes, body: GrantGiving) -> datetime:
    """From when the grant is to hold: the same call twice is one, also where it leaves that to us."""
    if body.valid_from is not None:
        return body.valid_from
    known = await change.find_grant(body.id) if body.id else None
    return known.valid_from if known else change.now


async def _changed(request: Request, change: Changes, grant: Grant) -> Response:
    shown: dict[str, Any] = plain(GrantView.of(grant, change.now))
    done = change.made[-1] if change.made else None
    return await changed(request, done, lambda _: {"grant": shown}, target=grant.id, action="grant.")


def groups_of(caller: Caller) -> frozenset[str]:
    """The groups that the caller's subsystem is in."""
    return caller.snapshot.groups_of(caller.subsystem)
