"""The grants between one client and one service, and whether they permit a call. Pure.

Rules:
1. Among several grants that cover a call any valid one suffices; one that demands no signature of the request comes first,
   since it permits the call signed or not.
2. A purpose that is not named is implied only when all of them together name exactly one: what goes on the record is
   never a guess.
3. A refusal is explained by the grant that came nearest: wrong purpose, not yet, no longer, revoked, other path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exchange import AccessDeniedError, ServiceId, SubsystemId
from registry import refusals
from registry.patterns import PathPattern, compile_pattern
from registry.records import Grant

Pair = tuple[SubsystemId, ServiceId]


@dataclass(frozen=True, slots=True)
class Covering:
    """A grant, ready to be compared."""

    method: str | None
    pattern: PathPattern
    valid_from: float
    valid_to: float
    purposes: frozenset[str]
    grant: Grant

    @classmethod
    def of(cls, grant: Grant) -> Covering:
        return cls(
            None if grant.method == "*" else grant.method,
            compile_pattern(grant.path),
            grant.valid_from.timestamp(),
            grant.valid_to.timestamp(),
            frozenset(grant.purposes),
            grant,
        )

    def covers(self, method: str, segments: tuple[str, ...], path: str) -> bool:
        """Whether method and path fit; time and purpose are the caller's to compare."""
        return (self.method is None or self.method == method) and self.pattern.matches(segments, path)


@dataclass(frozen=True, slots=True)
class Pairing:
    """All grants of one pair; revoked ones only serve to explain a refusal and cost nothing otherwise."""

    grants: dict[str, Grant]  # in the order they were given; never changed after it is put here
    active: tuple[Covering, ...]

    @classmethod
    def of(cls, grants: dict[str, Grant]) -> Pairing:
        return cls(grants, tuple(Covering.of(grant) for grant in grants.values() if grant.active))

    def permit(
        self, method: str, segments: tuple[str, ...], path: str, purpose: str | None, now: float
    ) -> tuple[Grant, str]:
        """Return a grant that permits the call and the purpose it serves.

        Args:
            path: What `path_of(segments)` returned.
            now: Unix seconds.

        Raises:
            AccessDeniedError: No grant does; `rule` says which condition failed.
        """
        permitting: Grant | None = None
        implied: frozenset[str] = frozenset()
        for covering in self.active:
            if not covering.valid_from <= now < covering.valid_to or not covering.covers(method, segments, path):
                continue
            if purpose is None:
                if permitting is None or (permitting.signed_requests and not covering.grant.signed_requests):
                    permitting = covering.grant
                implied = implied | covering.purposes if implied else covering.purposes
            elif purpose in covering.purposes:
                if not covering.grant.signed_requests:
                    return covering.grant, purpose
                permitting = permitting or covering.grant
        if permitting is None:
            raise self._refusal(method, segments, path, purpose, now)
        if purpose is not None:
            return permitting, purpose
        if len(implied) != 1:
            raise refusals.purpose_missing(implied)
        (only,) = implied
        return permitting, only

    def _refusal(
        self, method: str, segments: tuple[str, ...], path: str, purpose: str | None, now: float
    ) -> AccessDeniedError:
        covering = [each for each in self.active if each.covers(method, segments, path)]
        valid = [each for each in covering if each.valid_from <= now < each.valid_to]
        if valid and purpose is not None:
            return refusals.other_purpose(purpose, frozenset().union(*(each.purposes for each in valid)))
        upcoming = [each for each in covering if now < each.valid_from]
        if upcoming:
            return refusals.not_yet_valid(min(upcoming, key=lambda each: each.valid_from).grant)
        if covering:
            return refusals.expired(max(covering, key=lambda each: each.valid_to).grant)
        for grant in reversed(self.grants.values()):
            if not grant.active and Covering.of(grant).covers(method, segments, path):
                return refusals.revoked(grant)
        return self.not_covered(method, path)

    def not_covered(self, method: str, path: str | None) -> AccessDeniedError:
        """The refusal of a method and path that no grant names; None for a path that none may name."""
        if self.active:
            return refusals.method_or_path(method, path, [covering.grant for covering in self.active])
        ended = next(iter(self.grants.values()))
        return refusals.no_grant(ended.client, ended.service)


def with_grants(pairings: Mapping[Pair, Pairing], grants: Iterable[Grant]) -> Mapping[Pair, Pairing]:
    """The pairings with new and changed grants in place; pairs without any are shared."""
    touched: dict[Pair, dict[str, Grant]] = {}
    for grant in grants:
        pair = (grant.client, grant.service)
        if pair not in touched:
            known = pairings.get(pair)
            touched[pair] = dict(known.grants) if known else {}
        touched[pair][grant.id] = grant
    return {**pairings, **{pair: Pairing.of(held) for pair, held in touched.items()}} if touched else pairings
