"""Where one actor handles applications in one transaction: loading and writing them, who may see them, and what is owed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa

from exchange import NotFoundError, SubsystemId, UnprocessableError, member_of
from registry import rows as registry_rows
from registry.actors import Actor
from registry.applications import ledger, offers, rows, rules
from registry.applications.application import Application, Offer, StandingApproval
from registry.applications.owed import Owed, begin
from registry.applications.states import ActorKind
from registry.applications.tables import applications
from registry.changes import Changes
from registry.clock.jurisdictions import Duty, Jurisdiction, Jurisdictions
from registry.clock.working_days import Calendar
from registry.tables import members

CLOCK: Final = Actor(subsystem=None, official="deadline clock")
"""Who acts when time does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulebook:
    """What is configured."""

    calendar: Calendar
    jurisdictions: Jurisdictions
    two_persons: bool = False
    """Two persons decide about every application, whatever its resource says."""


@dataclass(frozen=True, slots=True)
class Desk:
    """One actor, one transaction."""

    change: Changes
    actor: Actor
    book: Rulebook

    async def application(self, identifier: str) -> Application:
        """One that the actor may see.

        Raises:
            NotFoundError: There is none, or it is not for the actor's eyes: both sound the same.
        """
        query = sa.select(applications).where(applications.c.id == identifier)
        row = (await self.change.connection.execute(query)).mappings().one_or_none()
        found = None if row is None else rows.application_of_row(row)
        if found is None or not may_see(self.actor, found):
            raise unknown(identifier)
        return found

    async def save(self, application: Application, action: str, why: Iterable[str]) -> Application:
        """Write it, with the reason on record."""
        self.change.why = rules.one_line(why)
        row = rows.application_row(application)
        change = await self.change.put(applications, row, f"application.{action}", application.id, replace=True)
        return application if change is None else replace(application, version=change.version)

    async def add(self, application: Application, why: Iterable[str]) -> Application:
        """Write a new one; it gets its number."""
        self.change.why = rules.one_line(why)
        version = await self.change.next_version()
        application = replace(application, id=f"a{version}", number=version, version=version)
        row = rows.application_row(application)
        await self.change.record("application", application.id, None, row, version=version)
        await self.change.write(applications, row, version, exists=False)
        return application

    async def offer(self, code: str) -> Offer | None:
        """The resource as it is in force; None if it is not."""
        return await offers.find_offer(self.change.connection, code)

    async def must_offer(self, code: str) -> Offer:
        """The resource that somebody names; raises UnprocessableError with the pointer `/resource`."""
        found = await self.offer(code)
        if found is None:
            raise UnprocessableError(
                "resource",
                problem=f"There is no resource {code[:128]!r} in force in the catalogue.",
                problem_zh=f"目录中没有已发布的资源“{code[:128]}”。",
                pointer="/resource",
            )
        return found

    async def standing(self, code: str) -> StandingApproval | None:
        """What the owner of a resource said beforehand, if it still stands."""
        return await offers.find_standing(self.change.connection, code)

    async def jurisdiction(self, provider: SubsystemId) -> Jurisdiction:
        """The one whose deadlines hold: by where the provider acts."""
        query = sa.select(members).where(members.c.id == member_of(provider))
        row = (await self.change.connection.execute(query)).mappings().one_or_none()
        division = "" if row is None else registry_rows.member_of_row(row).division_code
        return self.book.jurisdictions.of_division(division)

    async def begun(self, application: Application, duty: Duty, responsible: str) -> Owed:
        """A duty that begins now, by the rules of the provider's jurisdiction."""
        place = await self.jurisdiction(application.provider)
        term = place.term(rules.duty_class(application.sharing_class), duty)
        return begin(self.book.calendar, duty, responsible, term, self.change.now)

    async def owes_answer(self, application: Application, on_platform: bool, *, again: bool = False) -> Owed:
        """What is owed first from now on: the check of the form, where the jurisdiction has one, or the answer itself.

        Args:
            again: The form was checked once: what counts is the last step.
        """
        duty: Duty = "answer" if on_platform else "answer-unpublished"
        place = await self.jurisdiction(application.provider)
        steps = place.steps(rules.duty_class(application.sharing_class), duty)
        owed, term = steps[-1 if again else 0]
        responsible = "authority" if owed == "formal-check" else application.provider
        return begin(self.book.calendar, owed, responsible, term, self.change.now)

    async def form_checked(self, application: Application) -> Application:
        """The check of the form is over, and the answer is owed from now on; the same if there is no such step."""
        check = application.open_duty("formal-check")
        if check is None:
            return application
        offer = await self.offer(application.ask.resource)
        duty: Duty = "answer" if offer is None or offer.on_platform else "answer-unpublished"
        place = await self.jurisdiction(application.provider)
        if not place.term(rules.duty_class(application.sharing_class), duty).days:
            return application  # the authority answers for all of it
        application = await self.done(application, check)
        return replace(application, owed=(*application.owed, await self.begun(application, duty, application.provider)))

    async def done(self, application: Application, *duties: Owed, void: bool = False) -> Application:
        """Duties end; one that is late goes to the ledger if it is not there yet, and its line is closed."""
        for duty in duties:
            miss = duty.miss
            if duty.is_late(self.change.now) and duty.duty not in ("draft", "supplement") and not miss:
                miss = (await ledger.notice(self, application, duty)).id
            if miss:
                await ledger.close(self, miss)
            ended = replace(duty.ended(self.change.now, "void" if void else "done"), miss=miss)
            application = replace(application, owed=tuple(ended if each == duty else each for each in application.owed))
        return application

    async def answered(self, application: Application) -> Application:
        """The answer was given; whatever else was owed is void."""
        answer = application.answer
        application = application if answer is None else await self.done(application, answer)
        return await self.nothing_owed(application)

    async def delivered(self, application: Application, why: str) -> Application:
        """The data can be had from now on; what was owed for that is done."""
        self.change.why = rules.one_line([why])
        application = await self.done(
            application, *(each for each in application.owed if each.open and each.duty == "delivery")
        )
        return await self.save(replace(application, delivered_at=self.change.now), "deliver", [why])

    async def nothing_owed(self, application: Application) -> Application:
        """Whatever was still owed is void."""
        return await self.done(application, *(each for each in application.owed if each.open), void=True)


def kinds_of(actor: Actor, application: Application) -> frozenset[ActorKind]:
    """In which capacities somebody acts on an application. Whoever applied is the applicant and nothing else."""
    if actor is CLOCK:
        return frozenset({"clock"})
    if actor.subsystem == application.applicant:
        return frozenset({"applicant"})
    kinds: set[ActorKind] = set()
    if actor.subsystem == application.provider and actor.holds("owner"):
        kinds.add("owner")
    if actor.holds("operator"):
        kinds.add("operator")
    return frozenset(kinds)


def may_see(actor: Actor, application: Application) -> bool:
    """Applicant, operators and auditors; the provider from submission on."""
    if actor is CLOCK or actor.holds("operator", "auditor") or actor.subsystem == application.applicant:
        return True
    return actor.subsystem == application.provider and application.submitted_at is not None


def sees_owners_side(actor: Actor, application: Application) -> bool:
    """Whether what the owner only considers is for the actor's eyes."""
    return actor.subsystem == application.provider or (
        actor.holds("operator", "auditor") and actor.subsystem != application.applicant
    )


def unknown(identifier: str) -> NotFoundError:
    return NotFoundError(what=f"application {identifier[:64]}", what_zh=f"申请 {identifier[:64]}")
