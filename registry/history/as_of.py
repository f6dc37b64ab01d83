"""Which grants were in force on a day, and by whose decision.

Rules:
1. A day is a day in China. A grant is listed when it was in force at some time of it, with from when until when on that day.
2. Without `known_at` the answer is what gateways permitted by: a grant counts from when it was recorded and began, until it
   ended or its revocation was recorded. With `known_at` it is what the registry held at that time about that day: grants
   recorded later, or with an earlier beginning, count from their beginning.
3. Changes made after the day, or after `known_at`, alter nothing.
4. Asked about one client, the grants of every group are listed that held it at some time of the day; asked about one
   service, those for every resource that was to be had there.
5. Whether the client was suspended or the service closed then is not told here: `Registry.snapshot_at` decides a call as of
   a moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange import ServiceId, SubsystemId
from registry import rows, tables
from registry.history import history
from registry.records import Grant
from registry.validity import begins, ends

_MOMENT = timedelta(microseconds=1)
_BATCH = 200
_PLACES = ("members", "subsystems", "groups", "resources")
"""What says which groups hold a client, and which resources are to be had at a service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantInForce:
    """A grant that was in force at some time of a day. `decided_by`, reason and application stand in the grant."""

    grant: Grant
    """As it was known: revoked, if it was by then."""
    begins: datetime
    """From when on that day, and `ends` until when; exclusive."""
    ends: datetime
    recorded_at: datetime
    recorded_by: str
    why: str
    certificate: str
    """Of who recorded it; empty when that was done at the machine itself."""
    revoked_by: str = ""
    """Who recorded the revocation; when and why stand in the grant."""


async def grants_as_of(
    connection: AsyncConnection,
    day: date,
    *,
    known_at: datetime | None = None,
    client: SubsystemId | None = None,
    service: ServiceId | None = None,
    after: int = 0,
    limit: int | None = None,
) -> tuple[GrantInForce, ...]:
    """Every grant in force at some time of the day, in the order in which they were recorded.

    Args:
        connection: It must see one state (`reading`).
        after: Only those recorded after this version of the registry.
        limit: Only so many; None for all.
    """
    first, last = begins(day), ends(day) - _MOMENT
    known = known_at or last
    query = _known_grants(first, ends(day), known)
    groups: frozenset[str] = frozenset()
    if client is not None or service is not None:
        groups, resources = await _places(connection, first, last, known_at, client, service)
        granted = tables.grants.c
        if client is not None:
            query = query.where(sa.or_(granted.client == client, granted.client_group.in_(groups)))
        if service is not None:
            query = query.where(sa.or_(granted.service == service, granted.resource.in_(resources)))
    found: list[GrantInForce] = []
    # In batches: whoever serves requests meanwhile is not held up, and a page is not made of all.
    while limit is None or len(found) < limit:
        part = query.where(query.selected_columns.version > after).limit(_BATCH)
        batch = (await connection.execute(part)).mappings().all()
        found += filter(None, (_in_force(row, day, at_once=known_at is not None) for row in batch))
        if len(batch) < _BATCH:
            break
        after = batch[-1]["version"]
    return tuple(found[:limit])


def _known_grants(first: datetime, after: datetime, known: datetime) -> sa.Select[Any]:
    """What was recorded of the grants that are valid at some time between two moments. Their terms never change."""
    given, ended = tables.registry_changes.alias("given"), tables.registry_changes.alias("ended")
    grants = tables.grants
    joined = grants.join(given, sa.and_(given.c.target == grants.c.id, given.c.action == "grant.add")).outerjoin(
        ended, sa.and_(ended.c.target == grants.c.id, ended.c.action == "grant.revoke", ended.c.at <= known)
    )
    return (
        sa.select(
            *(given.c[name] for name in ("version", "after", "at", "by", "why", "certificate")),
            ended.c.after.label("ended_after"),
            ended.c.by.label("ended_by"),
        )
        .select_from(joined)
        .where(grants.c.valid_from < after, grants.c.valid_to > first, given.c.at <= known)
        .order_by(given.c.version)
    )


def _in_force(row: Mapping[str, Any], day: date, *, at_once: bool) -> GrantInForce | None:
    """The grant with its time on the day; None if there is none.

    Args:
        at_once: Whether it counts from its beginning even if it was recorded later.
    """
    grant = rows.grant_of_row(history.content_of("grants", row["after"], row["version"]))
    if row["ended_after"] is not None:
        ended = history.content_of("grants", row["ended_after"], row["version"])
        grant = replace(
            grant, active=False, revoked_at=ended["revoked_at"], revocation_reason=ended["revocation_reason"]
        )
    begun = max(grant.valid_from, begins(day), *(() if at_once else (row["at"],)))
    over = min(grant.valid_to, ends(day), *((grant.revoked_at,) if grant.revoked_at else ()))
    if begun >= over:
        return None
    return GrantInForce(
        grant=grant,
        begins=begun,
        ends=over,
        recorded_at=row["at"],
        recorded_by=row["by"],
        why=row["why"],
        certificate=row["certificate"],
        revoked_by=row["ended_by"] or "",
    )


async def _places(
    connection: AsyncConnection,
    first: datetime,
    last: datetime,
    known_at: datetime | None,
    client: SubsystemId | None,
    service: ServiceId | None,
) -> tuple[frozenset[str], frozenset[str]]:
    """The groups that held the client, and the resources that were to be had at the service, at some time of the day."""
    snapshot = await history.snapshot_at(connection, first, known_at, only=_PLACES)
    groups, resources = set[str](), set[str]()
    until = min(last, known_at or last)
    later = history.changes_of(connection, _PLACES, first, until)
    while True:
        groups |= snapshot.groups_of(client) if client is not None else set()
        resources |= {entry.code for entry in snapshot.resources_at(service)} if service is not None else set()
        change = await anext(later, None)
        if change is None:
            return frozenset(groups), frozenset(resources)
        snapshot = snapshot.with_changes(change)
