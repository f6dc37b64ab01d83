"""`/v1/members`: the organisations that take part. Every registered subsystem may see them; operators register them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.addresses import OF_MEMBER, MemberInPath, no_member
from gateway.api.bodies import Why, read_body, takes
from gateway.api.callers import CallerDep
from gateway.api.changing import Recorded, answer, changed, changing, plain
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import PageQuery, Words, contains, known_parameters, page_of
from registry import Actor, Level, Member, covering_part, register_member

router = APIRouter(prefix="/v1/members", tags=["members"])


class MemberContent(Why):
    """A member, without its identifier."""

    name: fields.Line = Field(description="Name in Chinese. 名称。", examples=["示例市税务局"])
    name_en: fields.OptionalLine = Field("", description="Name in English. 英文名称。")
    level: Level = Field("", description="Level of administration. 行政层级。")
    division: str = Field(
        "",
        pattern="^([0-9]{6})?$",
        description="GB/T 2260 code of where it acts; empty: the one in its member code. 行政区划代码。",
        examples=["110000"],
    )
    check_exception: fields.OptionalLine = Field(
        "", description="Why a member code that fails its check characters is accepted. 校验位不符仍予登记的理由。"
    )

    def record(self, identifier: fields.Member) -> Member:
        return Member(
            id=identifier,
            name=self.name,
            name_en=self.name_en,
            level=self.level,
            division=self.division,
            check_exception=self.check_exception,
        )


class MemberRegistration(MemberContent):
    """A member to register."""

    id: fields.Member = Field(description="instance/class/code. 成员标识。")


class MemberView(BaseModel):
    """A registered member."""

    id: str
    name: str
    name_en: str
    level: Level
    division: str = Field(description="GB/T 2260 code: the one stated, else the one in the member code, else empty.")
    check_exception: str

    @classmethod
    def of(cls, member: Member) -> MemberView:
        return cls(
            id=member.id,
            name=member.name,
            name_en=member.name_en,
            level=member.level,
            division=member.division_code,
            check_exception=member.check_exception,
        )


class MemberPage(BaseModel):
    """Members, by identifier."""

    members: list[MemberView]
    next_cursor: str | None


class MemberChanged(Recorded):
    """A member as it is now, and the change that made it so."""

    member: MemberView


class MemberSearch(PageQuery):
    """Which members to list; what is left out means any."""

    q: Words = None
    level: Level | None = Field(None, description="Level of administration. 行政层级。")
    division: str | None = Field(
        None, pattern="^[0-9]{6}$", description="Division: 450000 covers 45xxxx. 行政区划，450000 包括 45xxxx。"
    )


@router.get("", response_model=MemberPage, responses=problems(*refusals.READING), openapi_extra=BY_CERTIFICATE)
async def list_members(request: Request, caller: CallerDep, wanted: Annotated[MemberSearch, Query()]) -> Response:
    """Members, by identifier."""
    known_parameters(request, MemberSearch)
    found = [member for member in caller.snapshot.members() if _fits(member, wanted)]
    shown, cursor = page_of(found, lambda member: member.id, wanted)
    return answer({"members": [plain(MemberView.of(each)) for each in shown], "next_cursor": cursor})


@router.post(
    "",
    status_code=201,
    responses=made(MemberChanged) | problems(*refusals.CHANGING, refusals.CONFLICT),
    openapi_extra=BY_CERTIFICATE | takes(MemberRegistration),
)
async def create_member(request: Request, actor: ActorDep) -> Response:
    """Register a member. Needs the role operator."""
    known_parameters(request)
    body = await read_body(request, MemberRegistration)
    return await _register(request, actor, body.record(body.id), body.why, replace=False)


@router.get(
    OF_MEMBER,
    response_model=MemberView,
    responses=problems(*refusals.READING, no_member()),
    openapi_extra=BY_CERTIFICATE,
)
async def show_member(request: Request, caller: CallerDep, identifier: MemberInPath) -> Response:
    """One member."""
    known_parameters(request)
    found = caller.snapshot.member(identifier)
    if found is None:
        raise no_member()
    return answer(plain(MemberView.of(found)))


@router.put(
    OF_MEMBER,
    responses=made(MemberChanged) | problems(*refusals.CHANGING, no_member()),
    openapi_extra=BY_CERTIFICATE | takes(MemberContent),
)
async def replace_member(request: Request, actor: ActorDep, identifier: MemberInPath) -> Response:
    """Replace what is registered of a member, or register it. Needs the role operator."""
    known_parameters(request)
    body = await read_body(request, MemberContent)
    return await _register(request, actor, body.record(identifier), body.why, replace=True)


async def _register(request: Request, actor: Actor, member: Member, why: str, *, replace: bool) -> Response:
    async with changing(request, actor, why) as change:
        registered = await register_member(change, actor, member, replace=replace)
    content = {"member": plain(MemberView.of(member))}
    return await changed(request, registered, lambda _: content, target=member.id, action="member")


def _fits(member: Member, wanted: MemberSearch) -> bool:
    if not contains(wanted.q, member.id, member.name, member.name_en):
        return False
    if wanted.division is not None and not member.division_code.startswith(covering_part(wanted.division)):
        return False
    return wanted.level is None or member.level == wanted.level
