"""Finding grants in the database, as far as an actor may know of them.

Rules:
1. Operators and auditors know of every grant. Others know of those that are theirs: given to them or to a group they are in,
   or for what they offer.
2. A page goes on after an identifier, and identifiers do not change: what is given or revoked meanwhile moves nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import sqlalchemy as sa

from exchange import ServiceId, SubsystemId
from registry import rows, tables
from registry.actors import Actor
from registry.catalogue.tables import resources
from registry.history.as_of import GrantInForce
from registry.records import Grant
from registry.registry import Registry
from registry.snapshot import Snapshot

GrantState = Literal["upcoming", "valid", "expired", "revoked"]

_grants = tables.grants


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantFilter:
    """Which grants to find; what is empty means any."""

    client: str = ""
    """Given to this subsystem itself; what its groups were given is found by `group`."""
    group: str = ""
    service: str = ""
    resource: str = ""
    owner: str = ""
    """For services of this subsystem, and for resources it provides."""
    application: str = ""
    state: GrantState | None = None


def state_of(active: bool, valid_from: datetime, valid_to: datetime, now: datetime) -> GrantState:
    """What something that is given for a time is at `now`."""
    if not active:
        return "revoked"
    return "upcoming" if now < valid_from else "valid" if now < valid_to else "expired"


async def find_grant(registry: Registry, actor: Actor, groups: Collection[str], grant_id: str) -> Grant | None:
    """A grant, revoked or not, if the actor may know of it.

    Args:
        groups: The groups that the actor's subsystem is in.
    """
    found, _ = await _read(registry, sa.select(_grants).where(_grants.c.id == grant_id, _visible(actor, groups)), 1)
    return found[0] if found else None


async def search_grants(
    registry: Registry, actor: Actor, groups: Collection[str], wanted: GrantFilter, *, after: str = "", limit: int
) -> tuple[tuple[Grant, ...], bool]:
    """Grants that the actor may know of, by identifier, and whether there are more.

    Args:
        groups: The groups that the actor's subsystem is in.
        after: The last identifier of the page before.
    """
    query = sa.select(_grants).where(_visible(actor, groups), *_conditions(wanted, registry.now()))
    if after:
        query = query.where(_grants.c.id > after)
    return await _read(registry, query.order_by(_grants.c.id), limit)


async def search_as_of(
    registry: Registry,
    actor: Actor,
    snapshot: Snapshot,
    day: date,
    *,
    known_at: datetime | None,
    client: SubsystemId | None,
    service: ServiceId | None,
    after: int = 0,
    limit: int,
) -> tuple[tuple[GrantInForce, ...], bool]:
    """What of `Registry.grants_as_of` the actor may know of, in the order in which it was recorded; and whether there is more.

    Args:
        snapshot: The registry now: it says what the actor's subsystem offers.
        after: The version that the last grant of the page before was recorded under.
    """
    asked: set[tuple[SubsystemId | None, ServiceId | None]] = set()
    if actor.holds("operator", "auditor"):
        asked.add((client, service))
    elif actor.subsystem is not None:
        if client in (None, actor.subsystem):
            asked.add((actor.subsystem, service))
        offered = (each.id for each in snapshot.services_of(actor.subsystem))
        asked |= {(client, each) for each in offered if service in (None, each)}
    found: dict[str, GrantInForce] = {}
    for of_client, for_service in asked:
        part = await registry.grants_as_of(
            day, known_at=known_at, client=of_client, service=for_service, after=after, limit=limit + 1
        )
        found |= {each.grant.id: each for each in part}
    ordered = sorted(found.values(), key=lambda each: each.grant.version)
    return tuple(ordered[:limit]), len(ordered) > limit


async def _read(registry: Registry, query: sa.Select[tuple[object, ...]], limit: int) -> tuple[tuple[Grant, ...], bool]:
    async with registry.reading() as connection:
        found = (await connection.execute(query.limit(limit + 1))).mappings().all()
    return tuple(map(rows.grant_of_row, found[:limit])), len(found) > limit


def _visible(actor: Actor, groups: Collection[str]) -> sa.ColumnElement[bool]:
    if actor.holds("operator", "auditor"):
        return sa.true()
    if actor.subsystem is None:
        return sa.false()
    return sa.or_(
        _grants.c.client == actor.subsystem, _grants.c.client_group.in_(sorted(groups)), _owned_by(actor.subsystem)
    )


def _owned_by(subsystem: str) -> sa.ColumnElement[bool]:
    services = sa.select(tables.services.c.id).where(tables.services.c.subsystem == subsystem)
    provided = sa.select(resources.c.code).where(resources.c.provider == subsystem)
    return sa.or_(_grants.c.service.in_(services), _grants.c.resource.in_(provided))


def _conditions(wanted: GrantFilter, now: datetime) -> list[sa.ColumnElement[bool]]:
    named = (
        (_grants.c.client, wanted.client),
        (_grants.c.client_group, wanted.group),
        (_grants.c.service, wanted.service),
        (_grants.c.resource, wanted.resource),
        (_grants.c.application, wanted.application),
    )
    conditions: list[sa.ColumnElement[bool]] = [column == value for column, value in named if value]
    if wanted.owner:
        conditions.append(_owned_by(wanted.owner))
    if wanted.state is not None:
        conditions.append(_grants.c.state == ("revoked" if wanted.state == "revoked" else "active"))
    if wanted.state == "upcoming":
        conditions.append(_grants.c.valid_from > now)
    elif wanted.state == "valid":
        conditions += [_grants.c.valid_from <= now, _grants.c.valid_to > now]
    elif wanted.state == "expired":
        conditions.append(_grants.c.valid_to <= now)
    return conditions
