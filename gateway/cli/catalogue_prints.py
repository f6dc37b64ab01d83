"""How `datong catalogue` prints resources, lists of them, versions and imports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from gateway.cli import console_io as io
from registry import (
    CatalogueEntry,
    Department,
    FoundResources,
    ImportReport,
    Resource,
    ResourceVersion,
    department_of,
    document_of,
    found_document,
    resource_labels,
)


def found(terminal: io.Terminal, page: FoundResources) -> None:
    """A list of resources."""
    if terminal.as_json:
        lines = [found_document(each) for each in page.resources]
        io.print_json({"resources": lines, "match": page.match, "more": page.next is not None})
        return
    if not page.resources:
        typer.echo(terminal.say("No resource fits.", "没有符合条件的信息资源。"))
        return
    if page.match != "exact":
        typer.echo(terminal.say("Nothing holds every word; these come near:", "没有完全匹配的信息资源，以下内容相近："))
    headers = terminal.say("code name class department mode", "代码 名称 共享类型 提供方 共享方式").split()
    rows = [
        (
            each.code,
            terminal.say(each.name_en or each.name, each.name),
            _label(terminal, "sharing_class", each.sharing_class),
            terminal.say(each.department.name_en or each.department.name, each.department.name),
            _label(terminal, "mode", each.mode),
        )
        for each in page.resources
    ]
    io.print_table(headers, rows)
    if page.next is not None:
        typer.echo(
            terminal.say(
                "There are more: narrow the search, or raise --limit.", "还有更多结果：请缩小范围或调大 --limit。"
            )
        )


def entry(
    terminal: io.Terminal, shown: CatalogueEntry, department: Department, versions: Sequence[ResourceVersion]
) -> None:
    """A resource, its items and its versions."""
    if terminal.as_json:
        io.print_json(
            {
                "code": shown.code,
                "provider": shown.provider,
                "department": department_of(department),
                "state": shown.state,
                "version": shown.number,
                "changed_at": shown.changed_at,
                "resource": document_of(shown.published, department) if shown.published else None,
                "draft": document_of(shown.draft, department) if shown.draft else None,
                "versions": [_version_document(each) for each in versions],
            }
        )
        return
    state = _label(terminal, "state", shown.state)
    head = [(terminal.say("state", "状态"), f"{state}  {terminal.say('version', '版本')} {shown.number}")]
    if shown.published is not None and shown.draft is not None:
        head.append(
            (terminal.say("draft", "草稿"), terminal.say("the next version is being prepared", "下一版本编制中"))
        )
    _content(terminal, shown.content, department, head)
    typer.echo("")
    headers = terminal.say("version at by why changed", "版本 时间 操作人 理由 变更").split()
    rows = [
        (
            each.number,
            io.plain(each.at),
            each.by,
            each.why,
            " ".join(dict.fromkeys(difference.pointer for difference in each.differences)),
        )
        for each in versions
    ]
    io.print_table(headers, rows)


def version(terminal: io.Terminal, shown: ResourceVersion, department: Department) -> None:
    """One published version."""
    if terminal.as_json:
        io.print_json(_version_document(shown))
        return
    head = [
        (terminal.say("version", "版本"), str(shown.number)),
        (terminal.say("published", "发布"), f"{io.plain(shown.at)}  {shown.by}  {shown.why}"),
    ]
    _content(terminal, shown.resource, department, head)


def report(terminal: io.Terminal, done: ImportReport) -> None:
    """What an import did, or would do."""
    if terminal.as_json:
        io.print_json(done)
        return
    if done.faults:
        headers = terminal.say("place pointer fault", "单元格 位置 错误").split()
        rows = [(each.place, each.pointer, terminal.say(each.problem, each.problem_zh)) for each in done.faults]
        io.print_table(headers, rows)
        typer.echo(terminal.say("Nothing was written.", "未写入任何内容。"))
        return
    added, changed, unchanged = len(done.added), len(done.changed), len(done.unchanged)
    typer.echo(
        terminal.say(
            f"{added} added, {changed} changed, {unchanged} unchanged",
            f"新增 {added} 条，变更 {changed} 条，未变 {unchanged} 条",
        )
    )
    if not done.applied:
        typer.echo(terminal.say("A dry run: nothing was written.", "试运行：未写入任何内容。"))


def _content(
    terminal: io.Terminal, resource: Resource, department: Department, head: Sequence[tuple[str, object]]
) -> None:
    steps = resource.classification
    classification = " / ".join(
        f"{step.code} {step.name}"
        for step in (steps.category, steps.subcategory, steps.entry, steps.detail)
        if step.code
    )
    fields: list[tuple[str, object]] = [
        (terminal.say("code", "代码"), resource.code),
        (terminal.say("name", "名称"), resource.name),
        (terminal.say("English name", "英文名称"), resource.name_en),
        *head,
        (terminal.say("classification", "分类"), classification),
        (terminal.say("department", "提供方"), f"{department.name}  {department.uscc}"),
        (terminal.say("subsystem", "子系统"), f"{resource.provider}  {department.subsystem_name}"),
        (terminal.say("abstract", "摘要"), terminal.say(resource.abstract_en or resource.abstract, resource.abstract)),
        (terminal.say("format", "格式"), resource.format_other or _label(terminal, "format", resource.format)),
        (terminal.say("sharing", "共享类型"), _label(terminal, "sharing_class", resource.sharing_class)),
        (terminal.say("conditions", "共享条件"), resource.conditions),
        (terminal.say("legal basis", "不予共享依据"), resource.legal_basis),
        (terminal.say("base resource", "基础信息资源"), _yes(terminal, resource.base_resource)),
        (terminal.say("exception", "例外理由"), resource.base_exception),
        (terminal.say("mode", "共享方式"), _label(terminal, "mode", resource.mode)),
        (terminal.say("open to the public", "向社会开放"), _yes(terminal, resource.open_to_public)),
        (terminal.say("condition of openness", "开放条件"), resource.openness_condition),
        (
            terminal.say("update cycle", "更新周期"),
            resource.update_cycle_other or _label(terminal, "update_cycle", resource.update_cycle),
        ),
        (terminal.say("level", "层级"), _label(terminal, "level", resource.level)),
        (terminal.say("division", "行政区划"), resource.division),
        (terminal.say("themes", "主题"), "、".join(resource.themes)),
        (terminal.say("keywords", "关键词"), "、".join(resource.keywords)),
        (terminal.say("linked", "关联资源"), "、".join(resource.linked)),
        (terminal.say("publication date", "发布日期"), resource.publication_date),
        (terminal.say("two persons decide", "双人审批"), _yes(terminal, resource.two_persons)),
        *(
            (terminal.say("access", "获取方式"), f"{each.method} {each.path}  {each.service}")
            for each in resource.accesses
        ),
    ]
    io.print_fields(fields)
    typer.echo("")
    headers = terminal.say(
        "path item type class sensitivity mask", "路径 信息项 类型 共享类型 敏感程度 建议脱敏"
    ).split()
    rows = [
        (
            item.path,
            terminal.say(item.name_en or item.name, item.name),
            _label(terminal, "data_type", item.data_type),
            _label(terminal, "sharing_class", resource.class_of(item)),
            _label(terminal, "sensitivity", item.sensitivity),
            item.mask,
        )
        for item in resource.items
    ]
    io.print_table(headers, rows)


def _version_document(shown: ResourceVersion) -> Mapping[str, Any]:
    return {
        "version": shown.number,
        "at": shown.at,
        "by": shown.by,
        "why": shown.why,
        "differences": shown.differences,
        "resource": document_of(shown.resource),
    }


def _label(terminal: io.Terminal, kind: str, value: str) -> str:
    """What a value is called in Chinese; in English the value speaks for itself."""
    return terminal.say(value, resource_labels(kind).get(value, value))


def _yes(terminal: io.Terminal, value: bool) -> str:
    """Only what is so is shown."""
    return terminal.say("yes", "是") if value else ""
