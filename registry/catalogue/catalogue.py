"""The catalogue as the API and the command line use it: each change a transaction of its own, each answer one state."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace as with_fields

import sqlalchemy as sa

from registry.actors import Actor
from registry.catalogue import search as searching
from registry.catalogue import store
from registry.catalogue.codes import NATIONAL, CodeScheme
from registry.catalogue.dcat import Publisher
from registry.catalogue.documents import ResourceDocument
from registry.catalogue.imports import Candidate, ImportReport, import_resources, save_document
from registry.catalogue.resource import CatalogueEntry, Department, ResourceVersion
from registry.catalogue.tables import resources
from registry.catalogue.writer import publish_resource, withdraw_resource
from registry.records import Change
from registry.registry import Registry

_BATCH = 50
"""Few: contents are long, and reading them must not hold up a loop that serves exchanges."""


class _UndoneError(Exception):
    """Ends a transaction that is not to be kept."""


class Catalogue:
    """The resources of a mesh.

    Args:
        schemes: Which codes are known here (`code_schemes`).
    """

    def __init__(self, registry: Registry, schemes: Sequence[CodeScheme] = NATIONAL) -> None:
        self._registry = registry
        self._schemes = schemes

    async def save(self, actor: Actor, document: ResourceDocument, *, why: str, replace: bool = False) -> Change | None:
        """Write a draft; see `save_document`."""
        async with self._registry.change(by=actor.by, why=why, certificate=actor.certificate) as change:
            return await save_document(change, actor, document, replace=replace, schemes=self._schemes)

    async def publish(self, actor: Actor, code: str, *, why: str) -> Change | None:
        """Put a draft into force; see `publish_resource`."""
        async with self._registry.change(by=actor.by, why=why, certificate=actor.certificate) as change:
            return await publish_resource(change, actor, code, schemes=self._schemes)

    async def withdraw(self, actor: Actor, code: str, *, why: str) -> Change | None:
        """Take a resource out of force; see `withdraw_resource`."""
        async with self._registry.change(by=actor.by, why=why, certificate=actor.certificate) as change:
            return await withdraw_resource(change, actor, code)

    async def take_in(
        self, actor: Actor, candidates: Sequence[Candidate], *, why: str, publish: bool = False, dry_run: bool = False
    ) -> ImportReport:
        """Import resources, all or none; see `import_resources`. A dry run writes nothing, whatever it finds."""
        report: ImportReport | None = None
        try:
            async with self._registry.change(by=actor.by, why=why, certificate=actor.certificate) as change:
                report = await import_resources(change, actor, candidates, publish=publish, schemes=self._schemes)
                if dry_run or report.faults:
                    raise _UndoneError
        except _UndoneError:
            assert report is not None
            return with_fields(report, applied=False)
        return report

    async def entry(self, actor: Actor, code: str) -> tuple[CatalogueEntry, Department]:
        """A resource as the actor may see it, and who provides it; raises NotFoundError."""
        async with self._registry.reading() as connection:
            found = await store.load_entry(connection, code, actor)
            departments = await store.load_departments(connection, [found.provider])
            return found, departments[found.provider]

    async def versions(self, actor: Actor, code: str) -> tuple[ResourceVersion, ...]:
        """Every published version, the first one first; raises NotFoundError."""
        async with self._registry.reading() as connection:
            return await store.load_versions(connection, code, actor)

    async def search(self, actor: Actor, search: searching.ResourceSearch) -> searching.FoundResources:
        """One page; see `search_resources`."""
        async with self._registry.reading() as connection:
            return await searching.search_resources(connection, search, actor)

    async def published(self, department: str = "") -> AsyncGenerator[tuple[CatalogueEntry, Department], None]:
        """Every resource in force with who provides it, in the order of codes; close it when leaving early.

        Args:
            department: Only those of this member or subsystem.
        """
        query = sa.select(resources).where(resources.c.state == "published").order_by(resources.c.code)
        if department:
            query = query.where(sa.or_(*searching.below(resources.c.provider, department)))
        async with self._registry.reading() as connection, connection.stream(query) as result:
            async for batch in result.mappings().partitions(_BATCH):
                departments = await store.load_departments(connection, [row["provider"] for row in batch])
                for row in batch:
                    yield store.entry_of_row(row), departments[row["provider"]]

    async def publisher(self) -> Publisher:
        """Who publishes the catalogue as a whole: the member that operates the mesh."""
        async with self._registry.reading() as connection:
            return await store.load_publisher(connection)
