"""Who may give and revoke grants, groups and roles: each right, and then the change.

Rules:
1. An operator may give any grant. An owner gives and revokes grants for services and resources of its own subsystem, and
   no others.
2. Groups and roles are the operator's.
3. To who has nothing to do with a grant there is none: not even that it exists is told.
4. Whether an actor may is judged before anything about what exists is told.
"""

from __future__ import annotations

from exchange import NotFoundError, NotRegisteredError, ServiceId, SubsystemId, owner_of, service_id
from registry.actors import Actor
from registry.catalogue.tables import resources
from registry.changes import Changes
from registry.records import Change, Grant, Group, Role, RoleGrant
from registry.rules import check_identifier


async def give_grant(change: Changes, actor: Actor, grant: Grant, *, backdated: bool = False) -> Grant:
    """Register a grant and return it as registered; the same again is found and returned. See `Changes.add_grant`.

    Raises:
        RoleMissingError: The actor is neither operator nor owner of what is granted.
    """
    await _require_owner(change, actor, grant.service, grant.resource)
    added = await change.add_grant(grant, backdated=backdated)
    registered = await change.find_grant(added.target if added else grant.id)
    assert registered is not None  # just added, or found equal
    return registered


async def revoke_grant(change: Changes, actor: Actor, grant_id: str) -> Change | None:
    """End a grant now; None for one that was revoked already.

    Raises:
        NotFoundError: There is none, or none that the actor may know of.
        RoleMissingError: The actor may know of it, and is neither operator nor owner of what is granted.
    """
    found = await change.find_grant(grant_id)
    if found is None or not await _knows(change, actor, found):
        raise NotFoundError(what=f"grant {grant_id[:64]}", what_zh=f"授权 {grant_id[:64]}")
    await _require_owner(change, actor, found.service, found.resource)
    return await change.revoke(grant_id)


async def add_group(change: Changes, actor: Actor, group: Group, *, replace: bool = False) -> Change | None:
    """As `Changes.add_group`; raises RoleMissingError for who is no operator."""
    actor.require("operator")
    return await change.add_group(group, replace=replace)


async def close_group(change: Changes, actor: Actor, group_id: str) -> Change | None:
    """As `Changes.close_group`; raises RoleMissingError for who is no operator."""
    actor.require("operator")
    return await change.close_group(group_id)


async def grant_role(change: Changes, actor: Actor, grant: RoleGrant) -> RoleGrant:
    """Let a subsystem hold a role for a time, and return the grant as registered. See `Changes.grant_role`.

    Raises:
        RoleMissingError: The actor is no operator.
    """
    actor.require("operator")
    added = await change.grant_role(grant)
    registered = await change.find_role_grant(added.target if added else grant.id)
    assert registered is not None  # just added, or found equal
    return registered


async def revoke_role(change: Changes, actor: Actor, role_grant_id: str) -> Change | None:
    """As `Changes.revoke_role`; raises RoleMissingError for who is no operator."""
    actor.require("operator")
    return await change.revoke_role(role_grant_id)


async def revoke_standing_role(change: Changes, actor: Actor, subsystem: SubsystemId, role: Role) -> Change | None:
    """As `Changes.revoke_standing_role`; raises RoleMissingError for who is no operator."""
    actor.require("operator")
    return await change.revoke_standing_role(subsystem, role)


async def _require_owner(change: Changes, actor: Actor, service: ServiceId, resource: str) -> None:
    if actor.holds("operator"):
        return
    actor.require("operator", "owner")
    if service:
        check_identifier("service", service_id, service, "/service")
        actor.require_owner_of(owner_of(service))
    elif resource:
        actor.require_owner_of(await _provider(change, resource))


async def _knows(change: Changes, actor: Actor, grant: Grant) -> bool:
    if actor.holds("operator", "auditor") or actor.subsystem == grant.client:
        return True
    owner = owner_of(grant.service) if grant.service else await _provider(change, grant.resource)
    return actor.subsystem == owner


async def _provider(change: Changes, resource: str) -> SubsystemId:
    found = await change.find(resources, code=resource)
    if found is None:
        raise NotRegisteredError(
            what=f"resource {resource[:128]}", what_zh=f"资源 {resource[:128]}", pointer="/resource"
        )
    return SubsystemId(found["provider"])
