"""All that lets one client call one service, and whether it permits a call. Pure.

Rules:
1. What was given to the client and to groups it is in, for the service and for resources that are to be had there, counts
   alike. Of several grants that cover a call, the first in the order of `registry.grants.coverings` permits it.
2. A grant covers a call when method, path, time, purpose and, where it demands one, the case number fit.
3. A purpose that is not named is implied only when all grants that cover the call name exactly one together: what goes on
   the record is never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain, islice
from operator import attrgetter

from registry.grants.coverings import Covering, Coverings
from registry.records import Access, Grant

_rank = attrgetter("rank")


@dataclass(frozen=True, slots=True)
class Bundle:
    """What one subject was given for one service or one resource."""

    grants: Mapping[str, Grant]
    active: Coverings
    ended: Coverings
    """They explain refusals, and cost nothing otherwise."""

    def with_changes(self, grants: Iterable[Grant]) -> Bundle:
        """The bundle with new and changed grants in place."""
        changed = {grant.id: grant for grant in grants}
        gone = changed.keys() & self.grants.keys()
        return Bundle(
            {**self.grants, **changed},
            self.active.with_changes(gone, _coverings(grant for grant in changed.values() if grant.active)),
            self.ended.with_changes(gone, _coverings(grant for grant in changed.values() if not grant.active)),
        )


NOTHING = Bundle({}, Coverings.of(()), Coverings.of(()))


@dataclass(frozen=True, slots=True)
class Source:
    """A bundle, and what it comes to at one service."""

    bundle: Bundle
    accesses: tuple[Access, ...] | None = None
    """Where its resource is to be had at the service; None for a bundle of the service itself."""
    in_catalogue: bool = True
    """False when its resource was withdrawn."""

    def active(self) -> Coverings:
        """What counts now."""
        if self.accesses is None:
            return self.bundle.active
        return Coverings.of(self._narrowed(lambda grant: self.in_catalogue and grant.active))

    def ended(self) -> Coverings:
        """What does not count any more."""
        if self.accesses is None:
            return self.bundle.ended
        return Coverings.of(self._narrowed(lambda grant: not (self.in_catalogue and grant.active)))

    def _narrowed(self, wanted: Callable[[Grant], bool]) -> Iterator[Covering]:
        return _coverings(filter(wanted, self.bundle.grants.values()), self.accesses or ())


class Pairing:
    """What one client holds at one service. Never changes."""

    __slots__ = ("_active", "_ended", "_sources")

    _sources: tuple[Source, ...]
    _active: tuple[Coverings, ...]
    _ended: tuple[Coverings, ...] | None  # put together when it is first asked for

    @classmethod
    def of(cls, sources: Iterable[Source]) -> Pairing:
        """From one source at least."""
        self = cls()
        self._sources = tuple(sources)
        self._active, self._ended = _joined(source.active() for source in self._sources), None
        return self

    def permit(
        self, method: str, segments: tuple[str, ...], path: str, purpose: str | None, now: float, case: str
    ) -> tuple[Grant, str] | None:
        """Return the grant that permits the call and the purpose it serves; None if nothing does.

        Args:
            path: What `path_of(segments)` returned.
            now: Unix seconds.
            case: The case number that the caller names, empty if it names none.
        """
        candidates = _candidates(self._active, purpose, method, segments)
        permitting: Grant | None = None
        implied = ""
        for covering in candidates:
            if not covering.valid_from <= now < covering.valid_to or not covering.covers(method, segments, path):
                continue
            if covering.case is not None and (not case or covering.case.fullmatch(case) is None):
                continue
            if purpose is not None:
                if purpose in covering.purposes:
                    return covering.grant, purpose
                continue
            if len(covering.purposes) > 1 or (permitting is not None and implied != covering.purposes[0]):
                return None
            permitting, implied = permitting or covering.grant, covering.purposes[0]
        return None if permitting is None else (permitting, implied)

    def covering(self, method: str, segments: tuple[str, ...], path: str) -> list[Covering]:
        """What counts now and is for this method and path, in its order."""
        candidates = _candidates(self._active, None, method, segments)
        return [each for each in candidates if each.covers(method, segments, path)]

    def ended(self, method: str, segments: tuple[str, ...], path: str) -> list[Covering]:
        """What does not count any more and was for this method and path, the newest first."""
        if self._ended is None:
            self._ended = _joined(source.ended() for source in self._sources)
        candidates = _candidates(self._ended, None, method, segments)
        found = (each for each in candidates if each.covers(method, segments, path))
        return sorted(found, key=lambda each: (-each.grant.version, each.grant.id))

    def coverings(self, limit: int | None = None) -> list[Covering]:
        """What counts now, in its order; as many as the limit allows."""
        return list(islice(merge(*(part.ranked for part in self._active), key=_rank), limit))

    def grants(self) -> tuple[Grant, ...]:
        """All grants, those that ended too, the oldest first."""
        found = {grant.id: grant for source in self._sources for grant in source.bundle.grants.values()}
        return tuple(sorted(found.values(), key=lambda each: (each.version, each.id)))


def _coverings(grants: Iterable[Grant], accesses: Sequence[Access | None] = (None,)) -> Iterator[Covering]:
    return filter(None, (Covering.of(grant, access) for grant in grants for access in accesses))


def _joined(parts: Iterable[Coverings]) -> tuple[Coverings, ...]:
    """The same in fewer parts: what has an index keeps it, and the rest becomes one. A client may be in a thousand groups."""
    found = tuple(parts)
    if len(found) == 1:
        return found
    small = Coverings.of(each for part in found if not part.is_indexed for each in part.ranked)
    large = tuple(part for part in found if part.is_indexed)
    return (*large, small) if small.ranked or not large else large


def _candidates(
    parts: tuple[Coverings, ...], purpose: str | None, method: str, segments: tuple[str, ...]
) -> Sequence[Covering]:
    if len(parts) == 1:
        return parts[0].candidates(purpose, method, segments)
    found = (part.candidates(purpose, method, segments) for part in parts)
    return sorted(chain.from_iterable(found), key=_rank)
