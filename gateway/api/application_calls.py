"""What the calls about applications have in common: which one is meant, reading, acting, and how a step is answered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Path, Request, Response
from pydantic import BaseModel

from exchange import ConflictError, NotFoundError
from gateway.api import refusals
from gateway.api.application_views import ApplicationView
from gateway.api.bodies import read_body, read_nothing
from gateway.api.changing import CHANGE_HEADER, Recorded, answer, consulting, plain
from gateway.api.openapi import made, problems
from gateway.api.paging import known_parameters
from registry import Actor, Application, Applications

_ID = re.compile(r"a[0-9]{1,18}")
_FOLLOW_SECONDS: Final = 2.0
NO_APPLICATION: Final = NotFoundError(what="such application", what_zh="该申请")
_NOT_NOW: Final = ConflictError(
    "application-state",
    problem="The application is refused: to withdraw is not possible. Nothing more can be done with it.",
    problem_zh="申请处于“已拒绝”状态，不能撤回。该申请已办结，不能再作处理。",
)
STEPPING: Final = (*refusals.CHANGING, NO_APPLICATION, _NOT_NOW)
"""What a step can end in."""

_Body = TypeVar("_Body", bound=BaseModel)


class ApplicationChanged(Recorded):
    """An application as it is now, and the change that made it so."""

    application: ApplicationView


def _identifier(identifier: Annotated[str, Path(alias="application_id", examples=["a42"])]) -> str:
    if not _ID.fullmatch(identifier):
        raise NO_APPLICATION
    return identifier


ApplicationId = Annotated[str, Depends(_identifier)]


def stepped(model: type[BaseModel], *more: NotFoundError) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a step."""
    changed = {status: said for status, said in made(model).items() if status == 200}
    return changed | problems(*STEPPING, *more)


def applications_of(request: Request) -> Applications:
    """The gateway's."""
    found: Applications = request.app.state.gateway.applications
    return found


async def body_of(request: Request, model: type[_Body]) -> _Body:
    """The body of a call that takes no query parameters."""
    known_parameters(request)
    return await read_body(request, model)


async def no_body_of(request: Request) -> None:
    """That a call that takes neither query parameters nor a body has none."""
    known_parameters(request)
    await read_nothing(request)


async def step(
    request: Request, actor: Actor, take: Callable[[Applications], Coroutine[Any, Any, Application]]
) -> Response:
    """Take a step, and answer with the application as it is then."""
    async with consulting():
        application = await take(applications_of(request))
    return await answer_application(request, actor, application, 200)


async def answer_application(request: Request, actor: Actor, application: Application, status: int) -> Response:
    """The application, and the change that made it so."""
    desk = applications_of(request)
    view = ApplicationView.of(application, actor, desk.book.calendar, desk.now())
    return await answer_changed(request, application.version, {"application": plain(view)}, status)


async def answer_changed(request: Request, version: int, content: Mapping[str, Any], status: int) -> Response:
    """The answer to a change, once this gateway's own snapshot holds all of its transaction (`gateway.api.changing`)."""
    gateway = request.app.state.gateway
    async with consulting(), asyncio.timeout(_FOLLOW_SECONDS):
        await gateway.registry.reach(await gateway.database.version())
    recorded = await gateway.recorder.recorded(version)
    said = {"change": version, "recorded": f"{gateway.public_url}/v1/changes/{version}" if recorded else None}
    return answer({**content, **said}, status, headers={CHANGE_HEADER: str(version)})
