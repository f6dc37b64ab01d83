"""`/v1/openings`: one record for somebody who sees only counts, when a second person agrees. Rules: `registry.openings`.

Whoever asks learns that there is such a record, and nothing of it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from exchange import ConflictError, NotFoundError, NotRegisteredError, UnprocessableError
from gateway.api import exchange_refusals, fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.application_calls import answer_changed, body_of
from gateway.api.audit import reading_log
from gateway.api.bodies import Why, takes
from gateway.api.changing import Recorded, answer, consulting, plain
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import PageQuery, cursor_of, known_parameters, read_cursor
from registry import Actor, Opening, OpeningFilter, Openings, OpeningState

router = APIRouter(prefix="/v1/openings", tags=["openings"])

_ID: Final = re.compile(r"o[0-9]{1,18}")
_EXCHANGE_ID: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_NO_OPENING: Final = NotFoundError(what="such opening", what_zh="该调阅申请")
_TWO_PERSONS: Final = UnprocessableError(
    "two-persons",
    problem="张三 asked for it: another person approves or refuses.",
    problem_zh="该申请由 张三 提出，须由另一人批准或拒绝。",
)
_DECIDED: Final = ConflictError(
    "opening-state",
    problem="CN/GOV/…/audit (李四) has refused it already; ask anew if the record is still needed.",
    problem_zh="CN/GOV/…/audit (李四) 已作出决定；如仍需查看，请重新申请。",
)
_NO_RECORD: Final = NotRegisteredError(
    "exchange-recorded",
    what="record of the exchange 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
    what_zh="交换 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b 的记录",
    pointer="/exchange",
)
_DECIDING: Final = (*refusals.CHANGING, _NO_OPENING, _TWO_PERSONS, _DECIDED)


class OpeningAsk(Why):
    """Which record is to be looked at, and why."""

    exchange: str = Field(
        pattern=_EXCHANGE_ID,
        description="`X-Road-Request-Id` of the exchange. 交换编号。",
        examples=["0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"],
    )


class OpeningView(BaseModel):
    """A request to look at one record, and what became of it."""

    id: str = Field(examples=["o42"])
    exchange: str
    why: str
    asked_by: str = Field(description="The subsystem that asks. 申请单位。")
    official: str = Field(description="The person who asks. 申请人。")
    asked_at: fields.Moment
    state: OpeningState
    decided_by: str = Field(description="Who decided; empty: nobody yet. 审批人。")
    decided_at: fields.Moment | None
    decision_why: str
    valid_until: fields.Moment | None = Field(description="When an approved one ends; else null. 有效期至。")
    open: bool = Field(description="Whether the record may be looked at now. 当前是否可查看。")

    @classmethod
    def of(cls, opening: Opening, now: datetime) -> OpeningView:
        return cls(
            id=opening.id,
            exchange=opening.exchange,
            why=opening.why,
            asked_by=opening.asked_by,
            official=opening.official,
            asked_at=opening.asked_at,
            state=opening.state,
            decided_by=opening.decided_by,
            decided_at=opening.decided_at,
            decision_why=opening.decision_why,
            valid_until=opening.valid_until,
            open=opening.is_open(now),
        )


class OpeningPage(BaseModel):
    """Openings, newest first."""

    openings: list[OpeningView]
    next_cursor: str | None


class OpeningChanged(Recorded):
    """An opening as it is now, and the change that made it so."""

    opening: OpeningView


class OpeningSearch(PageQuery):
    """Which openings to list; what is left out means any."""

    exchange: str | None = Field(None, pattern=_EXCHANGE_ID, description="Of this record. 交换编号。")
    state: OpeningState | None = Field(None, description="In this state. 状态。")
    asked_by: fields.Subsystem | None = Field(None, description="Asked for by this subsystem. 申请单位。")


def _identifier(identifier: Annotated[str, Path(alias="opening", examples=["o42"])]) -> str:
    if not _ID.fullmatch(identifier):
        raise _NO_OPENING
    return identifier


OpeningId = Annotated[str, Depends(_identifier)]
_SEEING: Final = (*refusals.READING, refusals.ROLE)


@router.get("", response_model=OpeningPage, responses=problems(*_SEEING), openapi_extra=BY_CERTIFICATE)
async def list_openings(request: Request, actor: ActorDep, wanted: Annotated[OpeningSearch, Query()]) -> Response:
    """Openings, newest first. Needs the role auditor or operator. 调阅申请列表。"""
    known_parameters(request, OpeningSearch)
    openings = _openings_of(request)
    search = OpeningFilter(exchange=wanted.exchange or "", state=wanted.state, asked_by=wanted.asked_by or "")
    before = int(read_cursor(wanted.cursor, int)[0]) if wanted.cursor else None
    async with consulting():
        found, after = await openings.page(actor, search, before=before, limit=wanted.limit)
    shown = [plain(OpeningView.of(each, openings.now())) for each in found]
    return answer({"openings": shown, "next_cursor": None if after is None else cursor_of(after)})


@router.post(
    "",
    status_code=201,
    responses=made(OpeningChanged) | problems(*refusals.CHANGING, _NO_RECORD, _TWO_PERSONS, exchange_refusals.LOG_AWAY),
    openapi_extra=BY_CERTIFICATE | takes(OpeningAsk),
)
async def ask_for_opening(request: Request, actor: ActorDep) -> Response:
    """Ask to look at one record. For operators and auditors, who name themselves in `X-Road-UserId`. 申请调阅。

    Whoever asked already, and waits or may look, is told of that.
    """
    body = await body_of(request, OpeningAsk)
    actor.require("operator", "auditor")  # before it is told whether there is such a record
    async with reading_log(request) as log:
        if await log.reader.entry(body.exchange) is None:
            raise NotRegisteredError(
                "exchange-recorded",
                what=f"record of the exchange {body.exchange}",
                what_zh=f"交换 {body.exchange} 的记录",
                pointer="/exchange",
            )
    async with consulting():
        opening, is_new = await _openings_of(request).ask(actor, body.exchange, body.why)
    return await _changed(request, opening, 201 if is_new else 200)


@router.get(
    "/{opening}",
    response_model=OpeningView,
    responses=problems(*_SEEING, _NO_OPENING),
    openapi_extra=BY_CERTIFICATE,
)
async def show_opening(request: Request, actor: ActorDep, identifier: OpeningId) -> Response:
    """One opening. Needs the role auditor or operator. 单项调阅申请。"""
    known_parameters(request)
    openings = _openings_of(request)
    async with consulting():
        found = await openings.find(actor, identifier)
    return answer(plain(OpeningView.of(found, openings.now())))


@router.post(
    "/{opening}/approval",
    response_model=OpeningChanged,
    responses=problems(*_DECIDING),
    openapi_extra=BY_CERTIFICATE | takes(Why),
)
async def approve_opening(request: Request, actor: ActorDep, identifier: OpeningId) -> Response:
    """As the second person: open the record to who asked, for 24 hours. For operators and auditors. 批准调阅。"""
    return await _decide(request, actor, identifier, approve=True)


@router.post(
    "/{opening}/refusal",
    response_model=OpeningChanged,
    responses=problems(*_DECIDING),
    openapi_extra=BY_CERTIFICATE | takes(Why),
)
async def refuse_opening(request: Request, actor: ActorDep, identifier: OpeningId) -> Response:
    """As the second person: the record stays closed. For operators and auditors. 拒绝调阅。"""
    return await _decide(request, actor, identifier, approve=False)


async def _decide(request: Request, actor: Actor, identifier: str, *, approve: bool) -> Response:
    body = await body_of(request, Why)
    async with consulting():
        opening = await _openings_of(request).decide(actor, identifier, approve=approve, why=body.why)
    return await _changed(request, opening, 200)


async def _changed(request: Request, opening: Opening, status: int) -> Response:
    view = OpeningView.of(opening, _openings_of(request).now())
    return await answer_changed(request, opening.version, {"opening": plain(view)}, status)


def _openings_of(request: Request) -> Openings:
    return Openings(request.app.state.gateway.database)
