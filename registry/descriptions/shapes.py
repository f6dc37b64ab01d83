"""What a schema says of a value, with references followed and `allOf`, `anyOf` and `oneOf` taken together. Pure.

Rules:
1. A shape is what is known of the value as a whole: its types, and what an object or array of it holds. Of alternatives it
   holds what any of them may bring: a property is required only if each alternative that can be an object requires it.
2. `not`, `if` and what else only takes away in some cases is left out: a shape may be wider than the schema, never narrower.
3. Parts (properties, items) stay schemas with their places until somebody asks for their shapes, so recursion is nobody's
   problem here; whoever walks through shapes cuts it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from registry.descriptions.document import Document, Place
from registry.descriptions.references import References

TYPES = frozenset(("null", "boolean", "integer", "number", "string", "array", "object"))
UPPER = ("maxLength", "maximum", "maxItems")
LOWER = ("minLength", "minimum", "minItems")


@dataclass(frozen=True, slots=True)
class Schema:
    """One or several schemas of the same value, and where the first of them stands."""

    values: tuple[Any, ...]
    place: Place
    places: tuple[Place, ...]
    all_of: bool = True
    """Whether all of them hold, or any."""

    @property
    def key(self) -> tuple[bool, tuple[Place, ...]]:
        """What tells it from others of the same document."""
        return self.all_of, self.places


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a value can be."""

    types: frozenset[str] = TYPES
    """`number` stands beside `integer`, which it includes."""
    format: str = ""
    enum: frozenset[str] | None = None
    """Allowed values as JSON; None: any."""
    pattern: str = ""
    bounds: Mapping[str, float] = field(default_factory=dict)
    properties: Mapping[str, Schema] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    closed: bool = False
    """Whether an object may hold no other properties."""
    items: Schema | None = None
    title: str = ""


