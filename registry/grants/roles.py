"""Roles that were granted for a time, beside those that subsystems were registered with. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from exchange import SubsystemId
from registry.records import Role, RoleGrant

_NONE: Mapping[str, RoleGrant] = {}


class Roles:
    """All role grants. Never changes; `with_changes` makes the next ones."""

    __slots__ = ("_grants",)

    _grants: Mapping[SubsystemId, Mapping[str, RoleGrant]]

    @classmethod
    def none(cls) -> Roles:
        """No roles."""
        self = cls()
        self._grants = {}
        return self

    def with_changes(self, changed: Iterable[RoleGrant]) -> Roles:
        """These grants in place of those with the same identifiers, and all others."""
        new = type(self)()
        grants = dict(self._grants)
        for grant in changed:
            grants[grant.subsystem] = {**grants.get(grant.subsystem, _NONE), grant.id: grant}
        new._grants = grants
        return new

    def of(self, subsystem: SubsystemId, now: float) -> frozenset[Role]:
        """The roles that are granted to a subsystem at `now` (Unix seconds)."""
        held = self._grants.get(subsystem)
        if held is None:
            return frozenset()
        return frozenset(
            each.role
            for each in held.values()
            if each.active and each.valid_from.timestamp() <= now < each.valid_to.timestamp()
        )

    def grants_of(self, subsystem: SubsystemId) -> tuple[RoleGrant, ...]:
        """Every grant of a role to a subsystem, those that ended too."""
        return tuple(self._grants.get(subsystem, _NONE).values())
