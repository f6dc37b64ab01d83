"""Reading applications, their history, the ledger of misses and the league table.

Rules:
1. A list shows what its reader may see, and nothing of the rest, not even how many there are.
2. The history of an application is read from the record of changes: its own rows, its disputes, its missed deadlines, its grants.
3. The ledger and the league table are for anybody. They name departments, days and laws, and nothing else.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange import MemberId, SubsystemId, member_of
from registry import rows as registry_rows
from registry.actors import Actor
from registry.applications import rows
from registry.applications.application import Application, StandingApproval
from registry.applications.desk import may_see, sees_owners_side, unknown
from registry.applications.dispute import Dispute
from registry.applications.miss import Miss
from registry.applications.states import State
from registry.applications.tables import applications, disputes, misses, standing_approvals
from registry.records import Change
from registry.tables import grants, members, registry_changes

# What only the owner's side considers is not the applicant's to read.
_OWNERS_SIDE = ("application.propose", "application.reject-proposal")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationFilter:
    """Which applications to list; what is empty means any."""

    state: State | None = None
    resource: str = ""
    applicant: str = ""
    provider: str = ""
    due_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFile:
    """An application with all that belongs to it, as one reader may see it."""

    application: Application
    disputes: tuple[Dispute, ...]
    misses: tuple[Miss, ...]
    events: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartmentRecord:
    """How a department kept its deadlines."""

    department: MemberId
    name: str
    name_en: str
    decided: int
    in_time: int
    late: int
    """Decided, after the deadline."""
    overdue: int
    """Not decided yet, after the deadline."""
    median_working_days: float | None
    """From receipt to decision, pauses left out; None where nothing was decided."""
    misses: int
    """Lines of the ledger that count: deliveries and answers."""


async def page(
    connection: AsyncConnection, actor: Actor, wanted: ApplicationFilter, *, before: int | None, limit: int
) -> tuple[tuple[Application, ...], int | None]:
    """Applications that the actor may see, newest first, and the number to go on before; None at the end."""
    table = applications.c
    query = sa.select(applications).order_by(table.number.desc()).limit(limit + 1)
    if not actor.holds("operator", "auditor"):
        ours = sa.and_(table.provider == actor.subsystem, table.submitted_at.is_not(None))
        query = query.where(sa.or_(table.applicant == actor.subsystem, ours))
    for column, value in (
        (table.state, wanted.state),
        (table.resource, wanted.resource),
        (table.applicant, wanted.applicant),
        (table.provider, wanted.provider),
    ):
        if value:
            query = query.where(column == value)
    if wanted.due_before is not None:
        query = query.where(table.open_due_at < wanted.due_before)
    if before is not None:
        query = query.where(table.number < before)
    found = [rows.application_of_row(row) for row in await _rows(connection, query)]
    return tuple(found[:limit]), found[limit - 1].number if len(found) > limit else None


async def case_file(connection: AsyncConnection, actor: Actor, identifier: str) -> CaseFile:
    """An application with its history; raises NotFoundError, also for what is not for the actor's eyes."""
    found = await _rows(connection, sa.select(applications).where(applications.c.id == identifier))
    application = rows.application_of_row(found[0]) if found else None
    if application is None or not may_see(actor, application):
        raise unknown(identifier)
    of_it = {
        name: await _rows(connection, sa.select(table).where(table.c.application == identifier))
        for name, table in (("disputes", disputes), ("misses", misses), ("grants", grants))
    }
    targets = [identifier, *(row["id"] for each in of_it.values() for row in each)]
    query = (
        sa.select(registry_changes).where(registry_changes.c.target.in_(targets)).order_by(registry_changes.c.version)
    )
    events = [registry_rows.change_of_row(row) for row in await _rows(connection, query)]
    if not sees_owners_side(actor, application):
        events = [each for each in events if each.action not in _OWNERS_SIDE]
    return CaseFile(
        application=application,
        disputes=tuple(sorted(map(rows.dispute_of_row, of_it["disputes"]), key=lambda each: each.number)),
        misses=tuple(sorted(map(rows.miss_of_row, of_it["misses"]), key=lambda each: each.number)),
        events=tuple(events),
    )


