"""What one schema allows that another does not, seen by who reads an answer or by who writes a request. Pure.

Rules:
1. An answer breaks its readers by saying what it did not say before, or by no longer saying what it said: a new type, another
   format, a property that is gone or may be missing.
2. A request breaks its writers by no longer taking what it took: a narrower type, format, list of values, bound or pattern,
   a property that must be there now.
3. Texts that only explain are not compared. A schema inside itself is compared once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from registry.descriptions.document import Place
from registry.descriptions.shapes import TYPES, UPPER, Schema, Shape, Shapes

Effect = Literal["breaking", "changed", "added"]

MAX_LEVELS = 24
MAX_FINDINGS = 200
"""Below one schema; more are cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A difference between two schemas. `what` is the end of its rule's name."""

    effect: Effect
    what: str
    place: Place
    """In the new document; of what is gone, in the old one."""
    keys: tuple[str, ...] = ()
    """The object keys that lead to it from where the comparison began."""
    old: str = ""
    new: str = ""


class SchemaDifference:
    """Compares schemas of two documents, each pair once."""

    def __init__(self, old: Shapes, new: Shapes) -> None:
        self._old = old
        self._new = new
        self._made: dict[Any, tuple[Finding, ...]] = {}

    def of_answer(self, old: Schema, new: Schema) -> tuple[Finding, ...]:
        """What changes for who reads."""
        return self._compared(old, new, answer=True, level=0)

    def of_request(self, old: Schema, new: Schema) -> tuple[Finding, ...]:
        """What changes for who writes."""
        return self._compared(old, new, answer=False, level=0)

    def _compared(self, old: Schema, new: Schema, *, answer: bool, level: int) -> tuple[Finding, ...]:
        key = (old.key, new.key, answer)
        if key not in self._made and level < MAX_LEVELS:
            self._made[key] = ()  # met again inside itself, there is nothing to add
            found = list(self._findings(old, new, answer=answer, level=level))
            self._made[key] = tuple(found[:MAX_FINDINGS])
        return self._made.get(key, ())

    def _findings(self, old: Schema, new: Schema, *, answer: bool, level: int) -> Iterator[Finding]:
        was, now = self._old.of(old), self._new.of(new)
        yield from (_read if answer else _written)(was, now, new.place)
        if "object" in was.types & now.types:
            yield from (_read_properties if answer else _written_properties)(was, now, new.place)
            for name, schema in was.properties.items():
                if name in now.properties:
                    below = self._compared(schema, now.properties[name], answer=answer, level=level + 1)
                    yield from (replace(each, keys=(name, *each.keys)) for each in below)
        if "array" in was.types & now.types and (was.items or now.items):
            yield from self._compared(
                was.items or _anything(old.place), now.items or _anything(new.place), answer=answer, level=level + 1
            )


def _read(was: Shape, now: Shape, place: Place) -> Iterator[Finding]:
    more, less = now.types - was.types, was.types - now.types
    if more == {"null"}:
        yield Finding(effect="breaking", what="nullable", place=place)
    elif more or less:
        effect: Effect = "breaking" if more else "changed"
        yield Finding(effect=effect, what="type", place=place, old=_types(was), new=_types(now))
    if was.format != now.format:
        effect = "breaking" if was.format else "changed"
        yield Finding(effect=effect, what="format", place=place, old=was.format, new=now.format)
    if was.enum != now.enum:
        yield Finding(effect="changed", what="values", place=place, old=_values(was), new=_values(now))


def _read_properties(was: Shape, now: Shape, place: Place) -> Iterator[Finding]:
    for name, schema in was.properties.items():
        if name not in now.properties:
            yield Finding(effect="breaking", what="property-removed", place=schema.place, keys=(name,))
        elif name in was.required - now.required:
            where = now.properties[name].place
            yield Finding(effect="breaking", what="property-optional", place=where, keys=(name,))
        elif name in now.required - was.required:
            where = now.properties[name].place
            yield Finding(effect="changed", what="property-always", place=where, keys=(name,))
    for name, schema in now.properties.items():
        if name not in was.properties:
            yield Finding(effect="added", what="property-added", place=schema.place, keys=(name,))


def _written(was: Shape, now: Shape, place: Place) -> Iterator[Finding]:
    more, less = now.types - was.types, was.types - now.types
    if more or less:
        effect: Effect = "breaking" if less else "changed"
        yield Finding(effect=effect, what="type", place=place, old=_types(was), new=_types(now))
    if was.format != now.format:
        effect = "breaking" if now.format else "changed"
        yield Finding(effect=effect, what="format", place=place, old=was.format, new=now.format)
    if was.enum != now.enum:
        narrower = now.enum is not None and (was.enum is None or was.enum - now.enum)
        effect = "breaking" if narrower else "changed"
        yield Finding(effect=effect, what="values", place=place, old=_values(was), new=_values(now))
    if was.pattern != now.pattern:
        effect = "breaking" if now.pattern else "changed"
        yield Finding(effect=effect, what="pattern", place=place, old=was.pattern[:60], new=now.pattern[:60])
    for key in sorted(was.bounds.keys() | now.bounds.keys()):
        before, after = was.bounds.get(key), now.bounds.get(key)
        if before == after:
            continue
        narrower = after is not None and (before is None or (after < before) == (key in UPPER))
        effect = "breaking" if narrower else "changed"
        yield Finding(effect=effect, what="bound", place=place, old=_bound(key, before), new=_bound(key, after))


def _written_properties(was: Shape, now: Shape, place: Place) -> Iterator[Finding]:
    for name in sorted(now.required - was.required):
        where = now.properties[name].place if name in now.properties else place
        yield Finding(effect="breaking", what="property-required", place=where, keys=(name,))
    for name in sorted(was.required - now.required):
        if name in now.properties:
            where = now.properties[name].place
            yield Finding(effect="changed", what="property-optional", place=where, keys=(name,))
    for name, schema in was.properties.items():
        if name not in now.properties:
            effect: Effect = "breaking" if now.closed else "changed"
            yield Finding(effect=effect, what="property-removed", place=schema.place, keys=(name,))
    for name, schema in now.properties.items():
        if name not in was.properties and name not in now.required - was.required:
            yield Finding(effect="added", what="property-added", place=schema.place, keys=(name,))
    if now.closed and not was.closed:
        yield Finding(effect="breaking", what="closed", place=place)


def _anything(place: Place) -> Schema:
    """A schema that says nothing, where there is none."""
    return Schema((True,), place, ((*place, "items", "*"),))  # a place of its own, where nothing can stand


def _types(shape: Shape) -> str:
    if shape.types == TYPES:
        return "any"
    named = shape.types - {"integer"} if "number" in shape.types else shape.types
    return " | ".join(sorted(named)) or "nothing"


def _values(shape: Shape) -> str:
    if shape.enum is None:
        return "any"
    shown = sorted(shape.enum)
    return ", ".join(each[:40] for each in shown[:8]) + (" …" if len(shown) > 8 else "")


def _bound(key: str, value: float | None) -> str:
    return f"{key} {value:g}" if value is not None else f"no {key}"
