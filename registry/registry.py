"""The registry in its database: changes, queries, and what a mirror reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from exchange import ServiceId, SubsystemId, create_engine, database_url, reading, sqlite_path, upgrade, writing
from registry import rows, tables
from registry.changes import Changes
from registry.file_watch import FileWatch
from registry.history import as_of, history
from registry.history.as_of import GrantInForce
from registry.records import CertificateUse, Change, Grant, Group, Member, Rows, Service, Subsystem
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

    def now(self) -> datetime:
        """The time by the registry's clock."""
        return self._clock()

    @asynccontextmanager
    async def change(self, *, by: str, why: str, certificate: str = "") -> AsyncIterator[Changes]:
        """Several changes in one transaction: all of them or none."""
        async with writing(self._engine) as connection:
            changes = Changes(connection, now=self._clock(), by=by, why=why, certificate=certificate)
            await changes.lock()
            yield changes

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose statements all see one state, for what lives in this database in modules of its own."""
        await self._check_file()
        async with reading(self._engine) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for what is not registered, only kept here: it takes no version, and leaves no change."""
        await self._check_file()
        async with writing(self._engine) as connection:
            yield connection

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
        client: SubsystemId | None = None,
        group: str = "",
        service: ServiceId | None = None,
        resource: str = "",
        purposes: Sequence[str],
        valid_to: datetime,
        valid_from: datetime | None = None,
        method: str = "*",
        path: str = "**",
        signed_requests: bool = False,
        items: Sequence[str] = (),
        masks: Mapping[str, str] | None = None,
        quota_per_second: int = 0,
        quota_per_day: int = 0,
        case_pattern: str = "",
        application: str = "",
        grant_id: str = "",
        decided_by: str = "",
        backdated: bool = False,
        by: str,
        why: str,
    ) -> Grant:
        """Let a client or group use a service or resource from `valid_from` (now) to `valid_to`; see `Changes.add_grant`."""
        async with self.change(by=by, why=why) as change:
            grant = Grant(
                id=grant_id,
                client=client or SubsystemId(""),
                group=group,
                service=service or ServiceId(""),
                resource=resource,
                method=method,
                path=path,
                signed_requests=signed_requests,
                purposes=tuple(purposes),
                items=tuple(items),
                masks=dict(masks or {}),
                quota_per_second=quota_per_second,
                quota_per_day=quota_per_day,
                case_pattern=case_pattern,
                application=application,
                valid_from=valid_from or change.now,
                valid_to=valid_to,
                reason=why,
                decided_by=decided_by or by,
            )
            added = await change.add_grant(grant, backdated=backdated)
            registered = await change.find_grant(added.target if added else grant_id)
        assert registered is not None  # just added, or found equal
        return registered

    async def revoke(self, grant_id: str, *, by: str, why: str) -> Change | None:
        """End a grant now."""
        async with self.change(by=by, why=why) as change:
            return await change.revoke(grant_id)

    async def add_group(self, group: Group, *, by: str, why: str, replace: bool = False) -> Change | None:
        """Register a group of subsystems; see `Changes.add_group`."""
        async with self.change(by=by, why=why) as change:
            return await change.add_group(group, replace=replace)

    async def close_group(self, group_id: str, *, by: str, why: str) -> Change | None:
        """A group holds nobody from now on."""
        async with self.change(by=by, why=why) as change:
            return await change.close_group(group_id)

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

    async def snapshot_at(self, moment: datetime, known_at: datetime | None = None) -> Snapshot:
        """The whole registry as of a moment that is past; see `registry.history.history`.

        Args:
            known_at: When it was known so; the moment itself when not said.
        """
        async with self.reading() as connection:
            return await history.snapshot_at(connection, moment, known_at)

    async def grants_as_of(
        self,
        day: date,
        *,
        known_at: datetime | None = None,
        client: SubsystemId | None = None,
        service: ServiceId | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> tuple[GrantInForce, ...]:
        """Every grant in force at some time of a day in China, and by whose decision; see `registry.history.as_of`.

        Args:
            after: Only those recorded after this version of the registry, and at most `limit` of them.
        """
        async with self.reading() as connection:
            return await as_of.grants_as_of(
                connection, day, known_at=known_at, client=client, service=service, after=after, limit=limit
            )

    async def grants(
        self,
        *,
        client: str | None = None,
        service: str | None = None,
        group: str | None = None,
        resource: str | None = None,
        application: str | None = None,
        revoked: bool = False,
    ) -> tuple[Grant, ...]:
        """Grants as they were given, by version; those of one subject or object, or from one application, if named.

        Args:
            client: Of these, what was given to the subsystem itself; what its groups hold is found by `group`.
            revoked: Whether revoked ones are wanted, too.
        """
        table = tables.grants
        query = sa.select(table).order_by(table.c.version)
        wanted = {
            table.c.client: client,
            table.c.service: service,
            table.c.client_group: group,
            table.c.resource: resource,
            table.c.application: application,
        }
        query = query.where(*(column == value for column, value in wanted.items() if value is not None))
        if not revoked:
            query = query.where(table.c.state == "active")
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
