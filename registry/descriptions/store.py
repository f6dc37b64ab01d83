"""The documents of services in the registry's database: registered, numbered, never deleted.

Rules:
1. Documents of a service are numbered from 1; the one with the highest number counts. The same bytes again are no new one.
2. A document is registered in one transaction with the operations it declares; the service's titles and limits stay.
3. What breaks callers is registered only when that is said to be meant.
4. The record of changes holds a document's digest and size, not its text: the text stays here as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa

from exchange import ConflictError, NotFoundError, ServiceId, SubsystemId, owner_of
from registry import rows, tables
from registry.actors import Actor
from registry.changes import Changes
from registry.descriptions.difference import Difference
from registry.descriptions.document import MEDIA_TYPES, Format
from registry.descriptions.examination import Examination, Examiner
from registry.descriptions.impact import Impact, impact_of
from registry.descriptions.operations import Description
from registry.descriptions.reading import digest_of
from registry.descriptions.tables import service_documents
from registry.records import Change
from registry.registry import Registry
from registry.snapshot import Snapshot

_TOLD = 3
"""Breaking changes that a refusal names."""


class BreakingChangeError(ConflictError):
    """A document breaks what callers rely on, and nobody said that this is meant."""

    rule_name = "breaking-change"
    next = {
        "en": "Look at a dry run, tell those affected, then register it again with accept_breaking.",
        "zh": "请先试运行查看影响并通知受影响的部门，然后注明 accept_breaking 重新登记。",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFacts:
    """A registered document, without its text."""

    service: ServiceId
    number: int
    format: Format
    openapi: str
    sha256: str
    size: int
    """Bytes."""
    registered_at: datetime
    registered_by: str

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.format]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDocument(DocumentFacts):
    """A registered document."""

    text: str
    shown: str
    """As callers are shown it: without the addresses of the department's systems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one document changes against another, and for whom."""

    difference: Difference
    breaking: tuple[Impact, ...]
    """The breaking changes of `difference`, each with those it concerns."""

    @property
    def affects(self) -> tuple[SubsystemId, ...]:
        """Everybody whom a breaking change concerns."""
        return tuple(sorted({subsystem for each in self.breaking for subsystem in each.affects}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What became of a document."""

    number: int
    """Its number; in a dry run, the one it would get."""
    comparison: Comparison
    description: Description | None = None
    """What it says; None when it is registered already and was not looked at again."""
    change: Change | None = None
    """That it was registered; None when nothing changed."""


class Descriptions:
    """The documents of one registry's services."""

    def __init__(
        self,
        registry: Registry,
        examiner: Examiner | None = None,
        *,
        snapshot: Callable[[], Snapshot] | None = None,
    ) -> None:
        """
        Args:
            snapshot: Where the registry as it is now is to be had; asked of the database if nothing else is given.
        """
        self._registry = registry
        self._examiner = examiner or Examiner()
        self._snapshot = snapshot

    async def register(
        self,
        service: ServiceId,
        data: bytes,
        *,
        actor: Actor,
        why: str = "",
        accept_breaking: bool = False,
        dry_run: bool = False,
    ) -> Registration:
        """Register a document of a service, with the operations that it declares.

        Args:
            why: The reason; `OpenAPI` and its version if none is given.
            accept_breaking: Whether it is meant to break what callers rely on.
            dry_run: Whether only to say what would be.

        Raises:
            RoleMissingError: The actor may not describe what the service's owner offers.
            NotFoundError: The service is not registered.
            UnprocessableError: The document is wrong; `pointer` says where.
            BreakingChangeError: It breaks callers, and that was not accepted.
            ConflictError: Somebody else registered one meanwhile.
        """
        actor.require_describer_of(owner_of(service))
        before = await self._newest(service)
        if before is not None and before.sha256 == digest_of(data):
            return Registration(number=before.number, comparison=Comparison(difference=Difference(), breaking=()))
        examination = await self._examiner.examine(data, None if before is None else before.text.encode())
        comparison = await self._with_impact(service, examination.difference)
        number = 1 if before is None else before.number + 1
        registration = Registration(number=number, comparison=comparison, description=examination.description)
        if dry_run:
            return registration
        if comparison.breaking and not accept_breaking:
            raise _breaking(comparison)
        why = why or f"OpenAPI {examination.openapi}"
        async with self._registry.change(by=actor.by, why=why, certificate=actor.certificate) as change:
            if await _count(change, service) != number - 1:
                raise _overtaken(service)
            made = await _add(change, service, number, examination, data.decode("utf-8-sig"))
        return replace(registration, change=made)

    async def compare(self, service: ServiceId, data: bytes) -> Comparison:
        """What a document would change against the one that counts, and for whom. Raises as `register` does."""
        before = await self._newest(service)
        examination = await self._examiner.examine(data, None if before is None else before.text.encode())
        return await self._with_impact(service, examination.difference)

    async def compare_registered(self, service: ServiceId, old: int, new: int) -> Comparison:
        """What a registered document changes against another one, and for whom by what is granted now.

        Raises:
            NotFoundError: There is no such service, or no document of that number.
        """
        before, after = await self.document(service, old), await self.document(service, new)
        examination = await self._examiner.examine(after.text.encode(), before.text.encode())
        return await self._with_impact(service, examination.difference)

    async def document(self, service: ServiceId, number: int | None = None) -> ServiceDocument:
        """A document of a service, the one that counts if no number is given.

        Raises:
            NotFoundError: There is none.
        """
        table = service_documents
        query = sa.select(table).where(table.c.service == service).order_by(table.c.number.desc()).limit(1)
        if number is not None:
            query = query.where(table.c.number == number)
        async with self._registry.reading() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            which, which_zh = (f" number {number}", f"第 {number} 号") if number is not None else ("", "")
            raise NotFoundError(
                "service-document",
                what=f"OpenAPI document{which} of {service}",
                what_zh=f" {service} 的{which_zh} OpenAPI 文档",
            )
        return ServiceDocument(**_facts(row), text=row["text"], shown=row["shown"] or row["text"])

    async def documents(self, service: ServiceId) -> tuple[DocumentFacts, ...]:
        """All documents of a service, the newest first."""
        table = service_documents
        columns = [table.c[name] for name in DocumentFacts.__dataclass_fields__]
        query = sa.select(*columns).where(table.c.service == service).order_by(table.c.number.desc())
        async with self._registry.reading() as connection:
            return tuple([DocumentFacts(**_facts(row)) for row in (await connection.execute(query)).mappings()])

    async def described(self, owner: SubsystemId) -> frozenset[ServiceId]:
        """The services of a subsystem that have a document."""
        table = service_documents
        joined = table.join(tables.services, tables.services.c.id == table.c.service)
        query = sa.select(table.c.service).distinct().select_from(joined).where(tables.services.c.subsystem == owner)
        async with self._registry.reading() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def _newest(self, service: ServiceId) -> ServiceDocument | None:
        """The document that counts, if there is one; raises NotFoundError if there is no such service."""
        async with self._registry.reading() as connection:
            query = sa.select(tables.services.c.id).where(tables.services.c.id == service)
            if (await connection.execute(query)).scalar_one_or_none() is None:
                raise NotFoundError(what=f"service {service}", what_zh=f"服务 {service}")
        try:
            return await self.document(service)
        except NotFoundError:
            return None

    async def _with_impact(self, service: ServiceId, found: Difference) -> Comparison:
        if not found.breaking:
            return Comparison(difference=found, breaking=())
        snapshot = self._snapshot() if self._snapshot else await self._registry.snapshot()
        now = self._registry.now().timestamp()
        return Comparison(difference=found, breaking=impact_of(found.breaking, service, snapshot, now))


async def _count(change: Changes, service: ServiceId) -> int:
    query = sa.select(sa.func.max(service_documents.c.number)).where(service_documents.c.service == service)
    return (await change.connection.execute(query)).scalar_one() or 0


async def _add(change: Changes, service: ServiceId, number: int, found: Examination, text: str) -> Change:
    stated = await change.must_exist(tables.services, service, "service")
    facts: dict[str, Any] = {
        "service": service,
        "number": number,
        "format": found.format,
        "openapi": found.openapi,
        "sha256": found.sha256,
        "size": len(text.encode()),
        "registered_at": change.now,
        "registered_by": change.by,
    }
    made = await change.record("document", f"{service}/openapi/{number}", None, facts)
    await change.write(service_documents, {**facts, "text": text, "shown": found.shown}, made.version, exists=False)
    operations = tuple(each.operation for each in found.description.operations)
    record = replace(rows.service_of_row(cast("rows.Row", stated)), operations=operations)
    await change.add_service(record, replace=True)
    return made


def _facts(row: rows.Row) -> dict[str, Any]:
    return {name: row[name] for name in DocumentFacts.__dataclass_fields__}


def _breaking(comparison: Comparison) -> BreakingChangeError:
    told = [each.alteration for each in comparison.breaking]
    ways, concerned = len(told), len(comparison.affects)
    first = " ".join(f"{each.method} {each.path}: {each.en}".lstrip(": ") for each in told[:_TOLD])
    first_zh = "".join(f"{each.method} {each.path}：{each.zh}".lstrip("： ") for each in told[:_TOLD])
    more, more_zh = (f" And {ways - _TOLD} more.", f"另有 {ways - _TOLD} 项。") if ways > _TOLD else ("", "")
    whom = f"{concerned} subsystem{' is' if concerned == 1 else 's are'} concerned"
    return BreakingChangeError(
        problem=f"The document breaks callers in {ways} way{'s' * (ways > 1)}, and {whom}. {first}{more}",
        problem_zh=f"文档有 {ways} 项不兼容变更，涉及 {concerned} 个子系统。{first_zh}{more_zh}",
        pointer=told[0].pointer,
    )


def _overtaken(service: ServiceId) -> ConflictError:
    return ConflictError(
        problem=f"Another document of {service} was registered meanwhile; compare with that one.",
        problem_zh=f"{service} 的另一份文档刚刚登记，请与其比较后重试。",
    )
