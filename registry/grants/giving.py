"""Grants, groups and grants of roles, changed within a transaction. Who may change them is judged in `registry.grants.grants`.

Rules:
1. What is given refers to what is registered: a subsystem or an open group, a service or a resource that is in force.
2. A grant does not overlap another of the same subject for the same thing (`registry.grants.overlaps`), and does not begin before
   the day on which it is given, in China. Seeds and imports may say that it began earlier.
3. Grants, of roles too, are not edited: revoke one, give another. A group may be changed; it is closed for good.
4. A role that a subsystem was registered with is taken away by a change of the subsystem.
"""

from __future__ import annotations

from dataclasses import replace as with_fields
from typing import TYPE_CHECKING

import sqlalchemy as sa

from exchange import ConflictError, NotRegisteredError, SubsystemId
from registry import rows, tables
from registry.catalogue.tables import resources
from registry.grants import grant_rules
from registry.grants.overlaps import overlap_of
from registry.records import Change, Grant, Group, Role, RoleGrant

if TYPE_CHECKING:
    from registry.changes import Changes


async def add_grant(change: Changes, grant: Grant, *, backdated: bool) -> Change | None:
    """See `Changes.add_grant`."""
    grant_rules.check_grant(grant)
    row = rows.grant_row(with_fields(grant, active=True, revoked_at=None, revocation_reason=""))
    before = await change.find(tables.grants, id=grant.id) if grant.id else None
    if before == row:
        return None
    if before is not None:
        raise ConflictError(
            problem=f"Grant {grant.id} is registered with other terms, or revoked: give the new one another id.",
            problem_zh=f"授权 {grant.id} 已登记且内容不同，或已撤销；请使用新的编号。",
            pointer="/id",
        )
    if not backdated:
        grant_rules.check_not_backdated(grant.valid_from, change.now)
    await _check_parties(change, grant)
    await _check_overlaps(change, grant)
    version = await change.next_version()
    row["id"] = grant.id or f"g{version}"
    made = await change.record("grant", row["id"], None, row, version=version)
    await change.write(tables.grants, row, version, exists=False)
    return made


async def revoke(change: Changes, grant_id: str) -> Change | None:
    """See `Changes.revoke`."""
    before = await change.must_exist(tables.grants, grant_id, "grant")
    if before["state"] == "revoked":
        return None
    row = {**before, "state": "revoked", "revoked_at": change.now, "revocation_reason": change.why}
    return await change.put(tables.grants, row, "grant.revoke", grant_id, replace=True)


async def add_group(change: Changes, group: Group, *, replace: bool) -> Change | None:
    """See `Changes.add_group`."""
    grant_rules.check_group(group)
    row = rows.group_row(with_fields(group, active=True))
    before = await change.find(tables.groups, id=group.id)
    if before is not None and before["state"] == "closed":
        raise ConflictError(
            problem=f"The group {group.id} was closed, and grants may name it: give the new one another id.",
            problem_zh=f"分组 {group.id} 已关闭且可能有授权引用它；请使用新的编号。",
            pointer="/id",
        )
    if group.members:
        known = await _registered(change, group.members)
        for number, subsystem in enumerate(group.members):
            if subsystem not in known:
                raise NotRegisteredError(
                    what=f"subsystem {subsystem}", what_zh=f"子系统 {subsystem}", pointer=f"/members/{number}"
                )
    return await change.put(tables.groups, row, "group", group.id, replace)


async def close_group(change: Changes, group_id: str) -> Change | None:
    """See `Changes.close_group`."""
    before = await change.must_exist(tables.groups, group_id, "group")
    return await change.put(tables.groups, {**before, "state": "closed"}, "group.close", group_id, replace=True)


async def grant_role(change: Changes, grant: RoleGrant) -> Change | None:
    """See `Changes.grant_role`."""
    grant_rules.check_role_grant(grant)
    row = rows.role_grant_row(with_fields(grant, active=True, revoked_at=None, revocation_reason=""))
    before = await change.find(tables.role_grants, id=grant.id) if grant.id else None
    if before == row:
        return None
    if before is not None:
        raise ConflictError(
            problem=f"The role grant {grant.id} is registered with other terms, or revoked: give the new one another id.",
            problem_zh=f"角色授予 {grant.id} 已登记且内容不同，或已撤销；请使用新的编号。",
            pointer="/id",
        )
    grant_rules.check_not_backdated(grant.valid_from, change.now)
    subsystem = await change.must_exist(tables.subsystems, grant.subsystem, "subsystem", pointer="/subsystem")
    await _check_role_is_new(change, grant, subsystem["roles"])
    version = await change.next_version()
    row["id"] = grant.id or f"r{version}"
    made = await change.record("role.grant", row["id"], None, row, version=version)
    await change.write(tables.role_grants, row, version, exists=False)
    return made


