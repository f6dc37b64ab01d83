"""What is said of each difference between two documents, in both languages. Pure.

The name of a rule is its subject (operation, parameter, request, answer, security) and what happened to it.
"""

from __future__ import annotations

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "operation-added": ("The operation {operation} is new.", "新增操作 {operation}。"),
    "operation-removed": ("The operation {operation} is gone.", "操作 {operation} 已删除。"),
    "operation-safe": ("{operation} is declared safe now.", "{operation} 现声明为安全操作。"),
    "operation-unsafe": ("{operation} is no longer declared safe.", "{operation} 不再声明为安全操作。"),
    "operation-deprecated": ("{operation} is now deprecated.", "{operation} 已标记为弃用。"),
    "parameter-added": ("{It} is new and need not be given.", "新增可选的{it}。"),
    "parameter-required": ("{It} must be given now.", "{it}现为必填。"),
    "parameter-optional": ("{It} need not be given any more.", "{it}改为可选。"),
    "parameter-removed": ("{It} is no longer read.", "{it}不再使用。"),
    "parameter-style": ("{It} is written differently: {old} before, {new} now.", "{it}的写法由 {old} 改为 {new}。"),
    "request-body-added": ("A request body may be sent now.", "现可发送请求体。"),
    "request-body-required": ("A request body must be sent now.", "现必须发送请求体。"),
    "request-body-optional": ("The request body may be left out now.", "请求体改为可选。"),
    "request-body-removed": ("The request body is no longer read.", "不再使用请求体。"),
    "request-media-type-added": ("Request bodies may be {new} now.", "请求体新增支持 {new}。"),
    "request-media-type-removed": ("Request bodies may no longer be {old}.", "请求体不再支持 {old}。"),
    "answer-status-added": ("There may be an answer {new} now.", "新增应答状态 {new}。"),
    "answer-status-removed": ("There is no answer {old} any more.", "不再有应答状态 {old}。"),
    "answer-media-type-added": ("Answers {status} may be {new} now.", "应答 {status} 新增 {new}。"),
    "answer-media-type-removed": ("Answers {status} are no longer {old}.", "应答 {status} 不再有 {old}。"),
    "answer-header-removed": (
        "Answers {status} no longer carry the header {old}.",
        "应答 {status} 不再带有响应头 {old}。",
    ),
    "security-added": ("Callers must prove more than before: {new}.", "调用方须提供更多凭证：{new}。"),
    "security-removed": ("Callers may prove less than before.", "对调用方凭证的要求放宽。"),
    "document-unreadable": (
        "The document registered before can no longer be read, so nothing can be compared.",
        "原登记文档已无法读取，不能比较。",
    ),
}
"""Whole texts. `{It}` and `{it}` are the subject, at the beginning of a sentence and within."""

SCHEMA_TEXTS: Mapping[str, tuple[str, str]] = {
    "type": ("{It} was {old} and is {new} now.", "{it}的类型由 {old} 改为 {new}。"),
    "format": ("The format of {it} was {old} and is {new} now.", "{it}的格式由 {old} 改为 {new}。"),
    "values": ("The values of {it} were {old} and are {new} now.", "{it}的取值由 {old} 改为 {new}。"),
    "pattern": ("The pattern of {it} was {old} and is {new} now.", "{it}的模式由 {old} 改为 {new}。"),
    "bound": ("The limits of {it} change: {old} before, {new} now.", "{it}的限制由 {old} 改为 {new}。"),
    "nullable": ("{It} may be null now.", "{it}现可能为 null。"),
    "property-added": ("{It} is new.", "新增{it}。"),
    "property-removed": ("{It} is gone.", "{it}已删除。"),
    "property-optional": ("{It} may be missing now.", "{it}现可能缺失。"),
    "property-required": ("{It} must be there now.", "{it}现为必填。"),
    "property-always": ("{It} is always there now.", "{it}现必定存在。"),
    "closed": ("{It} may hold no other properties now.", "{it}不再允许其他属性。"),
}
"""The same for differences of schemas, of a parameter, a request or an answer."""

PLACES: Mapping[str, tuple[str, str]] = {
    "query": ("query parameter", "查询参数"),
    "path": ("path parameter", "路径参数"),
    "header": ("header", "请求头"),
    "cookie": ("cookie", "Cookie"),
}


def subject(part: str, item: str, parameter: str) -> tuple[str, str]:
    """What a difference is of, in English and Chinese, as it stands within a sentence."""
    if part == "parameter":
        where, _, name = parameter.partition(" ")
        en, zh = PLACES.get(where, ("parameter", "参数"))
        inside, inside_zh = (f"{item} of ", f"的 {item} ") if item else ("", "")
        return f"{inside}the {en} {name}", f"{zh} {name} {inside_zh}".rstrip() + " "
    name, name_zh = ("request", "请求") if part == "request" else ("answer", "应答")
    return (f"{item} in the {name}", f"{name_zh}项 {item} ") if item else (f"the {name} body", f"{name_zh}体")


def text(rule: str, part: str, item: str, parameter: str, facts: Mapping[str, str]) -> tuple[str, str]:
    """The sentence about a difference, in English and Chinese."""
    en, zh = TEXTS.get(rule) or SCHEMA_TEXTS[rule.partition("-")[2]]
    it, it_zh = subject(part, item, parameter)
    shown = {key: value or "none" for key, value in facts.items()}
    shown_zh = {key: value or "无" for key, value in facts.items()}
    return (
        en.format(it=it, It=it[:1].upper() + it[1:] if it.startswith("the ") else it, **shown),
        zh.format(it=it_zh, **shown_zh).replace(" 。", "。"),
    )
