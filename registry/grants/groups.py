"""Which groups a subsystem is in. Pure.

Rules:
1. A subsystem is in a group that lists it, and in one whose level, division and code it fits, as far as the group states
   them. A closed group holds nobody.
2. A division covers what lies in it: pairs of zeros at its end stand for anything, so 450000 covers 45xxxx and 450100
   covers 4501xx. Nothing else is known of divisions, and a member without one fits no group that states one.
3. Membership follows the registry: a member that moves, or a group that changes, counts from the next snapshot on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

from exchange import SubsystemId
from registry.records import Group, Level, Member

_K = TypeVar("_K")
_NOBODY: frozenset[str] = frozenset()


class _Criteria(NamedTuple):
    """What a subsystem must fit. An empty level or code, and None for the division, fit any."""

    level: Level
    division: str | None
    """Without the pairs of zeros at its end."""
    code: str


class Groups:
    """All groups. Never changes; `with_changes` makes the next one."""

    __slots__ = ("_by_criteria", "_groups", "_listing")

    _groups: Mapping[str, Group]
    _listing: Mapping[SubsystemId, frozenset[str]]
    _by_criteria: Mapping[_Criteria, frozenset[str]]

    @classmethod
    def none(cls) -> Groups:
        """No groups."""
        self = cls()
        self._groups, self._listing, self._by_criteria = {}, {}, {}
        return self

    def with_changes(self, changed: tuple[Group, ...]) -> Groups:
        """These groups in place of those with the same identifiers, and all others."""
        groups = dict(self._groups)
        listing, by_criteria = _Index(self._listing), _Index(self._by_criteria)
        for group in changed:
            old = groups.get(group.id)
            for each, adds in ((old, False), (group, True)):
                if each is not None and each.active:
                    for subsystem in set(each.members):
                        listing.put(subsystem, each.id, adds)
                    if (stated := _criteria(each)) is not None:
                        by_criteria.put(stated, each.id, adds)
            groups[group.id] = group
        new = type(self)()
        new._groups, new._listing, new._by_criteria = groups, listing.frozen(), by_criteria.frozen()
        return new

    def of(self, subsystem: SubsystemId, member: Member | None) -> frozenset[str]:
        """The identifiers of the groups that hold a subsystem.

        Args:
            member: The organisation that the subsystem belongs to, if it is registered.
        """
        held = self._listing.get(subsystem, _NOBODY)
        if not self._by_criteria:
            return held
        code = subsystem.rpartition("/")[2]
        division = member.division_code if member else ""
        divisions = [None, *(division[:length] for length in (0, 2, 4, 6))] if division else [None]
        levels: set[Level] = {"", member.level} if member else {""}
        for level in levels:
            for covering in divisions:
                for named in ("", code):
                    held |= self._by_criteria.get(_Criteria(level, covering, named), _NOBODY)
        return held

    def group(self, identifier: str) -> Group | None:
        """One group, closed or not."""
        return self._groups.get(identifier)

    def all(self) -> tuple[Group, ...]:
        """All groups, closed ones too, by identifier."""
        return tuple(self._groups[key] for key in sorted(self._groups))


class _Index(Generic[_K]):
    """Identifiers by key, being changed: each set that changes is copied once, however many groups change."""

    def __init__(self, known: Mapping[_K, frozenset[str]]) -> None:
        self._known = known
        self._touched: dict[_K, set[str]] = {}

    def put(self, key: _K, identifier: str, adds: bool) -> None:
        """Add an identifier, or take it away."""
        if key not in self._touched:
            self._touched[key] = set(self._known.get(key, ()))
        (self._touched[key].add if adds else self._touched[key].discard)(identifier)

    def frozen(self) -> Mapping[_K, frozenset[str]]:
        """The sets as they are now."""
        return {**self._known, **{key: frozenset(held) for key, held in self._touched.items()}}


def covering_part(division: str) -> str:
    """The digits that every division covered by this one begins with: 450000 -> 45."""
    while division.endswith("00") and len(division) % 2 == 0:
        division = division[:-2]
    return division


def _criteria(group: Group) -> _Criteria | None:
    if not (group.level or group.division or group.subsystem_code):
        return None
    return _Criteria(group.level, covering_part(group.division) if group.division else None, group.subsystem_code)
