"""`/v1/standing-approvals`: what the owner of a resource approves beforehand, so that nobody has to wait for it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from gateway.api import refusals
from gateway.api.actors import ActorDep
from gateway.api.application_bodies import StandingBody
from gateway.api.application_calls import NO_APPLICATION, answer_changed, applications_of, body_of
from gateway.api.application_views import StandingView
from gateway.api.bodies import takes
from gateway.api.changing import Recorded, answer, consulting, plain
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import known_parameters

router = APIRouter(prefix="/v1", tags=["applications"])


class StandingChanged(Recorded):
    """A standing approval as it is now, and the change that made it so."""

    standing_approval: StandingView


class StandingList(BaseModel):
    """Standing approvals, by resource."""

    standing_approvals: list[StandingView]


@router.get(
    "/standing-approvals",
    response_model=StandingList,
    responses=problems(*refusals.READING),
    openapi_extra=BY_CERTIFICATE,
)
async def list_standing_approvals(request: Request, actor: ActorDep) -> Response:
    """Resources whose owners approve at once whoever applies."""
    known_parameters(request)
    async with consulting():
        found = await applications_of(request).standing()
    return answer({"standing_approvals": [plain(StandingView.of(each)) for each in found]})


@router.post(
    "/standing-approvals",
    status_code=201,
    responses=made(StandingChanged) | problems(*refusals.CHANGING, refusals.CONFLICT, NO_APPLICATION),
    openapi_extra=BY_CERTIFICATE | takes(StandingBody),
)
async def give_standing_approval(request: Request, actor: ActorDep) -> Response:
    """Approve beforehand whoever applies for what a resource shares unconditionally; or no longer. For the owner."""
    body = await body_of(request, StandingBody)
    async with consulting():
        found = await applications_of(request).stand(actor, body.resource, body.text, active=body.active)
    content = {"standing_approval": plain(StandingView.of(found))}
    return await answer_changed(request, found.version, content, 201 if body.active else 200)
