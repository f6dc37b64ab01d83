"""What an index holds of its segments: which entries a plan finds, and the columns to count them by.

Large segments are asked by their postings, many segments at once: a few small rows each, whatever the filter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import numpy as np

from exchange.search.columns import (
    NAMED,
    Array,
    Column,
    Columns,
    IndexFormatError,
    Mask,
    NumberColumn,
    TextColumn,
    hash_of,
    read_column,
    read_columns,
)
from exchange.search.facts import MOST_STATUS
from exchange.search.index_store import (
    IndexStore,
    MovedError,
    Segment,
    bucket_of,
    column_key,
    posting_key,
    segment_of,
    whole_key,
)
from exchange.search.plan import Plan
from exchange.search.postings import (
    EXACT,
    LARGE,
    ascending,
    find_text,
    mark,
    number_bucket,
    read_places,
    read_values,
    text_bucket,
)

_T = TypeVar("_T", bound=Column | Columns)
_MOST_CACHED: Final = 256 << 20
"""Bytes of columns that are kept in memory."""


class Finder:
    """Reads an index as it was at one generation, until `follow` gives it the next."""

    def __init__(self, store: IndexStore) -> None:
        self._store = store
        self.generation = -1
        self.segments: tuple[Segment, ...] = ()
        self._known: dict[int, Segment] = {}
        self._cache: OrderedDict[tuple[int, str], tuple[Column | Columns, int]] = OrderedDict()
        self._cached = 0

    def follow(self, generation: int, segments: Sequence[Segment]) -> None:
        """Go on with the segments as they are now; what is in memory of those that are no longer there is dropped."""
        stays = {segment.first for segment in segments if self._known.get(segment.first) == segment}
        for key in [key for key in self._cache if key[0] not in stays]:
            self._cached -= self._cache.pop(key)[1]
        self.generation, self.segments = generation, tuple(segments)
        self._known = {segment.first: segment for segment in segments}

    async def find(self, plan: Plan, segments: Sequence[Segment]) -> dict[int, Array | None]:
        """First entry of a large segment -> places of the entries found in it, ascending, or None for all.

        Segments without any are left out.

        Raises:
            MovedError: The segments are no longer what they were.
            IndexFormatError: What is stored is no index.
        """
        generation = self._generation_of(segments)
        left = {segment.number: segment for segment in segments if plan.may_hold(segment)}
        masks: dict[int, Mask] = {}
        for name, hashes in plan.equals:
            left = await self._keep_texts(generation, name, hashes, left, left, masks)
        mixed = {number: segment for number, segment in left.items() if not plan.all_of_kind(segment)}
        kinds = frozenset([hash_of(kind) for kind in plan.kinds])
        left = await self._keep_texts(generation, "kind", kinds, mixed, left, masks)
        for name, low, high in plan.numbers:
            left = await self._keep_numbers(generation, name, low, high, left, masks)
        for number, segment in left.items():
            if not plan.all_in_time(segment):
                column = (await self.columns(segment, ["at_ms"]))["at_ms"]
                assert isinstance(column, NumberColumn)
                _keep(masks, number, column.between(plan.since_ms, plan.until_ms))
        found: dict[int, Array | None] = {}
        for number, segment in left.items():
            places = np.flatnonzero(masks[number]) if number in masks else None
            if places is None or len(places):
                found[segment.first] = places
        return found

    async def columns(self, segment: Segment, names: Iterable[str]) -> dict[str, Column]:
        """Columns of a segment by name; raises as `find`."""
        if not segment.large:
            whole = await self.whole(segment)
            return {name: whole.column(name) for name in names}
        generation = self._generation_of([segment])
        names = list(names)
        missing = [name for name in names if (segment.first, name) not in self._cache]
        if missing:
            by_key = {column_key(name, segment.number): name for name in missing}
            rows = await self._store.fetch(generation, [(key, key) for key in by_key])
            if len(rows) != len(missing):
                raise IndexFormatError(f"a column of the segment at {segment.first} is missing")
            read = {by_key[key]: (read_column(data, segment.count), len(data)) for key, data in rows}
            if any(isinstance(column, TextColumn) != (name in NAMED) for name, (column, _) in read.items()):
                raise IndexFormatError(f"a column of the segment at {segment.first} is of another kind")
            found = {name: self._remember(segment, name, *read[name]) for name in missing}
        else:
            found = {}
        for name in names:
            if name not in found:
                column = self._recall(segment, name)
                assert column is not None
                assert not isinstance(column, Columns)
                found[name] = column
        return found

    async def whole(self, segment: Segment) -> Columns:
        """All columns of a small segment; raises as `find`."""
        generation = self._generation_of([segment])
        known = self._recall(segment, "")
        if isinstance(known, Columns):
            return known
        key = whole_key(segment.number)
        rows = await self._store.fetch(generation, [(key, key)])
        if not rows:
            raise IndexFormatError(f"the segment at {segment.first} is missing")
        columns = read_columns(segment.first, segment.count, rows[0][1])
        self._remember(segment, "", columns, len(rows[0][1]))
        return columns

    async def _keep_texts(
        self,
        generation: int,
        name: str,
        hashes: frozenset[int],
        asked: dict[int, Segment],
        left: dict[int, Segment],
        masks: dict[int, Mask],
    ) -> dict[int, Segment]:
        """Those left after segments `asked` keep only entries that have one of these texts."""
        known_by: dict[int, list[int]] = {}
        for hashed in hashes:
            bucket, short = text_bucket(hashed)
            known_by.setdefault(bucket, []).append(short)
        found: dict[int, Mask] = {}
        for key, data in await self._rows(generation, [(name, bucket) for bucket in known_by], asked):
            number = segment_of(key)
            for short in known_by[bucket_of(key)]:
                places = find_text(data, short)
                if places is not None:
                    mark(found.setdefault(number, np.zeros(LARGE, dtype=bool)), places)
        for number, mask in found.items():
            _keep(masks, number, mask)
        return {number: segment for number, segment in left.items() if number in found or number not in asked}

    async def _keep_numbers(
        self, generation: int, name: str, low: int, high: int, left: dict[int, Segment], masks: dict[int, Mask]
    ) -> dict[int, Segment]:
        if name in EXACT:
            high = min(high, MOST_STATUS)
        first, last = number_bucket(name, low), number_bucket(name, high)
        edges = set() if name in EXACT else {first, last}
        values: dict[int, bytes] = dict(
            await self._rows(generation, [(name + "=", bucket) for bucket in sorted(edges)], left)
        )
        found: dict[int, Mask] = {}
        for key, data in await self._rows(generation, [(name, bucket) for bucket in range(first, last + 1)], left):
            number, bucket = segment_of(key), bucket_of(key)
            places = read_places(data)
            if bucket in edges:
                places = ascending(places)
                beside = read_values(values.get(posting_key(name + "=", bucket, number), b""), len(places))
                places = places[(beside >= low) & (beside <= high)].astype(np.int64)
            mark(found.setdefault(number, np.zeros(LARGE, dtype=bool)), places)
        for number, mask in found.items():
            _keep(masks, number, mask)
        return {number: segment for number, segment in left.items() if number in found}

    async def _rows(
        self, generation: int, buckets: Sequence[tuple[str, int]], asked: dict[int, Segment]
    ) -> list[tuple[int, bytes]]:
        """The rows of postings that some segments have in some buckets."""
        if not asked or not buckets:
            return []
        numbers = sorted(asked)
        low, high = numbers[0], numbers[-1]
        if len(numbers) * 2 * (LARGE >> 12) >= high - low:
            ranges = [(posting_key(name, bucket, low), posting_key(name, bucket, high)) for name, bucket in buckets]
        else:
            keys = [posting_key(name, bucket, number) for name, bucket in buckets for number in numbers]
            ranges = [(key, key) for key in keys]
        rows = await self._store.fetch(generation, ranges)
        return [row for row in rows if segment_of(row[0]) in asked]

    def _generation_of(self, segments: Sequence[Segment]) -> int:
        """The generation to which segments belong; raises MovedError if they are no longer there."""
        if any(self._known.get(segment.first) != segment for segment in segments):
            raise MovedError
        return self.generation

    def _recall(self, segment: Segment, name: str) -> Column | Columns | None:
        found = self._cache.get((segment.first, name))
        if found is None:
            return None
        self._cache.move_to_end((segment.first, name))
        return found[0]

    def _remember(self, segment: Segment, name: str, column: _T, size: int) -> _T:
        self._generation_of([segment])  # while it was read, `follow` may have been told of others
        key = (segment.first, name)
        if key not in self._cache:
            self._cached += size
        self._cache[key] = (column, size)
        while self._cached > _MOST_CACHED:
            _, (_, dropped) = self._cache.popitem(last=False)
            self._cached -= dropped
        return column


def _keep(masks: dict[int, Mask], number: int, mask: Mask) -> None:
    masks[number] = masks[number] & mask if number in masks else mask
