"""A resource of the catalogue: the core metadata of the 2017 compilation guide (政务信息资源目录编制指南), as frozen values. Pure.

Rules:
1. A `Resource` is what a department says of its data; `CatalogueEntry` adds what the registry knows: its state and versions.
2. What is in force and what is being prepared are two contents: changing a published resource changes nothing for those who
   use it until the change is published.
3. A resource as plain JSON (`plain`, `resource_of`) is how it is stored, compared and put on record. It holds every member,
   always, so that the same resource is always the same JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from typing import Any, Final, Literal, get_args

from exchange import ServiceId, SubsystemId
from registry.records import Access, Level

SharingClass = Literal["unconditional", "conditional", "not-shared"]
Sensitivity = Literal["public", "internal", "personal", "sensitive-personal"]
ResourceFormat = Literal["electronic-file", "spreadsheet", "database", "graphics", "streaming", "other"]
SharingMode = Literal["query-interface", "verification-interface", "database-table", "file", "medium"]
UpdateCycle = Literal["real-time", "daily", "weekly", "monthly", "quarterly", "yearly", "other"]
DataType = Literal[
    "string",
    "number",
    "money",
    "date",
    "datetime",
    "boolean",
    "text",
    "binary",
    "double",
    "integer",
    "float",
    "object",
    "array",
]
ResourceState = Literal["draft", "published", "withdrawn"]

SHARING_CLASSES: Final[tuple[SharingClass, ...]] = get_args(SharingClass)
"""From the freest to the strictest."""
SENSITIVITIES: Final[tuple[Sensitivity, ...]] = get_args(Sensitivity)
RESOURCE_FORMATS: Final[tuple[ResourceFormat, ...]] = get_args(ResourceFormat)
SHARING_MODES: Final[tuple[SharingMode, ...]] = get_args(SharingMode)
UPDATE_CYCLES: Final[tuple[UpdateCycle, ...]] = get_args(UpdateCycle)
DATA_TYPES: Final[tuple[DataType, ...]] = get_args(DataType)
RESOURCE_STATES: Final[tuple[ResourceState, ...]] = get_args(ResourceState)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationStep:
    """One step of the classification: its digits and its name."""

    code: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """类, 项, 目 and 细目; the last may be empty."""

    category: ClassificationStep = ClassificationStep()
    subcategory: ClassificationStep = ClassificationStep()
    entry: ClassificationStep = ClassificationStep()
    detail: ClassificationStep = ClassificationStep()

    @property
    def code(self) -> str:
        """The digits of all four, as they begin a national resource code."""
        return self.category.code + self.subcategory.code + self.entry.code + self.detail.code


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceItem:
    """One information item (信息项)."""

    path: str
    """Where it stands in answers, in the grammar of grants (`exchange.release.terms`)."""
    name: str
    name_en: str = ""
    data_type: DataType = "string"
    length: int = 0
    """Longest value, in characters; 0 where that says nothing."""
    sharing_class: SharingClass | Literal[""] = ""
    """Empty: the resource's. Stricter than the resource's is possible, laxer is not."""
    sensitivity: Sensitivity = "internal"
    update_cycle: UpdateCycle | Literal[""] = ""
    """Empty: the resource's."""
    mask: str = ""
    """The mask its provider proposes for grants; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What a department says of one data resource."""

    code: str
    classification: Classification
    provider: SubsystemId
    name: str
    name_en: str = ""
    abstract: str
    abstract_en: str = ""
    format: ResourceFormat
    format_other: str = ""
    items: tuple[ResourceItem, ...]
    sharing_class: SharingClass
    conditions: str = ""
    """On what conditions it is shared: for `conditional`, and for no other."""
    legal_basis: str = ""
    """Which provision says so; obligatory for `not-shared`."""
    base_resource: bool = False
    """Of one of the base sets (population, legal persons, geography, e-licences): shared unconditionally."""
    base_exception: str = ""
    """Why a base resource is not shared unconditionally all the same."""
    mode: SharingMode
    open_to_public: bool = False
    openness_condition: str = ""
    update_cycle: UpdateCycle
    update_cycle_other: str = ""
    level: Level = ""
    """Level of administration; empty in a draft: the provider's."""
    division: str = ""
    """GB/T 2260; empty in a draft: the provider's."""
    themes: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()
    """Codes of resources that belong with it."""
    publication_date: date | None = None
    """None in a draft: the day in China on which it is published."""
    accesses: tuple[Access, ...] = ()
    two_persons: bool = False
    """Whether it takes two persons to decide an application for it."""

    def class_of(self, item: ResourceItem) -> SharingClass:
        """The sharing class that counts for an item."""
        return item.sharing_class or self.sharing_class

    def cycle_of(self, item: ResourceItem) -> UpdateCycle:
        """The update cycle that counts for an item."""
        return item.update_cycle or self.update_cycle


@dataclass(frozen=True, slots=True, kw_only=True)
class Department:
    """A provider as the registry names it."""

    subsystem: SubsystemId
    subsystem_name: str
    name: str
    name_en: str
    uscc: str
    """The member's code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """A resource as it stands in the catalogue."""

    code: str
    provider: SubsystemId
    state: ResourceState
    number: int
    """Of the version in force or last in force, from 1; 0 for one that was never published."""
    published: Resource | None
    draft: Resource | None
    """What is being prepared, if anything is; for the provider's and the operator's eyes."""
    changed_at: datetime | None = None
    """When `published` came into force, or was withdrawn."""

    @property
    def content(self) -> Resource:
        """What is or was in force; what is being prepared where nothing ever was."""
        found = self.published or self.draft
        assert found is not None  # one of the two is there from the first change on
        return found


@dataclass(frozen=True, slots=True)
class ResourceDifference:
    """One place in which two versions differ; the pointer names it in the newer one, or in the older if it is gone."""

    pointer: str
    kind: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceVersion:
    """A version that was published: who, when, why, and what it changed of the one before."""

    number: int
    at: datetime
    by: str
    why: str
    resource: Resource
    differences: tuple[ResourceDifference, ...] = field(default=())


def plain(resource: Resource) -> dict[str, Any]:
    """The resource as JSON, every member of it, in the order of the guide."""
    found = {each.name: getattr(resource, each.name) for each in fields(resource)}
    found["classification"] = {
        each.name: _members(getattr(resource.classification, each.name)) for each in fields(resource.classification)
    }
    found["items"] = [_members(item) for item in resource.items]
    found["accesses"] = [_members(access) for access in resource.accesses]
    for name in ("themes", "keywords", "linked"):
        found[name] = list(found[name])
    found["publication_date"] = resource.publication_date.isoformat() if resource.publication_date else None
    return found


def resource_of(stored: Mapping[str, Any]) -> Resource:
    """The resource that `plain` wrote."""
    steps = stored["classification"]
    return Resource(
        **{
            **stored,
            "classification": Classification(**{name: ClassificationStep(**step) for name, step in steps.items()}),
            "provider": SubsystemId(stored["provider"]),
            "items": tuple(ResourceItem(**item) for item in stored["items"]),
            "accesses": tuple(access_of(access) for access in stored["accesses"]),
            "themes": tuple(stored["themes"]),
            "keywords": tuple(stored["keywords"]),
            "linked": tuple(stored["linked"]),
            "publication_date": date.fromisoformat(stored["publication_date"]) if stored["publication_date"] else None,
        }
    )


def access_of(stored: Mapping[str, str]) -> Access:
    """An access that `plain` wrote."""
    return Access(service=ServiceId(stored["service"]), method=stored["method"], path=stored["path"])


def _members(value: ClassificationStep | ResourceItem | Access) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in fields(value)}
