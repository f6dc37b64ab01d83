"""The registry's own record of changes as others read it: auditors page by page, the exchange log one after the other.

Rules:
1. A change and its row are one transaction, so this table is the outbox of the log: whatever ends a process, each change is
   here, and the log is given what it lacks.
2. For each log it is kept up to which change all are in it. That is a place to go on from and no proof: the log itself takes
   each change once. Moving it changes nothing that is registered, so it takes no version.
3. The registry has an identity, chosen once at random: versions of two registries are different things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from registry import rows, tables
from registry.records import Change
from registry.registry import Registry

registry_identity = sa.Table(
    "registry_identity",
    tables.metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("identity", sa.String(36), nullable=False),
)

recorded_changes = sa.Table(
    "recorded_changes",
    tables.metadata,
    sa.Column("log_origin", sa.String(400), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)

_changes = tables.registry_changes


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFilter:
    """What changes to look for; empty and None mean any."""

    target: str = ""
    action: str = ""
    """How the action begins: `grant` is all about grants, `grant.revoke` one of it."""
    by: str = ""
    """How `by` begins: a subsystem is whoever acted for it."""
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""


class ChangeBook:
    """Reads the changes of one registry, and keeps up to where logs have them. Any number of tasks may use it at once."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._identity = ""

    async def identity(self) -> str:
        """The registry's identity, a UUID."""
        if not self._identity:
            async with self.registry.reading() as connection:
                query = sa.select(registry_identity.c.identity)
                self._identity = str((await connection.execute(query)).scalar_one())
        return self._identity

    async def find(self, version: int) -> Change | None:
        """The change that made this version of the registry."""
        found = await self.all_of([version])
        return found[0] if found else None

    async def all_of(self, versions: Sequence[int]) -> tuple[Change, ...]:
        """The changes with these versions, a thousand at most, as far as there are any."""
        async with self.registry.reading() as connection:
            return await _read(connection, sa.select(_changes).where(_changes.c.version.in_(versions)))

    async def after(self, version: int, *, limit: int) -> tuple[Change, ...]:
        """Changes after a version, oldest first."""
        async with self.registry.reading() as connection:
            return await _after(connection, version, limit)

    async def page(
        self, wanted: ChangeFilter, *, before: int | None = None, limit: int
    ) -> tuple[tuple[Change, ...], bool]:
        """Changes, newest first, and whether there are more.

        Args:
            before: Version of the last one of the page before: pages stay right while changes are added.
        """
        query = sa.select(_changes).order_by(_changes.c.version.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(_changes.c.version < before)
        if wanted.target:
            query = query.where(_changes.c.target == wanted.target)
        for column, beginning in ((_changes.c.action, wanted.action), (_changes.c.by, wanted.by)):
            if beginning:
                query = query.where(sa.func.substr(column, 1, len(beginning)) == beginning)
        if wanted.since is not None:
            query = query.where(_changes.c.at >= wanted.since)
        if wanted.until is not None:
            query = query.where(_changes.c.at < wanted.until)
        async with self.registry.reading() as connection:
            found = await _read(connection, query)
        return found[:limit], len(found) > limit

    async def recorded(self, log: str) -> int:
        """Up to which change a log has them all, 0 if none."""
        async with self.registry.reading() as connection:
            return await _cursor(connection, log)

    async def unrecorded(self, log: str, *, limit: int, start_at: int | None = None) -> tuple[int, tuple[Change, ...]]:
        """Up to which change a log has them all, and the next ones, oldest first.

        Args:
            log: Name of the log, with the identifier of its key.
            start_at: A version to take instead of what is kept about the log.
        """
        async with self.registry.reading() as connection:
            cursor = await _cursor(connection, log) if start_at is None else start_at
            return cursor, await _after(connection, cursor, limit)

    async def mark_recorded(self, log: str, version: int) -> None:
        """Note that a log has every change up to this one; unless it was no change of ours, what is noted stays noted."""
        async with self.registry.writing() as connection:
            insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
            statement = insert(recorded_changes).values(log_origin=log, version=version)
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[recorded_changes.c.log_origin],
                    set_={"version": statement.excluded.version},
                    where=sa.or_(
                        recorded_changes.c.version < statement.excluded.version,
                        recorded_changes.c.version > sa.select(tables.registry_version.c.version).scalar_subquery(),
                    ),
                )
            )


async def _cursor(connection: AsyncConnection, log: str) -> int:
    query = sa.select(recorded_changes.c.version).where(recorded_changes.c.log_origin == log)
    kept = (await connection.execute(query)).scalar_one_or_none() or 0
    # Beyond the last change it is nothing that we noted: an old copy was put back, or somebody wrote it.
    return kept if kept <= await rows.load_version(connection) else 0


async def _after(connection: AsyncConnection, version: int, limit: int) -> tuple[Change, ...]:
    query = sa.select(_changes).where(_changes.c.version > version).order_by(_changes.c.version).limit(limit)
    return await _read(connection, query)


async def _read(connection: AsyncConnection, query: sa.Select[tuple[object, ...]]) -> tuple[Change, ...]:
    return tuple([rows.change_of_row(row) for row in (await connection.execute(query)).mappings()])
