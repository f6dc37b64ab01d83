"""Deciding about an application, and making the grants in the same transaction.

Rules:
1. Whoever may decide about what the provider offers decides (`Actor.require_owner_of`).
2. Where two persons decide, the first proposes and another one confirms or rejects. Both are named; who they are is the word of
   their department's certificate. The proposal is worked out again when it is confirmed: it may have become impossible since.
3. A grant carries its application, and names every item it releases: what the resource lists later was not decided about.
4. A decision made anew after a dispute replaces the grants of the one before, and may not take back what that one gave.
5. A grant that cannot be made undoes the decision.
6. What can be called already is delivered with its approval, also where the grant begins later: nothing is left for the owner to
   do. Else delivery is owed, until the owner says that the data can be had.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from exchange import ConflictError, UnprocessableError
from registry.applications import rules, verdicts
from registry.applications.application import Application, Decision, Offer, Outcome, Proposal, Terms, Verdict
from registry.applications.desk import CLOCK, Desk, kinds_of
from registry.applications.offers import can_be_called
from registry.applications.states import Action, next_state
from registry.records import Grant

_ACTIONS: dict[Outcome, Action] = {"approved": "approve", "partly-approved": "approve-in-part", "refused": "refuse"}


async def decide(desk: Desk, identifier: str, verdict: Verdict, *, two_persons: bool = False) -> Application:
    """Approve in whole or in part, or refuse; where two persons decide, propose it.

    Args:
        two_persons: Demand a second person, though neither the resource nor the configuration does.

    Raises:
        ConflictError: It is decided, a proposal waits, or a grant overlaps another.
        UnprocessableError: A member of the verdict is missing or wrong; the pointer names it.
    """
    application = await desk.application(identifier)
    _check_may_decide(desk, application, verdict)
    if application.proposal is not None:
        raise ConflictError(
            "proposal-waits",
            problem=f"{application.proposal.proposed_by} has proposed a decision: confirm or reject it first.",
            problem_zh=f"{application.proposal.proposed_by} 已提出拟办意见：请先确认或退回。",
        )
    offer = await desk.offer(application.ask.resource)
    outcome, terms, decided_on = _worked_out(desk, application, verdict, offer)
    if two_persons or desk.book.two_persons or (offer is not None and offer.two_persons):
        return await _propose(desk, application, verdict, outcome)
    return await _conclude(desk, application, offer, outcome, verdict, terms, decided_on)


async def confirm(desk: Desk, identifier: str, *, agree: bool, text: str = "") -> Application:
    """As the second person: make the proposed decision, or reject the proposal with the reason.

    Raises:
        ConflictError: Nothing is proposed.
        UnprocessableError: The same person proposed it, or nobody is named.
    """
    rules.check_text("text", text, empty=agree)
    application = await desk.application(identifier)
    proposal = application.proposal
    kinds = kinds_of(desk.actor, application)
    action: Action = "confirm" if agree else "reject-proposal"
    state = next_state(application.state, action, kinds, application.void_steps)
    desk.actor.require_owner_of(application.provider)
    if proposal is None:
        raise ConflictError(
            "no-proposal", problem="Nobody has proposed a decision.", problem_zh="尚无待确认的拟办意见。"
        )
    person = _person(desk)
    if rules.person_key(person) == rules.person_key(proposal.official):
        raise UnprocessableError(
            "two-persons",
            problem=f"{proposal.official} proposed it: another person confirms or rejects.",
            problem_zh=f"该意见由 {proposal.official} 提出，须由另一人确认或退回。",
        )
    if not agree:
        return await desk.save(replace(application, state=state, proposal=None), "reject-proposal", [text])
    # The date is that of the confirmation: only now is it decided.
    verdict = replace(proposal.verdict, decided_on=None)
    offer = await desk.offer(application.ask.resource)
    outcome, terms, decided_on = _worked_out(desk, application, verdict, offer)
    return await _conclude(desk, application, offer, outcome, verdict, terms, decided_on, first=proposal.proposed_by)


async def approve_by_rule(desk: Desk, application: Application, offer: Offer) -> Application:
    """Approve at once what the owner approved beforehand, in the owner's name."""
    assert offer.standing is not None  # asked only then
    standing = offer.standing
    verdict = Verdict(approve=True, text=standing.text)
    outcome, terms = verdicts.settle(verdict, application.ask, offer, desk.change.now)
    decided_on = verdicts.check_verdict(verdict, desk.change.now, desk.change.now)
    by_rule = replace(desk, actor=CLOCK)
    by, certificate = desk.change.by, desk.change.certificate
    desk.change.by, desk.change.certificate = rules.one_line([standing.decided_by, "(standing approval)"]), ""
    application = await _conclude(
        by_rule, application, offer, outcome, verdict, terms, decided_on, decided_by=standing.decided_by
    )
    desk.change.by, desk.change.certificate = by, certificate
    return application


