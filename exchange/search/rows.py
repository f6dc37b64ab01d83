"""The log's own rows, as the index is made of them and its finds are compared with them."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from exchange.log.reader import LogReader, StoredEntry
from exchange.log.tables import entries, removed, state
from exchange.search.columns import Columns, columns_of, joined
from exchange.search.facts import Facts, facts_of, matches
from exchange.search.filters import RecordFilter
from exchange.search.index_store import IndexUnavailableError
from exchange.storage.database import create_engine, reading

_AT_ONCE: Final = 2048
"""Rows of one read: a longer one would keep SQLite from shortening the log's write-ahead log. Of shorter ones each row costs
more."""
_ROW: Final = [
    entries.c.seq,
    entries.c.at_ms,
    entries.c.outcome,
    *[sa.cast(entries.c[name], sa.LargeBinary).label(name) for name in ("leaf_hash", "leaf")],
]
BLOCK: Final = 512
"""Entries that become columns at once: the last block is made again whenever the log has grown."""
_MOST_BLOCKS: Final = 512
"""Blocks in memory that no index holds yet."""

_number = itemgetter(0)

Found = tuple[int, Facts, bytes]
"""Number, facts and leaf hash of an entry."""


class Block(NamedTuple):
    """Entries of the log as columns."""

    columns: Columns
    last: tuple[int, bytes] | None
    """Number and leaf hash of the last of them that is there."""


class LogRows:
    """Reads one log. Every method raises IndexUnavailableError when its database fails."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url)
        self._reader = LogReader(self._engine)

    async def size(self) -> int:
        """Number of entries."""
        try:
            async with reading(self._engine) as connection:
                return int((await connection.execute(sa.select(state.c.size))).scalar_one())
        except (SQLAlchemyError, OSError) as error:
            raise _unavailable(error) from error

    async def leaf_hash(self, seq: int) -> bytes | None:
        """Of one entry; None if it is not there."""
        try:
            found = await self._reader.entries_at([seq])
        except (SQLAlchemyError, OSError) as error:
            raise _unavailable(error) from error
        return found[0].leaf_hash if found else None

    async def facts(self, first: int, end: int) -> list[Found]:
        """Of the entries that are there, in order."""
        found: list[Found] = []
        try:
            while first < end:
                until = min(first + _AT_ONCE, end)
                query = sa.select(*_ROW).where(entries.c.seq >= first, entries.c.seq < until).order_by(entries.c.seq)
                async with reading(self._engine) as connection:
                    rows = (await connection.execute(query)).all()
                found += [
                    (seq, facts_of(leaf, at_ms=at_ms, outcome=outcome), leaf_hash)
                    for seq, at_ms, outcome, leaf_hash, leaf in rows
                ]
                first = until
        except (SQLAlchemyError, OSError) as error:
            raise _unavailable(error) from error
        return found

    async def block(self, first: int, end: int) -> Block:
        """All entries between two that are multiples of BLOCK."""
        found = await self.facts(first, end)
        if len(found) == end - first:
            return _block(first, end, found)
        # In each block, what was removed has the time of the first entry that is there: so the bytes are always the same.
        firsts = range(first, end, BLOCK)
        places = [bisect_left(found, each, key=_number) for each in (*firsts, end)]
        blocks = [
            _block(each, each + BLOCK, found[low:high])
            for each, (low, high) in zip(firsts, pairwise(places), strict=True)
        ]
        last = (found[-1][0], found[-1][2]) if found else None
        return Block(joined([block.columns for block in blocks]), last)

    async def matching(self, wanted: RecordFilter, numbers: Sequence[int]) -> list[StoredEntry]:
        """Those of some entries, a thousand at most, that are there and are what is looked for, in the given order."""
        try:
            found = {entry.seq: entry for entry in await self._reader.entries_at(numbers)}
        except (SQLAlchemyError, OSError) as error:
            raise _unavailable(error) from error
        there = [found[number] for number in numbers if number in found]
        return [
            entry for entry in there if matches(facts_of(entry.leaf, at_ms=entry.at_ms, outcome=entry.outcome), wanted)
        ]

    async def removed_seq(self) -> int:
        """Number of the newest entry that says entries were removed; -1 if none was."""
        try:
            async with reading(self._engine) as connection:
                found = (await connection.execute(sa.select(sa.func.max(removed.c.seq)))).scalar()
        except (SQLAlchemyError, OSError) as error:
            raise _unavailable(error) from error
        return -1 if found is None else int(found)

    async def removed_since(self, seq: int) -> list[tuple[int, int]]:
        """Ranges of entries that were removed, as records after entry `seq` say."""
        try:
            return [(each.first, each.end) for each in await self._reader.removed() if each.seq > seq]
        except (SQLAlchemyError, OSError) as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        """Let go of the database."""
        await self._engine.dispose()


class Blocks:
    """Columns of entries that the index does not hold yet, BLOCK at a time, made from the rows as they come."""

    def __init__(self, rows: LogRows) -> None:
        self._rows = rows
        self._full: OrderedDict[int, Block] = OrderedDict()
        self._open = -1
        """Number of the block that grows."""
        self._open_found: list[Found] = []
        self._open_block: Block | None = None
        self._turn = asyncio.Lock()

    async def get(self, number: int, end: int) -> Block:
        """Block `number`, at least as far as entry `end`."""
        async with self._turn:
            if number in self._full:
                self._full.move_to_end(number)
                return self._full[number]
            first = number * BLOCK
            end = min(end, first + BLOCK)
            found: list[Found] = []
            if number == self._open and self._open_block is not None:
                if end <= self._open_block.columns.end:
                    return self._open_block
                found = self._open_found
                first_missing = self._open_block.columns.end
            else:
                first_missing = first
            found = [*found, *await self._rows.facts(first_missing, end)]
            block = _block(first, end, found)
            if end < first + BLOCK:
                self._open, self._open_found, self._open_block = number, found, block
                return block
            if number == self._open:
                self._open, self._open_found, self._open_block = -1, [], None
            self._full[number] = block
            while len(self._full) > _MOST_BLOCKS:
                self._full.popitem(last=False)
            return block

    def forget(self, below: int) -> None:
        """Drop the blocks of entries below a number: they stand in the index, or some of them were removed."""
        for number in [number for number in self._full if number * BLOCK < below]:
            del self._full[number]


def _block(first: int, end: int, found: Sequence[Found]) -> Block:
    columns = columns_of(first, end - first, [(seq, facts) for seq, facts, _ in found])
    return Block(columns, (found[-1][0], found[-1][2]) if found else None)


def _unavailable(error: Exception) -> IndexUnavailableError:
    # Not str() of SQLAlchemy's: it carries the statement and its parameters.
    return IndexUnavailableError(str(getattr(error, "orig", None) or type(error).__name__))
