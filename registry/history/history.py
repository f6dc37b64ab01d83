"""The registry as of a moment that is past, from the record of changes (decision 0017).

There are two times: when something holds, and when it was known. Rules:
1. What takes effect by being recorded (members, subsystems, services, groups, certificates, resources) is as it stood at the
   moment. What was first recorded after it, and by `known_at`, is as it was first recorded: so that grants that began
   before they were recorded can be asked about.
2. Grants, of roles too, hold from `valid_from` to `valid_to`: those recorded by `known_at` count, unless they had been revoked
   at the moment.
3. What was known at the moment itself is the default. It is what gateways decided by.
4. Later changes alter no answer, but those to questions with a later `known_at`.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange import UtcDateTime
from registry import rows, tables
from registry.catalogue.tables import resources
from registry.records import Operation, OperationEntry, Rows
from registry.snapshot import Snapshot

_BATCH = 500

_OPERATIONS = "operations"
"""They stand in what is recorded of a service when it is described, and have no changes of their own."""

# Which changes hold the content of which table.
_RECORDED: Mapping[str, tuple[str, ...]] = {
    "members": ("member.add", "member.replace"),
    "subsystems": ("subsystem.add", "subsystem.replace", "subsystem.suspend", "subsystem.activate"),
    "services": ("service.add", "service.replace", "service.enable", "service.disable"),
    "certificates": ("certificate.add", "certificate.replace", "certificate.revoke"),
    "groups": ("group.add", "group.replace", "group.close"),
    "resources": ("resource.add", "resource.replace", "resource.draft", "resource.publish", "resource.withdraw"),
    "grants": ("grant.add", "grant.revoke"),
    "role_grants": ("role.grant", "role.revoke"),
}
_DESCRIBED: Mapping[str, tuple[str, ...]] = {_OPERATIONS: ("service.add", "service.replace")}
_TIMED = ("grants", "role_grants")
_REVOCATIONS = ("grant.revoke", "role.revoke")

# What older records lack, because it came with migration 0003.
_CAME_LATER: Mapping[str, Any] = {
    "level": "",
    "division": "",
    "listed": True,
    "client_group": None,
    "resource": "",
    "items": [],
    "masks": {},
    "quota_per_second": 0,
    "quota_per_day": 0,
    "case_pattern": "",
    "application": "",
    "signed_requests": False,
}

Contents = dict[str, list[dict[str, Any]]]
"""Rows with their versions, by table."""


async def snapshot_at(
    connection: AsyncConnection,
    moment: datetime,
    known_at: datetime | None = None,
    *,
    only: Sequence[str] = (*_RECORDED, _OPERATIONS),
) -> Snapshot:
    """The snapshot of the registry as of `moment`.

    Args:
        connection: It must see one state (`reading`).
        known_at: The moment itself when not said.
        only: Names of the tables that are wanted: grants are most of a registry, and many questions do without them.
    """
    return Snapshot.empty().with_changes(await rows_at(connection, moment, known_at or moment, only=only))


async def rows_at(
    connection: AsyncConnection,
    moment: datetime,
    known_at: datetime,
    *,
    only: Sequence[str] = (*_RECORDED, _OPERATIONS),
) -> Rows:
    """What the record of changes says of every record as of `moment`; of operations, those that were declared."""
    recorded = {name: actions for name, actions in _RECORDED.items() if name in only}
    contents = await _contents(connection, recorded, moment, known_at)
    if _OPERATIONS in only:
        contents |= await _contents(connection, _DESCRIBED, moment, known_at)
    return rows_of(contents)


def rows_of(contents: Contents) -> Rows:
    """The rows as records."""

    def of(name: str) -> list[dict[str, Any]]:
        return contents.get(name, [])

    return Rows(
        version=max((each["version"] for held in contents.values() for each in held), default=0),
        members=tuple(map(rows.member_of_row, of("members"))),
        subsystems=tuple(map(rows.subsystem_of_row, of("subsystems"))),
        services=tuple(map(rows.service_of_row, of("services"))),
        operations=tuple(entry for each in of(_OPERATIONS) for entry in _operations_of(each)),
        grants=tuple(map(rows.grant_of_row, of("grants"))),
        certificates=tuple(map(rows.certificate_of_row, of("certificates"))),
        groups=tuple(map(rows.group_of_row, of("groups"))),
        role_grants=tuple(map(rows.role_grant_of_row, of("role_grants"))),
        resources=tuple(rows.resource_entry_of_row(each) for each in of("resources") if each["number"]),
    )


def content_of(table: str, after: Mapping[str, Any], version: int) -> dict[str, Any]:
    """The row that a change recorded as plain JSON."""
    row = {**_CAME_LATER, **after, "version": version}
    for column in _TABLES[table].columns:
        value = row.get(column.name)
        if isinstance(value, str) and isinstance(column.type, UtcDateTime):
            row[column.name] = datetime.fromisoformat(value).astimezone(UTC)
        elif isinstance(value, str) and isinstance(column.type, sa.LargeBinary):
            row[column.name] = base64.b64decode(value)
    return row


async def changes_of(
    connection: AsyncConnection, names: Sequence[str], after: datetime, until: datetime
) -> AsyncIterator[Rows]:
    """The changes of some tables after a moment and until another, one after the other, as what they changed."""
    table = tables.registry_changes
    wanted = {name: _RECORDED[name] for name in names}
    query = sa.select(_table_of(wanted).label("name"), table.c.version, table.c.after)
    query = query.where(_is_of(wanted), table.c.at > after, table.c.at <= until).order_by(table.c.version)
    for row in (await connection.execute(query)).mappings():
        yield rows_of({row["name"]: [content_of(row["name"], row["after"], row["version"])]})


async def _contents(
    connection: AsyncConnection, wanted: Mapping[str, Sequence[str]], moment: datetime, known_at: datetime
) -> Contents:
    """For each record the change that tells what it is, as the rules say."""
    table = tables.registry_changes
    name = _table_of(wanted)
    recorded = sa.or_(table.c.at <= moment, name.in_(_TIMED))
    place = sa.func.row_number().over(
        partition_by=(name, table.c.target),
        # The newest that counts; of what was first recorded later, the oldest.
        order_by=(sa.case((recorded, 0), else_=1), sa.case((recorded, -table.c.version), else_=table.c.version)),
    )
    told = sa.select(table.c.version, name.label("name"), place.label("place")).where(
        _is_of(wanted),
        table.c.at <= known_at,
        sa.or_(table.c.at <= moment, table.c.action.not_in(_REVOCATIONS)),
    )
    found = told.subquery("told")
    query = (
        sa.select(found.c.name, table.c.version, table.c.after)
        .join(table, table.c.version == found.c.version)
        .where(found.c.place == 1)
        .order_by(table.c.version)
    )
    contents: Contents = {}
    async with connection.stream(query) as result:
        async for batch in result.mappings().partitions(_BATCH):
            for row in batch:
                content = content_of(row["name"], row["after"], row["version"])
                contents.setdefault(row["name"], []).append(content)
    return contents


def _table_of(wanted: Mapping[str, Sequence[str]]) -> sa.Case[str]:
    """The table that a change is about. A standing role is taken away by a change of its subsystem, which has slashes."""
    table = tables.registry_changes
    of_subsystem = sa.and_(table.c.action == "role.revoke", table.c.target.like("%/%"))
    return sa.case(
        (of_subsystem, "subsystems"), *((table.c.action.in_(actions), name) for name, actions in wanted.items())
    )


def _is_of(wanted: Mapping[str, Sequence[str]]) -> sa.ColumnElement[bool]:
    actions = [action for each in wanted.values() for action in each]
    table = tables.registry_changes
    named = table.c.action.in_(actions)
    if "subsystems" not in wanted:
        return named
    return sa.or_(named, sa.and_(table.c.action == "role.revoke", table.c.target.like("%/%")))


def _operations_of(described: Mapping[str, Any]) -> list[OperationEntry]:
    return [
        OperationEntry(service=described["id"], operation=Operation(**operation), active=True)
        for operation in described["operations"]
    ]


_TABLES = {
    **{name: getattr(tables, name) for name in _RECORDED if name != "resources"},
    "resources": resources,
    _OPERATIONS: tables.services,
}
