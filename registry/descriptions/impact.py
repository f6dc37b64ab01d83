"""Whom a breaking change concerns: the subsystems that may call what it changes, and see the item it changes. Pure.

Rules:
1. A subsystem is concerned if something it holds, by itself or through a group, now or from a later day on, covers the
   operation: the method, and some path that both patterns have in common.
2. Where the change is of an item of the answer and the grant lists items, it must list that one, something it is part of, or
   something that is part of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exchange import ServiceId, SubsystemId
from registry.descriptions.difference import Alteration
from registry.grants.coverings import Covering
from registry.grants.overlaps import common_path
from registry.patterns import compile_pattern
from registry.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """A breaking change and whom it concerns, by identifier."""

    alteration: Alteration
    affects: tuple[SubsystemId, ...]


def impact_of(breaking: Iterable[Alteration], service: ServiceId, snapshot: Snapshot, now: float) -> tuple[Impact, ...]:
    """Return each breaking change of a service with those it concerns.

    Args:
        now: Unix seconds.
    """
    holding = [
        (subsystem.id, covering)
        for subsystem in snapshot.subsystems()
        for covering in snapshot.coverings(subsystem.id, service)
        if now < covering.valid_to
    ]
    covered: dict[tuple[str, str], list[tuple[SubsystemId, Covering]]] = {}
    found = []
    for alteration in breaking:
        method, path = alteration.method, alteration.path
        if (method, path) not in covered:
            covered[method, path] = [pair for pair in holding if covers(pair[1], method, path)]
        item = alteration.item if alteration.part == "answer" else ""
        concerned = {client for client, covering in covered[method, path] if not item or _shows(covering, item)}
        found.append(Impact(alteration=alteration, affects=tuple(sorted(concerned))))
    return tuple(found)


def covers(covering: Covering, method: str, path: str) -> bool:
    """Whether a grant lets some call of an operation through; any, if no operation is named."""
    if not path:
        return True
    if covering.method not in (None, method):
        return False
    template = compile_pattern(path)
    patterns = (covering.pattern, covering.also or covering.pattern)
    return all(common_path(pattern, template) is not None for pattern in patterns)


def _shows(covering: Covering, item: str) -> bool:
    """Whether a grant releases an item of an answer, a part of it, or what it is part of; any, if it lists none."""
    # In paths as grants write them, a dot of its own never stands within a key: the text before it is a path again.
    held = covering.grant.items
    return not held or any(each == item or _is_above(each, item) or _is_above(item, each) for each in held)


def _is_above(path: str, other: str) -> bool:
    return other.startswith(f"{path}.")
