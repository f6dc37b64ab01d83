"""The life of an application but for its decision: drafted, submitted, reviewed, asked about, supplemented, withdrawn, delivered.

Each function is one step by one actor; what the step may follow is `states.next_state`'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from exchange import ConflictError, UnprocessableError
from registry.applications import deciding, rules
from registry.applications.application import Application, Ask, Question
from registry.applications.desk import Desk, kinds_of
from registry.applications.states import Action, State, next_state
from registry.tables import subsystems


async def draft(desk: Desk, ask: Ask) -> Application:
    """Begin an application.

    Raises:
        UnprocessableError: There is no such resource, it is the actor's own, or what is said already is wrong.
    """
    applicant = desk.actor.subsystem
    if applicant is None:
        raise UnprocessableError(
            "applicant",
            problem="Say which subsystem applies (--as SUBSYSTEM).",
            problem_zh="请指明以哪个子系统的名义申请（--as 子系统）。",
        )
    await desk.change.must_exist(subsystems, applicant, "subsystem")
    offer = await desk.must_offer(ask.resource)
    if offer.provider == applicant:
        raise rules.wrong(
            "own-resource",
            "/resource",
            "This resource is your own: nothing need be granted.",
            "这是您自己的资源，无须申请。",
        )
    rules.check_draft(ask, offer)
    application = Application(
        id="",
        number=0,
        applicant=applicant,
        provider=offer.provider,
        ask=ask,
        state="draft",
        sharing_class=rules.sharing_class(ask, offer),
        created_at=desk.change.now,
    )
    application = replace(application, owed=(await desk.begun(application, "draft", applicant),))
    return await desk.add(application, ["drafted an application for", ask.resource])


async def edit(desk: Desk, identifier: str, ask: Ask) -> Application:
    """Write a draft anew; its life begins again. The resource stays."""
    application, state = await _step(desk, identifier, "edit")
    _same_resource(application, ask)
    offer = await desk.must_offer(ask.resource)
    rules.check_draft(ask, offer)
    application = replace(application, state=state, ask=ask, sharing_class=rules.sharing_class(ask, offer))
    life = await desk.begun(application, "draft", application.applicant)
    return await desk.save(replace(application, owed=(life,)), "edit", ["edited the draft"])


async def submit(desk: Desk, identifier: str) -> Application:
    """Hand it in: it is complete, the clock starts, and what its owner approved beforehand is approved at once."""
    application, state = await _step(desk, identifier, "submit")
    offer = await desk.must_offer(application.ask.resource)
    found = rules.check_submission(application.ask, offer, desk.change.now)
    application = await desk.done(application, *(each for each in application.owed if each.open))
    application = replace(application, state=state, sharing_class=found, submitted_at=desk.change.now)
    owed = await desk.owes_answer(application, offer.on_platform)
    application = replace(application, owed=(*application.owed, owed))
    application = await desk.save(application, "submit", ["applied for", application.ask.resource])
    if offer.standing is not None and found == "unconditional":
        application = await deciding.approve_by_rule(desk, application, offer)
    return application


async def review(desk: Desk, identifier: str) -> Application:
    """Take it up; where the authority checks the form first, that check is over."""
    application, state = await _step(desk, identifier, "review")
    application = await desk.form_checked(replace(application, state=state))
    return await desk.save(application, "review", ["took up the application"])


async def ask_for_more(desk: Desk, identifier: str, text: str) -> Application:
    """Ask the applicant; the clock stands until it replies, and the application expires if it does not."""
    rules.check_text("text", text)
    application, state = await _step(desk, identifier, "ask")
    application = await desk.form_checked(replace(application, state=state, proposal=None))
    paused = tuple(
        each.paused(desk.book.calendar, desk.change.now) if each == application.answer else each
        for each in application.owed
    )
    supplement = await desk.begun(application, "supplement", application.applicant)
    question = Question(text=text, asked_at=desk.change.now, asked_by=desk.actor.by)
    application = replace(application, owed=(*paused, supplement), questions=(*application.questions, question))
    return await desk.save(application, "ask", [text])


async def supplement(desk: Desk, identifier: str, text: str, changes: Mapping[str, Any] | None = None) -> Application:
    """Reply, and change what is asked for if need be; the clock goes on."""
    rules.check_text("text", text)
    application, state = await _step(desk, identifier, "supplement")
    ask = rules.amended(application.ask, changes or {})
    found = application.sharing_class
    if ask != application.ask:
        _same_resource(application, ask)
        found = rules.check_submission(ask, await desk.must_offer(ask.resource), desk.change.now)
    application = replace(application, state=state, ask=ask, sharing_class=found)
    replied = application.open_duty("supplement")
    if replied is not None:
        application = await desk.done(application, replied)
    *before, last = application.questions
    last = replace(last, reply=text, replied_at=desk.change.now, replied_by=desk.actor.by)
    resumed = tuple(
        each.resumed(desk.book.calendar, desk.change.now) if each == application.answer else each
        for each in application.owed
    )
    return await desk.save(replace(application, owed=resumed, questions=(*before, last)), "supplement", [text])


async def withdraw(desk: Desk, identifier: str, text: str) -> Application:
    """Give it up; nothing is owed any more."""
    rules.check_text("text", text)
    application, state = await _step(desk, identifier, "withdraw")
    desk.change.why = rules.one_line([text])
    application = await desk.nothing_owed(replace(application, state=state, proposal=None))
    return await desk.save(application, "withdraw", [text])


async def deliver(desk: Desk, identifier: str, text: str = "") -> Application:
    """The data can be had: what was owed after the approval is done."""
    rules.check_text("text", text, empty=True)
    application, state = await _step(desk, identifier, "deliver")
    if application.delivered_at is not None:
        raise ConflictError(
            "application-state",
            problem=f"It was delivered at {application.delivered_at.isoformat()} already.",
            problem_zh=f"已于 {application.delivered_at.isoformat()} 交付。",
        )
    return await desk.delivered(replace(application, state=state), text or "delivered")


async def _step(desk: Desk, identifier: str, action: Action) -> tuple[Application, State]:
    """The application, and the state that the action leads to."""
    application = await desk.application(identifier)
    state = application.state_at(desk.change.now)
    return application, next_state(state, action, kinds_of(desk.actor, application), application.void_steps)


def _same_resource(application: Application, ask: Ask) -> None:
    if ask.resource != application.ask.resource:
        raise rules.wrong(
            "resource",
            "/resource",
            f"This application is for {application.ask.resource}: apply for another resource by another one.",
            f"本申请针对资源 {application.ask.resource}；申请其他资源请另行提出。",
        )
