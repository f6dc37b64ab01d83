"""`/v1/applications/{id}/dispute`: a refusal, an approval in part or a missed deadline, up to the government.

Rules: those of `registry.applications.dispute`.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from exchange import NotFoundError
from gateway.api import application_bodies as bodies
from gateway.api.actors import ActorDep
from gateway.api.application_calls import STEPPING, ApplicationId, answer_changed, applications_of, body_of, stepped
from gateway.api.bodies import takes
from gateway.api.changing import Recorded, consulting, plain
from gateway.api.deadline_views import DisputeView
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from registry import Actor, Dispute, MoveKind, Ruling

router = APIRouter(prefix="/v1", tags=["applications"])

_NO_DISPUTE = NotFoundError(what="dispute about a42", what_zh="关于 a42 的争议")


class DisputeChanged(Recorded):
    """A dispute as it is now, and the change that made it so."""

    dispute: DisputeView


@router.post(
    "/applications/{application_id}/dispute",
    status_code=201,
    responses=made(DisputeChanged) | problems(*STEPPING),
    openapi_extra=BY_CERTIFICATE | takes(bodies.DisputeBody),
)
async def open_dispute(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Dispute a refusal, an approval in part, or a missed deadline. For the applicant; of the last, also for the owner."""
    body = await body_of(request, bodies.DisputeBody)
    desk = applications_of(request)
    async with consulting():
        dispute = await desk.dispute(actor, identifier, body.about, body.text, miss=body.miss)
    return await _dispute(request, dispute, 201)


@router.post(
    "/applications/{application_id}/dispute/say",
    responses=stepped(DisputeChanged, _NO_DISPUTE),
    openapi_extra=BY_CERTIFICATE | takes(bodies.Said),
)
async def say_in_dispute(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Put something on record. For the parties, and operators."""
    return await _move(request, actor, identifier, "say", await body_of(request, bodies.Said))


@router.post(
    "/applications/{application_id}/dispute/escalate",
    responses=stepped(DisputeChanged, _NO_DISPUTE),
    openapi_extra=BY_CERTIFICATE | takes(bodies.Said),
)
async def escalate_dispute(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Take it to the authority, or from there to the government; by itself it goes when its level is late."""
    return await _move(request, actor, identifier, "escalate", await body_of(request, bodies.Said))


@router.post(
    "/applications/{application_id}/dispute/concede",
    responses=stepped(DisputeChanged, _NO_DISPUTE),
    openapi_extra=BY_CERTIFICATE | takes(bodies.Said),
)
async def concede_dispute(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Give in: what was disputed does not stand. For the party that did not open it."""
    return await _move(request, actor, identifier, "concede", await body_of(request, bodies.Said))


@router.post(
    "/applications/{application_id}/dispute/give-up",
    responses=stepped(DisputeChanged, _NO_DISPUTE),
    openapi_extra=BY_CERTIFICATE | takes(bodies.Said),
)
async def give_up_dispute(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Give it up: what was disputed stands. For the party that opened it."""
    return await _move(request, actor, identifier, "give-up", await body_of(request, bodies.Said))


@router.post(
    "/applications/{application_id}/dispute/rule",
    responses=stepped(DisputeChanged, _NO_DISPUTE),
    openapi_extra=BY_CERTIFICATE | takes(bodies.RulingBody),
)
async def rule_on_dispute(request: Request, actor: ActorDep, identifier: ApplicationId) -> Response:
    """Record the ruling of the authority or the government. Needs the role operator."""
    body = await body_of(request, bodies.RulingBody)
    return await _move(request, actor, identifier, "rule", body, ruling=body.outcome, document=body.document)


async def _move(
    request: Request,
    actor: Actor,
    identifier: str,
    kind: MoveKind,
    body: bodies.Said,
    *,
    ruling: Ruling = "upheld",
    document: str = "",
) -> Response:
    async with consulting():
        dispute = await applications_of(request).move(
            actor, identifier, kind, body.text, ruling=ruling, document=document
        )
    return await _dispute(request, dispute, 200)


async def _dispute(request: Request, dispute: Dispute, status: int) -> Response:
    desk = applications_of(request)
    view = DisputeView.of(dispute, desk.book.calendar, desk.now())
    return await answer_changed(request, dispute.version, {"dispute": plain(view)}, status)
