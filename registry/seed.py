"""Seeds: a readable TOML file that says who exists and who may ask for what; `example_seed.toml` explains the format.

Rules:
1. A seed only adds what is missing, and may be applied at every start: what was changed since (a grant revoked, a
   service closed, a title corrected) stays changed, and is listed as differing. So is a grant that overlaps one which was
   given elsewhere; two of the same seed must not.
2. Unknown keys, wrong types and missing keys are refused with the line and the key; then nothing is registered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from exchange import (
    ConflictError,
    Location,
    MemberId,
    MeshError,
    ServiceId,
    SubsystemId,
    TomlSource,
    read_toml,
)
from registry import records, rules, validity
from registry.actors import Actor
from registry.catalogue.documents import ResourceDocument
from registry.catalogue.writer import publish_resource, save_resource
from registry.changes import Changes
from registry.records import DEFAULT_MAX_ANSWER_BYTES, DEFAULT_MAX_REQUEST_BYTES, DEFAULT_TIMEOUT, Change, Level, Role

_Outcome = Literal["added", "unchanged", "differing"]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class SeedOperation(_Model):
    method: str
    path: str
    safe: bool | None = None


class SeedService(_Model):
    code: str
    title_zh: str
    title_en: str = ""
    timeout_ms: int = round(DEFAULT_TIMEOUT * 1000)
    max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES
    max_answer_bytes: int = DEFAULT_MAX_ANSWER_BYTES
    listed: bool = True
    operations: list[SeedOperation]

    async def register(self, identifier: ServiceId, change: Changes) -> _Outcome:
        rules.check_service_id(identifier)
        service = records.Service(
            id=identifier,
            title_zh=self.title_zh,
            title_en=self.title_en,
            timeout=self.timeout_ms / 1000,
            max_request_bytes=self.max_request_bytes,
            max_answer_bytes=self.max_answer_bytes,
            listed=self.listed,
            operations=tuple(records.Operation.of(each.method, each.path, each.safe) for each in self.operations),
        )
        return await _outcome(change.add_service(service))


class SeedSubsystem(_Model):
    code: str
    name: str
    name_en: str = ""
    roles: list[Role] = Field(default_factory=list)
    services: list[SeedService] = Field(default_factory=list)

    async def register(self, identifier: SubsystemId, change: Changes) -> _Outcome:
        subsystem = records.Subsystem(id=identifier, name=self.name, name_en=self.name_en, roles=tuple(self.roles))
        return await _outcome(change.add_subsystem(subsystem))


class SeedMember(_Model):
    id: str
    name: str
    name_en: str = ""
    check_exception: str = ""
    level: Level = ""
    division: str = ""
    subsystems: list[SeedSubsystem] = Field(default_factory=list)

    async def register(self, change: Changes) -> _Outcome:
        member = records.Member(
            id=MemberId(self.id),
            name=self.name,
            name_en=self.name_en,
            check_exception=self.check_exception,
            level=self.level,
            division=self.division,
        )
        return await _outcome(change.add_member(member))


class SeedGroup(_Model):
    id: str
    name: str
    name_en: str = ""
    members: list[str] = Field(default_factory=list)
    level: Level = ""
    division: str = ""
    subsystem_code: str = ""

    async def register(self, change: Changes) -> _Outcome:
        group = records.Group(
            id=self.id,
            name=self.name,
            name_en=self.name_en,
            members=tuple(map(SubsystemId, self.members)),
            level=self.level,
            division=self.division,
            subsystem_code=self.subsystem_code,
        )
        return await _outcome(change.add_group(group))


class SeedGrant(_Model):
    id: str
    client: str = ""
    group: str = ""
    service: str = ""
    resource: str = ""
    method: str = "*"
    path: str = "**"
    signed_requests: bool = False
    items: list[str] = Field(default_factory=list)
    masks: dict[str, str] = Field(default_factory=dict)
    quota_per_second: int = 0
    quota_per_day: int = 0
    case_pattern: str = ""
    purposes: list[str]
    valid_from: datetime | date
    valid_to: datetime | date
    reason: str
    decided_by: str

    async def register(self, seeded: frozenset[str], change: Changes) -> _Outcome:
        """
        Args:
            seeded: Identifiers of all grants of the seed.
        """
        grant = records.Grant(
            id=self.id,
            client=SubsystemId(self.client),
            group=self.group,
            service=ServiceId(self.service),
            resource=self.resource,
            method=self.method,
            path=self.path,
            signed_requests=self.signed_requests,
            items=tuple(self.items),
            masks=self.masks,
            quota_per_second=self.quota_per_second,
            quota_per_day=self.quota_per_day,
            case_pattern=self.case_pattern,
            purposes=tuple(self.purposes),
            valid_from=validity.begins(self.valid_from),
            valid_to=validity.ends(self.valid_to),
            reason=self.reason,
            decided_by=self.decided_by,
        )
        return await _outcome(change.add_grant(grant, backdated=True), seeded)


class SeedResource(ResourceDocument):
    """A resource of the catalogue, published."""

    async def register(self, change: Changes) -> _Outcome:
        """As the operator, and under the national codes: a seed begins a mesh."""
        operator = Actor.operator(change.by)
        outcome = await _outcome(save_resource(change, operator, self.resource()))
        if outcome == "added":
            await publish_resource(change, operator, self.code)
        return outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedReport:
    """What applying a seed did, by identifier."""

    added: tuple[str, ...]
    unchanged: tuple[str, ...]
    differing: tuple[str, ...]
    """Registered with other content than the seed has, and left as registered."""


class Seed(_Model):
    """Members with their subsystems and services, groups, resources of the catalogue, and grants."""

    members: list[SeedMember] = Field(default_factory=list)
    groups: list[SeedGroup] = Field(default_factory=list)
    resources: list[SeedResource] = Field(default_factory=list)
    grants: list[SeedGrant] = Field(default_factory=list)

    _source: TomlSource = PrivateAttr(TomlSource("", ""))  # to name lines in errors

    async def apply(self, change: Changes) -> SeedReport:
        """Register what is missing.

        Raises:
            UnprocessableError: An entry breaks a rule; the message names it, and the transaction is to be rolled back.
        """
        outcomes: dict[str, _Outcome] = {}
        for location, identifier, entry in self._entries():
            try:
                outcomes[identifier] = await entry(change)
            except MeshError as error:
                zh = error.detail_in("zh")
                raise self._source.refuse(
                    error.rule, (*location, *_inside(location, error)), error.detail_in("en"), zh
                ) from error
            except ValueError as error:  # from validity: a time without its offset
                raise self._source.refuse("validity", location, f"{error}.", f"{error}。") from error
        return SeedReport(
            added=tuple(key for key, outcome in outcomes.items() if outcome == "added"),
            unchanged=tuple(key for key, outcome in outcomes.items() if outcome == "unchanged"),
            differing=tuple(key for key, outcome in outcomes.items() if outcome == "differing"),
        )

    def _entries(self) -> Iterator[tuple[Location, str, Callable[[Changes], Awaitable[_Outcome]]]]:
        """Each entry with where it stands, what it is called, and how to register it, in an order that works."""
        for i, member in enumerate(self.members):
            yield ("members", i), member.id, member.register
            for j, subsystem in enumerate(member.subsystems):
                identifier = SubsystemId(f"{member.id}/{subsystem.code}")
                yield ("members", i, "subsystems", j), identifier, partial(subsystem.register, identifier)
                for k, service in enumerate(subsystem.services):
                    service_id = ServiceId(f"{identifier}/{service.code}")
                    location = ("members", i, "subsystems", j, "services", k)
                    yield location, service_id, partial(service.register, service_id)
        for i, group in enumerate(self.groups):
            yield ("groups", i), f"group {group.id}", group.register
        for i, resource in enumerate(self.resources):
            yield ("resources", i), f"resource {resource.code}", resource.register
        seeded = frozenset(grant.id for grant in self.grants)
        for i, grant in enumerate(self.grants):
            yield ("grants", i), f"grant {grant.id}", partial(grant.register, seeded)


def _inside(location: Location, error: MeshError) -> Location:
    """Where within a resource an error is; of shorter entries the line where they begin is told."""
    steps = error.pointer.split("/")[1:] if location[0] == "resources" else []
    return tuple(int(step) if step.isdecimal() else step for step in steps)


def read_seed(path: Path) -> Seed:
    """Return the seed in a TOML file.

    Raises:
        UnprocessableError: The file cannot be read or breaks the format; the message names the line and the key.
    """
    seed, source = read_toml(path, Seed, "seed")
    seed._source = source
    return seed


async def _outcome(change: Awaitable[Change | None], seeded: frozenset[str] = frozenset()) -> _Outcome:
    try:
        return "unchanged" if await change is None else "added"
    except ConflictError as error:
        if error.facts.get("grant") in seeded:
            raise  # two grants of the seed contradict each other: a mistake in the file
        return "differing"
