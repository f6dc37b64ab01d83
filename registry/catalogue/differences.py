"""What changed between two versions of a resource. Pure.

Items are compared by their paths and lists of texts by their entries, so that a new item at the top is one difference and
not one for every item below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from registry.catalogue.resource import Resource, ResourceDifference, plain


def differences_between(before: Resource, after: Resource) -> tuple[ResourceDifference, ...]:
    """Every place in which the two differ, in the order of their members."""
    return tuple(_members("", plain(before), plain(after)))


def _members(place: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[ResourceDifference]:
    for name, new in after.items():
        old = before[name]
        here = f"{place}/{name}"
        if old == new:
            continue
        if name == "items":
            yield from _items(here, old, new)
        elif isinstance(new, dict):
            yield from _members(here, old, new)
        elif isinstance(new, list):
            yield from _entries(here, old, new)
        else:
            yield ResourceDifference(here, "changed", old, new)


def _items(place: str, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterator[ResourceDifference]:
    old = {item["path"]: item for item in before}
    new = {item["path"] for item in after}
    for number, item in enumerate(after):
        if item["path"] not in old:
            yield ResourceDifference(f"{place}/{number}", "added", None, item)
        else:
            yield from _members(f"{place}/{number}", old[item["path"]], item)
    for number, item in enumerate(before):
        if item["path"] not in new:
            yield ResourceDifference(f"{place}/{number}", "removed", item, None)
    if [path for path in old if path in new] != [item["path"] for item in after if item["path"] in old]:
        yield ResourceDifference(place, "changed", list(old), [item["path"] for item in after])


def _entries(place: str, before: list[Any], after: list[Any]) -> Iterator[ResourceDifference]:
    yield from (
        ResourceDifference(f"{place}/{n}", "added", None, each) for n, each in enumerate(after) if each not in before
    )
    yield from (
        ResourceDifference(f"{place}/{n}", "removed", each, None) for n, each in enumerate(before) if each not in after
    )
    if sorted(map(str, before)) == sorted(map(str, after)):
        yield ResourceDifference(place, "changed", before, after)
