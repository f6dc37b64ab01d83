"""Resources as people and programs write them: one JSON form for bodies, files and seeds (`datong-catalogue/1`).

Rules:
1. Strict: unknown members are refused, and no text is taken for a number. Rules about the contents are `rules`'s.
2. What may be left out has the same meaning as in a `Resource`; what is written out holds every member.
3. `department` is told, never taken: it comes from the registry. Where it is sent back it must still be so.
4. Each fault has a pointer into the document as it was sent, and both languages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails, PydanticCustomError

from exchange import ServiceId, SubsystemId, UnprocessableError
from registry.catalogue import resource as kinds
from registry.catalogue.resource import Classification, ClassificationStep, Department, Resource, ResourceItem, plain
from registry.catalogue.rules import Fault
from registry.records import LEVELS, Access

FORMAT: Final = "datong-catalogue/1"
MOST_RESOURCES: Final = 2000
"""In one import: it is one transaction, and others wait for it."""


def _choice(choices: Sequence[str]) -> WithJsonSchema:
    # Checked by `rules`, which says what there is to choose from in both languages.
    return WithJsonSchema({"type": "string", "enum": list(choices)})


def _date(value: object) -> date | None:
    if value is None or type(value) is date:
        return value
    try:
        if not isinstance(value, str) or len(value) != 10:
            raise ValueError
        return date.fromisoformat(value)
    except ValueError as error:
        text = {"en": "is not a date such as 2026-11-23", "zh": "不是日期（如 2026-11-23）"}
        raise PydanticCustomError("datong_date", "{en}", text) from error


class _Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ClassificationStepDocument(_Document):
    """One step of the classification."""

    code: str = ""
    name: str = ""


class ClassificationDocument(_Document):
    """类、项、目、细目。"""

    category: ClassificationStepDocument
    subcategory: ClassificationStepDocument
    entry: ClassificationStepDocument
    detail: ClassificationStepDocument = ClassificationStepDocument()


class ItemDocument(_Document):
    """An information item. 信息项。"""

    path: str = Field(description="Where it stands in answers: object keys joined by dots. 应答中的路径。")
    name: str
    name_en: str = ""
    data_type: Annotated[str, _choice(kinds.DATA_TYPES)] = "string"
    length: int = Field(0, description="Longest value in characters, 0 for none. 数据长度。")
    sharing_class: Annotated[str, _choice(("", *kinds.SHARING_CLASSES))] = Field(
        "", description="Empty: the resource's. 空：同信息资源。"
    )
    sensitivity: Annotated[str, _choice(kinds.SENSITIVITIES)] = "internal"
    update_cycle: Annotated[str, _choice(("", *kinds.UPDATE_CYCLES))] = Field(
        "", description="Empty: the resource's. 空：同信息资源。"
    )
    mask: str = Field("", description="The mask proposed for grants. 建议的脱敏方式。")


class AccessDocument(_Document):
    """Operations of a service at which the resource is to be had. 获取方式。"""

    service: str
    method: str = "*"
    path: str = "**"


class DepartmentDocument(_Document):
    """The provider as it is registered; what is left out is not compared. 提供方登记信息。"""

    name: str | None = None
    name_en: str | None = None
    subsystem_name: str | None = None
    uscc: str | None = None


class ResourceDocument(_Document):
    """A resource of the catalogue. 信息资源。"""

    code: str = Field(description="Resource code. 信息资源代码。", examples=["306001/000001"])
    classification: ClassificationDocument
    provider: str = Field(description="The subsystem that provides it. 提供方子系统。")
    department: DepartmentDocument | None = None
    name: str
    name_en: str = ""
    abstract: str
    abstract_en: str = ""
    format: Annotated[str, _choice(kinds.RESOURCE_FORMATS)]
    format_other: str = ""
    items: list[ItemDocument]
    sharing_class: Annotated[str, _choice(kinds.SHARING_CLASSES)]
    conditions: str = ""
    legal_basis: str = ""
    base_resource: bool = False
    base_exception: str = ""
    mode: Annotated[str, _choice(kinds.SHARING_MODES)]
    open_to_public: bool = False
    openness_condition: str = ""
    update_cycle: Annotated[str, _choice(kinds.UPDATE_CYCLES)]
    update_cycle_other: str = ""
    level: Annotated[str, _choice(LEVELS)] = ""
    division: str = ""
    themes: list[str] = Field(default_factory=list)
    keywords: list[str] = Field(default_factory=list)
    linked: list[str] = Field(default_factory=list)
    publication_date: Annotated[
        date | None,
        BeforeValidator(_date),
        WithJsonSchema({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "default": None}),
    ] = None
    accesses: list[AccessDocument] = Field(default_factory=list)
    two_persons: bool = False

    def resource(self) -> Resource:
        """What it says, for `rules` to check."""
        told: dict[str, Any] = {name: getattr(self, name) for name in _SAME}
        steps = self.classification
        return Resource(
            **told,
            provider=SubsystemId(self.provider),
            classification=Classification(
                category=_step(steps.category),
                subcategory=_step(steps.subcategory),
                entry=_step(steps.entry),
                detail=_step(steps.detail),
            ),
            items=tuple(ResourceItem(**item.model_dump()) for item in self.items),
            themes=tuple(self.themes),
            keywords=tuple(self.keywords),
            linked=tuple(self.linked),
            accesses=tuple(
                Access(service=ServiceId(each.service), method=each.method, path=each.path) for each in self.accesses
            ),
        )


_APART: Final = frozenset(
    {"provider", "department", "classification", "items", "themes", "keywords", "linked", "accesses"}
)
_SAME: Final = tuple(name for name in ResourceDocument.model_fields if name not in _APART)


def document_of(resource: Resource, department: Department | None = None) -> dict[str, Any]:
    """The resource in its JSON form, with its department if that is known."""
    found: dict[str, Any] = {}
    for name, value in plain(resource).items():
        found[name] = value
        if name == "provider" and department is not None:
            found["department"] = department_of(department)
    return found


def department_of(department: Department) -> dict[str, str]:
    """A department in its JSON form."""
    return {
        "name": department.name,
        "name_en": department.name_en,
        "subsystem_name": department.subsystem_name,
        "uscc": department.uscc,
    }


def department_faults(document: ResourceDocument, department: Department) -> Iterator[Fault]:
    """Where a document calls its provider something else than the registry does."""
    told = document.department
    for name, known in department_of(department).items() if told is not None else ():
        if getattr(told, name) not in (None, known):
            yield Fault(
                f"/department/{name}",
                "department",
                f"The provider is registered with {known!r} here.",
                f"提供方登记的内容为“{known}”。",
            )


def read_document(value: object) -> ResourceDocument | tuple[Fault, ...]:
    """A resource in its JSON form, or everything that keeps it from being one."""
    try:
        return ResourceDocument.model_validate(value)
    except ValidationError as error:
        return tuple(_fault(found) for found in error.errors(include_url=False, include_input=False))


def catalogue_file(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A file of resources."""
    return {"format": FORMAT, "resources": list(documents)}


