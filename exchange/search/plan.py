"""A filter as the index is asked: hashes, bounds, and in which order. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from exchange.log.change_record import CHANGE
from exchange.log.log_event import KINDS
from exchange.search.columns import Columns, Mask, hash_of
from exchange.search.facts import bounds, equals
from exchange.search.filters import RecordFilter
from exchange.search.index_store import Segment

_EVERY_KIND: Final = frozenset(["exchange", CHANGE, *KINDS])
# What fewer records have in common comes first: the rest is then asked of few segments, or of none.
_ORDER: Final = (
    *("message_id", "subject", "person", "case", "user", "represented", "certificate_serial", "certificate"),
    *("grant", "grant_id", "client", "code", "rule", "service", "owner", "purpose", "path_template", "channel"),
    *("source", "outcome", "method"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the index is asked."""

    kinds: frozenset[str]
    equals: tuple[tuple[str, frozenset[int]], ...]
    """Field and hashes of the values of which it has one."""
    numbers: tuple[tuple[str, int, int], ...]
    """Field, least, most; but for the time."""
    since_ms: int
    until_ms: int
    """Inclusive."""

    @classmethod
    def of(cls, wanted: RecordFilter) -> Plan:
        ranges = {name: (low, high) for name, low, high in bounds(wanted)}
        since_ms, until_ms = ranges.pop("at_ms", (0, 1 << 53))
        texts = sorted(equals(wanted), key=lambda each: _ORDER.index(each[0]))
        return cls(
            _EVERY_KIND if wanted.kind == "any" else frozenset([wanted.kind]),
            tuple([(name, frozenset([hash_of(value) for value in values])) for name, values in texts]),
            tuple([(name, low, high) for name, (low, high) in ranges.items()]),
            since_ms,
            until_ms,
        )

    def may_hold(self, segment: Segment) -> bool:
        """Whether a segment can have any such record, by its times and kinds."""
        return (
            segment.earliest_ms <= self.until_ms
            and segment.latest_ms >= self.since_ms
            and segment.earliest_ms <= segment.latest_ms
            and not self.kinds.isdisjoint(segment.kinds)
            and all(hashes for _, hashes in self.equals)
            and all(low <= high for _, low, high in self.numbers)
        )

    def all_of_kind(self, segment: Segment) -> bool:
        """Whether no record of a segment is of another kind."""
        return self.kinds >= segment.kinds.keys()

    def all_in_time(self, segment: Segment) -> bool:
        """Whether no record of a segment is of another time."""
        return self.since_ms <= segment.earliest_ms and segment.latest_ms <= self.until_ms

    def scan(self, columns: Columns) -> Mask:
        """Which entries are such records, by looking at each."""
        mask = columns.texts["kind"].among(frozenset([hash_of(kind) for kind in self.kinds]))
        for name, hashes in self.equals:
            mask &= columns.texts[name].among(hashes)
        for name, low, high in (*self.numbers, ("at_ms", self.since_ms, self.until_ms)):
            if mask.any():
                mask &= columns.numbers[name].between(low, high)
        return np.asarray(mask)
