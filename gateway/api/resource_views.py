"""What `/v1/resources` takes and shows, as its description has it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from exchange import Language
from gateway.api import fields
from gateway.api.changing import Recorded
from gateway.api.paging import PageQuery
from registry import (
    CatalogueEntry,
    Department,
    ImportReport,
    Level,
    ResourceDocument,
    ResourceState,
    ResourceVersion,
    SharingClass,
    SharingMode,
    department_of,
    document_of,
)

Match = Literal["exact", "close-name", "close-item"]


class ResourceBody(ResourceDocument):
    """A resource to write down, and why."""

    why: fields.Line = Field(description="The reason, kept on record. 变更理由，留存备查。")


class ResourceSearchQuery(PageQuery):
    """What to look for; what is left out means any."""

    q: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Words, all of which must be found: in names, items, themes, abstracts, codes, departments. 检索词。",
        examples=["纳税"],
    )
    department: str | None = Field(
        None, min_length=1, max_length=270, description="Identifier, or words of a name. 部门标识或名称。"
    )
    theme: str | None = Field(None, min_length=1, max_length=100, description="Part of a theme or keyword. 主题。")
    item: str | None = Field(None, min_length=1, max_length=100, description="Part of an item's name. 信息项。")
    sharing_class: SharingClass | None = Field(None, description="Of this sharing class. 共享类型。")
    division: str | None = Field(
        None, pattern="^[0-9]{6}$", description="GB/T 2260; 450100 finds all of 4501xx. 行政区划。", examples=["450100"]
    )
    level: Level | None = Field(None, description="Of this level. 层级。")
    mode: SharingMode | None = Field(None, description="Shared in this way. 共享方式。")
    state: ResourceState = Field(
        "published", description="Drafts are shown to those who may change them, and auditors. 状态。"
    )


class ExportQuery(BaseModel):
    """What to export."""

    format: Literal["json", "xlsx", "dcat"] = Field("json", description="dcat: DCAT-AP 3 in JSON-LD. 格式。")
    code: str | None = Field(None, min_length=1, max_length=128, description="This resource only. 仅此信息资源。")
    department: str | None = Field(
        None, min_length=1, max_length=270, description="Identifier of a member or subsystem: only its own. 仅此部门。"
    )


class ImportQuery(BaseModel):
    """How to import."""

    dry_run: bool = Field(False, description="Report, and write nothing. 试运行。")
    publish: bool = Field(False, description="Put into force what is imported. 同时发布。")


class DepartmentView(BaseModel):
    """Who provides it. 提供方。"""

    name: str
    name_en: str
    subsystem_name: str
    uscc: str


class FoundView(BaseModel):
    """A line of a list of resources."""

    code: str
    name: str
    name_en: str
    provider: str
    department: DepartmentView
    sharing_class: str
    mode: str
    level: str
    division: str
    state: ResourceState
    version: int


class FoundPage(BaseModel):
    """Resources, the best match first."""

    resources: list[FoundView]
    match: Match = Field(description="Not `exact`: nothing held every word, and these come near. 匹配方式。")
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null at the end.")


class ResourceView(BaseModel):
    """A resource as it stands in the catalogue."""

    code: str
    provider: str
    department: DepartmentView
    state: ResourceState
    version: int = Field(description="In force, or last in force; 0: never published. 版本。")
    changed_at: fields.Moment | None = Field(description="When it came into force, or was withdrawn.")
    resource: dict[str, Any] | None = Field(description="What is or was in force. 已发布内容。")
    draft: dict[str, Any] | None = Field(description="What is being prepared, to those who may see it. 草稿。")

    @classmethod
    def of(cls, entry: CatalogueEntry, department: Department) -> ResourceView:
        return cls(
            code=entry.code,
            provider=entry.provider,
            department=DepartmentView(**department_of(department)),
            state=entry.state,
            version=entry.number,
            changed_at=entry.changed_at,
            resource=document_of(entry.published, department) if entry.published else None,
            draft=document_of(entry.draft, department) if entry.draft else None,
        )


class ResourceChanged(Recorded):
    """A resource as it is now, and the change that made it so."""

    resource: ResourceView


class DifferenceView(BaseModel):
    """One place in which a version differs from the one before."""

    pointer: str
    kind: Literal["added", "removed", "changed"]
    before: Any
    after: Any


class VersionView(BaseModel):
    """A version that was published. 版本。"""

    version: int
    at: fields.Moment
    by: str
    why: str
    differences: list[DifferenceView]
    resource: dict[str, Any]

    @classmethod
    def of(cls, version: ResourceVersion) -> VersionView:
        return cls(
            version=version.number,
            at=version.at,
            by=version.by,
            why=version.why,
            differences=[
                DifferenceView(pointer=each.pointer, kind=each.kind, before=each.before, after=each.after)
                for each in version.differences
            ],
            resource=document_of(version.resource),
        )


class VersionList(BaseModel):
    """Versions, the newest first."""

    versions: list[VersionView]


class ImportFaultView(BaseModel):
    """What is wrong, and where."""

    pointer: str = Field(description="JSON pointer into the import. 位置。")
    place: str = Field(description="Sheet and cell of a workbook; empty for JSON. 单元格。")
    rule: str
    detail: str


class ImportReportView(BaseModel):
    """What an import did, or would do, by resource codes."""

    applied: bool
    added: list[str]
    changed: list[str]
    unchanged: list[str]
    faults: list[ImportFaultView]

    @classmethod
    def of(cls, report: ImportReport, language: Language) -> ImportReportView:
        return cls(
            applied=report.applied,
            added=list(report.added),
            changed=list(report.changed),
            unchanged=list(report.unchanged),
            faults=[
                ImportFaultView(
                    pointer=each.pointer,
                    place=each.place,
                    rule=each.rule,
                    detail=each.problem_zh if language == "zh" else each.problem,
                )
                for each in report.faults
            ],
        )
