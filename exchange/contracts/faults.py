"""What is wrong with a request or an answer, told so that its author finds it. Pure.

A fault names a place and a rule of the contract. Its text is made of what the contract says, never of what was sent, so it may
be told and logged; only the pointer holds names from the message itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from exchange.errors import Language, Text, UnprocessableError

Part = Literal["path", "query", "header", "cookie", "body"]

MAX_TOLD = 10
"""Faults that are told of one message."""
_LONGEST_POINTER = 300
_LONGEST_LIST = 120

_PARTS: Mapping[Part, Text] = {
    "path": {"en": "the path", "zh": "路径"},
    "query": {"en": "the query", "zh": "查询参数"},
    "header": {"en": "the headers", "zh": "请求头"},
    "cookie": {"en": "the cookies", "zh": "Cookie"},
    "body": {"en": "the body", "zh": "请求体"},
}
_TEXTS: Mapping[str, tuple[str, str]] = {
    "additionalProperties": ("is not known to the contract", "不是约定中的字段"),
    "anyOf": ("has none of the forms that it may have", "不符合任何一种允许的形式"),
    "const": ("is not the only value that it may have", "不是唯一允许的值"),
    "contains": ("holds none of what it must hold", "缺少必须包含的元素"),
    "content-type": ("is not of a type that the contract names: {limit}", "内容类型不在约定之内：{limit}"),
    "encoding": ("is not written as the contract says", "书写方式不符合约定"),
    "enum": ("is none of the values that the contract lists", "不在约定的取值范围内"),
    "exclusiveMaximum": ("is not below {limit}", "应小于 {limit}"),
    "exclusiveMinimum": ("is not above {limit}", "应大于 {limit}"),
    "format": ("does not have the format {limit}", "不符合 {limit} 格式"),
    "json": ("is not JSON in UTF-8", "不是 UTF-8 编码的 JSON"),
    "limit": (
        "is nested too deep, or too large, to be checked against this contract",
        "嵌套过深或过大，无法按该约定检查",
    ),
    "maxItems": ("holds more than {limit}", "元素多于 {limit} 个"),
    "maxLength": ("is longer than {limit} characters", "超过 {limit} 个字符"),
    "maxProperties": ("holds more than {limit} members", "字段多于 {limit} 个"),
    "maximum": ("is above {limit}", "大于 {limit}"),
    "minItems": ("holds fewer than {limit}", "元素少于 {limit} 个"),
    "minLength": ("is shorter than {limit} characters", "少于 {limit} 个字符"),
    "minProperties": ("holds fewer than {limit} members", "字段少于 {limit} 个"),
    "minimum": ("is below {limit}", "小于 {limit}"),
    "missing": ("is missing", "缺失"),
    "multipleOf": ("is not a multiple of {limit}", "不是 {limit} 的倍数"),
    "not": ("has a form that it must not have", "属于不允许的形式"),
    "oneOf": ("does not have exactly one of the forms that it may have", "应恰好符合一种允许的形式"),
    "pattern": ("does not fit the pattern of the contract", "不符合约定的格式"),
    "propertyNames": ("holds a member whose name is not allowed", "含有名称不合规的字段"),
    "repeated": ("comes more than once", "重复出现"),
    "required": ("lacks {limit}", "缺少 {limit}"),
    "status": ("is a status that the contract does not name", "状态码不在约定之内"),
    "type": ("is not of type {limit}", "类型应为 {limit}"),
    "undescribed": ("is there, and the contract describes none", "约定中没有此内容"),
    "uniqueItems": ("holds the same more than once", "含有重复元素"),
}
_OTHERWISE = ("breaks the contract", "不符合约定")
_SAME_AS = {
    "unevaluatedProperties": "additionalProperties",
    "falseSchema": "additionalProperties",
    "dependentRequired": "required",
}


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    part: Part
    pointer: str
    """RFC 6901: into the body, or, for parameters, first the parameter's name; empty for the whole."""
    rule: str
    """The keyword of JSON Schema that it breaks, or one of ours: `missing`, `repeated`, `content-type`, `json`, …"""
    limit: str = ""
    """What the contract demands, if it is short enough to be told."""

    def text(self, language: Language) -> str:
        """What is wrong, without where."""
        texts = _TEXTS.get(_SAME_AS.get(self.rule, self.rule), _OTHERWISE)
        return texts[language == "zh"].replace("{limit}", self.limit)

    def sentence(self, language: Language) -> str:
        """What is wrong, and where."""
        part = _PARTS[self.part][language]
        if language == "zh":
            return f"{part}{f' {self.pointer} ' if self.pointer else ''}{self.text('zh')}。"
        where = f"{part} at {self.pointer}" if self.pointer else part
        return f"{where[0].upper()}{where[1:]} {self.text('en')}."


class ContractBreachError(UnprocessableError):
    """A request does not keep to the registered contract; `faults` say where."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        first = faults[0]
        more = len(faults) - 1
        rule = first.rule if first.rule in ("content-type", "limit") else first.part
        super().__init__(
            f"contract-{rule}",
            problem=first.sentence("en") + (f" And {more} more." if more else ""),
            problem_zh=first.sentence("zh") + (f"另有 {more} 处。" if more else ""),
            pointer=first.pointer if first.part == "body" else "",
        )
        self.faults = tuple(faults)

    def errors_in(self, language: Language) -> list[dict[str, str]]:
        """The member `errors` of the problem."""
        return [
            {"in": each.part, "pointer": each.pointer, "rule": each.rule, "detail": each.text(language)}
            for each in self.faults
        ]


class AnswerBreachError(ValueError):
    """An answer does not keep to the contract; `faults` say where. The message holds nothing of the answer but pointers."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(" ".join(f"{each.pointer or each.part}: {each.text('en')}." for each in faults))
        self.faults = tuple(faults)


def pointer_of(*parts: str | int) -> str:
    """A JSON pointer, cut if somebody made it long."""
    text = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return text if len(text) <= _LONGEST_POINTER else text[: _LONGEST_POINTER - 1] + "…"


def listed(words: Sequence[Any]) -> str:
    """A few words of the contract as a list."""
    text = ", ".join(map(str, words))
    return text if len(text) <= _LONGEST_LIST else text[: _LONGEST_LIST - 1] + "…"
