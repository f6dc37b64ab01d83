"""What the catalogue and the registry say of a resource that somebody applies for.

Rules:
1. Only what is in force in the catalogue can be applied for and granted.
2. A resource is on the platform if the catalogue names a service where it is to be had. Whether that service is open today is
   another question: an owner does not get more days to answer by closing it.
3. It can be called if, at one of those services at least, a call that its access covers would be carried now: the service and
   its owner's subsystem are open and active, and an operation is declared whose method and path the access meets.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.applications import rows
from registry.applications.application import Item, Offer, StandingApproval
from registry.applications.tables import standing_approvals
from registry.catalogue.store import entry_of_row
from registry.catalogue.tables import resources
from registry.grants.overlaps import common_path
from registry.patterns import compile_pattern
from registry.records import Access
from registry.tables import operations, services, subsystems


async def find_offer(connection: AsyncConnection, code: str) -> Offer | None:
    """The resource as it is in force; None if it is not."""
    row = (await connection.execute(sa.select(resources).where(resources.c.code == code))).mappings().one_or_none()
    entry = None if row is None else entry_of_row(row)
    if entry is None or entry.state != "published" or entry.published is None:
        return None
    resource = entry.published
    return Offer(
        code=resource.code,
        provider=resource.provider,
        sharing_class=resource.sharing_class,
        items=tuple(
            Item(path=item.path, sharing_class=resource.class_of(item), mask=item.mask) for item in resource.items
        ),
        modes=(resource.mode,),
        accesses=resource.accesses,
        two_persons=resource.two_persons,
        standing=await find_standing(connection, code),
    )


async def find_standing(connection: AsyncConnection, code: str) -> StandingApproval | None:
    """What the owner of a resource said beforehand, if it still stands."""
    query = sa.select(standing_approvals).where(standing_approvals.c.resource == code)
    row = (await connection.execute(query)).mappings().one_or_none()
    found = None if row is None else rows.standing_of_row(row)
    return found if found is not None and found.active else None


async def can_be_called(connection: AsyncConnection, accesses: Sequence[Access]) -> bool:
    """Whether what a resource's accesses name is there and open (rule 3)."""
    query = (
        sa.select(operations.c.service, operations.c.method, operations.c.path)
        .join(services, services.c.id == operations.c.service)
        .join(subsystems, subsystems.c.id == services.c.subsystem)
        .where(
            operations.c.service.in_(sorted({access.service for access in accesses})),
            operations.c.state == "active",
            services.c.state == "open",
            subsystems.c.state == "active",
        )
    )
    declared = (await connection.execute(query)).all()
    return any(
        access.service == service
        and access.method in ("*", method)
        and common_path(compile_pattern(access.path), compile_pattern(path)) is not None
        for access in accesses
        for service, method, path in declared
    )
