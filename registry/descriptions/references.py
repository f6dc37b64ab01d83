"""References inside a document: where each leads, and that following them ends. Pure.

Rules:
1. A reference leads to a place in the same document (`#/…`) that holds something. Nothing else is ever fetched.
2. References, and schemas that speak of the same value (`allOf` and the like), never lead back to where they began: such a
   thing would mean nothing. A schema that comes back through `properties` or `items` is a tree, and fine.
3. Identifiers and dynamic references of JSON Schema are refused: they would change what a plain `#/…` means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exchange import UnprocessableError
from registry.descriptions.document import Document, Place, at, place_of, pointer, refusal, step
from registry.descriptions.grammar import IN_PLACE, Kind, members

MAX_CHAIN = 64
"""How many references and `allOf`s may follow each other without anything in between."""

_DIALECTS = frozenset(
    (
        "https://spec.openapis.org/oas/3.1/dialect/base",
        "https://spec.openapis.org/oas/3.1/dialect/2024-11-10",
        "https://json-schema.org/draft/2020-12/schema",
    )
)
_REFUSED = ("$id", "$dynamicRef", "$recursiveRef", "$recursiveAnchor")
Node = tuple[Place, Kind]


class References:
    """The references of one document, all of them checked."""

    def __init__(self, document: Document) -> None:
        """
        Raises:
            UnprocessableError: `description-reference`, with a pointer to what is wrong.
        """
        self._tree = document.tree
        self._siblings = not document.is_3_0
        """Whether what stands beside a reference in a schema counts (3.1)."""
        self._next: dict[Node, tuple[Node, ...]] = {}
        if "jsonSchemaDialect" in document.tree:
            _check_dialect(document.tree["jsonSchemaDialect"], ("jsonSchemaDialect",))
        self._read_all()
        self._check_that_following_ends()

    def resolve(self, value: Any, place: Place) -> tuple[Any, Place]:
        """What a value stands for, and where that is: itself unless it is a reference."""
        while isinstance(value, dict) and isinstance(value.get("$ref"), str):
            place = place_of(value["$ref"])
            value = at(self._tree, place)
        return value, place

    def locate(self, path: Place) -> Place:
        """Where a path leads that goes on through references as if what they name stood in their place."""
        value: Any = self._tree
        place: Place = ()
        for part in path:
            if not (isinstance(value, dict) and part in value):
                value, place = self.resolve(value, place)
            try:
                value = step(value, part)
            except LookupError:
                break  # as near as we can tell
            place = (*place, part)
        return place

    def _read_all(self) -> None:
        """Read every object of the grammar, and what references lead to wherever it stands."""
        waiting: list[tuple[Place, Any, Kind]] = [((), self._tree, "document")]
        seen: set[Node] = set()
        while waiting:
            place, value, kind = waiting.pop()
            if (place, kind) in seen or not isinstance(value, dict):
                continue
            seen.add((place, kind))
            onward: list[Node] = []
            if "$ref" in value and kind != "document":
                target = self._target(value["$ref"], place, kind)
                onward.append((target, kind))
                waiting.append((target, at(self._tree, target), kind))
            if kind == "schema":
                _check_schema(value, place)
                if "$ref" in value and not self._siblings:
                    self._next[place, kind] = tuple(onward)
                    continue
            for inner, found, inner_kind in members(value, kind):
                waiting.append(((*place, *inner), found, inner_kind))
                if kind == "schema" and inner[0] in IN_PLACE:
                    onward.append(((*place, *inner), inner_kind))
            if onward:
                self._next[place, kind] = tuple(onward)

    def _target(self, reference: object, place: Place, kind: Kind) -> Place:
        here = (*place, "$ref")
        if not isinstance(reference, str):
            raise _refused(here, "The reference is not text", "引用不是文本")
        if not reference.startswith("#"):
            raise _refused(
                here,
                f"{_shown(reference)} leads out of the document, and nothing is fetched; put what it names under "
                "components and write #/components/…",
                f"{_shown(reference)} 指向文档之外，系统不会去获取；请放入 components 并写作 #/components/…",
            )
        if not reference.startswith("#/"):
            raise _refused(here, f"{_shown(reference)} is not of the form #/…", f"{_shown(reference)} 不是 #/… 的形式")
        target = place_of(reference)
        try:
            found = at(self._tree, target)
        except LookupError as error:
            raise _refused(
                here, f"{_shown(reference)} leads nowhere", f"{_shown(reference)} 所指的内容不存在"
            ) from error
        if not isinstance(found, dict) and not (kind == "schema" and isinstance(found, bool)):
            raise _refused(here, f"{_shown(reference)} is not a {kind}", f"{_shown(reference)} 所指不是 {kind}")
        return _numbered(self._tree, target)

    def _check_that_following_ends(self) -> None:
        """A depth-first search without recursion: a node met again while it is still open closes a circle."""
        longest: dict[Node, int] = {}
        for start in self._next:
            if start in longest:
                continue
            path: list[Node] = [start]
            ways = [iter(self._next.get(start, ()))]
            is_open = {start}
            while path:
                onward = next(ways[-1], None)
                if onward is None:
                    node = path.pop()
                    ways.pop()
                    is_open.discard(node)
                    longest[node] = 1 + max((longest[each] for each in self._next.get(node, ())), default=-1)
                    if longest[node] > MAX_CHAIN:
                        raise _too_long(node[0])
                elif onward in is_open:
                    raise self._circle(path, onward)
                elif onward not in longest:
                    path.append(onward)
                    ways.append(iter(self._next.get(onward, ())))
                    is_open.add(onward)

    def _circle(self, path: list[Node], met: Node) -> UnprocessableError:
        round_trip = [place for place, _ in path[path.index(met) :]]
        last = round_trip[-1]
        value = at(self._tree, last)
        here = (*last, "$ref") if isinstance(value, dict) and "$ref" in value else last
        shown = " → ".join(f"#{pointer(place)}" for place in [*round_trip[:4], met[0]])
        return _refused(here, f"The references lead in a circle: {shown[:300]}", f"引用构成循环：{shown[:300]}")


def _check_schema(schema: Mapping[str, Any], place: Place) -> None:
    for key in _REFUSED:
        if key in schema:
            raise _refused(
                (*place, key), f"{key} is not supported: refer with #/… only", f"不支持 {key}，请只用 #/… 引用"
            )
    if "$schema" in schema:
        _check_dialect(schema["$schema"], (*place, "$schema"))


def _check_dialect(dialect: object, place: Place) -> None:
    if not isinstance(dialect, str) or dialect.rstrip("#") not in _DIALECTS:
        raise _refused(place, "This dialect of JSON Schema is not known here", "不支持该 JSON Schema 方言")


def _numbered(tree: Any, place: Place) -> Place:
    """The same place with numbers where lists are, so that one place has one name."""
    found: list[str | int] = []
    for part in place:
        found.append(int(part) if isinstance(tree, list) else part)
        tree = tree[found[-1]]
    return tuple(found)


def _too_long(place: Place) -> UnprocessableError:
    return _refused(
        place,
        f"More than {MAX_CHAIN} references and allOfs follow each other",
        f"连续的引用和 allOf 超过 {MAX_CHAIN} 层",
    )


def _refused(place: Place, problem: str, problem_zh: str) -> UnprocessableError:
    return refusal("description-reference", place, problem + ".", problem_zh + "。")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:119] + "…")
