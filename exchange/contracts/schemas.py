"""The schemas of an OpenAPI document as JSON Schema Draft 2020-12, with what they refer to. Pure.

Rules:
1. Only what judges a value is taken over. Names, examples, defaults and keywords nobody knows are left out.
2. OpenAPI 3.0 is translated: `nullable`, and `exclusiveMinimum` and `exclusiveMaximum` that are true or false. There, nothing
   counts beside a `$ref`. A nullable schema takes null also where it lists its values, or says no type.
3. `format` is judged. `int32` and `int64`, which JSON Schema does not know, are bounds of an integer.
4. What is `readOnly` need not be in a request although it is required, and what is `writeOnly` need not be in an answer.
5. A schema is taken once for requests and once for answers, wherever it is referred to from; one inside itself stays one.
6. A pattern that is larger when compiled than MAX_PATTERN, or that is none, judges nothing, and is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import unquote

from exchange.contracts.faults import pointer_of

Direction = Literal["request", "answer"]

MAX_PATTERN: Final = 1 << 20
"""Bytes of a compiled pattern."""
DFA_SIZE: Final = 1 << 20
BACKTRACKS: Final = 1000
"""Steps back that a pattern with look-around may take; all others take time in proportion to the text, and no steps back."""
_SIZES: Final = (1 << 12, 1 << 16, 1 << 18, MAX_PATTERN)

_AS_IS: Final = frozenset(
    (
        *(
            "const",
            "enum",
            "type",
            "format",
            "multipleOf",
            "maximum",
            "minimum",
            "exclusiveMaximum",
            "exclusiveMinimum",
        ),
        *("maxLength", "minLength", "maxItems", "minItems", "uniqueItems", "maxContains", "minContains"),
        *("maxProperties", "minProperties", "dependentRequired"),
    )
)
_ONE: Final = frozenset(
    (
        *("additionalProperties", "items", "not", "if", "then", "else", "contains", "propertyNames"),
        *("unevaluatedItems", "unevaluatedProperties"),
    )
)
_LIST: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAP: Final = frozenset(("properties", "dependentSchemas"))
_BOUNDS: Final = {"int32": 1 << 31, "int64": 1 << 63}
_CHAIN = 64


class ContractDocumentError(ValueError):
    """A document that nothing can be checked against; the message says what is wrong with it."""


class SchemaBook:
    """The schemas of one document that are used, translated."""

    def __init__(self, tree: Mapping[str, Any], *, is_3_0: bool) -> None:
        self.definitions: list[Any] = []
        self.unchecked: list[str] = []
        """Pointers to patterns that judge nothing."""
        self._tree = tree
        self._is_3_0 = is_3_0
        self._known: dict[tuple[tuple[str, ...], Direction], int] = {}

    def add(self, value: Any, place: tuple[str, ...], direction: Direction) -> int:
        """The position in `definitions` of the schema that stands at a place; raises ContractDocumentError."""
        known = self._known.get((place, direction))
        if known is not None:
            return known
        # Its position is known before it is read: it may refer to itself. What it refers to waits, so that a long chain
        # of references is no deep recursion.
        index = self._reserve(place, direction)
        waiting = [(index, value, place)]
        while waiting:
            at, found, where = waiting.pop()
            self.definitions[at] = self._translated(found, where, direction, waiting)
        return index

    def resolve(self, value: Any, place: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
        """What a value stands for, and where that is: itself unless it is a reference; raises ContractDocumentError."""
        for _ in range(_CHAIN):
            if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
                return value, place
            value, place = self._target(value["$ref"])
        raise ContractDocumentError(f"the references at {pointer_of(*place)} do not end")

    def _reserve(self, place: tuple[str, ...], direction: Direction) -> int:
        self._known[place, direction] = index = len(self.definitions)
        self.definitions.append(True)
        return index

    def _target(self, reference: str) -> tuple[Any, tuple[str, ...]]:
        if not reference.startswith("#/"):
            raise ContractDocumentError(f"a reference is not of the form #/…: {reference[:100]}")
        place = tuple(part.replace("~1", "/").replace("~0", "~") for part in unquote(reference[2:]).split("/"))
        value: Any = self._tree
        for part in place:
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
                value = value[int(part)]
            else:
                raise ContractDocumentError(f"a reference leads nowhere: {reference[:100]}")
        return value, place

    def _translated(
        self, schema: Any, place: tuple[str, ...], direction: Direction, waiting: list[tuple[int, Any, tuple[str, ...]]]
    ) -> Any:
        if not isinstance(schema, dict):
            return schema if isinstance(schema, bool) else True
        found: dict[str, Any] = {}
        if isinstance(schema.get("$ref"), str):
            target, there = self._target(schema["$ref"])
            index = self._known.get((there, direction))
            if index is None:
                index = self._reserve(there, direction)
                waiting.append((index, target, there))
            found["$ref"] = f"#/$defs/{index}"
            if self._is_3_0:
                return found

        def inner(value: Any, *parts: str) -> Any:
            return self._translated(value, (*place, *parts), direction, waiting)

        for key, value in schema.items():
            if key in _AS_IS:
                found[key] = value
            elif key in _ONE:
                found[key] = inner(value, key)
            elif key in _LIST and isinstance(value, list):
                found[key] = [inner(each, key, str(index)) for index, each in enumerate(value)]
            elif key in _MAP and isinstance(value, dict):
                found[key] = {name: inner(each, key, name) for name, each in value.items()}
        self._take_required(schema, direction, found)
        self._take_patterns(schema, place, found, inner)
        _take_integer_bounds(found)
        return _without_3_0(schema, found) if self._is_3_0 else found

    def _take_required(self, schema: Mapping[str, Any], direction: Direction, found: dict[str, Any]) -> None:
        required, properties = schema.get("required"), schema.get("properties")
        if not isinstance(required, list):
            return
        mark = "readOnly" if direction == "request" else "writeOnly"
        described = properties if isinstance(properties, dict) else {}
        found["required"] = [name for name in required if not self._is_marked(described.get(name), mark)]

    def _is_marked(self, schema: Any, mark: str) -> bool:
        for _ in range(_CHAIN):
            if not isinstance(schema, dict):
                return False
            if schema.get(mark) is True:
                return True
            parts = schema.get("allOf")
            if "$ref" in schema:
                schema, _ = self._target(schema["$ref"])
            elif isinstance(parts, list) and len(parts) == 1:
                schema = parts[0]
            else:
                return False
        return False

    def _take_patterns(
        self, schema: Mapping[str, Any], place: tuple[str, ...], found: dict[str, Any], inner: Any
    ) -> None:
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            if pattern_size(pattern):
                found["pattern"] = pattern
            else:
                self.unchecked.append(pointer_of(*place, "pattern"))
        named = schema.get("patternProperties")
        if not isinstance(named, dict):
            return
        if all(map(pattern_size, named)):
            found["patternProperties"] = {name: inner(each, "patternProperties", name) for name, each in named.items()}
            return
        # Which members it speaks of is not known, so what is said of all others cannot be judged, either.
        self.unchecked.append(pointer_of(*place, "patternProperties"))
        found.pop("additionalProperties", None)
        found.pop("unevaluatedProperties", None)


@lru_cache(4096)
def pattern_size(pattern: str) -> int:
    """About how many bytes a pattern takes when compiled; 0 if it cannot be, in bounds."""
    import jsonschema_rs  # what only hands plans on need not load it

    for size in _SIZES:
        options = jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACKS, size_limit=size, dfa_size_limit=DFA_SIZE)
        try:
            jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
        except ValueError:
            continue
        return size
    return 0


def types_of(book: SchemaBook, schema: Any) -> frozenset[str]:
    """The JSON types that a schema leaves possible, as far as it says so in place."""
    every = frozenset(("null", "boolean", "integer", "number", "string", "array", "object"))
    return _types(book, schema, every, _CHAIN)


def _types(book: SchemaBook, schema: Any, every: frozenset[str], left: int) -> frozenset[str]:
    if not isinstance(schema, dict) or left <= 0:
        return every
    found = every
    if isinstance(schema.get("$ref"), str):
        found &= _types(book, book.resolve(schema, ())[0], every, left - 1)
    stated = schema.get("type")
    if stated is not None:
        named = {each for each in (stated if isinstance(stated, list) else [stated]) if isinstance(each, str)}
        if schema.get("nullable") is True:
            named.add("null")
        found &= named | {"integer"} if "number" in named else named
    elif isinstance(schema.get("enum"), list):
        found &= frozenset(_type_of(each) for each in schema["enum"])
    for each in _schemas(schema, "allOf"):
        found &= _types(book, each, every, left - 1)
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            found &= frozenset().union(*(_types(book, each, every, left - 8) for each in _schemas(schema, key)))
    return found


def _schemas(schema: Mapping[str, Any], key: str) -> Iterator[Any]:
    value = schema.get(key)
    yield from value if isinstance(value, list) else ()


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    kinds = ((type(None), "null"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "object")


def _take_integer_bounds(found: dict[str, Any]) -> None:
    bound = _BOUNDS.get(str(found.get("format")))
    if bound is None:
        return
    del found["format"]
    stated = found.get("type")
    if stated in ("integer", "number") or (isinstance(stated, list) and {"integer", "number"} & set(stated)):
        found["allOf"] = [*found.get("allOf", ()), {"minimum": -bound, "maximum": bound - 1}]


def _without_3_0(schema: Mapping[str, Any], found: dict[str, Any]) -> Any:
    for ours, whole in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(found.get(ours), bool) and found.pop(ours) and whole in found:
            found[ours] = found.pop(whole)
    return {"anyOf": [{"type": "null"}, found]} if schema.get("nullable") is True else found
