"""Changing the registry: each change is checked, takes the next version, and leaves who, why, before and after.

Rules:
1. A transaction of changes first locks the version row, so changes happen one after the other, in every process.
2. What is already so is not changed again: the same record twice is one change (`None` comes back).
3. What is registered with other content is a conflict, unless `replace` says that it is meant.
4. Nothing is deleted. Grants are not edited: revoke one and give another.
5. Bad input raises before anything is written, and a raised error undoes the whole transaction.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange import ConflictError, NotFoundError, NotRegisteredError, ServiceId, SubsystemId
from registry import rows, rules, tables
from registry.certificates import read_certificate
from registry.grants import giving
from registry.records import (
    CertificateUse,
    Change,
    Grant,
    Group,
    Member,
    Operation,
    Role,
    RoleGrant,
    Service,
    Subsystem,
)

_NOUNS = {
    "member": "成员",
    "subsystem": "子系统",
    "service": "服务",
    "grant": "授权",
    "group": "分组",
    "role grant": "角色授予",
    "certificate": "证书",
    "resource": "资源",
    "application": "申请",
}


class Changes:
    """Changes made in one transaction, by one person, for one reason. Get one from `Registry.change`."""

    def __init__(self, connection: AsyncConnection, *, now: datetime, by: str, why: str, certificate: str = "") -> None:
        """
        Args:
            certificate: Fingerprint of the certificate whose holder makes the changes, hex; empty at the machine itself.
        """
        rules.check_text("by", by)
        rules.check_text("why", why)
        self.connection = connection
        self.now = now
        self.by = by
        self.why = why
        self.certificate = certificate
        self.made: list[Change] = []
        """What was changed in this transaction so far."""

    async def lock(self) -> None:
        """Wait for every change in progress elsewhere to end; nobody else changes anything until ours ends."""
        await self.connection.execute(sa.select(tables.registry_version.c.version).with_for_update())

    async def add_member(self, member: Member, *, replace: bool = False) -> Change | None:
        """Register a member.

        Raises:
            UnprocessableError: A field is wrong, or the member code fails its check and no exception is given.
            ConflictError: It is registered with other content.
        """
        rules.check_member(member)
        return await self.put(tables.members, rows.member_row(member), "member", member.id, replace)

    async def add_subsystem(self, subsystem: Subsystem, *, replace: bool = False) -> Change | None:
        """Register a subsystem of a registered member; its state is changed by `set_subsystem_state` only."""
        rules.check_subsystem(subsystem)
        row = rows.subsystem_row(subsystem)
        await self.must_exist(tables.members, row["member"], "member", pointer="/id")
        before = await self.find(tables.subsystems, id=subsystem.id)
        if before is not None:
            row["state"] = before["state"]
        return await self.put(tables.subsystems, row, "subsystem", subsystem.id, replace)

    async def set_subsystem_state(self, identifier: SubsystemId, *, active: bool) -> Change | None:
        """Suspend a subsystem, or let it act again."""
        before = await self.must_exist(tables.subsystems, identifier, "subsystem")
        row = {**before, "state": "active" if active else "suspended"}
        action = "subsystem.activate" if active else "subsystem.suspend"
        return await self.put(tables.subsystems, row, action, identifier, replace=True)

    async def add_service(self, service: Service, *, replace: bool = False) -> Change | None:
        """Register a service of a registered subsystem; its state is changed by `set_service_state` only.

        With `replace`, operations that are no longer declared are withdrawn.
        """
        rules.check_service_id(service.id)
        rules.check_service(service)
        await self.must_exist(tables.subsystems, service.owner, "subsystem", pointer="/id")
        row = rows.service_row(service)
        before = await self.find(tables.services, id=service.id)
        if before is not None:
            row |= {"state": before["state"], "notice": before["notice"]}
        known = await self._operations(service.id)
        declared = {(each.method, each.path): each for each in service.operations}
        active = {key: operation for key, (operation, state) in known.items() if state == "active"}
        after_operations = _plain_operations(list(declared.values()))
        if before is not None:
            before_operations = _plain_operations(list(active.values()))
            if before == row and before_operations == after_operations:
                return None
            if not replace:
                raise _conflict("service", service.id)
            before = {**before, "operations": before_operations}
        change = await self.record("service", service.id, before, {**row, "operations": after_operations})
        await self.write(tables.services, row, change.version, exists=before is not None)
        for key, operation in {**active, **declared}.items():
            if key in declared and active.get(key) == operation:
                continue
            values = {
                "service": service.id,
                "method": operation.method,
                "path": operation.path,
                "safe": operation.safe,
                "state": "active" if key in declared else "withdrawn",
            }
            await self.write(tables.operations, values, change.version, exists=key in known)
        return change

    async def set_service_state(self, identifier: ServiceId, *, is_open: bool, notice: str = "") -> Change | None:
        """Close a service with a notice for its callers, or open it again."""
        rules.check_text("notice", notice, empty=is_open)
        before = await self.must_exist(tables.services, identifier, "service")
        row = {**before, "state": "open" if is_open else "disabled", "notice": "" if is_open else notice}
        action = "service.enable" if is_open else "service.disable"
        return await self.put(tables.services, row, action, identifier, replace=True)

    async def add_grant(self, grant: Grant, *, backdated: bool = False) -> Change | None:
        """Register a grant; one without an identifier gets `g` and the version, which is the change's `target`.

        Args:
            backdated: Whether it may begin before today, in China: for seeds and imports.

        Raises:
            UnprocessableError: A field is wrong, or it begins in the past.
            NotRegisteredError: It names a subject, service or resource that is not there.
            ConflictError: The identifier is registered with other terms, or was revoked: it does not come back to life. Or
                the grant overlaps another (rule `grant-overlap`), or names a closed group or a resource not in force.
        """
        return await giving.add_grant(self, grant, backdated=backdated)

    async def find_grant(self, grant_id: str) -> Grant | None:
        """A grant as it stands in this transaction."""
        row = await self._row(tables.grants, {"id": grant_id})
        return None if row is None else rows.grant_of_row(row)

    async def revoke(self, grant_id: str) -> Change | None:
        """End a grant now; a revoked one stays as it is."""
        return await giving.revoke(self, grant_id)

    async def add_group(self, group: Group, *, replace: bool = False) -> Change | None:
        """Register a group of subsystems, or change it with `replace`; a closed one does not come back."""
        return await giving.add_group(self, group, replace=replace)

    async def close_group(self, group_id: str) -> Change | None:
        """A group holds nobody from now on; what was granted to it stays on record."""
        return await giving.close_group(self, group_id)

    async def grant_role(self, grant: RoleGrant) -> Change | None:
        """Let a subsystem hold a role for a time; one without an identifier gets `r` and the version.

        Raises:
            ConflictError: It holds the role already (rule `role-overlap`), or the identifier is taken.
        """
        return await giving.grant_role(self, grant)

    async def find_role_grant(self, role_grant_id: str) -> RoleGrant | None:
        """A grant of a role as it stands in this transaction."""
        row = await self._row(tables.role_grants, {"id": role_grant_id})
        return None if row is None else rows.role_grant_of_row(row)

    async def revoke_role(self, role_grant_id: str) -> Change | None:
        """End the grant of a role now; a revoked one stays as it is."""
        return await giving.revoke_role(self, role_grant_id)

    async def revoke_standing_role(self, subsystem: SubsystemId, role: Role) -> Change | None:
        """Take away a role that a subsystem was registered with; None if it was not."""
        return await giving.revoke_standing_role(self, subsystem, role)

    async def register_certificate(
        self, subsystem: SubsystemId, certificate: bytes, *, use: CertificateUse = "adapter"
    ) -> Change | None:
        """Register a certificate (PEM or DER) that speaks for a subsystem.

        Checks that it names the subsystem or its member and is valid now; not who issued it.

        Raises:
            ConflictError: It is registered for another subsystem or use, or was revoked.
        """
        record = read_certificate(certificate, subsystem, use=use, now=self.now)
        await self.must_exist(tables.subsystems, subsystem, "subsystem", pointer="/subsystem")
        row = rows.certificate_row(record)
        return await self.put(tables.certificates, row, "certificate", record.fingerprint, replace=False)

    async def revoke_certificate(self, fingerprint: str) -> Change | None:
        """A certificate no longer speaks for its subsystem; this does not come back."""
        before = await self.must_exist(tables.certificates, fingerprint, "certificate")
        row = {**before, "state": "revoked"}
        return await self.put(tables.certificates, row, "certificate.revoke", fingerprint, replace=True)

    async def put(self, table: sa.Table, row: dict[str, Any], action: str, target: str, replace: bool) -> Change | None:
        """Make `row` the content of a record; None if it is so already.

        Args:
            action: Such as `group` (then `.add` or `.replace` follows) or `group.close`.
            target: The record's identifier.

        Raises:
            ConflictError: It is registered with other content, and `replace` was not said.
        """
        before = await self.find(table, **{column.name: row[column.name] for column in table.primary_key})
        if before == row:
            return None
        if before is not None and not replace:
            raise _conflict(action, target)
        change = await self.record(action, target, before, row)
        await self.write(table, row, change.version, exists=before is not None)
        return change

    async def record(
        self, action: str, target: str, before: Mapping[str, Any] | None, after: Mapping[str, Any], version: int = 0
    ) -> Change:
        """Note a change under the next version (or the one taken already)."""
        if "." not in action:
            action += ".add" if before is None else ".replace"
        change = Change(
            version=version or await self.next_version(),
            at=self.now,
            by=self.by,
            why=self.why,
            action=action,
            target=target,
            before=None if before is None else _plain(before),
            after=_plain(after),
            certificate=self.certificate,
        )
        values = {name: getattr(change, name) for name in Change.__dataclass_fields__}
        await self.connection.execute(sa.insert(tables.registry_changes).values(values))
        self.made.append(change)
        return change

    async def next_version(self) -> int:
        """Take the next version of the registry."""
        table = tables.registry_version
        statement = sa.update(table).values(version=table.c.version + 1).returning(table.c.version)
        return int((await self.connection.execute(statement)).scalar_one())

    async def write(self, table: sa.Table, row: Mapping[str, Any], version: int, *, exists: bool) -> None:
        """Write a row that `record` noted under `version`."""
        values = {**row, "version": version}
        if not exists:
            await self.connection.execute(sa.insert(table).values(values))
            return
        key = [column == values[column.name] for column in table.primary_key]
        await self.connection.execute(sa.update(table).where(*key).values(values))

    async def _row(self, table: sa.Table, key: Mapping[str, Any]) -> rows.Row | None:
        query = sa.select(table).where(*(table.c[name] == value for name, value in key.items()))
        return (await self.connection.execute(query)).mappings().one_or_none()

    async def find(self, table: sa.Table, **key: str) -> dict[str, Any] | None:
        """The row's content, without its version."""
        row = await self._row(table, key)
        return None if row is None else {name: value for name, value in row.items() if name != "version"}

    async def must_exist(self, table: sa.Table, identifier: str, what: str, *, pointer: str = "") -> dict[str, Any]:
        """The row's content, without its version.

        Args:
            pointer: The member of a record that names it; empty where it is what the change is about.

        Raises:
            NotFoundError: There is none; NotRegisteredError with the pointer, if one is given.
        """
        found = await self.find(table, **{next(iter(table.primary_key)).name: identifier})
        if found is None:
            missing = {"what": f"{what} {identifier[:400]}", "what_zh": f"{_NOUNS.get(what, what)} {identifier[:400]}"}
            raise NotRegisteredError(**missing, pointer=pointer) if pointer else NotFoundError(**missing)
        return found

    async def _operations(self, service: ServiceId) -> dict[tuple[str, str], tuple[Operation, str]]:
        query = sa.select(tables.operations).where(tables.operations.c.service == service)
        found = (await self.connection.execute(query)).mappings()
        return {(row["method"], row["path"]): (rows.operation_of_row(row).operation, row["state"]) for row in found}


def _conflict(what: str, target: str) -> ConflictError:
    return ConflictError(
        problem=f"The {what} {target} is registered with other content; say replace if that is meant.",
        problem_zh=f"{target} 已登记且内容不同；如确需修改，请指明替换（replace）。",
    )


def _plain_operations(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    ordered = sorted(operations, key=lambda each: (each.path, each.method))
    return [{"method": each.method, "path": each.path, "safe": each.safe} for each in ordered]


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON that anybody can read later without knowing our types."""
    return {
        name: value.isoformat()
        if isinstance(value, datetime)
        else base64.b64encode(value).decode()
        if isinstance(value, bytes)
        else value
        for name, value in row.items()
    }
