"""The facts of consecutive entries as columns, narrow and ready to be counted. Pure.

Rules:
1. A column of texts is a table of 64-bit hashes, ascending, and for each entry its place in that table. Fields that are
   counted by name have their names beside the hashes.
2. The same records give the same bytes, however they came together: `check` compares bytes.
3. An entry that was removed keeps its place, as one of no kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from exchange.search.facts import ABSENT, NUMBERS, TEXTS, Facts

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]

NAMED: Final = ("client", "owner", "service", "purpose", "outcome", "rule", "kind")
"""Texts that are counted by name."""

_WIDTHS: Final = ((1 << 8, np.dtype("<u1")), (1 << 16, np.dtype("<u2")), (1 << 32, np.dtype("<u4")))


class IndexFormatError(ValueError):
    """Bytes of the index are none that were written for it."""


def hash_of(text: str) -> int:
    """64 bits that stand for a text."""
    return int.from_bytes(_digest_of(text), "big")


def _digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]


def narrow(values: Array) -> Array:
    """The same numbers, none below 0, in the narrowest type that holds them."""
    largest = int(values.max()) if len(values) else 0
    for limit, dtype in _WIDTHS:
        if largest < limit:
            return values.astype(dtype)
    return values.astype("<u8")


@dataclass(frozen=True, slots=True)
class TextColumn:
    """One text of each entry."""

    codes: Array
    """Place in the table."""
    hashes: NDArray[np.uint64]
    """The table, ascending."""
    names: tuple[str, ...] | None
    """Beside the table, if the field is counted by name."""

    def among(self, hashes: frozenset[int]) -> Mask:
        """Which entries have one of these."""
        wanted = np.array(sorted(hashes), dtype=np.uint64)
        places = np.flatnonzero(np.isin(self.hashes, wanted))
        if len(places) == 0:
            return np.zeros(len(self.codes), dtype=bool)
        if len(places) == 1:
            return np.asarray(self.codes == places[0])
        return np.isin(self.codes, places)

    def encoded(self) -> bytes:
        """Its bytes."""
        return _encode(("t", self.codes.itemsize, _bytes_of(self.codes), self.hashes.tobytes(), self.names))


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """One number of each entry."""

    base: int
    deltas: Array
    """What is to be added to `base`."""

    @property
    def values(self) -> NDArray[np.int64]:
        """The numbers themselves."""
        return self.deltas.astype(np.int64) + self.base

    def between(self, low: int, high: int) -> Mask:
        """Which entries lie there, both ends included."""
        values = self.values
        return np.asarray((values >= low) & (values <= high))

    def encoded(self) -> bytes:
        """Its bytes."""
        return _encode(("n", self.deltas.itemsize, _bytes_of(self.deltas), self.base, len(self.deltas)))


Column: TypeAlias = TextColumn | NumberColumn


@dataclass(frozen=True, slots=True)
class Columns:
    """The facts of entries `first` to `first + count - 1`."""

    first: int
    count: int
    texts: dict[str, TextColumn]
    numbers: dict[str, NumberColumn]

    @property
    def end(self) -> int:
        """Number of the entry after them."""
        return self.first + self.count

    @property
    def by_name(self) -> dict[str, Column]:
        """All columns."""
        return {**self.texts, **self.numbers}

    def column(self, name: str) -> Column:
        """A column by the name of its fact."""
        return self.texts[name] if name in self.texts else self.numbers[name]

    def kinds(self) -> dict[str, int]:
        """Kind -> how many; the empty one counts removed entries."""
        return counts_by_name(self.texts["kind"])

    def times(self) -> tuple[int, int]:
        """The earliest and the latest time of entries that are there; the first is the larger one if there are none."""
        present = ~self.texts["kind"].among(frozenset([hash_of("")]))
        values = self.numbers["at_ms"].values[present]
        return (int(values.min()), int(values.max())) if len(values) else (1, 0)

    def encoded(self) -> bytes:
        """All of it as one string of bytes."""
        return _encode([self.column(name).encoded() for name in Facts._fields])


def counts_by_name(column: TextColumn, chosen: Array | None = None) -> dict[str, int]:
    """Name -> how many of the entries, or of those chosen, have it; names that none has are left out."""
    codes = column.codes if chosen is None else column.codes[chosen]
    counts = np.bincount(codes, minlength=len(column.hashes))
    assert column.names is not None
    return {column.names[place]: int(counts[place]) for place in np.flatnonzero(counts)}


def columns_of(first: int, count: int, found: Sequence[tuple[int, Facts]]) -> Columns:
    """The columns of `count` entries from number `first` on.

    Args:
        found: Number and facts of each entry that is there, in order.
    """
    if len(found) == count:
        rows: list[Facts] = [facts for _, facts in found]
    else:
        # A removed entry takes the time of one that is there: the column stays narrow.
        rows = [ABSENT._replace(at_ms=found[0][1].at_ms) if found else ABSENT] * count
        for seq, facts in found:
            rows[seq - first] = facts
    by_field = list(zip(*rows, strict=True))
    texts = {name: _text_column(name, by_field[place]) for place, name in enumerate(TEXTS)}
    numbers = {name: _number_column(np.array(by_field[len(TEXTS) + place])) for place, name in enumerate(NUMBERS)}
    return Columns(first, count, texts, numbers)


def joined(parts: Sequence[Columns]) -> Columns:
    """The columns of entries that follow each other, as one."""
    texts = {name: _joined_texts([part.texts[name] for part in parts]) for name in TEXTS}
    numbers = {name: _number_column(np.concatenate([part.numbers[name].values for part in parts])) for name in NUMBERS}
    return Columns(parts[0].first, sum(part.count for part in parts), texts, numbers)


def read_columns(first: int, count: int, data: bytes) -> Columns:
    """What `Columns.encoded` gave; raises IndexFormatError."""
    try:
        parts = msgspec.msgpack.decode(data, type=list[bytes])
        found = {name: read_column(part, count) for name, part in zip(Facts._fields, parts, strict=True)}
    except (msgspec.MsgspecError, ValueError) as error:
        raise IndexFormatError("a segment cannot be read") from error
    texts = {name: column for name, column in found.items() if isinstance(column, TextColumn)}
    numbers = {name: column for name, column in found.items() if isinstance(column, NumberColumn)}
    named = tuple([name for name, column in texts.items() if column.names is not None])
    if tuple(texts) != TEXTS or tuple(numbers) != NUMBERS or set(named) != set(NAMED):
        raise IndexFormatError("a segment has other columns")
    return Columns(first, count, texts, numbers)


def read_column(data: bytes, count: int) -> Column:
    """What the `encoded` of a column gave; raises IndexFormatError."""
    try:
        kind, size, values, *rest = msgspec.msgpack.decode(data)
        array = np.frombuffer(values, dtype=f"<u{size}")
        if len(array) == 1 != count:
            array = np.broadcast_to(array, count)
        if len(array) != count:
            raise ValueError("another number of entries")
        if kind == "n":
            return NumberColumn(rest[0], array)
        hashes = np.frombuffer(rest[0], dtype="<u8")
        names = None if rest[1] is None else tuple(rest[1])
        if kind != "t" or (count and int(array.max()) >= len(hashes)) or len(names or hashes) != len(hashes):
            raise ValueError("its table is too short")
        return TextColumn(array, hashes, names)
    except (msgspec.MsgspecError, ValueError, TypeError, LookupError) as error:
        raise IndexFormatError("a column cannot be read") from error


_encode = msgspec.msgpack.Encoder().encode


def _bytes_of(values: Array) -> bytes:
    """The values; the first alone if all are the same."""
    return bytes(values[:1].tobytes() if len(values) and (values == values[0]).all() else values.tobytes())


def _number_column(values: Array) -> NumberColumn:
    values = values.astype(np.int64)
    base = int(values.min()) if len(values) else 0
    return NumberColumn(base, narrow(values - base))


def _text_column(name: str, values: Sequence[str]) -> TextColumn:
    distinct = list(dict.fromkeys(values))
    hashes = np.frombuffer(b"".join([_digest_of(value) for value in distinct]), dtype=">u8").astype(np.uint64)
    table, firsts, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    names = tuple([distinct[place] for place in firsts]) if name in NAMED else None
    if len(distinct) == 1:
        return TextColumn(np.zeros(len(values), dtype="<u1"), table, names)
    place_of = dict(zip(distinct, inverse.tolist(), strict=True))
    codes = np.fromiter(map(place_of.__getitem__, values), dtype=np.int64, count=len(values))
    return TextColumn(narrow(codes), table, names)


def _joined_texts(parts: Sequence[TextColumn]) -> TextColumn:
    table, firsts, inverse = np.unique(
        np.concatenate([part.hashes for part in parts]), return_index=True, return_inverse=True
    )
    inverse = inverse.astype(np.int64)
    codes, at = [], 0
    for part in parts:
        codes.append(inverse[at : at + len(part.hashes)][part.codes])
        at += len(part.hashes)
    names = None
    if parts[0].names is not None:
        every = [name for part in parts for name in part.names or ()]
        names = tuple([every[place] for place in firsts])
    return TextColumn(narrow(np.concatenate(codes)), table, names)
