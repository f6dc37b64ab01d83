"""Bytes to an OpenAPI document: JSON or YAML, without anything in them that a reader could be made to stumble over.

Rules:
1. A document is UTF-8, at most 10 MiB, nested at most 64 deep, and holds at most a million values.
2. YAML is read for the JSON that it writes (YAML 1.2, core schema): no anchors, aliases, merge keys or tags, so no document is
   larger than it looks; timestamps, `yes` and `no` are text. Keys are text as they stand: `200` under `responses` is "200".
3. What JSON cannot say, or says in two ways, is refused: repeated keys, NaN and infinity, halves of surrogate pairs.
4. Every refusal is an UnprocessableError that says where: a pointer once there is a structure, a line before that.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NoReturn

from exchange import UnprocessableError
from registry.descriptions.document import Document, Format, Place, below, refusal

MAX_BYTES = 10 << 20
MAX_DEPTH = 64
MAX_VALUES = 1_000_000

_MAX_DIGITS = 400
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TEXT_TAGS = frozenset(("!", "tag:yaml.org,2002:str"))
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_document(data: bytes) -> Document:
    """Return the document that `data` holds. That its version is known is checked, what it says is not.

    Raises:
        UnprocessableError: It breaks one of the rules above; `description-syntax`, `description-limit`,
            `description-version`.
    """
    if len(data) > MAX_BYTES:
        raise _limit((), f"is larger than {MAX_BYTES >> 20} MiB", f"超过 {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _syntax(
            f"Byte {error.start + 1} is not UTF-8.", f"第 {error.start + 1} 个字节不是 UTF-8 编码。"
        ) from error
    form: Format = "json" if text.lstrip(" \t\r\n").startswith("{") else "yaml"
    tree = _read_json(text) if form == "json" else _read_yaml(text)
    if not isinstance(tree, dict):
        raise _syntax("The document is not an object.", "文档不是对象。")
    _check_version(tree)
    return Document(text, form, tree)


def digest_of(data: bytes) -> str:
    """Digest of a document that was not read yet, as `Document.sha256` would be."""
    return hashlib.sha256(data.removeprefix(codecs.BOM_UTF8)).hexdigest()


def _check_version(tree: dict[str, Any]) -> None:
    if "openapi" not in tree:
        stated, place = str(tree.get("swagger", "")), ("swagger",) if "swagger" in tree else ()
        en = (
            f"This is Swagger {stated[:20]}" if stated else "The document does not say which OpenAPI version it follows"
        )
        zh = f"这是 Swagger {stated[:20]} 文档" if stated else "文档未注明 OpenAPI 版本"
        raise _version(place, en, zh)
    version = tree["openapi"]
    if not isinstance(version, str):
        raise _version(("openapi",), "The version is not text; write it in quotes", "版本号不是文本，请加引号")
    if not re.fullmatch(r"3\.[01]\.\d{1,3}(-[A-Za-z0-9.]{1,20})?", version):
        raise _version(("openapi",), f"OpenAPI {version[:40]!r} is not supported", f"不支持 OpenAPI {version[:40]!r}")


def _version(place: Place, problem: str, problem_zh: str) -> UnprocessableError:
    return refusal(
        "description-version",
        place,
        f"{problem}; 3.0.x and 3.1.x are, such as 3.0.3 and 3.1.1",
        f"{problem_zh}；支持 3.0.x 和 3.1.x，例如 3.0.3、3.1.1",
    )


# JSON


class _Repeating(dict[str, Any]):
    """An object in which a key stands twice."""

    key = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = _Repeating(found)
    seen: set[str] = set()
    repeating.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return repeating


def _read_json(text: str) -> Any:
    try:
        tree = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise _syntax(
            f"Not JSON: {error.msg} in line {error.lineno}, column {error.colno}.",
            f"不是合法的 JSON：第 {error.lineno} 行第 {error.colno} 列（{error.msg}）。",
        ) from error
    except RecursionError as error:
        raise _too_deep(()) from error
    except ValueError as error:  # an integer of thousands of digits
        raise _syntax("A number has too many digits.", "有数字位数过多。") from error
    _check_values(tree)
    return tree


def _check_values(tree: Any) -> None:
    """Depth, number and kind of the values of a tree that was read without looking at them."""
    # A stack of what is still to be gone through instead of recursion; `path` are the parts that lead to its top.
    stack: list[Iterator[tuple[str | int, Any]]] = [iter((("", tree),))]
    path: list[str | int] = []
    count = 0
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            if path:
                path.pop()
            continue
        part, value = found
        place = (*path[1:], part) if path else ()
        count += 1
        if count > MAX_VALUES:
            raise _too_many()
        if isinstance(value, dict | list):
            if isinstance(value, _Repeating):
                raise _repeated((*place, value.key))
            if len(stack) > MAX_DEPTH:
                raise _too_deep(place)
            for key in value if isinstance(value, dict) else ():
                _check_text(key, (*place, key))
            stack.append(below(value))
            path.append(part)
        elif isinstance(value, str):
            _check_text(value, place)
        elif isinstance(value, float) and not math.isfinite(value):
            raise _not_a_number(place)


def _check_text(text: str, place: Place) -> None:
    if not text.isascii() and _SURROGATE.search(text):
        raise refusal(
            "description-syntax",
            tuple(_SURROGATE.sub("\ufffd", part) if isinstance(part, str) else part for part in place),
            "Half of a surrogate pair is not a character.",
            "含有不成对的代理码位。",
        )


# YAML


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


def _read_yaml(text: str) -> Any:
    import yaml  # only documents need it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    reader = _YamlReader()
    try:
        # Events only: nothing of what PyYAML can construct is constructed.
        for event in yaml.parse(text, Loader=loader):
            reader.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        where_zh = f"第 {mark.line + 1} 行第 {mark.column + 1} 列" if mark else ""
        problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read")[:200]
        raise _syntax(f"Not YAML: {problem}{where}.", f"不是合法的 YAML：{where_zh}（{problem}）。") from error
    except RecursionError as error:
        raise _too_deep(()) from error
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
            raise _too_deep(place)
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
                raise _repeated((*self._place(), text), line=event.start_mark.line + 1)
            _check_text(text, (*self._place(), text))
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
        raise _not_a_number(self._place())

    def _put(self, value: Any) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _too_many()
        if isinstance(value, str):
            _check_text(value, self._place() if not value.isascii() else ())
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


# Refusals


def _syntax(problem: str, problem_zh: str) -> UnprocessableError:
    return refusal("description-syntax", (), problem, problem_zh)


def _limit(place: Place, problem: str, problem_zh: str) -> UnprocessableError:
    return refusal("description-limit", place, f"The document {problem}.", f"文档{problem_zh}。")


def _too_deep(place: Place) -> UnprocessableError:
    return _limit(place, f"is nested more than {MAX_DEPTH} deep", f"嵌套超过 {MAX_DEPTH} 层")


def _too_many() -> UnprocessableError:
    return _limit((), f"holds more than {MAX_VALUES} values", f"所含数据项超过 {MAX_VALUES} 个")


def _repeated(place: Place, line: int = 0) -> UnprocessableError:
    where, where_zh = (f" again in line {line}", f"（第 {line} 行）") if line else (" twice", "")
    shown = str(place[-1])[:100]
    return refusal(
        "description-syntax", place, f"The key {shown!r} stands{where}.", f"键 {shown!r} 重复出现{where_zh}。"
    )


def _not_a_number(place: Place) -> UnprocessableError:
    return refusal(
        "description-syntax", place, "Not a number that JSON can hold.", "不是 JSON 可表示的数字（NaN 或无穷大）。"
    )
