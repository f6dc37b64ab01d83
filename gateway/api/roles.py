"""`/v1/roles`: roles granted for a time, beside those that subsystems were registered with. Operators grant and revoke."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from exchange import NotFoundError
from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.bodies import Why, read_body, takes
from gateway.api.callers import CallerDep
from gateway.api.changing import Recorded, answer, changed, changing, plain
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import PageQuery, known_parameters, page_of
from registry import Actor, Change, GrantState, Role, RoleGrant, Snapshot, grant_role, revoke_role, state_of

router = APIRouter(prefix="/v1/roles", tags=["roles"])

RoleGrantId = Annotated[str, Path(description="Identifier of the grant of a role. 角色授予编号。", examples=["r42"])]


class RoleGranting(Why):
    """A role for a subsystem, for a time. `why` is the reason on record."""

    id: str = Field(
        "",
        max_length=64,
        description="An identifier of your choice, so that the same call twice is one; empty: one is given. 自定编号。",
    )
    subsystem: fields.Subsystem = Field(description="Who is to hold the role. 子系统。")
    role: Role = Field(description="角色。")
    valid_from: fields.Begins | None = Field(None, description="From when; null: from now. 生效时间。")
    valid_to: fields.Ends = Field(description="The last day, or the instant it ends. 截止时间。")


class RoleGrantView(BaseModel):
    """A role that a subsystem holds for a time."""

    id: str
    subsystem: str
    role: Role
    valid_from: fields.Moment
    valid_to: fields.Moment = Field(description="From then on it is not held.")
    state: GrantState
    reason: str
    decided_by: str
    revoked_at: fields.Moment | None
    revocation_reason: str

    @classmethod
    def of(cls, grant: RoleGrant, now: datetime) -> RoleGrantView:
        return cls(
            id=grant.id,
            subsystem=grant.subsystem,
            role=grant.role,
            valid_from=grant.valid_from,
            valid_to=grant.valid_to,
            state=state_of(grant.active, grant.valid_from, grant.valid_to, now),
            reason=grant.reason,
            decided_by=grant.decided_by,
            revoked_at=grant.revoked_at,
            revocation_reason=grant.revocation_reason,
        )


class RoleGrantPage(BaseModel):
    """Grants of roles, by identifier."""

    roles: list[RoleGrantView]
    next_cursor: str | None


class RoleGrantChanged(Recorded):
    """The grant of a role as it is now, and the change that made it so."""

    role: RoleGrantView


class RoleSearch(PageQuery):
    """Which grants of roles to list; what is left out means any."""

    subsystem: fields.Subsystem | None = Field(None, description="To this subsystem. 子系统。")
    role: Role | None = Field(None, description="Of this role. 角色。")
    state: GrantState | None = Field(None, description="In this state. 状态。")


def no_role_grant() -> NotFoundError:
    return NotFoundError(what="such grant of a role", what_zh="该角色授予")


@router.get("", response_model=RoleGrantPage, responses=problems(*refusals.READING), openapi_extra=BY_CERTIFICATE)
async def list_role_grants(
    request: Request, caller: CallerDep, actor: ActorDep, wanted: Annotated[RoleSearch, Query()]
) -> Response:
    """Grants of roles, by identifier: all for operators and auditors, the caller's own for others.

    Standing roles are shown with their subsystems.
    """
    known_parameters(request, RoleSearch)
    now = request.app.state.gateway.database.now()
    found = [each for each in _visible(caller.snapshot, actor) if _fits(each, wanted, now)]
    shown, cursor = page_of(found, lambda each: each.id, wanted)
    return answer({"roles": [plain(RoleGrantView.of(each, now)) for each in shown], "next_cursor": cursor})


@router.post(
    "",
    status_code=201,
    responses=made(RoleGrantChanged) | problems(*refusals.CHANGING, refusals.CONFLICT, refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(RoleGranting),
)
async def create_role_grant(request: Request, actor: ActorDep) -> Response:
    """Let a subsystem hold a role for a time. Needs the role operator."""
    known_parameters(request)
    body = await read_body(request, RoleGranting)
    async with changing(request, actor, body.why) as change:
        known = await change.find_role_grant(body.id) if body.id else None
        wanted = RoleGrant(
            id=body.id,
            subsystem=body.subsystem,
            role=body.role,
            # The same call twice is one, also where it leaves to us from when it is to hold.
            valid_from=body.valid_from or (known.valid_from if known else change.now),
            valid_to=body.valid_to,
            reason=body.why,
            decided_by=actor.by,
        )
        granted = await grant_role(change, actor, wanted)
    return await _changed(request, change.made, granted)


@router.get(
    "/{role_grant}",
    response_model=RoleGrantView,
    responses=problems(*refusals.READING, no_role_grant()),
    openapi_extra=BY_CERTIFICATE,
)
async def show_role_grant(request: Request, caller: CallerDep, actor: ActorDep, role_grant: RoleGrantId) -> Response:
    """One grant of a role: for operators, auditors and the subsystem that holds it."""
    known_parameters(request)
    found = next((each for each in _visible(caller.snapshot, actor) if each.id == role_grant), None)
    if found is None:
        raise no_role_grant()
    return answer(plain(RoleGrantView.of(found, request.app.state.gateway.database.now())))


@router.post(
    "/{role_grant}/revoke",
    response_model=RoleGrantChanged,
    responses=problems(*refusals.CHANGING, no_role_grant()),
    openapi_extra=BY_CERTIFICATE | takes(Why),
)
async def revoke_role_grant(request: Request, actor: ActorDep, role_grant: RoleGrantId) -> Response:
    """End a role now. Needs the role operator."""
    known_parameters(request)
    body = await read_body(request, Why)
    async with changing(request, actor, body.why) as change:
        await revoke_role(change, actor, role_grant)
        found = await change.find_role_grant(role_grant)
    assert found is not None  # it was revoked, or found revoked
    return await _changed(request, change.made, found)


async def _changed(request: Request, made: list[Change], grant: RoleGrant) -> Response:
    shown = plain(RoleGrantView.of(grant, request.app.state.gateway.database.now()))
    change = made[-1] if made else None
    return await changed(request, change, lambda _: {"role": shown}, target=grant.id, action="role")


def _visible(snapshot: Snapshot, actor: Actor) -> list[RoleGrant]:
    """What the actor may know of, by identifier."""
    everybody = actor.holds("operator", "auditor")
    of = [each.id for each in snapshot.subsystems()] if everybody else [actor.subsystem] if actor.subsystem else []
    return sorted((grant for each in of for grant in snapshot.role_grants_of(each)), key=lambda each: each.id)


def _fits(grant: RoleGrant, wanted: RoleSearch, now: datetime) -> bool:
    return (
        wanted.subsystem in (None, grant.subsystem)
        and wanted.role in (None, grant.role)
        and wanted.state in (None, state_of(grant.active, grant.valid_from, grant.valid_to, now))
    )
