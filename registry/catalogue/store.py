"""Resources in the registry's database: writing them through `Changes`, reading them and their versions back.

Rules:
1. Describing a resource is for owners and integrators of its provider, publishing and withdrawing for its owner; the operator
   may do both. Everybody reads what is or was in force; a draft only those who may change it, and auditors.
2. What is in force stays so until the next version is published: a draft lies beside it.
3. A version is a publication. The record of changes holds each whole, with who and why; nothing is ever deleted.
4. What a resource names must be there when it is written and again when it is published: its provider, its services.
5. A resource stays with its provider, and its code is never given to another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from dataclasses import replace as with_fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange import ConflictError, NotFoundError, RoleMissingError, SubsystemId
from registry import rows
from registry.actors import Actor
from registry.catalogue.codes import NATIONAL, CodeScheme
from registry.catalogue.dcat import Publisher
from registry.catalogue.differences import differences_between
from registry.catalogue.resource import (
    CatalogueEntry,
    Department,
    Resource,
    ResourceState,
    ResourceVersion,
    plain,
    resource_of,
)
from registry.catalogue.rules import check_resource
from registry.catalogue.tables import resource_index, resources
from registry.catalogue.words import texts_of
from registry.changes import Changes
from registry.records import Change
from registry.tables import members, registry_changes, services, subsystems
from registry.validity import CHINA

PUBLISH = "resource.publish"


async def save_resource(
    change: Changes,
    actor: Actor,
    resource: Resource,
    *,
    replace: bool = False,
    schemes: Sequence[CodeScheme] = NATIONAL,
) -> Change | None:
    """Write a draft: of a new resource, or of the next version of one that is there. None if it is so already.

    Args:
        replace: Whether one that is there is meant; without it, it must be a new one.

    Raises:
        RoleMissingError: The actor may not describe what this provider offers.
        UnprocessableError: A rule is broken; the pointer says where.
        NotRegisteredError: The provider or a service is not registered; likewise.
        ConflictError: The resource is there, and `replace` was not said; or it is another provider's.
    """
    check_resource(resource, schemes)
    actor.require_describer_of(resource.provider)
    resource = await _placed(change, resource)
    await _check_accesses(change, resource)
    before = await change.find(resources, code=resource.code)
    content = plain(resource)
    if before is None:
        return await _write(change, None, {"published": None, "draft": content, "state": "draft", "number": 0})
    if before["provider"] != resource.provider:
        raise ConflictError(
            "resource-provider",
            problem=f"{resource.code} is a resource of {before['provider']}, and stays its own.",
            problem_zh=f"{resource.code} 是 {before['provider']} 的信息资源，不能改由他方提供。",
            pointer="/provider",
        )
    if before["draft"] == content or (before["draft"] is None and _in_force(before, content)):
        return None
    if not replace:
        raise ConflictError(
            problem=f"Resource {resource.code} is in the catalogue with other content; say replace if that is meant.",
            problem_zh=f"信息资源 {resource.code} 已编目且内容不同；如确需修改，请指明替换（replace）。",
            pointer="/code",
        )
    draft = None if _in_force(before, content) else content
    return await _write(change, before, {**before, "draft": draft}, "resource.draft")


async def publish_resource(
    change: Changes, actor: Actor, code: str, *, schemes: Sequence[CodeScheme] = NATIONAL
) -> Change | None:
    """Put the draft into force as the next version, or a withdrawn version again; None if there is nothing to publish.

    Raises:
        NotFoundError: There is no such resource, or none that this actor may see.
        RoleMissingError: The actor does not own it.
        UnprocessableError, NotRegisteredError: It breaks a rule by now, or names what is gone.
    """
    before = await _must_see(change, actor, code)
    actor.require_owner_of(before["provider"])
    if before["draft"] is None and before["state"] == "published":
        return None
    resource = resource_of(before["draft"] or before["published"])
    if resource.publication_date is None:
        resource = with_fields(resource, publication_date=change.now.astimezone(CHINA).date())
    check_resource(resource, schemes)
    await _check_accesses(change, resource)
    content = {"published": plain(resource), "draft": None, "state": "published", "number": before["number"] + 1}
    return await _write(change, before, {**content, "changed_at": change.now}, PUBLISH)


async def withdraw_resource(change: Changes, actor: Actor, code: str) -> Change | None:
    """Take a resource out of force; what was granted on it permits nothing any more. None if it is withdrawn already.

    Raises: like `publish_resource`.
    """
    before = await _must_see(change, actor, code)
    actor.require_owner_of(before["provider"])
    if before["state"] == "withdrawn":
        return None
    return await _write(change, before, {**before, "state": "withdrawn", "changed_at": change.now}, "resource.withdraw")


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
        raise _unknown(code)
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


async def _placed(change: Changes, resource: Resource) -> Resource:
    """The resource with level and division, its provider's where it has none of its own."""
    subsystem = await change.must_exist(subsystems, resource.provider, "subsystem", pointer="/provider")
    if resource.level and resource.division:
        return resource
    query = sa.select(members).where(members.c.id == subsystem["member"])
    member = rows.member_of_row((await change.connection.execute(query)).mappings().one())
    return with_fields(
        resource, level=resource.level or member.level, division=resource.division or member.division_code
    )


async def _check_accesses(change: Changes, resource: Resource) -> None:
    for number, access in enumerate(resource.accesses):
        await change.must_exist(services, access.service, "service", pointer=f"/accesses/{number}/service")


async def _must_see(change: Changes, actor: Actor, code: str) -> dict[str, Any]:
    """The row of a resource; one that was never published does not exist for those who may not see drafts."""
    before = await change.find(resources, code=code)
    if before is None or (before["published"] is None and not may_see_drafts(actor, before["provider"])):
        raise _unknown(code)
    return before


def _in_force(row: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    """Whether the published version says this already; a date it got when it was published is not asked for again."""
    published = row["published"]
    if published is None or row["state"] != "published":
        return False
    return bool(
        published == {**content, "publication_date": content["publication_date"] or published["publication_date"]}
    )


async def _write(
    change: Changes, before: Mapping[str, Any] | None, content: Mapping[str, Any], action: str = "resource"
) -> Change:
    """Write the row with what is derived from its contents, and what it is found by."""
    shown = resource_of(content["published"] or content["draft"])
    row = {
        "code": shown.code,
        "provider": shown.provider,
        "state": content["state"],
        "number": content["number"],
        "accesses": content["published"]["accesses"] if content["published"] else [],
        "published": content["published"],
        "draft": content["draft"],
        "changed_at": content.get("changed_at"),
    }
    written = await change.record(action, shown.code, before, row)
    await change.write(resources, row, written.version, exists=before is not None)
    await index_resource(change.connection, shown, row["state"], row["number"], exists=before is not None)
    return written


async def index_resource(
    connection: AsyncConnection, shown: Resource, state: ResourceState, number: int, *, exists: bool
) -> None:
    """Write what a resource is found and listed by."""
    values = {
        "provider": shown.provider,
        "state": state,
        "number": number,
        "name": shown.name,
        "name_en": shown.name_en,
        "sharing_class": shown.sharing_class,
        "mode": shown.mode,
        "level": shown.level,
        "division": shown.division,
        **asdict(texts_of(shown)),
    }
    statement: sa.Insert | sa.Update = sa.insert(resource_index).values(code=shown.code, **values)
    if exists:
        statement = sa.update(resource_index).where(resource_index.c.code == shown.code).values(**values)
    await connection.execute(statement)


def _unknown(code: str) -> NotFoundError:
    return NotFoundError(what=f"resource {code[:128]}", what_zh=f"信息资源 {code[:128]}")
