"""`/v1/applications`: a department applies for a resource, its owner decides within the statutory clock.

Rules:
1. Applicant, owner, operators and auditors see an application, the owner from its submission on. For everybody else there is none.
2. Each step is one call and one transaction; what is not possible now is a conflict that says what is.
3. What is said in a step is its reason on record, and both sides read it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from gateway.api import application_bodies as bodies
from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.application_calls import (
    NO_APPLICATION,
    ApplicationChanged,
    ApplicationId,
    answer_application,
    applications_of,
    body_of,
    no_body_of,
    step,
    stepped,
)
from gateway.api.application_views import ApplicationView, CaseView
from gateway.api.bodies import takes
from gateway.api.changing import answer, consulting, plain
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import PageQuery, cursor_of, known_parameters, read_cursor
from registry import ApplicationFilter, ApplicationState

router = APIRouter(prefix="/v1", tags=["applications"])


class ApplicationPage(BaseModel):
    """Applications, newest first."""

    applications: list[ApplicationView]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null at the end.")


class ApplicationSearch(PageQuery):
    """Which applications to list; what is left out means any."""

    state: ApplicationState | None = Field(None, description="状态。")
    resource: str | None = Field(
        None, pattern="^[A-Za-z0-9._/-]{1,128}$", description="Code of the resource. 资源代码。"
    )
    applicant: fields.Subsystem | None = Field(None, description="Who asks. 申请方。")
    provider: fields.Subsystem | None = Field(None, description="Who decides. 提供方。")
    due_before: fields.Ends | None = Field(
        None, description="With an open deadline that ends by then: a date includes its day. 期限在此之前届满。"
    )


@router.get(
    "/applications",
    response_model=ApplicationPage,
    responses=problems(*refusals.READING),
    openapi_extra=BY_CERTIFICATE,
)
async def list_applications(
    request: Request, actor: ActorDep, wanted: Annotated[ApplicationSearch, Query()]
) -> Response:
    """Applications that the caller may see, newest first."""
    known_parameters(request, ApplicationSearch)
    before = int(read_cursor(wanted.cursor, int)[0]) if wanted.cursor is not None else None
    desk = applications_of(request)
    chosen = ApplicationFilter(
        state=wanted.state,
        resource=wanted.resource or "",
        applicant=wanted.applicant or "",
        provider=wanted.provider or "",
        due_before=wanted.due_before,
    )
    async with consulting():
        found, following = await desk.page(actor, chosen, before=before, limit=wanted.limit)
    shown = [plain(ApplicationView.of(each, actor, desk.book.calendar, desk.now())) for each in found]
    return answer({"applications": shown, "next_cursor": None if following is None else cursor_of(following)})


@router.post(
    "/applications",
    status_code=201,
    responses=made(ApplicationChanged) | problems(*refusals.CHANGING, refusals.CONFLICT),
    openapi_extra=BY_CERTIFICATE | takes(bodies.NewApplication),
)
async def create_application(request: Request, actor: ActorDep) -> Response:
    """Begin an application for a resource, as a draft or handed in at once. Any registered subsystem may."""
    body = await body_of(request, bodies.NewApplication)
    async with consulting():
        made_now = await applications_of(request).draft(actor, body.ask(body.resource), submit=body.submit)
    return await answer_application(request, actor, made_now, 201)


@router.get(
    "/applications/{application_id}",
    response_model=CaseView,
    responses=problems(*refusals.READING, NO_APPLICATION),
    openapi_extra=BY_CERTIFICATE,
)
async def show_application(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """One application: countdown, decision, grants, disputes, missed deadlines, and everything that happened to it."""
    known_parameters(request)
    desk = applications_of(request)
    async with consulting():
        file = await desk.find(actor, identifier)
    late = map(desk.late_days, file.misses)
    return answer(plain(CaseView.of_file(file, actor, desk.book.calendar, desk.now(), late)))


@router.put(
    "/applications/{application_id}",
    responses=stepped(ApplicationChanged),
    openapi_extra=BY_CERTIFICATE | takes(bodies.WantedOf),
)
async def replace_draft(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Write a draft anew. For the applicant."""
    body = await body_of(request, bodies.WantedOf)
    return await step(request, actor, lambda desk: desk.edit(actor, identifier, body.ask(body.resource)))


@router.post(
    "/applications/{application_id}/submit", responses=stepped(ApplicationChanged), openapi_extra=BY_CERTIFICATE
)
async def submit_application(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Hand in a draft: the statutory clock starts. For the applicant; no body."""
    await no_body_of(request)
    return await step(request, actor, lambda desk: desk.submit(actor, identifier))


@router.post(
    "/applications/{application_id}/review", responses=stepped(ApplicationChanged), openapi_extra=BY_CERTIFICATE
)
async def review_application(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Take it up. For the owner; no body."""
    await no_body_of(request)
    return await step(request, actor, lambda desk: desk.review(actor, identifier))


@router.post(
    "/applications/{application_id}/ask",
    responses=stepped(ApplicationChanged),
    openapi_extra=BY_CERTIFICATE | takes(bodies.Said),
)
async def ask_applicant(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Ask the applicant for more: the clock stands until it replies. For the owner."""
    body = await body_of(request, bodies.Said)
    return await step(request, actor, lambda desk: desk.ask(actor, identifier, body.text))


@router.post(
    "/applications/{application_id}/supplement",
    responses=stepped(ApplicationChanged),
    openapi_extra=BY_CERTIFICATE | takes(bodies.Supplement),
)
async def supplement_application(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Reply to the owner, perhaps asking for something else: the clock goes on. For the applicant."""
    body = await body_of(request, bodies.Supplement)
    return await step(request, actor, lambda desk: desk.supplement(actor, identifier, body.text, body.changes()))


@router.post(
    "/applications/{application_id}/decide",
    responses=stepped(ApplicationChanged),
    openapi_extra=BY_CERTIFICATE | takes(bodies.DecisionBody),
)
async def decide_application(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Approve in whole or in part, which makes the grant, or refuse; propose it where two persons decide. For the owner."""
    body = await body_of(request, bodies.DecisionBody)
    verdict = body.verdict()
    return await step(
        request, actor, lambda desk: desk.decide(actor, identifier, verdict, two_persons=body.two_persons)
    )


@router.post(
    "/applications/{application_id}/confirm",
    responses=stepped(ApplicationChanged),
    openapi_extra=BY_CERTIFICATE | takes(bodies.Confirmation),
)
async def confirm_decision(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """As the second person, make the proposed decision, or reject the proposal. For the owner."""
    body = await body_of(request, bodies.Confirmation)
    return await step(request, actor, lambda desk: desk.confirm(actor, identifier, agree=body.agree, text=body.text))


@router.post(
    "/applications/{application_id}/withdraw",
    responses=stepped(ApplicationChanged),
    openapi_extra=BY_CERTIFICATE | takes(bodies.Said),
)
async def withdraw_application(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Give it up. For the applicant."""
    body = await body_of(request, bodies.Said)
    return await step(request, actor, lambda desk: desk.withdraw(actor, identifier, body.text))


@router.post(
    "/applications/{application_id}/deliver",
    responses=stepped(ApplicationChanged),
    openapi_extra=BY_CERTIFICATE | takes(bodies.MaybeSaid),
)
async def deliver_application(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """The data can be had from now on; what can be called when it is approved is delivered with that. For the owner."""
    body = await body_of(request, bodies.MaybeSaid)
    return await step(request, actor, lambda desk: desk.deliver(actor, identifier, body.text))
