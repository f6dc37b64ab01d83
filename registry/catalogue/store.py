"""Reading resources and their versions back.

Rules:
1. Everybody reads what is or was in force; a draft only those who may change it, and auditors. Whoever may not see a draft is
   told the same as if there were none.
2. A version is a publication; the record of changes holds each whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace as with_fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange import NotFoundError, RoleMissingError, SubsystemId
from registry import rows
from registry.actors import Actor
from registry.catalogue.dcat import Publisher
from registry.catalogue.differences import differences_between
from registry.catalogue.resource import (
    CatalogueEntry,
    Department,
    ResourceVersion,
    resource_of,
)
from registry.catalogue.tables import resources
from registry.tables import members, registry_changes, subsystems

PUBLISH = "resource.publish"


def may_see_drafts(actor: Actor, provider: SubsystemId) -> bool:
    """Whether drafts of this provider are for the actor's eyes."""
    if actor.holds("auditor"):
        return True
    try:
        actor.require_describer_of(provider)
    except RoleMissingError:
        return False
    return True


async def load_entry(connection: AsyncConnection, code: str, actor: Actor) -> CatalogueEntry:
    """A resource as the actor may see it: without its draft, if that is not for them.

    Raises:
        NotFoundError: There is none, or nothing of it is for the actor's eyes.
    """
    query = sa.select(resources).where(resources.c.code == code)
    row = (await connection.execute(query)).mappings().one_or_none()
    entry = None if row is None else entry_of_row(row)
    if entry is not None and not may_see_drafts(actor, entry.provider):
        entry = with_fields(entry, draft=None)
    if entry is None or (entry.published is None and entry.draft is None):
        raise no_resource(code)
    return entry


async def load_versions(connection: AsyncConnection, code: str, actor: Actor) -> tuple[ResourceVersion, ...]:
    """Every version that was published, the first one first; raises NotFoundError like `load_entry`."""
    await load_entry(connection, code, actor)
    query = (
        sa.select(registry_changes)
        .where(registry_changes.c.target == code, registry_changes.c.action == PUBLISH)
        .order_by(registry_changes.c.version)
    )
    found: list[ResourceVersion] = []
    for row in (await connection.execute(query)).mappings():
        resource = resource_of(row["after"]["published"])
        found.append(
            ResourceVersion(
                number=row["after"]["number"],
                at=row["at"],
                by=row["by"],
                why=row["why"],
                resource=resource,
                differences=differences_between(found[-1].resource, resource) if found else (),
            )
        )
    return tuple(found)


async def load_departments(connection: AsyncConnection, providers: Sequence[str]) -> Mapping[str, Department]:
    """The providers with these identifiers, as the registry names them."""
    query = (
        sa.select(subsystems.c.id, subsystems.c.name, members.c.id, members.c.name, members.c.name_en)
        .join(members, members.c.id == subsystems.c.member)
        .where(subsystems.c.id.in_(sorted(set(providers))))
    )
    return {
        row[0]: Department(
            subsystem=SubsystemId(row[0]),
            subsystem_name=row[1],
            name=row[3],
            name_en=row[4],
            uscc=row[2].rpartition("/")[2],
        )
        for row in await connection.execute(query)
    }


async def load_publisher(connection: AsyncConnection) -> Publisher:
    """The first member that has a subsystem registered as operator; a name for the mesh itself, if there is none."""
    joined = subsystems.join(members, members.c.id == subsystems.c.member)
    query = sa.select(members.c.id, members.c.name, members.c.name_en, subsystems.c.roles).select_from(joined)
    for identifier, name, name_en, roles in await connection.execute(query.order_by(members.c.id)):
        if "operator" in roles:
            return Publisher(identifier=identifier, name=name, name_en=name_en)
    return Publisher(identifier="mesh", name="大同数据共享平台", name_en="Datong mesh")


def entry_of_row(row: rows.Row | Mapping[str, Any]) -> CatalogueEntry:
    """A row of `resources`, whole."""
    return CatalogueEntry(
        code=row["code"],
        provider=row["provider"],
        state=row["state"],
        number=row["number"],
        published=resource_of(row["published"]) if row["published"] else None,
        draft=resource_of(row["draft"]) if row["draft"] else None,
        changed_at=row["changed_at"],
    )


def no_resource(code: str) -> NotFoundError:
    """The error for a resource that is not there, or not for the asker's eyes."""
    return NotFoundError(what=f"resource {code[:128]}", what_zh=f"信息资源 {code[:128]}")
