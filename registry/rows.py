"""Records to rows and back, and loading what changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange import ServiceId, SubsystemId, member_of
from registry import tables
from registry.catalogue.resource import access_of
from registry.catalogue.tables import resources
from registry.descriptions.tables import service_documents
from registry.records import (
    Certificate,
    Change,
    DocumentEntry,
    Grant,
    Group,
    Member,
    Operation,
    OperationEntry,
    ResourceEntry,
    RoleGrant,
    Rows,
    Service,
    Subsystem,
)

Row = sa.RowMapping | Mapping[str, Any]
_BATCH = 500


def member_row(member: Member) -> dict[str, Any]:
    return {
        "id": member.id,
        "name": member.name,
        "name_en": member.name_en,
        "check_exception": member.check_exception,
        "level": member.level,
        "division": member.division,
    }


def member_of_row(row: Row) -> Member:
    return Member(
        id=row["id"],
        name=row["name"],
        name_en=row["name_en"],
        check_exception=row["check_exception"],
        level=row["level"],
        division=row["division"],
    )


def subsystem_row(subsystem: Subsystem) -> dict[str, Any]:
    return {
        "id": subsystem.id,
        "member": member_of(subsystem.id),
        "name": subsystem.name,
        "name_en": subsystem.name_en,
        "roles": sorted(set(subsystem.roles)),
        "state": "active" if subsystem.active else "suspended",
    }


def subsystem_of_row(row: Row) -> Subsystem:
    return Subsystem(
        id=row["id"],
        name=row["name"],
        name_en=row["name_en"],
        roles=tuple(row["roles"]),
        active=row["state"] == "active",
    )


def service_row(service: Service) -> dict[str, Any]:
    return {
        "id": service.id,
        "subsystem": service.owner,
        "title_zh": service.title_zh,
        "title_en": service.title_en,
        "timeout_ms": round(service.timeout * 1000),
        "max_request_bytes": service.max_request_bytes,
        "max_answer_bytes": service.max_answer_bytes,
        "state": "open" if service.open else "disabled",
        "notice": service.notice,
        "listed": service.listed,
    }


def service_of_row(row: Row) -> Service:
    return Service(
        id=row["id"],
        title_zh=row["title_zh"],
        title_en=row["title_en"],
        timeout=row["timeout_ms"] / 1000,
        max_request_bytes=row["max_request_bytes"],
        max_answer_bytes=row["max_answer_bytes"],
        open=row["state"] == "open",
        notice=row["notice"],
        listed=row["listed"],
    )


def operation_of_row(row: Row) -> OperationEntry:
    operation = Operation(method=row["method"], path=row["path"], safe=row["safe"])
    return OperationEntry(service=row["service"], operation=operation, active=row["state"] == "active")


def role_grant_row(grant: RoleGrant) -> dict[str, Any]:
    return {
        "id": grant.id,
        "subsystem": grant.subsystem,
        "role": grant.role,
        "valid_from": grant.valid_from,
        "valid_to": grant.valid_to,
        "reason": grant.reason,
        "decided_by": grant.decided_by,
        "state": "active" if grant.active else "revoked",
        "revoked_at": grant.revoked_at,
        "revocation_reason": grant.revocation_reason,
    }


def role_grant_of_row(row: Row) -> RoleGrant:
    return RoleGrant(
        id=row["id"],
        subsystem=row["subsystem"],
        role=row["role"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        reason=row["reason"],
        decided_by=row["decided_by"],
        active=row["state"] == "active",
        revoked_at=row["revoked_at"],
        revocation_reason=row["revocation_reason"],
    )


def group_row(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "name_en": group.name_en,
        "members": sorted(set(group.members)),
        "level": group.level,
        "division": group.division,
        "subsystem_code": group.subsystem_code,
        "state": "active" if group.active else "closed",
    }


def group_of_row(row: Row) -> Group:
    return Group(
        id=row["id"],
        name=row["name"],
        name_en=row["name_en"],
        members=tuple(row["members"]),
        level=row["level"],
        division=row["division"],
        subsystem_code=row["subsystem_code"],
        active=row["state"] == "active",
    )


def resource_entry_of_row(row: Row | Mapping[str, Any]) -> ResourceEntry:
    """Of a row of `resources`, or of what the record of changes holds of one."""
    accesses = tuple(access_of(access) for access in row["accesses"])
    return ResourceEntry(code=row["code"], accesses=accesses, active=row["state"] == "published")


def document_of_row(row: Row) -> DocumentEntry:
    return DocumentEntry(service=row["service"], number=row["number"], sha256=row["sha256"])


def grant_row(grant: Grant) -> dict[str, Any]:
    return {
        "id": grant.id,
        "client": grant.client or None,
        "client_group": grant.group or None,
        "service": grant.service or None,
        "resource": grant.resource,
        "method": grant.method,
        "path": grant.path,
        "purposes": sorted(set(grant.purposes)),
        "signed_requests": grant.signed_requests,
        "items": sorted(set(grant.items)),
        "masks": dict(sorted(grant.masks.items())),
        "quota_per_second": grant.quota_per_second,
        "quota_per_day": grant.quota_per_day,
        "case_pattern": grant.case_pattern,
        "application": grant.application,
        "valid_from": grant.valid_from,
        "valid_to": grant.valid_to,
        "reason": grant.reason,
        "decided_by": grant.decided_by,
        "state": "active" if grant.active else "revoked",
        "revoked_at": grant.revoked_at,
        "revocation_reason": grant.revocation_reason,
    }


def grant_of_row(row: Row) -> Grant:
    return Grant(
        id=row["id"],
        client=row["client"] or SubsystemId(""),
        group=row["client_group"] or "",
        service=row["service"] or ServiceId(""),
        resource=row["resource"],
        method=row["method"],
        path=row["path"],
        purposes=tuple(row["purposes"]),
        signed_requests=row["signed_requests"],
        items=tuple(row["items"]),
        masks=row["masks"],
        quota_per_second=row["quota_per_second"],
        quota_per_day=row["quota_per_day"],
        case_pattern=row["case_pattern"],
        application=row["application"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        reason=row["reason"],
        decided_by=row["decided_by"],
        active=row["state"] == "active",
        revoked_at=row["revoked_at"],
        revocation_reason=row["revocation_reason"],
        version=row["version"],
    )


def certificate_row(certificate: Certificate) -> dict[str, Any]:
    return {
        "fingerprint": certificate.fingerprint,
        "subsystem": certificate.subsystem,
        "der": certificate.der,
        "use": certificate.use,
        "state": "active" if certificate.active else "revoked",
    }


def certificate_of_row(row: Row) -> Certificate:
    return Certificate(
        fingerprint=row["fingerprint"],
        subsystem=row["subsystem"],
        der=row["der"],
        use=row["use"],
        active=row["state"] == "active",
    )


def change_of_row(row: Row) -> Change:
    return Change(
        version=row["version"],
        at=row["at"],
        by=row["by"],
        why=row["why"],
        action=row["action"],
        target=row["target"],
        before=row["before"],
        after=row["after"],
        certificate=row["certificate"],
    )


async def load_version(connection: AsyncConnection) -> int:
    """The version of the registry now."""
    return int((await connection.execute(sa.select(tables.registry_version.c.version))).scalar_one())


async def load_rows(connection: AsyncConnection, since: int) -> Rows:
    """What changed after version `since`; all of it for 0. The connection must see one state (`reading`)."""
    version = await load_version(connection)
    return Rows(
        version=version,
        members=tuple([member_of_row(row) async for row in _changed(connection, tables.members, since)]),
        subsystems=tuple([subsystem_of_row(row) async for row in _changed(connection, tables.subsystems, since)]),
        services=tuple([service_of_row(row) async for row in _changed(connection, tables.services, since)]),
        operations=tuple([operation_of_row(row) async for row in _changed(connection, tables.operations, since)]),
        grants=tuple([grant_of_row(row) async for row in _changed(connection, tables.grants, since)]),
        certificates=tuple([certificate_of_row(row) async for row in _changed(connection, tables.certificates, since)]),
        groups=tuple([group_of_row(row) async for row in _changed(connection, tables.groups, since)]),
        role_grants=tuple([role_grant_of_row(row) async for row in _changed(connection, tables.role_grants, since)]),
        resources=tuple([resource_entry_of_row(row) async for row in _changed(connection, _entries, since)]),
        documents=tuple([document_of_row(row) async for row in _changed(connection, _documents, since)]),
    )


# What decisions need of a resource; its contents are long, and one that was never published is nobody's to call.
_entries = (
    sa.select(resources.c.code, resources.c.accesses, resources.c.state, resources.c.version)
    .where(resources.c.number > 0)
    .subquery("entries")
)
# Likewise of a document: its text is read when it is needed.
_documents = sa.select(*(service_documents.c[name] for name in ("service", "number", "sha256", "version"))).subquery(
    "documents"
)


async def _changed(connection: AsyncConnection, table: sa.FromClause, since: int) -> AsyncIterator[Row]:
    query = sa.select(table).where(table.c.version > since).order_by(table.c.version)
    # In batches: a registry of many grants must not hold up a loop that serves requests meanwhile.
    async with connection.stream(query) as result:
        async for batch in result.mappings().partitions(_BATCH):
            for row in batch:
                yield row
