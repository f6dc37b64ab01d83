"""The registry in its database: changes, queries, and what a mirror reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from exchange import ServiceId, SubsystemId, create_engine, database_url, reading, sqlite_path, upgrade, writing
from registry import rows, tables
from registry.changes import Changes
from registry.file_watch import FileWatch
from registry.records import CertificateUse, Change, Grant, Member, Rows, Service, Subsystem
from registry.seed import Seed, SeedReport, read_seed
from registry.snapshot import Snapshot

MIGRATIONS = "registry.migrations"

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Registry:
    """Members, subsystems, services, grants and certificates, and every change of them.

    Each changing method is a transaction of its own that says who changes and why, and returns the change, or None when
    everything was so already. Several changes in one transaction: `async with registry.change(by=..., why=...)`.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._clock = clock
        self._file = sqlite_path(engine.url)
        self._file_identity: tuple[int, int] | None = None
        self._watch = FileWatch(self._file) if self._file is not None else None
        self._watched: int | None = None
        self._version = 0

    @classmethod
    async def open(cls, url: str, *, clock: Clock = utc_now) -> Registry:
        """Bring the database at `url` to our schema, and return the registry in it. Close it after use.

        Raises:
            ValueError: Not a URL we support.
        """
        path = sqlite_path(database_url(url))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        await upgrade(url, MIGRATIONS)
        return cls(create_engine(url), clock)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        await self._engine.dispose()

    @asynccontextmanager
    async def change(self, *, by: str, why: str, certificate: str = "") -> AsyncIterator[Changes]:
        """Several changes in one transaction: all of them or none."""
        async with writing(self._engine) as connection:
            changes = Changes(connection, now=self._clock(), by=by, why=why, certificate=certificate)
            await changes.lock()
            yield changes

    async def add_member(self, member: Member, *, by: str, why: str, replace: bool = False) -> Change | None:
        """Register a member; see `Changes.add_member`."""
        async with self.change(by=by, why=why) as change:
            return await change.add_member(member, replace=replace)

    async def add_subsystem(self, subsystem: Subsystem, *, by: str, why: str, replace: bool = False) -> Change | None:
        """Register a subsystem; see `Changes.add_subsystem`."""
        async with self.change(by=by, why=why) as change:
            return await change.add_subsystem(subsystem, replace=replace)

    async def set_subsystem_state(self, subsystem: SubsystemId, *, active: bool, by: str, why: str) -> Change | None:
        """Suspend a subsystem, or let it act again."""
        async with self.change(by=by, why=why) as change:
            return await change.set_subsystem_state(subsystem, active=active)

    async def add_service(self, service: Service, *, by: str, why: str, replace: bool = False) -> Change | None:
        """Register a service with its operations; see `Changes.add_service`."""
        async with self.change(by=by, why=why) as change:
            return await change.add_service(service, replace=replace)

    async def set_service_state(
        self, service: ServiceId, *, is_open: bool, notice: str = "", by: str, why: str
    ) -> Change | None:
        """Close a service with a notice for its callers, or open it again."""
        async with self.change(by=by, why=why) as change:
            return await change.set_service_state(service, is_open=is_open, notice=notice)

    async def grant(
        self,
        *,
        client: SubsystemId,
        service: ServiceId,
        purposes: Sequence[str],
        valid_to: datetime,
        valid_from: datetime | None = None,
        method: str = "*",
        path: str = "**",
        signed_requests: bool = False,
        grant_id: str = "",
        decided_by: str = "",
        by: str,
        why: str,
    ) -> Grant:
        """Let `client` call operations of `service` from `valid_from` (now) to `valid_to`; see `Changes.add_grant`."""
        grant = Grant(
            id=grant_id,
            client=client,
            service=service,
            method=method,
            path=path,
            signed_requests=signed_requests,
            purposes=tuple(purposes),
            valid_from=valid_from or self._clock(),
            valid_to=valid_to,
            reason=why,
            decided_by=decided_by or by,
        )
        async with self.change(by=by, why=why) as change:
            added = await change.add_grant(grant)
            registered = await change.find_grant(added.target if added else grant_id)
        assert registered is not None  # just added, or found equal
        return registered

    async def revoke(self, grant_id: str, *, by: str, why: str) -> Change | None:
        """End a grant now."""
        async with self.change(by=by, why=why) as change:
            return await change.revoke(grant_id)

    async def register_certificate(
        self, subsystem: SubsystemId, certificate: bytes, *, use: CertificateUse = "adapter", by: str, why: str
    ) -> Change | None:
        """Register a certificate (PEM or DER) for a subsystem; see `Changes.register_certificate`."""
        async with self.change(by=by, why=why) as change:
            return await change.register_certificate(subsystem, certificate, use=use)

    async def revoke_certificate(self, fingerprint: str, *, by: str, why: str) -> Change | None:
        """A certificate no longer speaks for its subsystem."""
        async with self.change(by=by, why=why) as change:
            return await change.revoke_certificate(fingerprint)

    async def seed(self, path: Path, *, by: str = "seed", why: str = "") -> SeedReport:
        """Register what a seed file names and the registry lacks; see `Seed.apply`.

        Raises:
            UnprocessableError: The file breaks its format; the message names the line and the key. Nothing changed.
        """
        return await self.apply(read_seed(path), by=by, why=why or f"seed {path.name}")

    async def apply(self, seed: Seed, *, by: str, why: str) -> SeedReport:
        """Register what `seed` names and the registry lacks, in one transaction."""
        async with self.change(by=by, why=why) as change:
            return await seed.apply(change)

    async def version(self) -> int:
        """The version now; it grows with each change."""
        await self._check_file()
        # Looked at before the query: what is written in between is seen the next time.
        seen = self._watch.look() if self._watch is not None else None
        if seen is None or seen != self._watched:
            async with reading(self._engine) as connection:
                self._version = await rows.load_version(connection)
            self._watched = seen
        return self._version

    async def rows_since(self, version: int) -> Rows:
        """What changed after `version`, all of it for 0."""
        await self._check_file()
        async with reading(self._engine) as connection:
            return await rows.load_rows(connection, version)

    async def snapshot(self) -> Snapshot:
        """The whole registry as it is now."""
        return Snapshot.empty().with_changes(await self.rows_since(0))

    async def grants(
        self, *, client: str | None = None, service: str | None = None, revoked: bool = False
    ) -> tuple[Grant, ...]:
        """Grants by version, optionally of one client or service; revoked ones too if asked for."""
        query = sa.select(tables.grants).order_by(tables.grants.c.version)
        if client is not None:
            query = query.where(tables.grants.c.client == client)
        if service is not None:
            query = query.where(tables.grants.c.service == service)
        if not revoked:
            query = query.where(tables.grants.c.state == "active")
        return tuple(rows.grant_of_row(row) for row in await self._mappings(query))

    async def find_grant(self, grant_id: str) -> Grant | None:
        """One grant, revoked or not."""
        found = await self._mappings(sa.select(tables.grants).where(tables.grants.c.id == grant_id))
        return rows.grant_of_row(found[0]) if found else None

    async def changes(self, *, after: int = 0, target: str | None = None, limit: int = 100) -> tuple[Change, ...]:
        """Changes in their order, those after a version, optionally of one record."""
        table = tables.registry_changes
        query = sa.select(table).where(table.c.version > after).order_by(table.c.version).limit(limit)
        if target is not None:
            query = query.where(table.c.target == target)
        return tuple(rows.change_of_row(row) for row in await self._mappings(query))

    async def _mappings(self, query: sa.Select[tuple[object, ...]]) -> Sequence[rows.Row]:
        async with reading(self._engine) as connection:
            return (await connection.execute(query)).mappings().all()

    async def _check_file(self) -> None:
        """Notice that an SQLite file was removed or replaced: open connections would read the old one for ever.

        Raises:
            FileNotFoundError: It is gone; without this check an empty one would be made.
        """
        if self._file is None:
            return
        status = self._file.stat()
        identity = (status.st_dev, status.st_ino)
        if identity != self._file_identity:
            if self._file_identity is not None:
                await self._engine.dispose()
            if self._watch is not None:
                self._watch.close()
            self._watched = None
            self._file_identity = identity
