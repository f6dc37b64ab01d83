"""Where the index is kept, as the search sees it. SQLite and PostgreSQL implement it.

Rules:
1. The index is consecutive segments from entry 0 on: large ones of 65,536 entries, with columns for counting and postings
   for finding, then at most 15 small ones of 4,096, whole in one row. Where it ends, the log's own rows are read.
2. Everything is a row of a number and bytes. The number says field, bucket and segment, in this order: one field and
   bucket of all segments lie side by side, and are read at once.
3. One process writes, whoever holds the lock; each segment appears in one transaction. `generation` counts what else
   happens to segments: whoever read rows of a generation and reads rows of the next begins again.
4. It may be lost at any time: commits are not waited for until they are on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from exchange.search.facts import Facts
from exchange.search.postings import LARGE, RANGED

FORMAT: Final = 1
"""Of all that is stored. An index of another format is made again."""
SMALL: Final = 1 << 12
"""Entries of a small segment; also the unit in which segments are numbered."""

_POSTINGS: Final = {
    **{name: number for number, name in enumerate(Facts._fields)},
    **{name + "=": 32 + number for number, name in enumerate(RANGED)},
}
_COLUMNS: Final = {name: 64 + number for number, name in enumerate(Facts._fields)}
_WHOLE: Final = 127
_SEGMENT_BITS: Final = 38
_BUCKET_BITS: Final = 16

TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS search_state (
        id INTEGER PRIMARY KEY, format INTEGER NOT NULL, generation BIGINT NOT NULL,
        removed_seq BIGINT NOT NULL, rebuild INTEGER NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS search_segments (
        first BIGINT PRIMARY KEY, count INTEGER NOT NULL, earliest_ms BIGINT NOT NULL, latest_ms BIGINT NOT NULL,
        about {bytes} NOT NULL, rows {bytes} NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS search_rows ({key} PRIMARY KEY, data {bytes} NOT NULL)",
)
"""`about`: what else is known of a segment. `rows`: which rows it has, to be deleted with it."""
FRESH: Final = f"INSERT INTO search_state VALUES (1, {FORMAT}, {{generation}}, -1, 0)"


class IndexUnavailableError(Exception):
    """The database of the index did not do what was asked. For our events, not for callers."""


class MovedError(Exception):
    """Segments are no longer what they were: look at them again."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of the index."""

    first: int
    count: int
    earliest_ms: int
    latest_ms: int
    """Before `earliest_ms` if all its entries were removed."""
    kinds: dict[str, int]
    """Kind -> how many entries; the empty one counts those removed."""
    last: tuple[int, bytes] | None
    """Number and leaf hash of its last entry: whether this is the index of this log."""

    @property
    def large(self) -> bool:
        return self.count == LARGE

    @property
    def end(self) -> int:
        return self.first + self.count

    @property
    def number(self) -> int:
        return self.first // SMALL


@dataclass(frozen=True, slots=True)
class IndexState:
    """What the index says of itself."""

    generation: int
    removed_seq: int
    """Removals on record up to this entry were taken into account; -1 if none."""
    rebuild: bool
    """Somebody wants it made again."""


Rows = list[tuple[int, bytes]]


class IndexStore(Protocol):
    """Keeps one index. Any number of tasks may read; every method raises IndexUnavailableError."""

    turn: int
    """How often this process became the one that writes: between two turns another one may have written."""

    async def state(self) -> IndexState | None:
        """None if there is no index of this format here."""

    async def segments(self) -> tuple[int, list[Segment]]:
        """The generation, and all segments in order."""

    async def fetch(self, generation: int, ranges: Sequence[tuple[int, int]]) -> Rows:
        """The rows with numbers in these ranges, both ends included.

        Raises:
            MovedError: It is no longer that generation.
        """

    async def row_count(self) -> int:
        """How many rows there are."""

    async def take(self) -> bool:
        """Become the one process that writes, make the tables if need be; False if another one is."""

    async def clear(self) -> None:
        """Begin again with an empty index."""

    async def put(self, segment: Segment, rows: Rows, *, instead_of: Sequence[Segment] = ()) -> None:
        """Add a segment in the place of others."""

    async def set_removed(self, seq: int) -> None:
        """Removals on record up to entry `seq` have been taken into account."""

    async def ask_rebuild(self) -> None:
        """Have the process that writes make the index again."""

    async def close(self) -> None:
        """Let go of the database."""


def posting_key(name: str, bucket: int, segment: int) -> int:
    """Number of the row with postings of a field, `<number>=` for values beside them."""
    return (_POSTINGS[name] << _BUCKET_BITS | bucket) << _SEGMENT_BITS | segment


def column_key(name: str, segment: int) -> int:
    """Number of the row with a column of a large segment."""
    return _COLUMNS[name] << _BUCKET_BITS + _SEGMENT_BITS | segment


def whole_key(segment: int) -> int:
    """Number of the row with a small segment."""
    return _WHOLE << _BUCKET_BITS + _SEGMENT_BITS | segment


def segment_of(key: int) -> int:
    """Number of the segment that a row belongs to."""
    return key & (1 << _SEGMENT_BITS) - 1


def bucket_of(key: int) -> int:
    """The bucket of a row of postings."""
    return key >> _SEGMENT_BITS & (1 << _BUCKET_BITS) - 1


def pack_keys(keys: Sequence[int]) -> bytes:
    """The rows of one segment, for `rows` in its own row."""
    return b"".join([(key >> _SEGMENT_BITS).to_bytes(3, "little") for key in keys])


def unpack_keys(data: bytes, segment: int) -> list[int]:
    """What `pack_keys` gave."""
    return [int.from_bytes(data[at : at + 3], "little") << _SEGMENT_BITS | segment for at in range(0, len(data) - 2, 3)]
