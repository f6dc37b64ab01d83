"""`/v1/decisions`: would this call be permitted, by what, and if not, why and what to do. Nothing is called.

Rules:
1. The answer is the one the exchange face gives: it is decided by the same function, from the same snapshot.
2. A subsystem asks about its own calls. Operators and auditors ask about anybody's, owners about calls of what they offer.
3. What was permitted at a time that is past is answered from the record, for operators and auditors.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from ca_auth import signature_missing
from exchange import owner_of
from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.bodies import Body, read_body, takes
from gateway.api.callers import CallerDep
from gateway.api.changing import answer, consulting, plain
from gateway.api.grant_terms import GrantView
from gateway.api.openapi import BY_CERTIFICATE, problems
from gateway.api.paging import known_parameters
from gateway.api.services import OperationView
from gateway.problems import language_of
from registry import Actor, Explanation, Question, Registry, Snapshot, explain

router = APIRouter(prefix="/v1/decisions", tags=["decisions"])
events = structlog.get_logger("datong.api")

PRESENT = timedelta(minutes=1)
"""What lies no further back is decided by the snapshot of now."""


class DecisionQuestion(Body):
    """A call that somebody might make."""

    client: fields.Subsystem | None = Field(None, description="Who would call; null: the caller itself. 调用方。")
    service: fields.Service = Field(description="What would be called. 服务。")
    method: str = Field(pattern="^[A-Z][A-Z-]{0,19}$", description="In capital letters. 请求方法。", examples=["GET"])
    path: str = Field(
        "",
        max_length=4000,
        description="What would follow the service code in the request line, without the query. 路径。",
        examples=["/enterprises/91990000MA00000017"],
    )
    purpose: str | None = Field(None, max_length=255, description="As in Datong-Purpose; null: none named. 用途。")
    case: str = Field("", max_length=255, description="As in X-Road-Issue; empty: none named. 案号。")
    signed: bool | None = Field(
        None, description="Whether the request would be signed; null: that is left open. 请求是否签名。"
    )
    at: fields.Begins | None = Field(None, description="When; null: now. 时间。")


class DecisionConditions(BaseModel):
    """What the permitting grant demands and limits beyond the call as such."""

    signed_requests: bool
    case_pattern: str
    quota_per_second: int = Field(description="0: no limit.")
    quota_per_day: int = Field(description="0: no limit.")
    items: list[str] = Field(description="Item paths that the answer may hold; none: all.")
    masks: dict[str, str] = Field(description="Item path -> mask.")


class DecisionView(BaseModel):
    """What the exchange face would decide."""

    permitted: bool
    status: int | None = Field(description="HTTP status of the refusal; null if permitted.")
    code: str | None = Field(description="What kind of problem the refusal is, as at `/problems/{code}`.")
    rule: str | None = Field(description="The rule that refuses.")
    detail: str = Field(description="The decision in a sentence or two, in the language asked for.")
    next: str = Field(description="What to do; empty if nothing is to be done.")
    client: str
    service: str
    method: str
    path: str
    purpose: str | None = Field(description="The purpose that would go on record; null if refused.")
    at: fields.Moment
    grant: GrantView | None = Field(description="What permits the call.")
    operation: OperationView | None = Field(description="The declared operation that the call is.")
    conditions: DecisionConditions | None = Field(description="What else the grant demands and limits.")
    nearest: GrantView | None = Field(description="Of the client's own grants, the one that comes nearest.")


@router.post(
    "",
    response_model=DecisionView,
    responses=problems(*refusals.CHANGING),
    openapi_extra=BY_CERTIFICATE | takes(DecisionQuestion),
)
async def decide(request: Request, caller: CallerDep, actor: ActorDep) -> Response:
    """Whether a call would be permitted, and why. 200 either way; nothing is called, and nothing is changed."""
    known_parameters(request)
    body = await read_body(request, DecisionQuestion)
    client = body.client or caller.subsystem
    if client != caller.subsystem and not actor.holds("operator", "auditor"):
        actor.require_owner_of(owner_of(body.service))
    now = request.app.state.gateway.database.now()
    at = body.at or now
    question = Question(
        client=client,
        service=body.service,
        method=body.method,
        path=body.path,
        purpose=body.purpose,
        case=body.case,
        at=at.timestamp(),
    )
    snapshot = caller.snapshot if at > now - PRESENT else await _snapshot_at(request, actor, at)
    found = explain(snapshot, question)
    if found.conditions is not None and found.conditions.signed_requests and body.signed is False:
        found = replace(found, error=signature_missing(), nearest=found.grant)
    events.info("api.decided", caller=caller.subsystem, client=client, service=body.service, rule=found.rule)
    return answer(_shown(request, found, at, now))


async def _snapshot_at(request: Request, actor: Actor, at: datetime) -> Snapshot:
    actor.require("operator", "auditor")
    registry: Registry = request.app.state.gateway.database
    async with consulting():
        return await registry.snapshot_at(at)


def _shown(request: Request, found: Explanation, at: datetime, now: datetime) -> dict[str, Any]:
    language = language_of(request.headers.get("accept-language", "").encode("latin-1"))
    error, operation = found.error, found.operation
    permitted = found if error is None else None
    view = DecisionView(
        permitted=error is None,
        status=error.status if error else None,
        code=error.code if error else None,
        rule=error.rule if error else None,
        detail=found.detail_in(language),
        next=found.next_in(language),
        client=found.question.client,
        service=found.question.service,
        method=found.question.method,
        path=found.question.path,
        purpose=permitted.purpose if permitted else None,
        at=at,
        grant=GrantView.of(permitted.grant, now) if permitted and permitted.grant else None,
        operation=OperationView(method=operation.method, path=operation.path, safe=operation.safe)
        if permitted and operation
        else None,
        conditions=DecisionConditions.model_validate(found.conditions, from_attributes=True)
        if permitted and found.conditions
        else None,
        nearest=GrantView.of(found.nearest, now) if found.nearest else None,
    )
    return plain(view)