class Shapes:
    """The shapes of one document's schemas, each made once."""

    def __init__(self, document: Document, references: References) -> None:
        self._nullable = document.is_3_0
        self._references = references
        self._made: dict[tuple[bool, tuple[Place, ...]], Shape] = {}

    def schema(self, value: Any, place: Place) -> Schema:
        """The schema at a place, its references followed as far as it is nothing else."""
        if self._nullable or (isinstance(value, dict) and value.keys() <= {"$ref", "description", "summary"}):
            value, place = self._references.resolve(value, place)
        return Schema((value,), place, (place,))

    def of(self, schema: Schema) -> Shape:
        """Its shape."""
        made = self._made.get(schema.key)
        if made is None:
            shapes = [self._single(value, place) for value, place in zip(schema.values, schema.places, strict=True)]
            made = self._made[schema.key] = (self._both if schema.all_of else self._either)(shapes)
        return made

    def _single(self, value: Any, place: Place) -> Shape:
        """The shape of one schema. References that lead back to it were refused before (`registry.descriptions.references`)."""
        if value is False:
            return Shape(types=frozenset())
        if not isinstance(value, dict):
            return Shape()
        made = [self._plain(value, place)]
        if "$ref" in value:
            made.append(self.of(Schema(*self._followed(value, place))))
        for index, each in enumerate(_listed(value, "allOf")):
            made.append(self.of(self.schema(each, (*place, "allOf", index))))
        for key in ("anyOf", "oneOf"):
            alternatives = _listed(value, key)
            if alternatives:
                shapes = [self.of(self.schema(each, (*place, key, n))) for n, each in enumerate(alternatives)]
                made.append(self._either(shapes))
        return self._both(made)

    def _followed(self, value: Any, place: Place) -> tuple[tuple[Any, ...], Place, tuple[Place, ...]]:
        target, there = self._references.resolve(value, place)
        return (target,), there, (there,)

    def _plain(self, value: Mapping[str, Any], place: Place) -> Shape:
        """What the schema says by itself."""
        types = _types(value.get("type"))
        if self._nullable and value.get("nullable") is True and "type" in value:
            types |= {"null"}
        enum = frozenset(map(_canonical, value["enum"])) if isinstance(value.get("enum"), list) else None
        if "const" in value:
            enum = frozenset((_canonical(value["const"]),))
        properties = value.get("properties")
        required = value.get("required")
        return Shape(
            types=types,
            format=_text(value.get("format")),
            enum=enum,
            pattern=_text(value.get("pattern")),
            bounds={key: float(value[key]) for key in (*UPPER, *LOWER) if _is_number(value.get(key))},
            properties={
                name: self.schema(each, (*place, "properties", name))
                for name, each in (properties.items() if isinstance(properties, dict) else ())
            },
            required=frozenset(name for name in required if isinstance(name, str))
            if isinstance(required, list)
            else frozenset(),
            closed=value.get("additionalProperties") is False or value.get("unevaluatedProperties") is False,
            items=self.schema(value["items"], (*place, "items")) if "items" in value else None,
            title=_text(value.get("title")) or _text(value.get("description")),
        )

    def _both(self, shapes: Sequence[Shape]) -> Shape:
        """What is so when all of them hold."""
        whole = shapes[0]
        for other in shapes[1:]:
            both = TYPES & whole.types & other.types
            # Where one says number and the other integer, integer is what is left.
            enum = whole.enum if other.enum is None else other.enum if whole.enum is None else whole.enum & other.enum
            whole = Shape(
                types=both,
                format=whole.format or other.format,
                enum=enum,
                pattern=whole.pattern or other.pattern,
                bounds=_bounds(whole.bounds, other.bounds, all_of=True),
                properties=_joined(whole.properties, other.properties, all_of=True),
                required=whole.required | other.required,
                closed=whole.closed or other.closed,
                items=_one(whole.items, other.items, all_of=True),
                title=whole.title or other.title,
            )
        return whole

    def _either(self, shapes: Sequence[Shape]) -> Shape:
        """What is so when any of them holds."""
        # An alternative that is only null says nothing about what the value is when it is there.
        there = [shape for shape in shapes if not shape.types <= {"null"}]
        if len(there) < len(shapes):
            whole = self._either(there) if there else Shape(types=frozenset())
            enum = None if whole.enum is None else whole.enum | {"null"}
            return replace(whole, types=whole.types | {"null"}, enum=enum)
        whole = shapes[0]
        objects = "object" in whole.types
        for other in shapes[1:]:
            required = whole.required & other.required
            if "object" not in other.types:
                required = whole.required
            elif not objects:
                required = other.required
            objects = objects or "object" in other.types
            whole = Shape(
                types=whole.types | other.types,
                format=whole.format if whole.format == other.format else "",
                enum=None if whole.enum is None or other.enum is None else whole.enum | other.enum,
                pattern=whole.pattern if whole.pattern == other.pattern else "",
                bounds=_bounds(whole.bounds, other.bounds, all_of=False),
                properties=_joined(whole.properties, other.properties, all_of=False),
                required=required,
                closed=whole.closed and other.closed,
                items=_one(whole.items, other.items, all_of=False),
                title=whole.title or other.title,
            )
        return whole


def _one(first: Schema | None, second: Schema | None, *, all_of: bool) -> Schema | None:
    """One schema for two of the same part."""
    if first is None or second is None:
        return first or second
    if first.key == second.key:
        return first
    if all(len(each.places) == 1 or each.all_of == all_of for each in (first, second)):
        merged = dict(zip((*first.places, *second.places), (*first.values, *second.values), strict=True))
        return Schema(tuple(merged.values()), first.place, tuple(merged), all_of)
    # One is an "all of" and the other an "any of": the narrower view of the first is kept.
    return first


def _joined(first: Mapping[str, Schema], second: Mapping[str, Schema], *, all_of: bool) -> Mapping[str, Schema]:
    if not first or not second:
        return first or second
    joined = dict(first)
    for name, schema in second.items():
        found = _one(joined.get(name), schema, all_of=all_of)
        assert found is not None  # one of the two is there
        joined[name] = found
    return joined


def _bounds(first: Mapping[str, float], second: Mapping[str, float], *, all_of: bool) -> Mapping[str, float]:
    if not all_of:
        return {key: (max if key in UPPER else min)(first[key], second[key]) for key in first.keys() & second.keys()}
    joined = {**first, **second}
    for key in first.keys() & second.keys():
        joined[key] = (min if key in UPPER else max)(first[key], second[key])
    return joined


def _types(stated: Any) -> frozenset[str]:
    if stated is None:
        return TYPES
    named = frozenset(each for each in (stated if isinstance(stated, list) else [stated]) if isinstance(each, str))
    return named | {"integer"} if "number" in named else named


def _listed(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
