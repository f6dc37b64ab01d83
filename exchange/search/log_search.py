"""Searching and counting records of one log, in this process: for commands, and for the search process of a gateway.

Rules:
1. Entries that the index holds are asked of it, those after its end are read from their rows. So a record is found as soon
   as it is in the log, and without any index all is found, only slower.
2. What the index finds is compared with the record's bytes before it is shown: a wrong index may hide a record, which
   `check` finds, but never invent one. Figures are counted from the index alone.
3. The cursor is the number of an entry, and pages go from the newest down: they stay correct while the log grows.
4. Beside it another process may make the index grow, or begin it again: then the rest is asked of the new one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import numpy as np

from exchange.errors import InvalidRequestError, UnavailableError
from exchange.log.reader import Page, StoredEntry
from exchange.search.columns import Array, IndexFormatError
from exchange.search.filters import RecordFilter
from exchange.search.finder import Finder
from exchange.search.index_place import open_store, search_url_of
from exchange.search.index_store import SMALL, IndexStore, IndexUnavailableError, MovedError, Segment
from exchange.search.indexer import Indexer, IndexFault, Progress
from exchange.search.plan import Plan
from exchange.search.rows import BLOCK, Blocks, LogRows
from exchange.search.statistics import IndexStatus, Statistics, Step
from exchange.search.tally import COUNTED, Tally
from exchange.storage.database import database_url

_LOOK_SECONDS: Final = 0.5
"""How old may be what is known of the index, while rows are read that might stand in it."""
_REMOVED_SECONDS: Final = 30.0
"""How old may be what is known of removed entries: whoever finds one sees that it is not there."""
_GROUPS: Final = (4, 16, 64, 256)
"""Large segments that are asked at once: few while many are found, more the longer nothing is."""
_TRIES: Final = 8
_AT_ONCE: Final = 500
"""Rows that are read to be compared."""
_MOST_SEQ: Final = 10**18


class LogSearch:
    """Searches one log; `open` makes one. Any number of tasks may use it at once.

    Every question raises UnavailableError (rule `search-available`) when a database does not answer.
    """

    def __init__(self, rows: LogRows, store: IndexStore) -> None:
        self._rows = rows
        self._store = store
        self._finder = Finder(store)
        self._blocks = Blocks(rows)
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._moved = True
        self._removed_seq = -1
        self.indexer = Indexer(rows, store, self._blocks)
        """Makes the index, if this process is the one that does."""

    @classmethod
    async def open(cls, log_url: str, search_url: str = "") -> LogSearch:
        """Search the log at `log_url` by the index that belongs to it (`search_url_of`), if there is one.

        Raises:
            ValueError: One of them is no database URL.
            UnavailableError: The log does not answer.
        """
        search = cls(LogRows(database_url(log_url)), open_store(search_url_of(log_url, search_url)))
        try:
            async with search._available():
                await search._rows.size()
        except BaseException:
            await search.close()
            raise
        return search

    async def close(self) -> None:
        """Let go of both databases, and of the lock if this process made the index."""
        await self._store.close()
        await self._rows.close()

    async def page(self, wanted: RecordFilter, cursor: str | None = None, limit: int = 50) -> Page:
        """Up to `limit` records, newest first.

        Args:
            cursor: `next_cursor` of the page before.

        Raises:
            InvalidRequestError: The cursor is none of ours.
        """
        found = await self.newest(wanted, below=cursor_seq(cursor), limit=limit + 1)
        entries = tuple(found[:limit])
        return Page(entries, str(entries[-1].seq) if len(found) > limit else None)

    async def numbers(self, wanted: RecordFilter, *, below: int | None = None, limit: int) -> list[int]:
        """Numbers of up to `limit` records, the newest first, of those with numbers under `below`."""
        return [entry.seq for entry in await self.newest(wanted, below=below, limit=limit)]

    async def newest(self, wanted: RecordFilter, *, below: int | None, limit: int) -> list[StoredEntry]:
        """Up to `limit` records, the newest first, of those with numbers under `below`."""
        found: list[StoredEntry] = []
        waiting: list[int] = []
        async with self._available():
            high = await self._rows.size()
            if below is not None:
                high = min(high, below)
            async for _, _, numbers in self._parts(Plan.of(wanted), 0, high, newest_first=True):
                rest = numbers[::-1]
                while len(rest):
                    some = limit - len(found) - len(waiting)
                    waiting += rest[:some].tolist()
                    rest = rest[some:]
                    if len(found) + len(waiting) >= limit:
                        # Nearly all that are found are right: no more are read than are wanted, and all at once.
                        found += await self._matching(wanted, waiting)
                        waiting = []
                    if len(found) >= limit:
                        return found
            found += await self._matching(wanted, waiting)
        return found

    async def iterate(self, wanted: RecordFilter, size: int) -> AsyncIterator[StoredEntry]:
        """All records among the first `size` entries, in order of their numbers. What is read ahead is bounded."""
        first = 0
        while first < size:
            entries, first = await self.chunk(wanted, first, size, _AT_ONCE)
            for entry in entries:
                yield entry

    async def chunk(self, wanted: RecordFilter, first: int, end: int, limit: int) -> tuple[list[StoredEntry], int]:
        """Records from entry `first` on in order, `limit` or fewer, and where to go on: `end` if that was all.

        Args:
            end: Number of the entry before which to stop.
        """
        waiting: list[int] = []
        async with self._available():
            high = min(end, await self._rows.size())
            async for _, done, numbers in self._parts(Plan.of(wanted), first, high, newest_first=False):
                waiting += numbers[: limit - len(waiting) + 1].tolist()
                if len(waiting) > limit:
                    # The one too many is where to go on.
                    after = waiting[limit]
                    break
                if len(waiting) == limit:
                    after = done
                    break
            else:
                after = end
            return await self._matching(wanted, waiting[:limit]), after

    async def statistics(self, wanted: RecordFilter, *, step: Step) -> Statistics:
        """Figures over all records that the filter finds, with a time series of `step`.

        Raises:
            InvalidRequestError: The series would have too many points.
        """
        async with self._available():
            plan, size = Plan.of(wanted), await self._rows.size()
            for _ in range(_TRIES):
                try:
                    return await self._tallied(plan, size, step)
                except MovedError:
                    self._moved = True
            raise IndexUnavailableError("the index does not stand still")

    async def status(self) -> IndexStatus:
        """How far the index is."""
        async with self._available():
            size = await self._rows.size()
            await self._look(size, always=True)
            return IndexStatus(indexed=self._indexed, size=max(size, self._indexed))

    async def make_index(self, *, rebuild: bool = False, progress: Progress | None = None) -> int:
        """Bring the index up to date, or see another process do it; how many entries stand in it then.

        Args:
            rebuild: Begin with nothing.
        """
        async with self._available():
            return await self.indexer.make(rebuild=rebuild, progress=progress)

    async def check(self, progress: Progress | None = None) -> IndexFault | None:
        """The first segment of the index that does not say what the records say; None if all do, or there is none."""
        async with self._available():
            return await self.indexer.check(progress)

    @property
    def _indexed(self) -> int:
        segments = self._finder.segments
        return segments[-1].end if segments else 0

    @asynccontextmanager
    async def _available(self) -> AsyncIterator[None]:
        """What the databases do not do, or not as they should, as the refusal that callers get."""
        try:
            yield
        except (IndexUnavailableError, IndexFormatError) as error:
            if isinstance(error, IndexFormatError):
                with suppress(IndexUnavailableError):
                    await self._store.ask_rebuild()
            raise UnavailableError("search-available") from error

    async def _matching(self, wanted: RecordFilter, numbers: Sequence[int]) -> list[StoredEntry]:
        found: list[StoredEntry] = []
        for at in range(0, len(numbers), _AT_ONCE):
            found += await self._rows.matching(wanted, numbers[at : at + _AT_ONCE])
        return found

    async def _tallied(self, plan: Plan, size: int, step: Step) -> Statistics:
        # Figures are not compared with the records: what was removed must not be counted for long.
        await self._look(size, always=True)
        tally = Tally(step)
        segments = [segment for segment in self._finder.segments if segment.first < size]
        for group in _grouped([segment for segment in segments if segment.large], 64):
            found = await self._finder.find(plan, group)
            for segment in group:
                if segment.first in found:
                    # Also when nothing has to be waited for: others want their turn.
                    await asyncio.sleep(0)
                    tally.add(await self._finder.columns(segment, COUNTED), found[segment.first])
        for segment in segments:
            if not segment.large and plan.may_hold(segment):
                whole = await self._finder.whole(segment)
                tally.add(whole.by_name, np.flatnonzero(plan.scan(whole)))
        for number in range(self._indexed // BLOCK, -(-size // BLOCK)):
            await asyncio.sleep(0)
            columns = (await self._blocks.get(number, size)).columns
            chosen = np.flatnonzero(plan.scan(columns))
            tally.add(columns.by_name, chosen[chosen < size - columns.first])
        return tally.result(size)

    async def _parts(
        self, plan: Plan, low: int, high: int, *, newest_first: bool
    ) -> AsyncIterator[tuple[int, int, Array]]:
        """Consecutive parts of the log between two entries: first, end, and numbers found there, ascending.

        Numbers are what the index says: they are to be compared with the records.
        """
        for _ in range(_TRIES):
            try:
                await self._look(high)
                async for first, end, numbers in self._parts_once(plan, low, high, newest_first):
                    yield first, end, numbers
                    low, high = (low, first) if newest_first else (end, high)
                return
            except MovedError:
                self._moved = True
        raise IndexUnavailableError("the index does not stand still")

    async def _parts_once(
        self, plan: Plan, low: int, high: int, newest_first: bool
    ) -> AsyncIterator[tuple[int, int, Array]]:
        segments = [segment for segment in self._finder.segments if segment.first < high and segment.end > low]
        large = [segment for segment in segments if segment.large]
        small = [segment for segment in segments if not segment.large]
        blocks = list(range(max(self._indexed, low) // BLOCK, -(-high // BLOCK)))
        if newest_first:
            async for part in self._of_blocks(plan, low, high, blocks[::-1]):
                yield part
            async for part in self._of_small(plan, low, high, small[::-1]):
                yield part
            async for part in self._of_large(plan, low, high, large[::-1]):
                yield part
        else:
            async for part in self._of_large(plan, low, high, large):
                yield part
            async for part in self._of_small(plan, low, high, small):
                yield part
            async for part in self._of_blocks(plan, low, high, blocks):
                yield part

    async def _of_large(
        self, plan: Plan, low: int, high: int, segments: Sequence[Segment]
    ) -> AsyncIterator[tuple[int, int, Array]]:
        for group in _grouped(segments, *_GROUPS):
            found = await self._finder.find(plan, group)
            for segment in group:
                places = found.get(segment.first, _NONE)
                numbers = np.arange(segment.first, segment.end) if places is None else places + segment.first
                yield segment.first, segment.end, _within(numbers, low, high)

    async def _of_small(
        self, plan: Plan, low: int, high: int, segments: Sequence[Segment]
    ) -> AsyncIterator[tuple[int, int, Array]]:
        for segment in segments:
            numbers = _NONE
            if plan.may_hold(segment):
                numbers = np.flatnonzero(plan.scan(await self._finder.whole(segment))) + segment.first
            yield segment.first, segment.end, _within(numbers, low, high)

    async def _of_blocks(
        self, plan: Plan, low: int, high: int, blocks: Sequence[int]
    ) -> AsyncIterator[tuple[int, int, Array]]:
        for number in blocks:
            await asyncio.sleep(0)
            columns = (await self._blocks.get(number, high)).columns
            yield columns.first, columns.end, _within(np.flatnonzero(plan.scan(columns)) + columns.first, low, high)

    async def _look(self, size: int, *, always: bool = False) -> None:
        """Know the index as it is now. What changes in it later is noticed when it is read (MovedError)."""
        async with self._looking:
            age = time.monotonic() - self._looked_at
            behind = size >= self._indexed + SMALL
            if not (always or self._moved or age > _REMOVED_SECONDS or (behind and age > _LOOK_SECONDS)):
                return
            generation, segments = await self._store.segments()
            if segments and not await self.indexer.belongs(segments, await self._rows.size()):
                segments = []
            removed_seq = await self._rows.removed_seq()
            if removed_seq != self._removed_seq:
                self._removed_seq = removed_seq
                self._blocks.forget(size)
            self._finder.follow(generation, segments)
            self._blocks.forget(self._indexed)
            self._looked_at, self._moved = time.monotonic(), False


_NONE: Final[Array] = np.zeros(0, dtype=np.int64)


def cursor_seq(cursor: str | None) -> int | None:
    """The number that a cursor is; raises InvalidRequestError if it is none of ours."""
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        raise InvalidRequestError(
            "cursor", problem="The cursor is not one that was given out.", problem_zh="游标无效。"
        )
    return int(cursor)


def _within(numbers: Array, low: int, high: int) -> Array:
    return numbers[(numbers >= low) & (numbers < high)]


def _grouped(segments: Sequence[Segment], *sizes: int) -> Iterator[Sequence[Segment]]:
    """The segments in groups, each as large as `sizes` says; the last size holds for all that follow."""
    at, place = 0, 0
    while at < len(segments):
        yield segments[at : at + sizes[place]]
        at += sizes[place]
        place = min(place + 1, len(sizes) - 1)
