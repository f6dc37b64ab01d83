"""Writing the public ledger of misses: noticed once, escalated rung by rung, closed when what was owed is done."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from exchange import MemberId, SubsystemId, member_of
from registry.applications import rows
from registry.applications.application import Application
from registry.applications.miss import Escalation, Miss
from registry.applications.owed import Owed
from registry.applications.tables import misses
from registry.clock.deadlines import china_day
from registry.clock.jurisdictions import Jurisdiction
from registry.validity import begins

if TYPE_CHECKING:
    from registry.applications.desk import Desk

_NOBODY = MemberId("")


async def notice(desk: Desk, application: Application, owed: Owed, *, dispute: str = "") -> Miss:
    """A deadline has passed: write its line, and tell those who have to hear of it by now."""
    assert owed.due_date is not None  # only what has a due day can be late
    assert owed.due_at is not None
    version = await desk.change.next_version()
    department = member_of(SubsystemId(owed.responsible)) if "/" in owed.responsible else _NOBODY
    miss = Miss(
        id=f"m{version}",
        number=version,
        application=application.id,
        dispute=dispute,
        duty=owed.duty,
        responsible=owed.responsible,
        department=department,
        sharing_class=application.sharing_class,
        jurisdiction=owed.jurisdiction,
        basis=owed.basis,
        working_days=owed.working_days,
        due_date=owed.due_date,
        due_at=owed.due_at,
        provisional=owed.provisional,
        noticed_at=desk.change.now,
    )
    miss = escalated(desk, miss, await desk.jurisdiction(application.provider))
    row = rows.miss_row(miss)
    await desk.change.record("miss", miss.id, None, row, version=version)
    await desk.change.write(misses, row, version, exists=False)
    return miss


async def load(desk: Desk, identifier: str) -> Miss:
    return rows.miss_of_row(await desk.change.must_exist(misses, identifier, "missed deadline"))


async def write(desk: Desk, miss: Miss, action: str) -> Miss:
    await desk.change.put(misses, rows.miss_row(miss), f"miss.{action}", miss.id, replace=True)
    return miss


async def close(desk: Desk, identifier: str) -> None:
    """What was owed is done, or owed no longer."""
    miss = await load(desk, identifier)
    if miss.ended_at is None:
        late = late_days(desk, miss, desk.change.now)
        await write(desk, replace(miss, ended_at=desk.change.now, late_days=late, next_at=None), "close")


async def set_aside(desk: Desk, identifier: str, reason: str) -> None:
    """It was none; the line stays, and says why it counts no longer."""
    miss = await load(desk, identifier)
    if not miss.set_aside:
        await write(desk, replace(miss, set_aside=reason, next_at=None), "set-aside")


def escalated(desk: Desk, miss: Miss, place: Jurisdiction) -> Miss:
    """With everybody told who has to hear of it by now, and when the next one will."""
    late = late_days(desk, miss, desk.change.now)
    told = {each.rung for each in miss.escalations}
    new = tuple(
        Escalation(rung=rung.id, name=dict(rung.name), at=desk.change.now, late_days=late)
        for rung in place.rungs(late)
        if rung.id not in told
    )
    following = next((rung for rung in place.escalation if rung.after > late), None)
    next_at = None if following is None else reached_at(desk, miss, following.after)
    return replace(miss, escalations=(*miss.escalations, *new), next_at=next_at)


def late_days(desk: Desk, miss: Miss, at: datetime) -> int:
    """Working days that have begun since the due day."""
    return max(0, desk.book.calendar.working_days_between(miss.due_date, china_day(at)))


def reached_at(desk: Desk, miss: Miss, working_days: int) -> datetime:
    """When it is late by so many working days: at the beginning of that day in China."""
    day, _ = desk.book.calendar.add_working_days(miss.due_date, working_days)
    return begins(day)