def resources_in(value: object) -> list[object]:
    """The resources in a file; raises UnprocessableError if it is none of ours, or holds too many."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UnprocessableError(
            "catalogue-format",
            problem=f'A catalogue file is an object with "format": "{FORMAT}".',
            problem_zh=f'目录文件应为含有 "format": "{FORMAT}" 的对象。',
            pointer="/format",
        )
    strange = sorted(value.keys() - {"format", "resources"})
    found = value.get("resources")
    if strange or not isinstance(found, list):
        raise UnprocessableError(
            "catalogue-format",
            problem="A catalogue file holds `format` and the list `resources`, and nothing else.",
            problem_zh="目录文件只含 format 和数组 resources。",
            pointer=f"/{strange[0].replace('~', '~0').replace('/', '~1')}" if strange else "/resources",
        )
    check_count(len(found))
    return found


def check_count(count: int) -> None:
    """Return if an import holds a number of resources that one transaction can take; raises UnprocessableError."""
    if not 0 < count <= MOST_RESOURCES:
        raise UnprocessableError(
            "catalogue-size",
            problem=f"An import holds between 1 and {MOST_RESOURCES} resources; this one holds {count}.",
            problem_zh=f"每次导入 1 至 {MOST_RESOURCES} 条信息资源，本次为 {count} 条。",
            pointer="/resources",
        )


def _step(document: ClassificationStepDocument) -> ClassificationStep:
    return ClassificationStep(code=document.code, name=document.name)


_COMPLAINTS: Final = {
    "missing": ("is missing", "缺失"),
    "extra_forbidden": ("is no member of a resource", "不是信息资源的成员"),
    "string_type": ("must be a text", "应为字符串"),
    "int_type": ("must be a whole number", "应为整数"),
    "bool_type": ("must be true or false", "应为 true 或 false"),
    "list_type": ("must be a list", "应为数组"),
    "model_type": ("must be an object", "应为对象"),
}


def _fault(found: ErrorDetails) -> Fault:
    pointer = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in found["loc"])
    context = found.get("ctx", {})
    told = context.get("en", "cannot be read"), context.get("zh", "无法解析")
    en, zh = _COMPLAINTS.get(found["type"], told)
    return Fault(
        pointer[:400], "document", f"{pointer[:400] or 'The resource'} {en}.", f"{pointer[:400] or '信息资源'} {zh}。"
    )
