"""What time itself does: it expires drafts and questions, notices missed deadlines, escalates, and counts provisional ones again.

Each function is one transaction's work on one record, and does nothing when somebody else has done it: several gateways may keep
time at once.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.applications import disputing, ledger
from registry.applications.application import Application
from registry.applications.desk import Desk
from registry.applications.owed import Owed
from registry.applications.states import next_state
from registry.applications.tables import applications, disputes, misses

WHY = "a deadline has passed"
WHY_COUNTED_AGAIN = "the calendar of working days has changed"


async def due_now(connection: AsyncConnection, now: datetime) -> tuple[list[str], list[str], list[str]]:
    """Ids of the applications, disputes and misses for which something has come due."""
    return (
        await _ids(connection, sa.select(applications.c.id).where(applications.c.due_at <= now)),
        await _ids(connection, sa.select(disputes.c.id).where(disputes.c.due_at <= now)),
        await _ids(connection, sa.select(misses.c.id).where(misses.c.next_at <= now)),
    )


async def next_due(connection: AsyncConnection) -> datetime | None:
    """When something comes due next."""
    moments = [
        (await connection.execute(sa.select(sa.func.min(column)))).scalar_one()
        for column in (applications.c.due_at, disputes.c.due_at, misses.c.next_at)
    ]
    return min((each for each in moments if each is not None), default=None)


async def provisional(connection: AsyncConnection) -> tuple[list[str], list[str]]:
    """Ids of the applications and disputes with an open deadline that may move."""
    return (
        await _ids(connection, sa.select(applications.c.id).where(applications.c.provisional)),
        await _ids(connection, sa.select(disputes.c.id).where(disputes.c.provisional)),
    )


async def keep_application(desk: Desk, identifier: str) -> Application:
    """Expire it, or write down what was missed of it."""
    application = await desk.application(identifier)
    now = desk.change.now
    if application.state_at(now) == "expired" and application.state != "expired":
        state = next_state(application.state, "expire", frozenset({"clock"}))
        application = await desk.nothing_owed(application)
        return await desk.save(replace(application, state=state, proposal=None), "expire", [WHY])
    late = [each for each in application.owed if each.open and each.is_late(now) and not each.miss]
    for owed in late:
        desk.change.why = WHY
        miss = await ledger.notice(desk, application, owed)
        changed = tuple(replace(each, miss=miss.id) if each == owed else each for each in application.owed)
        application = await desk.save(replace(application, owed=changed), "late", [WHY])
    return application


async def keep_dispute(desk: Desk, identifier: str) -> None:
    """Take it to the next level, or write down that the highest is late."""
    dispute = await disputing.load(desk, identifier)
    owed = dispute.running
    if owed is None or owed.miss or not owed.is_late(desk.change.now):
        return
    await disputing.level_missed(desk, await desk.application(dispute.application), dispute)


async def keep_miss(desk: Desk, identifier: str) -> None:
    """Tell the next rungs of the ladder."""
    miss = await ledger.load(desk, identifier)
    if miss.next_at is None or miss.next_at > desk.change.now:
        return
    application = await desk.application(miss.application)
    told = ledger.escalated(desk, miss, await desk.jurisdiction(application.provider))
    await ledger.write(desk, told, "escalate")


async def count_again(desk: Desk, identifier: str) -> None:
    """Its provisional deadlines, by the calendar as it is now."""
    application = await desk.application(identifier)
    owed = await _counted(desk, application.owed)
    if owed != application.owed:
        await desk.save(replace(application, owed=owed), "recount", [WHY_COUNTED_AGAIN])


async def count_dispute_again(desk: Desk, identifier: str) -> None:
    """Its provisional deadline, by the calendar as it is now."""
    dispute = await disputing.load(desk, identifier)
    owed = await _counted(desk, dispute.owed)
    if owed != dispute.owed:
        await disputing.save(desk, replace(dispute, owed=owed), "recount")


async def _counted(desk: Desk, owed: tuple[Owed, ...]) -> tuple[Owed, ...]:
    found = []
    for each in owed:
        counted = each.counted_again(desk.book.calendar)
        if each.miss and counted != each and not counted.is_late(desk.change.now):
            # It was noticed too early, by a calendar that knew less.
            await ledger.set_aside(desk, each.miss, f"{WHY_COUNTED_AGAIN}: due on {counted.due_date}")
            counted = replace(counted, miss="")
        found.append(counted)
    return tuple(found)


async def _ids(connection: AsyncConnection, query: sa.Select[Any]) -> list[str]:
    return list((await connection.execute(query)).scalars().all())
