"""Making the index: small segments as the log grows, large ones of sixteen small; and finding what is wrong in one.

Rules:
1. One process makes the index of a log, whichever has the lock; when it ends, the next one takes over.
2. A segment is made of the records and of nothing else, and the same records give the same bytes.
3. Segments whose entries were removed are made again without them. An index of another log, of another format, or one that
   somebody wants made again, is begun from nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from exchange.search.columns import Columns, IndexFormatError, joined
from exchange.search.finder import Finder
from exchange.search.index_store import (
    SMALL,
    IndexStore,
    MovedError,
    Rows,
    Segment,
    column_key,
    posting_key,
    whole_key,
)
from exchange.search.postings import LARGE, postings_of
from exchange.search.rows import Blocks, LogRows
from exchange.search.tally import COUNTED

Progress = Callable[[int, int], None]
"""(entries done, entries in all)."""

_LOOK_SECONDS: Final = 0.2
"""How often another process is asked how far it is."""


@dataclass(frozen=True, slots=True)
class IndexFault:
    """A segment of the index that does not say what the records say."""

    first: int
    end: int
    """Exclusive."""
    problem: str
    problem_zh: str


class Indexer:
    """Makes the index at `store` from the log's rows. One task at a time calls `catch_up`."""

    def __init__(self, rows: LogRows, store: IndexStore, blocks: Blocks) -> None:
        self._rows = rows
        self._store = store
        self._blocks = blocks
        self._finder = Finder(store)
        self._turn = 0
        self.begun = 0
        """How often it began with nothing."""

    async def take(self) -> bool:
        """Whether this process is, or now became, the one that makes the index; raises IndexUnavailableError."""
        return await self._store.take()

    async def make(self, *, rebuild: bool, progress: Progress | None) -> int:
        """Bring the index up to date; if another process has the lock, wait until it has. How many entries stand in it then.

        Args:
            rebuild: Begin with nothing.
        """
        asked = False
        while not await self.take():
            if rebuild and not asked:
                await self._store.ask_rebuild()
                asked = True
            state = await self._store.state()
            _, segments = await self._store.segments()
            end, size = segments[-1].end if segments else 0, await self._rows.size()
            if progress:
                progress(end, size)
            if state is not None and not state.rebuild and size < end + SMALL:
                return end
            await asyncio.sleep(_LOOK_SECONDS)
        if rebuild and not asked:
            await self._store.ask_rebuild()
        return await self.catch_up(progress)

    async def belongs(self, segments: Sequence[Segment], size: int) -> bool:
        """Whether segments are of this log, by its size and the hash of the last entry that they hold."""
        if segments[-1].end > size:
            return False
        last = next((segment.last for segment in reversed(segments) if segment.last is not None), None)
        # A removed entry cannot be compared any more.
        return last is None or await self._rows.leaf_hash(last[0]) in (None, last[1])

    async def catch_up(self, progress: Progress | None = None) -> int:
        """Add all full segments that the log has and the index lacks; how many entries are indexed then.

        Raises:
            IndexUnavailableError: A database failed, or another process has the lock. Nothing is half done.
        """
        await self._follow()
        size = await self._rows.size()
        while True:
            end = await self._merged(list(self._finder.segments))
            if size < end + SMALL:
                size = await self._rows.size()
            if progress:
                progress(end, size)
            if size < end + SMALL:
                return end
            # Far behind, large ones are made at once.
            await self._add(*await self._made(end, LARGE if not end % LARGE and size >= end + LARGE else SMALL))

    async def _follow(self) -> None:
        """Know the segments that there are, without those that do not count any more."""
        state = await self._store.state()
        removed_seq = await self._rows.removed_seq()
        known = (self._finder.generation, self._turn)
        if (
            state is not None
            and not state.rebuild
            and (removed_seq, known)
            == (
                state.removed_seq,
                (state.generation, self._store.turn),
            )
        ):
            return  # nobody else writes
        generation, segments = await self._store.segments()
        size = await self._rows.size()
        if state is None or state.rebuild or (segments and not await self.belongs(segments, size)):
            await self._store.clear()
            self.begun += 1
        elif removed_seq != state.removed_seq:
            await self._renew(segments, state.removed_seq)
        else:
            self._finder.follow(generation, segments)
            self._turn = self._store.turn
            return
        await self._store.set_removed(removed_seq)
        self._finder.follow(*await self._store.segments())
        self._turn = self._store.turn

    async def check(self, progress: Progress | None = None) -> IndexFault | None:
        """Make every segment again, and compare; what is wrong with the first that differs."""
        first, rows = 0, 0
        while True:
            generation, segments = await self._store.segments()
            if not segments:
                return None
            if not await self.belongs(segments, await self._rows.size()):
                return IndexFault(0, segments[-1].end, "it is the index of another log", "这是另一份日志的索引")
            try:
                for segment in segments:
                    if segment.first < first:
                        continue
                    if segment.first != first:
                        return IndexFault(first, segment.first, "the segment is missing", "索引段缺失")
                    fault, count = await self._fault_of(segment, generation)
                    if fault is not None:
                        return fault
                    first, rows = segment.end, rows + count
                    if progress:
                        progress(first, segments[-1].end)
                if await self._store.row_count() != rows and (await self._store.segments())[1] == segments:
                    return IndexFault(0, first, "the index holds rows of no segment", "索引中有不属于任何段的内容")
                return None
            except MovedError:
                # Small segments became a large one, or all began anew.
                first, rows = 0, 0

    async def _fault_of(self, segment: Segment, generation: int) -> tuple[IndexFault | None, int]:
        made, rows = await self._made(segment.first, segment.count)
        stored = await self._store.fetch(generation, [(key, key) for key, _ in rows])
        if dict(stored) == dict(rows) and made == segment:
            return None, len(rows)
        where = segment.first, segment.end
        return IndexFault(*where, "it does not say what the records say", "与记录内容不符"), 0

    async def _renew(self, segments: Sequence[Segment], since: int) -> None:
        """Make segments again from which entries were removed."""
        ranges = await self._rows.removed_since(since)
        for segment in segments:
            if any(first < segment.end and end > segment.first for first, end in ranges):
                made, rows = await self._made(segment.first, segment.count)
                await self._store.put(made, rows, instead_of=[segment])
        self._blocks.forget(1 << 62)

    async def _merged(self, segments: list[Segment]) -> int:
        """Put small segments together that make up a large one; how many entries are indexed."""
        end = segments[-1].end if segments else 0
        small = [segment for segment in segments if not segment.large]
        if small and end % LARGE == 0:
            parts = []
            try:
                for segment in small:
                    parts.append(await self._finder.whole(segment))
            except IndexFormatError:
                # Nobody mends a segment: it is made again.
                await self._add(*await self._made(small[0].first, LARGE), instead_of=small)
                return end
            last = next((segment.last for segment in reversed(small) if segment.last is not None), None)
            await self._add(*await asyncio.to_thread(_large, parts, last), instead_of=small)
        return end

    async def _add(self, segment: Segment, rows: Rows, instead_of: Sequence[Segment] = ()) -> None:
        await self._store.put(segment, rows, instead_of=instead_of)
        generation = self._finder.generation + (1 if instead_of else 0)
        gone = {each.first for each in instead_of}
        kept = [each for each in self._finder.segments if each.first not in gone]
        self._finder.follow(generation, [*kept, segment])

    async def _made(self, first: int, count: int) -> tuple[Segment, Rows]:
        """A segment of the log, and its rows."""
        columns, last = await self._rows.block(first, first + count)
        if count == SMALL:
            return _small(columns, last)
        # Sorting takes a moment; meanwhile questions are answered.
        return await asyncio.to_thread(_large, [columns], last)


def _small(columns: Columns, last: tuple[int, bytes] | None) -> tuple[Segment, Rows]:
    segment = _segment(columns, last)
    return segment, [(whole_key(segment.number), columns.encoded())]


def _large(parts: Sequence[Columns], last: tuple[int, bytes] | None) -> tuple[Segment, Rows]:
    columns = joined(parts) if len(parts) > 1 else parts[0]
    segment = _segment(columns, last)
    rows = [(column_key(name, segment.number), columns.column(name).encoded()) for name in COUNTED]
    rows += [(posting_key(name, bucket, segment.number), data) for name, bucket, data in postings_of(columns)]
    return segment, rows


def _segment(columns: Columns, last: tuple[int, bytes] | None) -> Segment:
    return Segment(columns.first, columns.count, *columns.times(), columns.kinds(), last)
