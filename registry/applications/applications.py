"""Applications in the registry: every step of them as one transaction, and reading them. The API and the commands call this."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from exchange import NotFoundError
from registry.actors import Actor
from registry.applications import deciding, disputing, handling, reading, rows, rules, timekeeping
from registry.applications.application import Application, Ask, StandingApproval, Verdict
from registry.applications.desk import CLOCK, Desk, Rulebook
from registry.applications.dispute import About, Dispute, MoveKind, Ruling
from registry.applications.miss import Miss
from registry.applications.reading import ApplicationFilter, CaseFile, DepartmentRecord
from registry.applications.tables import standing_approvals
from registry.clock.deadlines import china_day
from registry.clock.jurisdictions import read_jurisdictions
from registry.clock.notices import read_calendar
from registry.registry import Registry


class Applications:
    """Each step raises what its function in `handling`, `deciding` or `disputing` raises, and then nothing has changed.

    Args:
        book: The calendar, the jurisdictions, and whether two persons decide always.
    """

    def __init__(self, registry: Registry, book: Rulebook) -> None:
        self._registry = registry
        self.book = book
        self._table: tuple[int, datetime, tuple[DepartmentRecord, ...]] | None = None

    @classmethod
    def of_files(
        cls,
        registry: Registry,
        *,
        jurisdictions: Path | None = None,
        notices: Path | None = None,
        two_persons: bool = False,
    ) -> Applications:
        """With jurisdictions and holiday notices from their files, or the packaged ones."""
        book = Rulebook(
            calendar=read_calendar(notices),
            jurisdictions=read_jurisdictions(jurisdictions),
            two_persons=two_persons,
        )
        return cls(registry, book)

    async def draft(self, actor: Actor, ask: Ask, *, submit: bool = False) -> Application:
        """Begin an application, and hand it in at once if asked to."""
        async with self._desk(actor) as desk:
            application = await handling.draft(desk, ask)
            return await handling.submit(desk, application.id) if submit else application

    async def edit(self, actor: Actor, identifier: str, ask: Ask) -> Application:
        """Write a draft anew."""
        async with self._desk(actor) as desk:
            return await handling.edit(desk, identifier, ask)

    async def submit(self, actor: Actor, identifier: str) -> Application:
        """Hand in a draft; the clock starts."""
        async with self._desk(actor) as desk:
            return await handling.submit(desk, identifier)

    async def review(self, actor: Actor, identifier: str) -> Application:
        """Take it up."""
        async with self._desk(actor) as desk:
            return await handling.review(desk, identifier)

    async def ask(self, actor: Actor, identifier: str, text: str) -> Application:
        """Ask the applicant for more; the clock stands."""
        async with self._desk(actor) as desk:
            return await handling.ask_for_more(desk, identifier, text)

    async def supplement(
        self, actor: Actor, identifier: str, text: str, changes: Mapping[str, Any] | None = None
    ) -> Application:
        """Reply, perhaps with other terms; the clock goes on."""
        async with self._desk(actor) as desk:
            return await handling.supplement(desk, identifier, text, changes)

    async def decide(
        self, actor: Actor, identifier: str, verdict: Verdict, *, two_persons: bool = False
    ) -> Application:
        """Approve or refuse, or propose it where two persons decide."""
        async with self._desk(actor) as desk:
            return await deciding.decide(desk, identifier, verdict, two_persons=two_persons)

    async def confirm(self, actor: Actor, identifier: str, *, agree: bool, text: str = "") -> Application:
        """As the second person, make or reject the proposed decision."""
        async with self._desk(actor) as desk:
            return await deciding.confirm(desk, identifier, agree=agree, text=text)

    async def withdraw(self, actor: Actor, identifier: str, text: str) -> Application:
        """Give it up."""
        async with self._desk(actor) as desk:
            return await handling.withdraw(desk, identifier, text)

    async def deliver(self, actor: Actor, identifier: str, text: str = "") -> Application:
        """The data can be had."""
        async with self._desk(actor) as desk:
            return await handling.deliver(desk, identifier, text)

    async def dispute(self, actor: Actor, identifier: str, about: About, text: str, *, miss: str = "") -> Dispute:
        """Dispute a decision or a missed deadline."""
        async with self._desk(actor) as desk:
            return await disputing.open_dispute(desk, identifier, about, text, miss=miss)

    async def move(
        self,
        actor: Actor,
        identifier: str,
        kind: MoveKind,
        text: str,
        *,
        ruling: Ruling = "upheld",
        document: str = "",
    ) -> Dispute:
        """One step of the dispute about an application."""
        async with self._desk(actor) as desk:
            return await disputing.move(desk, identifier, kind, text, ruling=ruling, document=document)

    async def stand(self, actor: Actor, resource: str, text: str, *, active: bool = True) -> StandingApproval:
        """As the owner: approve whoever applies for what a resource shares unconditionally; or approve no longer.

        Raises:
            UnprocessableError: There is no such resource, or it is not shared unconditionally.
            NotFoundError: It is to end, and there is none.
        """
        rules.check_text("text", text)
        async with self._desk(actor) as desk:
            before = await desk.standing(resource)
            if not active:
                if before is None:
                    raise NotFoundError(what=f"standing approval of {resource[:128]}", what_zh="该资源的预先批准")
                actor.require_owner_of(before.provider)
                found = replace(before, active=False)
            else:
                offer = await desk.must_offer(resource)
                actor.require_owner_of(offer.provider)
                if offer.sharing_class != "unconditional":
                    raise rules.wrong(
                        "standing-approval",
                        "/resource",
                        f"{resource} is not shared unconditionally: somebody has to look at each application.",
                        f"{resource} 不属于无条件共享，须逐件审核。",
                    )
                found = StandingApproval(
                    resource=resource,
                    provider=offer.provider,
                    text=text,
                    decided_by=actor.by,
                    decided_at=desk.change.now,
                )
            desk.change.why = rules.one_line([text])
            action = "standing-approval.give" if active else "standing-approval.end"
            change = await desk.change.put(standing_approvals, rows.standing_row(found), action, resource, replace=True)
            return found if change is None else replace(found, version=change.version)

    async def standing(self, resource: str = "") -> tuple[StandingApproval, ...]:
        """What owners approved beforehand."""
        async with self._registry.reading() as connection:
            return await reading.standing(connection, resource)

    async def page(
        self, actor: Actor, wanted: ApplicationFilter, *, before: int | None = None, limit: int = 50
    ) -> tuple[tuple[Application, ...], int | None]:
        """Applications that the actor may see, newest first; the second value is the `before` of the next page."""
        async with self._registry.reading() as connection:
            return await reading.page(connection, actor, wanted, before=before, limit=limit)

    async def find(self, actor: Actor, identifier: str) -> CaseFile:
        """One application with its history, as the actor may see it."""
        async with self._registry.reading() as connection:
            return await reading.case_file(connection, actor, identifier)

    async def misses(
        self, *, department: str = "", open_only: bool = False, before: int | None = None, limit: int = 50
    ) -> tuple[tuple[Miss, ...], int | None]:
        """The public ledger, newest first."""
        async with self._registry.reading() as connection:
            return await reading.misses_page(
                connection, department=department, open_only=open_only, before=before, limit=limit
            )

    async def league_table(self) -> tuple[DepartmentRecord, ...]:
        """How departments kept their deadlines. Anybody may ask, so it is worked out once for each version and deadline."""
        version = await self._registry.version()
        async with self._registry.reading() as connection:
            now = self._registry.now()
            if self._table is None or self._table[0] != version or now >= self._table[1]:
                records = await reading.league_table(connection, now)
                self._table = version, await reading.stands_until(connection, now), records
        return self._table[2]

    async def keep_time(self) -> datetime | None:
        """Do what time demands by now, each thing in a transaction of its own; returns when something comes due next.

        Raises:
            ExceptionGroup: Some of it could not be done; everything else was.
        """
        async with self._registry.reading() as connection:
            applications, disputes, misses = await timekeeping.due_now(connection, self._registry.now())
        failures: list[Exception] = []
        for keep, identifiers in (
            (timekeeping.keep_application, applications),
            (timekeeping.keep_dispute, disputes),
            (timekeeping.keep_miss, misses),
        ):
            for identifier in identifiers:
                try:
                    async with self._desk(CLOCK, timekeeping.WHY) as desk:
                        await keep(desk, identifier)
                except Exception as error:  # noqa: BLE001  # one record must not keep all others from their deadlines
                    failures.append(error)
        if failures:
            raise ExceptionGroup("some deadlines could not be kept", failures)
        async with self._registry.reading() as connection:
            return await timekeeping.next_due(connection)

    async def count_again(self) -> None:
        """Count provisional deadlines by the calendar as it is now."""
        async with self._registry.reading() as connection:
            applications, disputes = await timekeeping.provisional(connection)
        for again, identifiers in (
            (timekeeping.count_again, applications),
            (timekeeping.count_dispute_again, disputes),
        ):
            for identifier in identifiers:
                async with self._desk(CLOCK, timekeeping.WHY_COUNTED_AGAIN) as desk:
                    await again(desk, identifier)

    def late_days(self, miss: Miss) -> int:
        """By how many working days it was late in the end, or is now."""
        if miss.ended_at is not None:
            return miss.late_days
        return max(0, self.book.calendar.working_days_between(miss.due_date, china_day(self.now())))

    def now(self) -> datetime:
        """The time, by the registry's clock."""
        return self._registry.now()

    @asynccontextmanager
    async def _desk(self, actor: Actor, why: str = "application") -> AsyncIterator[Desk]:
        # Each step says its own reason before it writes.
        async with self._registry.change(by=actor.by, why=why, certificate=actor.certificate) as change:
            yield Desk(change, actor, self.book)
