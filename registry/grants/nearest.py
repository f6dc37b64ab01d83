"""Why no grant permits a call: the refusal that the nearest grant explains best. Pure, and off the hot path.

Rules:
1. What came nearest explains: of the grants for this method and path, those for the purpose that was named, then others.
   Among them one that is valid and demands a case, then one that is not valid yet or no longer, then one that was revoked
   or whose resource was withdrawn.
2. Without any of those, the grants for other methods and paths explain, the nearest path first.
3. Only grants of the caller itself and of groups it is in are looked at, so no other can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from exchange import AccessDeniedError, ServiceId, SubsystemId
from registry.grants import refusals
from registry.grants.coverings import Covering
from registry.grants.pairings import Pairing

_LOOKED_AT = 50
"""As many grants are looked at for the nearest path, so that refusing a client with thousands stays cheap."""


class Call(NamedTuple):
    """What was asked, as `Snapshot.decide` takes it."""

    client: SubsystemId
    service: ServiceId
    method: str
    segments: tuple[str, ...]
    path: str | None
    """None for a path that no grant can name."""
    purpose: str | None
    case: str
    now: float


def refusal_of(pairing: Pairing, call: Call, resources: Sequence[str]) -> AccessDeniedError:
    """The refusal of a call that the pairing does not permit.

    Args:
        resources: Codes of the resources that the call asks for, which the caller may apply for.
    """
    if call.path is None:
        return _elsewhere(pairing, call, resources)
    covering = pairing.covering(call.method, call.segments, call.path)
    ended = pairing.ended(call.method, call.segments, call.path)
    for fits in (_for_purpose(call), _any):
        refusal = _at_this_path([*filter(fits, covering)], [*filter(fits, ended)], call, resources)
        if refusal is not None:
            return refusal
    return _elsewhere(pairing, call, resources)


def _at_this_path(
    covering: Sequence[Covering], ended: Sequence[Covering], call: Call, resources: Sequence[str]
) -> AccessDeniedError | None:
    """What grants for this method and path explain, if there are any."""
    valid = [each for each in covering if each.valid_from <= call.now < each.valid_to]
    if valid:
        return _condition(valid, call, resources)
    upcoming = [each for each in covering if call.now < each.valid_from]
    if upcoming:
        return refusals.not_yet_valid(min(upcoming, key=lambda each: each.valid_from).grant)
    if covering:
        return refusals.expired(max(covering, key=lambda each: each.valid_to).grant, resources)
    for each in ended:
        return refusals.withdrawn(each.grant) if each.grant.active else refusals.revoked(each.grant, resources)
    return None


def _condition(valid: Sequence[Covering], call: Call, resources: Sequence[str]) -> AccessDeniedError:
    """Grants cover the call at this time; what they demand beyond that is not there."""
    if call.purpose is not None and not any(call.purpose in each.purposes for each in valid):
        return refusals.other_purpose(call.purpose, [each.grant for each in valid], resources)
    free = [each for each in valid if each.case is None or (call.case and each.case.fullmatch(call.case))]
    if free:
        return refusals.purpose_missing([each.grant for each in free])
    return (refusals.case_differs if call.case else refusals.case_missing)(valid[0].grant)


def _elsewhere(pairing: Pairing, call: Call, resources: Sequence[str]) -> AccessDeniedError:
    """What the caller holds is for other methods and paths, or has ended."""
    held = pairing.coverings(_LOOKED_AT)
    if not held:
        return refusals.no_grant(call.client, call.service, resources)

    def distance(covering: Covering) -> tuple[bool, int, bool]:
        named = covering.pattern.text.split("/")[1:]
        common = 0
        for pattern, segment in zip(named, call.segments, strict=False):
            if pattern != segment and not (pattern.startswith("{") and pattern.endswith("}")):
                break
            common += 1
        valid = covering.valid_from <= call.now < covering.valid_to
        return not valid, -common, covering.method not in (None, call.method)

    return refusals.method_or_path(call.method, call.path, sorted(held, key=distance), resources)


def _for_purpose(call: Call) -> Callable[[Covering], bool]:
    return lambda each: call.purpose is None or call.purpose in each.purposes


def _any(_: Covering) -> bool:
    return True