async def misses_page(
    connection: AsyncConnection, *, department: str, open_only: bool, before: int | None, limit: int
) -> tuple[tuple[Miss, ...], int | None]:
    """Lines of the ledger, newest first, and the number to go on before; None at the end."""
    query = sa.select(misses).order_by(misses.c.number.desc()).limit(limit + 1)
    if department:
        query = query.where(misses.c.department == department)
    if open_only:
        query = query.where(misses.c.ended_at.is_(None), misses.c.set_aside == "")
    if before is not None:
        query = query.where(misses.c.number < before)
    found = [rows.miss_of_row(row) for row in await _rows(connection, query)]
    return tuple(found[:limit]), found[limit - 1].number if len(found) > limit else None


@dataclass(slots=True)
class _Tally:
    days: list[int] = field(default_factory=list)
    late: int = 0
    overdue: int = 0
    misses: int = 0


async def league_table(connection: AsyncConnection, now: datetime) -> tuple[DepartmentRecord, ...]:
    """Departments that had applications to decide, those that keep their deadlines worst first."""
    tallies: dict[MemberId, _Tally] = defaultdict(_Tally)
    table = applications.c
    count = sa.func.count()
    decided = (
        sa.select(table.provider, table.working_days, table.decided_late, count)
        .where(table.decided_at.is_not(None))
        .group_by(table.provider, table.working_days, table.decided_late)
    )
    for provider, days, late, number in await connection.execute(decided):
        tally = tallies[member_of(SubsystemId(provider))]
        tally.days += [days] * number
        tally.late += number if late else 0
    overdue = (
        sa.select(table.provider, count)
        .where(table.open_due_at <= now, table.state.in_(("submitted", "in-review", "asked-for-more")))
        .group_by(table.provider)
    )
    for provider, number in await connection.execute(overdue):
        tallies[member_of(SubsystemId(provider))].overdue += number
    counted = (
        sa.select(misses.c.department, count)
        .where(misses.c.department != "", misses.c.set_aside == "")
        .group_by(misses.c.department)
    )
    for department, number in await connection.execute(counted):
        tallies[MemberId(department)].misses += number
    names = {
        row["id"]: row for row in await _rows(connection, sa.select(members).where(members.c.id.in_(sorted(tallies))))
    }
    records = [
        DepartmentRecord(
            department=department,
            name=names[department]["name"],
            name_en=names[department]["name_en"],
            decided=len(tally.days),
            in_time=len(tally.days) - tally.late,
            late=tally.late,
            overdue=tally.overdue,
            median_working_days=statistics.median(tally.days) if tally.days else None,
            misses=tally.misses,
        )
        for department, tally in tallies.items()
    ]
    return tuple(sorted(records, key=_worst_first))


async def stands_until(connection: AsyncConnection, now: datetime) -> datetime:
    """When the league table changes by itself: at the next deadline that passes."""
    query = sa.select(sa.func.min(applications.c.open_due_at)).where(applications.c.open_due_at > now)
    return (await connection.execute(query)).scalar_one() or datetime.max.replace(tzinfo=UTC)


async def standing(connection: AsyncConnection, resource: str = "") -> tuple[StandingApproval, ...]:
    """What owners approved beforehand and still stands."""
    query = sa.select(standing_approvals).where(standing_approvals.c.state == "active")
    if resource:
        query = query.where(standing_approvals.c.resource == resource)
    found = await _rows(connection, query.order_by(standing_approvals.c.resource))
    return tuple(map(rows.standing_of_row, found))


def _worst_first(record: DepartmentRecord) -> tuple[float, int, str]:
    judged = record.decided + record.overdue
    return -((record.late + record.overdue) / judged if judged else 0), -record.misses, record.department


async def _rows(connection: AsyncConnection, query: sa.Select[Any]) -> Sequence[sa.RowMapping]:
    found: Sequence[sa.RowMapping] = (await connection.execute(query)).mappings().all()
    return found
