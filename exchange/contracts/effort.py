"""What it may cost to try a schema: steps for each byte of a value, by how deep the value is nested. Pure.

A validator goes through a value once. But several schemas may speak of the same value (`allOf`, `anyOf`, …, references), each
of them of the same member, and so on: what a document says in a few lines can double with each level of a caller's body. So the
sets of schemas that can meet at one place are gone through, level by level, and the steps that the largest of them takes are
counted. One step is about ten nanoseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from exchange.contracts.plan import MAX_DEPTH, SchemaPlan
from exchange.contracts.schemas import ContractDocumentError, pattern_size

UNBOUNDED: Final = 1 << 40
"""Steps that nobody waits for."""
_MOST_STEPS = 1_000_000
_MOST_STATES = 20_000
_IN_PLACE = ("allOf", "anyOf", "oneOf")
_IN_PLACE_ONE = ("not", "if", "then", "else")
_OF_MEMBERS = ("additionalProperties", "unevaluatedProperties")
_OF_ELEMENTS = ("items", "contains", "unevaluatedItems")
_BELOW_ONE = (*_OF_MEMBERS, *_OF_ELEMENTS, "propertyNames")
_OF_PATTERN: Mapping[int, int] = {1 << 12: 40, 1 << 16: 400, 1 << 18: 2500}
"""Compiled size of a pattern -> steps for each byte of a text that suits it badly, as measured."""
_OF_LARGER_PATTERN = 10_000
_NODES_OF_PATTERN = 1 << 10
"""Bytes of a compiled pattern that take the room of one schema."""

State = tuple[tuple[int, int], ...]
"""Schemas that meet at one place, with how often each does: (identity, times), sorted."""


class Efforts:
    """The efforts of one document's schemas."""

    def __init__(self, definitions: Sequence[Any]) -> None:
        self._definitions = definitions
        self._by_id: dict[int, Any] = {}
        self._closures: dict[int, Counter[int]] = {}
        self._steps: dict[int, int] = {}
        self._counted: set[str] = set()
        """Patterns whose room was counted."""
        self._solved: dict[State, tuple[int, ...]] = {}
        """Steps by depth of the sets of schemas that were met, as in a plan."""

    def plan(self, index: int) -> SchemaPlan:
        """The schema at a position, with its effort; raises ContractDocumentError if it speaks of itself without an end."""
        root = self._state([(self._definitions[index], 1)])
        if root not in self._solved:
            self._solve(root)
        return SchemaPlan(index=index, effort=self._solved[root])

    def _solve(self, root: State) -> None:
        """Find the steps of a set of schemas and of all that can be met below it."""
        own: dict[State, int] = {}
        below: dict[State, set[State]] = {}
        waiting = [root]
        while waiting:
            state = waiting.pop()
            if state in own or state in self._solved:
                continue
            here = self._expanded(state)
            own[state] = sum(self._steps[each] * times for each, times in here.items())
            if own[state] > _MOST_STEPS or len(self._solved) + len(own) > _MOST_STATES:
                self._solved[state] = (UNBOUNDED,)
                continue
            found = {self._state(each) for each in self._below(here)} - {()}
            if found:
                below[state] = found
                waiting += found
            else:
                self._solved[state] = (own[state],)
        steps = {state: [own[state]] for state in below}
        for depth in range(1, MAX_DEPTH + 1):
            changed = False
            for state, found in below.items():
                most = max(own[state], *(self._at(steps, each, depth - 1) for each in found))
                changed |= most != steps[state][-1]
                steps[state].append(most)
            longest = max(
                (len(self._solved[each]) for found in below.values() for each in found - below.keys()), default=0
            )
            if not changed and depth > longest:
                break
        for state, counted in steps.items():
            last = len(counted)
            while last > 1 and counted[last - 2] == counted[last - 1]:
                last -= 1
            self._solved[state] = tuple(counted[:last])

    def _at(self, steps: Mapping[State, Sequence[int]], state: State, depth: int) -> int:
        counted = steps[state] if state in steps else self._solved[state]
        return counted[min(depth, len(counted) - 1)]

    def _note(self, schema: Any) -> int:
        self._by_id[id(schema)] = schema  # and so kept: an identity must not be given to another
        return id(schema)

    def _state(self, schemas: Sequence[tuple[Any, int]]) -> State:
        counts: Counter[int] = Counter()
        for schema, times in schemas:
            if isinstance(schema, dict):
                counts[self._note(schema)] += times
        return tuple(sorted(counts.items()))

    def _expanded(self, state: State) -> Counter[int]:
        """All schemas that speak of the same value."""
        found: Counter[int] = Counter()
        for identity, times in state:
            for each, more in self._closure(self._by_id[identity], ()).items():
                found[each] += times * more
        return found

    def _closure(self, schema: Any, on_the_way: tuple[int, ...]) -> Counter[int]:
        identity = self._note(schema)
        known = self._closures.get(identity)
        if known is not None:
            return known
        if identity in on_the_way or len(on_the_way) > 4 * MAX_DEPTH:
            raise ContractDocumentError("a schema refers to itself without anything in between")
        found: Counter[int] = Counter({identity: 1})
        self._steps[identity] = _steps_of(schema)
        for each in self._in_place(schema):
            for inner, times in self._closure(each, (*on_the_way, identity)).items():
                found[inner] += times
        self._closures[identity] = found
        return found

    def _in_place(self, schema: Any) -> Iterator[Any]:
        if not isinstance(schema, dict):
            return
        if "$ref" in schema:
            yield self._definitions[int(schema["$ref"].rpartition("/")[2])]
        for key in _IN_PLACE:
            yield from schema.get(key, ())
        for key in _IN_PLACE_ONE:
            if key in schema:
                yield schema[key]
        yield from schema.get("dependentSchemas", {}).values()

    def _below(self, here: Counter[int]) -> Iterator[list[tuple[Any, int]]]:
        """For each kind of place directly below: the schemas that speak of it."""
        named: dict[str, list[tuple[Any, int]]] = {}
        others: list[tuple[Any, int, frozenset[str]]] = []
        elements: list[tuple[Any, int]] = []
        for identity, times in here.items():
            schema = self._by_id[identity]
            if not isinstance(schema, dict):
                continue
            properties = schema.get("properties", {})
            for name, each in properties.items():
                named.setdefault(name, []).append((each, times))
            for each in schema.get("patternProperties", {}).values():
                others.append((each, times, frozenset()))
            for key in _OF_MEMBERS:
                if isinstance(schema.get(key), dict):
                    others.append((schema[key], times, frozenset(properties)))
            if isinstance(schema.get("propertyNames"), dict):
                yield [(schema["propertyNames"], times)]
            elements += [(each, times) for each in schema.get("prefixItems", ())]
            elements += [(schema[key], times) for key in _OF_ELEMENTS if key in schema]
        for name, schemas in named.items():
            yield schemas + [(each, times) for each, times, without in others if name not in without]
        if others:
            yield [(each, times) for each, times, _ in others]
        if elements:
            yield elements

    def within(self, index: int, known: AbstractSet[int]) -> dict[int, int]:
        """The schemas that are reached from one and are not known yet, by identity, with the room that each takes."""
        found: dict[int, int] = {}
        waiting = [self._definitions[index]]
        while waiting:
            schema = waiting.pop()
            identity = self._note(schema)
            if not isinstance(schema, dict) or identity in found or identity in known:
                continue
            new = {*_patterns_of(schema)} - self._counted  # each is compiled once, wherever it stands
            self._counted |= new
            patterns = sum(map(pattern_size, new))
            found[identity] = 1 + len(schema.get("enum", ())) // 8 + patterns // _NODES_OF_PATTERN
            waiting += self._in_place(schema)
            for key in ("properties", "patternProperties"):
                waiting += schema.get(key, {}).values()
            waiting += schema.get("prefixItems", ())
            waiting += [schema[key] for key in _BELOW_ONE if key in schema]
        return found


def _patterns_of(schema: Mapping[str, Any]) -> Iterator[str]:
    if "pattern" in schema:
        yield schema["pattern"]
    yield from schema.get("patternProperties", ())


def _steps_of(schema: Any) -> int:
    """Steps that one schema by itself takes."""
    if not isinstance(schema, dict):
        return 1
    # A member that is looked for and not there costs as well.
    looked_for = len(schema.get("properties", ())) + len(schema.get("required", ())) + len(schema.get("enum", ()))
    patterns = sum(_OF_PATTERN.get(pattern_size(each), _OF_LARGER_PATTERN) for each in _patterns_of(schema))
    return 1 + looked_for // 4 + patterns
