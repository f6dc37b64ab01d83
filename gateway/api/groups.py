"""`/v1/groups`: subsystems that a grant may name together. Every registered subsystem may see them; operators keep them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from exchange import NotFoundError
from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.bodies import Why, read_body, takes
from gateway.api.callers import CallerDep
from gateway.api.changing import Recorded, answer, changed, changing, plain
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import PageQuery, Words, contains, known_parameters, page_of
from registry import Actor, Change, Group, Level, Snapshot, add_group, close_group

router = APIRouter(prefix="/v1/groups", tags=["groups"])

State = Literal["active", "closed"]
GroupId = Annotated[str, Path(description="Identifier of the group. 分组编号。", examples=["civil-affairs"])]


class GroupContent(Why):
    """A group, without its identifier: those listed, and those that fit level, division and code."""

    name: fields.Line = Field(description="Name in Chinese. 名称。", examples=["各市民政部门"])
    name_en: fields.OptionalLine = Field("", description="Name in English. 英文名称。")
    members: tuple[fields.Subsystem, ...] = Field((), max_length=10_000, description="Those listed. 列出的子系统。")
    level: Level = Field("", description="Those of members of this level. 行政层级。")
    division: str = Field(
        "", pattern="^([0-9]{6})?$", description="Those of members in this division: 450000 covers 45xxxx. 行政区划。"
    )
    subsystem_code: str = Field(
        "", max_length=64, description="Only those with this last part of their identifier. 子系统代码。"
    )

    def record(self, identifier: str) -> Group:
        return Group(
            id=identifier,
            name=self.name,
            name_en=self.name_en,
            members=tuple(self.members),
            level=self.level,
            division=self.division,
            subsystem_code=self.subsystem_code,
        )


class GroupRegistration(GroupContent):
    """A group to register."""

    id: str = Field(min_length=1, max_length=64, description="a-z 0-9 . _ -. 分组编号。", examples=["civil-affairs"])


class GroupView(BaseModel):
    """A registered group."""

    id: str
    name: str
    name_en: str
    members: list[str] = Field(description="Those listed.")
    level: Level
    division: str
    subsystem_code: str
    state: State = Field(description="A closed group holds nobody.")

    @classmethod
    def of(cls, group: Group) -> GroupView:
        return cls(
            id=group.id,
            name=group.name,
            name_en=group.name_en,
            members=list(group.members),
            level=group.level,
            division=group.division,
            subsystem_code=group.subsystem_code,
            state="active" if group.active else "closed",
        )


class GroupDetails(GroupView):
    """A registered group, and whom it holds."""

    holds: list[str] = Field(description="The subsystems it holds now: those listed, and those that fit.")


class GroupPage(BaseModel):
    """Groups, by identifier."""

    groups: list[GroupView]
    next_cursor: str | None


class GroupChanged(Recorded):
    """A group as it is now, and the change that made it so."""

    group: GroupView


class GroupSearch(PageQuery):
    """Which groups to list; what is left out means any."""

    q: Words = None
    holds: fields.Subsystem | None = Field(None, description="That hold this subsystem. 包含该子系统。")
    state: State | None = Field(None, description="In this state. 状态。")


def no_group() -> NotFoundError:
    return NotFoundError(what="such group", what_zh="该分组")


@router.get("", response_model=GroupPage, responses=problems(*refusals.READING), openapi_extra=BY_CERTIFICATE)
async def list_groups(request: Request, caller: CallerDep, wanted: Annotated[GroupSearch, Query()]) -> Response:
    """Groups, by identifier."""
    known_parameters(request, GroupSearch)
    holding = None if wanted.holds is None else caller.snapshot.groups_of(wanted.holds)
    found = [each for each in caller.snapshot.groups() if _fits(each, wanted, holding)]
    shown, cursor = page_of(found, lambda each: each.id, wanted)
    return answer({"groups": [plain(GroupView.of(each)) for each in shown], "next_cursor": cursor})


@router.post(
    "",
    status_code=201,
    responses=made(GroupChanged) | problems(*refusals.CHANGING, refusals.CONFLICT, refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(GroupRegistration),
)
async def create_group(request: Request, actor: ActorDep) -> Response:
    """Register a group. Needs the role operator."""
    known_parameters(request)
    body = await read_body(request, GroupRegistration)
    return await _register(request, actor, body.record(body.id), body.why, replace=False)


@router.get(
    "/{group}",
    response_model=GroupDetails,
    responses=problems(*refusals.READING, no_group()),
    openapi_extra=BY_CERTIFICATE,
)
async def show_group(request: Request, caller: CallerDep, group: GroupId) -> Response:
    """One group, and the subsystems it holds now."""
    known_parameters(request)
    found = caller.snapshot.group(group)
    if found is None:
        raise no_group()
    holds = [each.id for each in caller.snapshot.members_of_group(found.id)]
    return answer({**plain(GroupView.of(found)), "holds": holds})


@router.put(
    "/{group}",
    responses=made(GroupChanged) | problems(*refusals.CHANGING, refusals.CONFLICT, refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(GroupContent),
)
async def replace_group(request: Request, actor: ActorDep, group: GroupId) -> Response:
    """Replace what a group holds, or register it; a closed one does not come back. Needs the role operator."""
    known_parameters(request)
    body = await read_body(request, GroupContent)
    return await _register(request, actor, body.record(group), body.why, replace=True)


@router.post(
    "/{group}/close",
    response_model=GroupChanged,
    responses=problems(*refusals.CHANGING, no_group()),
    openapi_extra=BY_CERTIFICATE | takes(Why),
)
async def close_registered_group(request: Request, actor: ActorDep, group: GroupId) -> Response:
    """Let a group hold nobody any more; what was granted to it stays on record. Needs the role operator."""
    known_parameters(request)
    body = await read_body(request, Why)
    async with changing(request, actor, body.why) as change:
        closed = await close_group(change, actor, group)
    return await _changed(request, closed, group)


async def _register(request: Request, actor: Actor, group: Group, why: str, *, replace: bool) -> Response:
    async with changing(request, actor, why) as change:
        registered = await add_group(change, actor, group, replace=replace)
    return await _changed(request, registered, group.id)


async def _changed(request: Request, change: Change | None, identifier: str) -> Response:
    def content(snapshot: Snapshot) -> dict[str, Any]:
        found = snapshot.group(identifier)
        assert found is not None  # it was changed, or found unchanged
        return {"group": plain(GroupView.of(found))}

    return await changed(request, change, content, target=identifier, action="group")


def _fits(group: Group, wanted: GroupSearch, holding: frozenset[str] | None) -> bool:
    return (
        contains(wanted.q, group.id, group.name, group.name_en)
        and (holding is None or group.id in holding)
        and (wanted.state is None or (wanted.state == "active") == group.active)
    )
