"""What an answer holds, item by item. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from department_adapters.scaffold.sensitivity import Proposal, propose
from department_adapters.section import ItemSection
from exchange import ReleaseError, apply_terms, item_keys, item_path, read_terms, release_terms

MAX_LEVELS = 32
_STRICTNESS = ("public", "internal", "personal", "sensitive-personal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a mask makes of a value."""

    path: str
    mask: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """An item that looks more sensitive than is said of it."""

    path: str
    proposal: Proposal


def items_in(body: bytes) -> dict[str, list[Any]]:
    """Item path -> the values that stand there in a JSON body; none if it is no JSON."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    found: dict[str, list[Any]] = {}
    for keys, each in _leaves(value, ()):
        if keys:
            # What cannot be shown has no path that a grant could name.
            path = "".join(sign if sign.isprintable() else "?" for sign in item_path(keys))
            found.setdefault(path, []).append(each)
    return found


def unlisted(items: Mapping[str, ItemSection], paths: Iterable[str]) -> list[str]:
    """Items of answers that no listed item is, or is above of."""
    listed = {item_keys(path) for path in items}
    return sorted(path for path in paths if not any(item_keys(path)[: len(keys)] == keys for keys in listed))


def previews(items: Mapping[str, ItemSection], body: bytes) -> list[Preview]:
    """Each item with a mask, as a grant with the proposed masks would release it."""
    masks = {path: item.mask for path, item in items.items() if item.mask}
    if not masks or not body:
        return []
    try:
        masked = apply_terms(read_terms(release_terms((), masks)), body)
    except ReleaseError:
        return []
    before, after = items_in(body), items_in(masked.body)
    return [
        Preview(path=path, mask=mask, before=_shown(value), after=_shown(after[path][index]))
        for path, mask in masks.items()
        for index, value in list(enumerate(before.get(path, [])))[:1]
        if value is not None
    ]


def suspicions(items: Mapping[str, ItemSection], values: Mapping[str, Sequence[Any]]) -> list[Suspicion]:
    """Items whose name or values tell of more than was said of them."""
    found = []
    for path, held in values.items():
        item = _said_of(items, path)
        proposal = propose(path, item.name, held)
        if _STRICTNESS.index(proposal.sensitivity) > max(1, _STRICTNESS.index(item.sensitivity)):
            found.append(Suspicion(path=path, proposal=proposal))
    return found


def _said_of(items: Mapping[str, ItemSection], path: str) -> ItemSection:
    keys = item_keys(path)
    for size in range(len(keys), 0, -1):
        if (said := items.get(item_path(keys[:size]))) is not None:
            return said
    return ItemSection()


def _leaves(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if len(keys) > MAX_LEVELS:
        return
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _leaves(each, (*keys, key))
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, keys)
    else:
        yield keys, value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
