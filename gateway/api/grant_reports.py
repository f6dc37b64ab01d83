"""What is asked about grants: which were in force on a day, and what is left of a grant's quota."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.callers import CallerDep
from gateway.api.changing import answer, consulting, plain
from gateway.api.grant_terms import GrantView
from gateway.api.grants import GrantId, groups_of, no_grant
from gateway.api.openapi import BY_CERTIFICATE, problems
from gateway.api.paging import PageQuery, cursor_of, known_parameters, read_cursor
from registry import GrantInForce, QuotasUnavailableError, begins, ends, find_grant, search_as_of

router = APIRouter(prefix="/v1/grants", tags=["grants"])


def _date(text: Any) -> date:
    try:
        if not isinstance(text, str) or len(text) != 10:
            raise ValueError
        day = date.fromisoformat(text)
        begins(day), ends(day)  # the first and last days that there are have no instants
        return day
    except (ValueError, OverflowError) as error:
        raise fields.complaint("date", "is not a date such as 2026-11-23", "不是日期，例如 2026-11-23") from error


Day = Annotated[date, BeforeValidator(_date), WithJsonSchema({"type": "string", "format": "date"})]


class AsOfSearch(PageQuery):
    """Which day, and what was known when."""

    date: Day = Field(description="A day in China. 日期（北京时间）。", examples=["2026-11-23"])
    known_at: fields.Begins | None = Field(
        None,
        description="What the registry held then about that day; left out: what calls were decided by on the day itself. "
        "以该时刻已登记的内容为准。",
    )
    client: fields.Subsystem | None = Field(None, description="Held by this subsystem, also through groups. 调用方。")
    service: fields.Service | None = Field(None, description="For this service, also through resources. 服务。")


class GrantOfDay(BaseModel):
    """A grant that was in force on a day, and by whose decision."""

    grant: GrantView = Field(description="As it was known: `revoked` if it was by then, else `valid`.")
    begins: fields.Moment = Field(description="From when on that day.")
    ends: fields.Moment = Field(description="Until when on that day; from then on not.")
    recorded_at: fields.Moment
    recorded_by: str
    why: str
    certificate: str = Field(
        description="Fingerprint of who recorded it; empty when that was done at the machine itself."
    )
    revoked_by: str = Field(description="Who revoked it, as far as that was known; when and why stand in the grant.")

    @classmethod
    def of(cls, found: GrantInForce) -> GrantOfDay:
        return cls(
            grant=GrantView.of(found.grant, found.begins),
            begins=found.begins,
            ends=found.ends,
            recorded_at=found.recorded_at,
            recorded_by=found.recorded_by,
            why=found.why,
            certificate=found.certificate,
            revoked_by=found.revoked_by,
        )


class AsOfPage(BaseModel):
    """Grants in force on a day, in the order in which they were recorded."""

    date: str
    grants: list[GrantOfDay]
    next_cursor: str | None


class QuotaPerSecond(BaseModel):
    """Calls in any one second."""

    limit: int
    remaining: int


class QuotaPerDay(BaseModel):
    """Calls from midnight to midnight in China."""

    limit: int
    used: int
    remaining: int
    reset: int = Field(description="Seconds until midnight in China.")


class GrantQuota(BaseModel):
    """How the quotas of a grant stand now."""

    grant: str
    per_second: QuotaPerSecond | None = Field(description="Null: no limit.")
    per_day: QuotaPerDay | None = Field(description="Null: no limit, and calls are not counted.")


@router.get(
    "/as-of",
    response_model=AsOfPage,
    responses=problems(*refusals.READING),
    openapi_extra=BY_CERTIFICATE,
)
async def list_grants_as_of(
    request: Request, caller: CallerDep, actor: ActorDep, wanted: Annotated[AsOfSearch, Query()]
) -> Response:
    """Grants in force at some time of a day, and by whose decision: those that the caller may know of."""
    known_parameters(request, AsOfSearch)
    after = int(read_cursor(wanted.cursor, int)[0]) if wanted.cursor else 0
    async with consulting():
        found, more = await search_as_of(
            request.app.state.gateway.database,
            actor,
            caller.snapshot,
            wanted.date,
            known_at=wanted.known_at,
            client=wanted.client,
            service=wanted.service,
            after=after,
            limit=wanted.limit,
        )
    cursor = cursor_of(found[-1].grant.version) if more else None
    grants = [plain(GrantOfDay.of(each)) for each in found]
    return answer({"date": wanted.date.isoformat(), "grants": grants, "next_cursor": cursor})


@router.get(
    "/{grant}/quota",
    response_model=GrantQuota,
    responses=problems(*refusals.READING, no_grant(), QuotasUnavailableError()),
    openapi_extra=BY_CERTIFICATE,
)
async def show_quota(request: Request, caller: CallerDep, actor: ActorDep, grant: GrantId) -> Response:
    """What is left of a grant's quotas: for its two sides, operators and auditors. Asking uses nothing."""
    known_parameters(request)
    gateway = request.app.state.gateway
    async with consulting():
        found = await find_grant(gateway.database, actor, groups_of(caller), grant)
    if found is None:
        raise no_grant()
    usage = (await gateway.quotas.usage([found.id]))[found.id]
    state = usage.state(per_second=found.quota_per_second, per_day=found.quota_per_day)
    per_second = per_day = None
    if state.remaining_second is not None:
        per_second = QuotaPerSecond(limit=state.per_second, remaining=state.remaining_second)
    if state.remaining_day is not None:
        per_day = QuotaPerDay(
            limit=state.per_day, used=usage.used_today, remaining=state.remaining_day, reset=state.reset_day
        )
    return answer(plain(GrantQuota(grant=found.id, per_second=per_second, per_day=per_day)))
