"""What a document says a service offers: its operations, its title, and the items that answers hold. Pure.

Rules:
1. A path of the document is a path of ours: `{name}` stands for one segment, everything else for itself. Servers are left out;
   where the service runs is the adapter's business.
2. An operation is safe as HTTP says of its method, unless `x-datong-safe` says otherwise: a search by POST, for instance.
3. Items are the paths (`exchange.release.bodies`) of what 2xx answers in JSON hold at their ends; a schema inside itself is an end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from exchange import UnprocessableError, item_path
from registry import rules
from registry.descriptions.document import METHODS, Document, Place, refusal
from registry.descriptions.references import References
from registry.descriptions.shapes import Schema, Shape, Shapes
from registry.records import Operation

SAFE = "x-datong-safe"
MAX_OPERATIONS = 2000
MAX_ITEMS = 2000
"""Of one operation; what is beyond is not listed."""
MAX_LEVELS = 16
"""How deep items are followed."""

_EXPRESSION = re.compile(r"\{([^{}/]+)\}")
_CHINESE = re.compile("[\u3400-\u9fff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An information item of an answer. `type` is JSON's, or several joined by `|`."""

    path: str
    type: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An operation as it stands in a document."""

    operation: Operation
    path: str
    """As the document writes it."""
    value: Mapping[str, Any]
    place: Place
    shared: tuple[tuple[Any, Place], ...]
    """The parameters of all operations of the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """An operation as a document describes it."""

    operation: Operation
    summary: str = ""
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a document says of a service. The titles are proposals; one at least is not empty."""

    title_zh: str
    title_en: str
    operations: tuple[Described, ...]


def describe(document: Document, references: References) -> Description:
    """Return what a valid document says.

    Raises:
        UnprocessableError: `description-operation`; there is none, or too many, or one says what it cannot.
    """
    shapes = Shapes(document, references)
    found = tuple(
        Described(
            operation=each.operation,
            summary=_one_line(each.value.get("summary")),
            items=tuple(items_of_answers(each, references, shapes)),
        )
        for each in endpoints_of(document, references)
    )
    if not found:
        raise _refused(("paths",), "The document describes no operation", "文档没有描述任何操作")
    title = _one_line(document.tree["info"].get("title"))
    chinese = bool(_CHINESE.search(title))
    return Description(title_zh=title, title_en="" if chinese else title, operations=found)


def check_paths(document: Document) -> None:
    """Return if every path of a document can be one of ours; whatever else is wrong with it.

    Raises:
        UnprocessableError: `description-operation`; one cannot, or two are the same.
    """
    seen: dict[str, str] = {}
    paths = document.tree.get("paths")
    for path in paths if isinstance(paths, dict) else ():
        if path.startswith("x-"):
            continue
        same = anonymous(our_path(path))
        if same in seen:
            raise _refused(
                ("paths", path),
                f"{path[:100]!r} is the same path as {seen[same][:100]!r}",
                f"{path[:100]!r} 与 {seen[same][:100]!r} 是同一路径",
            )
        seen[same] = path


def endpoints_of(document: Document, references: References) -> Iterator[Endpoint]:
    """Each operation of a valid document whose paths were checked. Raises as `describe` does."""
    count = 0
    for path, stated in (document.tree.get("paths") or {}).items():
        if path.startswith("x-"):
            continue
        item, place = references.resolve(stated, ("paths", path))
        # What stands beside a reference counts before what it refers to.
        levels = [(stated, ("paths", path))] if stated is item else [(stated, ("paths", path)), (item, place)]
        shared = tuple(
            (each, (*where, "parameters", index))
            for value, where in levels
            for index, each in enumerate(value.get("parameters") or ())
        )
        for method in METHODS:
            value, where = next(
                ((value[method], (*where, method)) for value, where in levels if method in value), (None, ())
            )
            if not isinstance(value, dict):
                continue
            count += 1
            if count > MAX_OPERATIONS:
                raise _refused(
                    ("paths",), f"There are more than {MAX_OPERATIONS} operations", f"操作超过 {MAX_OPERATIONS} 个"
                )
            safe = value.get(SAFE)
            if safe is not None and not isinstance(safe, bool):
                raise _refused((*where, SAFE), f"{SAFE} is not true or false", f"{SAFE} 应为 true 或 false")
            operation = Operation.of(method.upper(), our_path(path), safe)
            yield Endpoint(operation=operation, path=path, value=value, place=where, shared=shared)


def our_path(path: str) -> str:
    """The path template of a document as a pattern of ours (`registry.patterns`)."""
    pieces = []
    position = 0
    for match in _EXPRESSION.finditer(path):
        pieces += [_literal(path[position : match.start()]), "{" + _name(match[1]) + "}"]
        position = match.end()
    pattern = "".join((*pieces, _literal(path[position:])))
    try:
        if "{" in path[position:] or "}" in _EXPRESSION.sub("", path):
            raise ValueError("a brace stands alone")
        rules.check_path(pattern)
    except (UnprocessableError, ValueError) as error:
        said = error.__cause__ or error
        raise _refused(
            ("paths", path), f"{path[:200]!r} cannot be a path here: {said}", f"{path[:200]!r} 不能作为路径：{said}"
        ) from error
    return pattern


def anonymous(pattern: str) -> str:
    """The same with placeholders that have no name: what two patterns that match alike have in common."""
    return re.sub(r"(?<!\\)\{[^{}]+\}", "{}", pattern)


def _literal(text: str) -> str:
    # Callers' paths are decoded before they are compared.
    return re.sub(r"[*{\\]", r"\\\g<0>", unquote(text))


def _name(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return name if name[0].isalpha() or name[0] == "_" else f"_{name}"


# Items


def items_of_answers(endpoint: Endpoint, references: References, shapes: Shapes) -> Iterator[Item]:
    """The items of an operation's 2xx answers in JSON, each once, in the document's order."""
    seen: set[str] = set()
    for schema in json_answers(endpoint, references, shapes):
        for item in items_of(schema, shapes):
            if item.path not in seen:
                seen.add(item.path)
                yield item
            if len(seen) >= MAX_ITEMS:
                return


def json_answers(endpoint: Endpoint, references: References, shapes: Shapes) -> Iterator[Schema]:
    """The schemas of an operation's 2xx answers in JSON."""
    responses = endpoint.value.get("responses")
    for status, stated in responses.items() if isinstance(responses, dict) else ():
        if not status.startswith("2"):
            continue
        response, where = references.resolve(stated, (*endpoint.place, "responses", status))
        content = response.get("content") if isinstance(response, dict) else None
        for media_type, said in content.items() if isinstance(content, dict) else ():
            if is_json(media_type) and isinstance(said, dict) and "schema" in said:
                yield shapes.schema(said["schema"], (*where, "content", media_type, "schema"))


