"""YAML read for the JSON that it writes: YAML 1.2's core schema, without anything that makes a text larger than it looks.

PyYAML gives the events; what they mean is decided here, so nothing of what it could construct is constructed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from typing import Any, NoReturn

from registry.descriptions.document import Place, refusal
from registry.descriptions.syntax import (
    MAX_DEPTH,
    MAX_VALUES,
    check_text,
    not_a_number,
    repeated,
    syntax,
    too_deep,
    too_many,
)

_MAX_DIGITS = 400
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TEXT_TAGS = frozenset(("!", "tag:yaml.org,2002:str"))


class _Level:
    """A mapping or sequence that is being read."""

    __slots__ = ("container", "key", "part")

    def __init__(self, container: dict[str, Any] | list[Any], part: str | int) -> None:
        self.container = container
        self.part = part
        """Where it stands in what is around it."""
        self.key: str | None = None
        """The key whose value comes next, in a mapping."""

    def wants_key(self) -> bool:
        return self.key is None and isinstance(self.container, dict)


def read_yaml(text: str) -> Any:
    """The value that a YAML text writes; raises UnprocessableError."""
    import yaml  # only documents need it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    reader = _YamlReader()
    try:
        for event in yaml.parse(text, Loader=loader):
            reader.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        where_zh = f"第 {mark.line + 1} 行第 {mark.column + 1} 列" if mark else ""
        problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read")[:200]
        raise syntax(f"Not YAML: {problem}{where}.", f"不是合法的 YAML：{where_zh}（{problem}）。") from error
    except RecursionError as error:
        raise too_deep(()) from error
    return reader.tree


def yaml_spans(text: str, places: Collection[Place]) -> dict[Place, tuple[int, int]]:
    """Where in a YAML text that was read before the scalars at these places are written: start and end, in characters."""
    import yaml

    reader = _YamlReader(places)
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        reader.take(event)
    return reader.spans


class _YamlReader:
    """Builds plain JSON values from YAML's events."""

    def __init__(self, places: Collection[Place] = ()) -> None:
        self.tree: Any = None
        self.spans: dict[Place, tuple[int, int]] = {}
        self._wanted = frozenset(places)
        self._last_parts = {place[-1] for place in places}
        self._levels: list[_Level] = []
        self._count = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "ScalarEvent":
            self._scalar(event)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._start(event, {} if kind == "MappingStartEvent" else [])
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._levels.pop()
        elif kind == "AliasEvent":
            self._refuse(event, "An alias (*name) is not allowed", "不允许使用别名（*名称）")
        elif kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                self._refuse(event, "There is more than one document in the file", "文件中含有多个文档")

    def _start(self, event: Any, container: dict[str, Any] | list[Any]) -> None:
        self._check_properties(event, allowed=("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"))
        if self._levels and self._levels[-1].wants_key():
            self._refuse(event, "A key is not text", "键不是文本")
        place = self._place()
        if len(place) >= MAX_DEPTH:
            raise too_deep(place)
        self._put(container)
        self._levels.append(_Level(container, place[-1] if place else ""))

    def _scalar(self, event: Any) -> None:
        self._check_properties(event, allowed=_TEXT_TAGS)
        text = event.value
        plain = not event.style and event.tag is None
        level = self._levels[-1] if self._levels else None
        if level is not None and level.wants_key():
            if plain and text == "<<":
                self._refuse(event, "A merge key (<<) is not allowed", "不允许使用合并键（<<）")
            if text in level.container:
                raise repeated((*self._place(), text), line=event.start_mark.line + 1)
            check_text(text, (*self._place(), text))
            level.key = text
            return
        if self._wanted and level is not None and level.key in self._last_parts and self._place() in self._wanted:
            self.spans[self._place()] = (event.start_mark.index, event.end_mark.index)
        self._put(self._plain(event, text) if plain else text)

    def _plain(self, event: Any, text: str) -> Any:
        """What an unquoted scalar means in YAML's core schema."""
        if text in _NULL:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if text[0] not in "+-.0123456789":
            return text
        if _INTEGER.fullmatch(text) or _OTHER_BASE.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                self._refuse(event, "A number has too many digits", "数字位数过多")
            return int(text, 0 if _OTHER_BASE.fullmatch(text) else 10)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if math.isfinite(number):
                return number
        elif not _NOT_FINITE.fullmatch(text):
            return text
        raise not_a_number(self._place())

    def _put(self, value: Any) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise too_many()
        if isinstance(value, str):
            check_text(value, self._place() if not value.isascii() else ())
        if not self._levels:
            self.tree = value
            return
        level = self._levels[-1]
        if isinstance(level.container, list):
            level.container.append(value)
            return
        assert level.key is not None  # a value follows its key
        level.container[level.key] = value
        level.key = None

    def _check_properties(self, event: Any, *, allowed: Iterable[str]) -> None:
        if event.anchor is not None:
            self._refuse(event, "An anchor (&name) is not allowed", "不允许使用锚点（&名称）")
        if event.tag is not None and event.tag not in allowed:
            self._refuse(event, f"The tag {event.tag[:60]!r} is not allowed", f"不允许使用标签 {event.tag[:60]!r}")

    def _place(self) -> Place:
        """Where the next value goes, or the mapping whose next key is read."""
        if not self._levels:
            return ()
        top = self._levels[-1]
        own = tuple(level.part for level in self._levels[1:])
        if isinstance(top.container, list):
            return (*own, len(top.container))
        return own if top.key is None else (*own, top.key)

    def _refuse(self, event: Any, problem: str, problem_zh: str) -> NoReturn:
        line = event.start_mark.line + 1
        raise refusal("description-syntax", self._place(), f"{problem}, line {line}.", f"{problem_zh}，第 {line} 行。")