def _check_may_decide(desk: Desk, application: Application, verdict: Verdict) -> None:
    # Whether it is possible at all, before what exactly is said about it.
    action: Action = "approve" if verdict.approve else "refuse"
    next_state(application.state, action, kinds_of(desk.actor, application), application.void_steps)
    desk.actor.require_owner_of(application.provider)
    if application.decision is not None and application.grants and not verdict.approve:
        raise ConflictError(
            "reopened",
            problem="What was granted before the dispute stands: approve that much at least.",
            problem_zh="争议前已批准的内容继续有效：至少应按原内容批准。",
        )


def _worked_out(
    desk: Desk, application: Application, verdict: Verdict, offer: Offer | None
) -> tuple[Outcome, Terms | None, date]:
    assert application.submitted_at is not None  # what can be decided was submitted
    now = desk.change.now
    if offer is None:
        if verdict.approve:
            raise ConflictError(
                "resource-in-force",
                problem=f"The resource {application.ask.resource} is not in force: it can only be refused.",
                problem_zh=f"资源 {application.ask.resource} 当前未发布：只能拒绝。",
            )
        offer = Offer(
            code=application.ask.resource,
            provider=application.provider,
            sharing_class=application.sharing_class,
            items=(),
        )
    decided_on = verdicts.check_verdict(verdict, application.submitted_at, now)
    outcome, terms = verdicts.settle(verdict, application.ask, offer, now)
    earlier = application.decision
    if terms is not None and earlier is not None and earlier.terms is not None:
        verdicts.check_not_less(terms, earlier.terms)
    return outcome, terms, decided_on


async def _propose(desk: Desk, application: Application, verdict: Verdict, outcome: Outcome) -> Application:
    proposal = Proposal(
        verdict=verdict,
        outcome=outcome,
        proposed_at=desk.change.now,
        proposed_by=desk.actor.by,
        official=_person(desk),
    )
    state = next_state(application.state, "propose", kinds_of(desk.actor, application))
    application = await desk.form_checked(replace(application, state=state, proposal=proposal))
    return await desk.save(application, "propose", [verdict.text or "approve as applied for"])


async def _conclude(
    desk: Desk,
    application: Application,
    offer: Offer | None,
    outcome: Outcome,
    verdict: Verdict,
    terms: Terms | None,
    decided_on: date,
    *,
    first: str = "",
    decided_by: str = "",
) -> Application:
    """Write the decision, its grants, and what is owed after it; deliver what can be called already."""
    now, calendar = desk.change.now, desk.book.calendar
    state = next_state(application.state, _ACTIONS[outcome], kinds_of(desk.actor, application))
    desk.change.why = rules.one_line([verdict.text or "approved as applied for"])
    earlier = application.grants
    application = await desk.form_checked(application)
    answer = application.answer
    late, days = (answer.is_late(now), answer.taken(calendar, now)) if answer is not None else (False, 0)
    application = await desk.answered(application)
    decision = Decision(
        outcome=outcome,
        reason_code=verdict.reason_code,
        text=verdict.text,
        basis=verdict.basis,
        terms=terms,
        decided_on=decided_on,
        decided_at=now,
        decided_by=first or decided_by or desk.actor.by,
        confirmed_by=desk.actor.by if first else "",
        working_days=days,
        late=late,
    )
    application = replace(application, state=state, proposal=None, decision=decision, delivered_at=None)
    if terms is not None:
        for grant in earlier:
            await desk.change.revoke(grant)
        decision = replace(decision, grants=(await _grant(desk, application, decision, terms),))
        owed = await desk.begun(application, "delivery", application.provider)
        application = replace(application, decision=decision, owed=(*application.owed, owed))
    application = await desk.save(application, _ACTIONS[outcome], [verdict.text or "approved as applied for"])
    if terms is None or offer is None or not await can_be_called(desk.change.connection, offer.accesses):
        return application
    return await desk.delivered(application, "can be called at once")


async def _grant(desk: Desk, application: Application, decision: Decision, terms: Terms) -> str:
    """Make the grant; its id."""
    by = f"{decision.decided_by} + {decision.confirmed_by}" if decision.confirmed_by else decision.decided_by
    grant = Grant(
        id="",
        client=application.applicant,
        resource=application.ask.resource,
        purposes=terms.purposes,
        valid_from=terms.valid_from,
        valid_to=terms.valid_to,
        reason=rules.one_line([f"{application.id}:", decision.text or "approved as applied for"]),
        decided_by=rules.one_line([by]),
        signed_requests=terms.signed_requests,
        items=terms.items,
        masks=terms.masks,
        quota_per_second=terms.quota_per_second,
        quota_per_day=terms.quota_per_day,
        case_pattern=terms.case_pattern,
        application=application.id,
    )
    change = await desk.change.add_grant(grant)
    assert change is not None  # one without an id is always new
    return change.target


def _person(desk: Desk) -> str:
    """Who acts, by name; raises UnprocessableError if nobody is named."""
    if not rules.person_key(desk.actor.official):
        raise UnprocessableError(
            "two-persons",
            problem="Two persons decide about this: name the one who acts, in X-Road-UserId.",
            problem_zh="该申请须由两人决定：请在 X-Road-UserId 中写明经办人。",
        )
    return desk.actor.official
