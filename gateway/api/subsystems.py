"""`/v1/subsystems`: the systems of members. Every registered subsystem may see them; operators register and suspend them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from exchange import SubsystemId, member_of
from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.addresses import OF_SUBSYSTEM, SubsystemInPath, no_subsystem
from gateway.api.bodies import Why, read_body, takes
from gateway.api.callers import CallerDep
from gateway.api.changing import Recorded, answer, changed, changing, plain
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import PageQuery, Words, contains, known_parameters, page_of
from registry import Actor, Change, Role, Snapshot, Subsystem, register_subsystem, set_subsystem_state

router = APIRouter(prefix="/v1/subsystems", tags=["subsystems"])

State = Literal["active", "suspended"]


class SubsystemContent(Why):
    """A subsystem, without its identifier."""

    name: fields.Line = Field(description="Name in Chinese. 名称。", examples=["税务征管系统"])
    name_en: fields.OptionalLine = Field("", description="Name in English. 英文名称。")
    roles: tuple[Role, ...] = Field(
        (),
        max_length=4,
        description="Roles it holds until they are taken back; `/v1/roles` grants them for a time. 角色。",
    )

    def record(self, identifier: SubsystemId) -> Subsystem:
        return Subsystem(id=identifier, name=self.name, name_en=self.name_en, roles=tuple(sorted(set(self.roles))))


class SubsystemRegistration(SubsystemContent):
    """A subsystem to register."""

    id: fields.Subsystem = Field(description="instance/class/code/subsystem, of a registered member. 子系统标识。")


class SubsystemView(BaseModel):
    """A registered subsystem."""

    id: str
    member: str
    name: str
    name_en: str
    roles: list[Role] = Field(description="Its standing roles; those granted for a time are at `/v1/roles`.")
    state: State

    @classmethod
    def of(cls, subsystem: Subsystem) -> SubsystemView:
        return cls(
            id=subsystem.id,
            member=member_of(subsystem.id),
            name=subsystem.name,
            name_en=subsystem.name_en,
            roles=list(subsystem.roles),
            state="active" if subsystem.active else "suspended",
        )


class SubsystemPage(BaseModel):
    """Subsystems, by identifier."""

    subsystems: list[SubsystemView]
    next_cursor: str | None


class SubsystemChanged(Recorded):
    """A subsystem as it is now, and the change that made it so."""

    subsystem: SubsystemView


class SubsystemSearch(PageQuery):
    """Which subsystems to list; what is left out means any."""

    q: Words = None
    member: fields.Member | None = Field(None, description="Of this member. 所属成员。")
    role: Role | None = Field(None, description="With this standing role. 具有该角色。")
    state: State | None = Field(None, description="In this state. 状态。")


@router.get("", response_model=SubsystemPage, responses=problems(*refusals.READING), openapi_extra=BY_CERTIFICATE)
async def list_subsystems(request: Request, caller: CallerDep, wanted: Annotated[SubsystemSearch, Query()]) -> Response:
    """Subsystems, by identifier."""
    known_parameters(request, SubsystemSearch)
    found = [each for each in caller.snapshot.subsystems() if _fits(each, wanted)]
    shown, cursor = page_of(found, lambda each: each.id, wanted)
    return answer({"subsystems": [plain(SubsystemView.of(each)) for each in shown], "next_cursor": cursor})


@router.post(
    "",
    status_code=201,
    responses=made(SubsystemChanged) | problems(*refusals.CHANGING, refusals.CONFLICT, refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(SubsystemRegistration),
)
async def create_subsystem(request: Request, actor: ActorDep) -> Response:
    """Register a subsystem of a registered member. Needs the role operator."""
    known_parameters(request)
    body = await read_body(request, SubsystemRegistration)
    return await _register(request, actor, body.record(body.id), body.why, replace=False)


@router.get(
    OF_SUBSYSTEM,
    response_model=SubsystemView,
    responses=problems(*refusals.READING, no_subsystem()),
    openapi_extra=BY_CERTIFICATE,
)
async def show_subsystem(request: Request, caller: CallerDep, identifier: SubsystemInPath) -> Response:
    """One subsystem."""
    known_parameters(request)
    found = caller.snapshot.subsystem(identifier)
    if found is None:
        raise no_subsystem()
    return answer(plain(SubsystemView.of(found)))


@router.put(
    OF_SUBSYSTEM,
    responses=made(SubsystemChanged) | problems(*refusals.CHANGING, no_subsystem(), refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(SubsystemContent),
)
async def replace_subsystem(request: Request, actor: ActorDep, identifier: SubsystemInPath) -> Response:
    """Replace names and roles of a subsystem, or register it; whether it is suspended stays. Needs the role operator."""
    known_parameters(request)
    body = await read_body(request, SubsystemContent)
    return await _register(request, actor, body.record(identifier), body.why, replace=True)


@router.post(
    OF_SUBSYSTEM + "/suspend",
    response_model=SubsystemChanged,
    responses=problems(*refusals.CHANGING, no_subsystem()),
    openapi_extra=BY_CERTIFICATE | takes(Why),
)
async def suspend_subsystem(request: Request, actor: ActorDep, identifier: SubsystemInPath) -> Response:
    """Stop a subsystem: it may ask for nothing, and its services are closed. Needs the role operator."""
    return await _set_state(request, actor, identifier, active=False)


@router.post(
    OF_SUBSYSTEM + "/activate",
    response_model=SubsystemChanged,
    responses=problems(*refusals.CHANGING, no_subsystem()),
    openapi_extra=BY_CERTIFICATE | takes(Why),
)
async def activate_subsystem(request: Request, actor: ActorDep, identifier: SubsystemInPath) -> Response:
    """Let a suspended subsystem act again. Needs the role operator."""
    return await _set_state(request, actor, identifier, active=True)


async def _register(request: Request, actor: Actor, subsystem: Subsystem, why: str, *, replace: bool) -> Response:
    async with changing(request, actor, why) as change:
        registered = await register_subsystem(change, actor, subsystem, replace=replace)
    return await _changed(request, registered, subsystem.id)


async def _set_state(request: Request, actor: Actor, identifier: SubsystemId, *, active: bool) -> Response:
    known_parameters(request)
    body = await read_body(request, Why)
    async with changing(request, actor, body.why) as change:
        stated = await set_subsystem_state(change, actor, identifier, active=active)
    return await _changed(request, stated, identifier)


async def _changed(request: Request, change: Change | None, identifier: SubsystemId) -> Response:
    def content(snapshot: Snapshot) -> dict[str, Any]:
        found = snapshot.subsystem(identifier)
        assert found is not None  # it was changed, or found unchanged
        return {"subsystem": plain(SubsystemView.of(found))}

    return await changed(request, change, content, target=identifier, action="subsystem")


def _fits(subsystem: Subsystem, wanted: SubsystemSearch) -> bool:
    return (
        contains(wanted.q, subsystem.id, subsystem.name, subsystem.name_en)
        and wanted.member in (None, member_of(subsystem.id))
        and (wanted.role is None or wanted.role in subsystem.roles)
        and (wanted.state is None or (wanted.state == "active") == subsystem.active)
    )