def is_json(media_type: str) -> bool:
    """Whether bodies of this type are JSON; one that may be anything may be JSON."""
    name = media_type.partition(";")[0].strip().lower()
    return name.endswith(("/json", "+json")) or name in ("*/*", "application/*")


def items_of(schema: Schema, shapes: Shapes) -> Iterator[Item]:
    """The items at the ends of a schema."""
    # Depth first, with a stack of our own; `inside` are the schemas on the way, to cut what comes back.
    waiting: list[tuple[Schema, tuple[str, ...], frozenset[object]]] = [(schema, (), frozenset())]
    while waiting:
        schema, keys, inside = waiting.pop()
        schema, shape = _element(schema, shapes)
        if shape.properties and schema.key not in inside and len(inside) < MAX_LEVELS:
            below = [(each, (*keys, name), inside | {schema.key}) for name, each in shape.properties.items()]
            waiting += below[::-1]
        elif "".join(keys).isprintable() and keys:
            yield Item(path=item_path(keys), type=_type(shape), title=_one_line(shape.title))


def _element(schema: Schema, shapes: Shapes) -> tuple[Schema, Shape]:
    """A schema and its shape, or those of what its arrays hold."""
    shape = shapes.of(schema)
    for _ in range(MAX_LEVELS):
        if shape.items is None or shape.properties:
            break
        schema = shape.items
        shape = shapes.of(schema)
    return schema, shape


def _type(shape: Shape) -> str:
    types = shape.types - {"null"}
    if len(types) >= 6:
        return "any"
    named = types - {"integer"} if "number" in types else types
    return "|".join(sorted(f"{each}:{shape.format}" if shape.format else each for each in named))


def _one_line(text: Any) -> str:
    """A text as titles are: one line, printable, not too long."""
    if not isinstance(text, str):
        return ""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= 200 else f"{line[:199]}…"


def _refused(place: Place, problem: str, problem_zh: str) -> UnprocessableError:
    return refusal("description-operation", place, problem + ".", problem_zh + "。")