async def revoke_role(change: Changes, role_grant_id: str) -> Change | None:
    """See `Changes.revoke_role`."""
    before = await change.must_exist(tables.role_grants, role_grant_id, "role grant")
    if before["state"] == "revoked":
        return None
    row = {**before, "state": "revoked", "revoked_at": change.now, "revocation_reason": change.why}
    return await change.put(tables.role_grants, row, "role.revoke", role_grant_id, replace=True)


async def revoke_standing_role(change: Changes, subsystem: SubsystemId, role: Role) -> Change | None:
    """See `Changes.revoke_standing_role`."""
    grant_rules.check_role(role)
    before = await change.must_exist(tables.subsystems, subsystem, "subsystem")
    row = {**before, "roles": [each for each in before["roles"] if each != role]}
    return await change.put(tables.subsystems, row, "role.revoke", subsystem, replace=True)


async def _check_parties(change: Changes, grant: Grant) -> None:
    if grant.group:
        group = await change.must_exist(tables.groups, grant.group, "group", pointer="/group")
        if group["state"] == "closed":
            raise ConflictError(
                problem=f"The group {grant.group} is closed.",
                problem_zh=f"分组 {grant.group} 已关闭。",
                pointer="/group",
            )
    else:
        await change.must_exist(tables.subsystems, grant.client, "subsystem", pointer="/client")
    if grant.service:
        await change.must_exist(tables.services, grant.service, "service", pointer="/service")
        return
    resource = await change.must_exist(resources, grant.resource, "resource", pointer="/resource")
    if resource["state"] != "published":
        raise ConflictError(
            problem=f"The resource {grant.resource} is not in force: it is {resource['state']}.",
            problem_zh=f"资源 {grant.resource} 当前不是已发布状态（{resource['state']}）。",
            pointer="/resource",
        )


async def _check_overlaps(change: Changes, grant: Grant) -> None:
    """Raises ConflictError with the rule `grant-overlap`, naming the other grant and a call that both cover."""
    table = tables.grants
    query = sa.select(table).where(
        table.c.state == "active",
        table.c.client == grant.client if grant.client else table.c.client_group == grant.group,
        table.c.service == grant.service if grant.service else table.c.resource == grant.resource,
        table.c.valid_from < grant.valid_to,
        table.c.valid_to > grant.valid_from,
    )
    if grant.method != "*":
        query = query.where(table.c.method.in_((grant.method, "*")))
    others = (await change.connection.execute(query.order_by(table.c.version))).mappings()
    found = overlap_of(grant, map(rows.grant_of_row, others))
    if found is None:
        return
    until = found.other.valid_to.isoformat(timespec="seconds").replace("+00:00", "Z")
    call = f"{'every method' if found.method == '*' else found.method} on {found.path}"
    call_zh = f"{'任何方法' if found.method == '*' else found.method} {found.path}"
    raise ConflictError(
        "grant-overlap",
        problem=f"Grant {found.other.id} covers the same until {until}: {call} for the purpose {found.purpose}. "
        "Revoke it first, or let the new one begin when it ends, or differ in method, path or purposes.",
        problem_zh=f"授权 {found.other.id} 在 {until} 之前已覆盖相同内容：{call_zh}，用途 {found.purpose}。"
        "请先撤销该授权，或使新授权在其到期后开始，或在方法、路径、用途上加以区分。",
        pointer=f"/purposes/{grant.purposes.index(found.purpose)}",
        grant=found.other.id,
    )


async def _check_role_is_new(change: Changes, grant: RoleGrant, standing: list[str]) -> None:
    """Raises ConflictError: the subsystem holds the role already, for some of the time."""
    table = tables.role_grants
    query = sa.select(table.c.id, table.c.valid_to).where(
        table.c.state == "active",
        table.c.subsystem == grant.subsystem,
        table.c.role == grant.role,
        table.c.valid_from < grant.valid_to,
        table.c.valid_to > grant.valid_from,
    )
    other = (await change.connection.execute(query)).first()
    if other is None and grant.role not in standing:
        return
    by, by_zh = ("its registration", "登记信息") if other is None else (f"the grant {other.id}", f"授予 {other.id}")
    raise ConflictError(
        "role-overlap",
        problem=f"{grant.subsystem} holds the role {grant.role} by {by} already.",
        problem_zh=f"{grant.subsystem} 已因{by_zh}而具有角色 {grant.role}。",
        pointer="/role",
    )


async def _registered(change: Changes, subsystems: tuple[SubsystemId, ...]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(subsystems), 500):
        column = tables.subsystems.c.id
        query = sa.select(column).where(column.in_(subsystems[start : start + 500]))
        found.update((await change.connection.execute(query)).scalars())
    return found
