"""Which entries of a large segment have a value: small strings of bytes, one for each field and bucket. Pure.

Rules:
1. A text falls into one of 256 buckets by the first 8 bits of its hash; in the bucket it is known by the next 32. Entries
   without the text stand nowhere.
2. A number falls into a bucket of numbers much alike: a quarter of an octave; an HTTP status into one of its own. Beside the
   places of a bucket stand its values, for the two buckets in which a range begins and ends.
3. Places in a segment are 16 bits wide, ascending; from 4,096 on a bitmap of 8 kB takes their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exchange.search.columns import Array, Columns, IndexFormatError, Mask, NumberColumn, TextColumn, narrow
from exchange.search.facts import TEXTS

LARGE: Final = 1 << 16
"""Entries of a large segment."""
RANGED: Final = ("status", "duration_us", "request_size", "answer_size")
"""Numbers with postings; times have none: segments are in order of time, but for the clocks of gateways."""
EXACT: Final = frozenset(["status"])
"""Numbers whose bucket is their value."""
_DENSE: Final = 4096
_BITMAP: Final = LARGE // 8


def text_bucket(hashed: int) -> tuple[int, int]:
    """(bucket, what the text is known by in it)."""
    return hashed >> 56, hashed >> 24 & 0xFFFFFFFF


def number_bucket(name: str, value: int) -> int:
    """The bucket of a number: never smaller for a larger one."""
    if name in EXACT or value < 4:
        return value
    bits = value.bit_length()
    return bits * 4 + (value >> bits - 3 & 3)


def postings_of(columns: Columns) -> Iterator[tuple[str, int, bytes]]:
    """(field, bucket, bytes) for all texts, numbers, and `<number>=` for the values beside them."""
    for name in TEXTS:
        for bucket, data in _text_postings(columns.texts[name]):
            yield name, bucket, data
    for name in RANGED:
        yield from _number_postings(name, columns.numbers[name])


def find_text(data: bytes, known_by: int) -> Array | None:
    """Places of the entries with a text, or their bitmap; None if there are none. Raises IndexFormatError."""
    count = int.from_bytes(data[:4], "little")
    head = 4 + 6 * count
    if len(data) < head:
        raise IndexFormatError("postings are too short")
    known = np.frombuffer(data, dtype="<u4", count=count, offset=4)
    place = int(np.searchsorted(known, known_by))
    if place == count or known[place] != known_by:
        return None
    sizes = np.frombuffer(data, dtype="<u2", count=count, offset=4 + 4 * count).astype(np.int64) + 1
    lengths = np.where(sizes < _DENSE, 2 * sizes, _BITMAP)
    start = head + int(lengths[:place].sum())
    return read_places(data[start : start + int(lengths[place])])


def read_places(data: bytes) -> Array:
    """Places of entries (u2), or the bitmap of them (u1); raises IndexFormatError."""
    if len(data) % 2:
        raise IndexFormatError("postings are cut off")
    return np.frombuffer(data, dtype="<u1" if len(data) == _BITMAP else "<u2")


def read_values(data: bytes, count: int) -> NDArray[np.int64]:
    """The values beside `count` places of a bucket; raises IndexFormatError."""
    size = len(data) // count if count else 0
    if size not in (1, 2, 4, 8) or size * count != len(data):
        raise IndexFormatError("values beside postings are of another number")
    return np.frombuffer(data, dtype=f"<u{size}").astype(np.int64)


def mark(mask: Mask, places: Array) -> None:
    """Set the entries in a mask of LARGE."""
    if places.dtype.itemsize == 1:
        mask |= np.unpackbits(places, bitorder="little").view(np.bool_)
    else:
        mask[places] = True


def ascending(places: Array) -> Array:
    """The places themselves, also those of a bitmap."""
    if places.dtype.itemsize != 1:
        return places
    # As truth values: finding those takes a fifth of the time that finding numbers takes.
    return np.flatnonzero(np.unpackbits(places, bitorder="little").view(np.bool_))


def _encoded(places: Array) -> bytes:
    if len(places) < _DENSE:
        return bytes(places.astype("<u2").tobytes())
    mask = np.zeros(LARGE, dtype=bool)
    mask[places] = True
    return bytes(np.packbits(mask, bitorder="little").tobytes())


def _grouped(codes: Array, groups: int) -> tuple[Array, Array]:
    """Places in order of their codes, and where each code's places begin; one more at the end."""
    order = np.argsort(codes, kind="stable")
    starts = np.zeros(groups + 1, dtype=np.int64)
    np.cumsum(np.bincount(codes, minlength=groups), out=starts[1:])
    return order.astype("<u2"), starts


def _text_postings(column: TextColumn) -> Iterator[tuple[int, bytes]]:
    short, inverse = np.unique(column.hashes >> np.uint64(24), return_inverse=True)
    codes = inverse.astype(np.int64)[column.codes] if len(short) != len(column.hashes) else column.codes
    order, starts = _grouped(codes, len(short))
    sizes = np.diff(starts)
    buckets = (short >> np.uint64(32)).astype(np.int64)
    known_by = (short & np.uint64(0xFFFFFFFF)).astype("<u4")
    kept = _of_texts(short)
    ends = np.flatnonzero(np.diff(buckets, append=-1)) + 1
    begin = 0
    for end in ends.tolist():
        groups = [group for group in range(begin, end) if kept[group]]
        if groups:
            yield int(buckets[begin]), _text_row(groups, known_by, sizes, order, starts)
        begin = end


def _of_texts(short: NDArray[np.uint64]) -> Mask:
    """Which of the texts are not the empty one, which is never looked for."""
    return np.asarray(short != np.uint64(_EMPTY))


def _text_row(groups: Sequence[int], known_by: Array, sizes: Array, order: Array, starts: Array) -> bytes:
    head = len(groups).to_bytes(4, "little") + known_by[groups].tobytes() + (sizes[groups] - 1).astype("<u2").tobytes()
    if len(groups) == groups[-1] - groups[0] + 1 and int(sizes[groups].max()) < _DENSE:
        return bytes(head + order[starts[groups[0]] : starts[groups[-1] + 1]].tobytes())
    return bytes(head + b"".join([_encoded(order[starts[group] : starts[group + 1]]) for group in groups]))


def _number_postings(name: str, column: NumberColumn) -> Iterator[tuple[str, int, bytes]]:
    values = column.values
    buckets = values if name in EXACT else _buckets(values)
    distinct, codes = np.unique(buckets, return_inverse=True)
    order, starts = _grouped(codes.astype(np.uint16), len(distinct))
    for group, bucket in enumerate(distinct.tolist()):
        places = order[starts[group] : starts[group + 1]]
        yield name, bucket, _encoded(places)
        if name not in EXACT:
            yield name + "=", bucket, narrow(values[places]).tobytes()


def _buckets(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """`number_bucket` of each: the exponent of a float and the first two bits after it say the same."""
    bits = values.astype(np.float64).view(np.int64) >> 50
    return np.where(values < 4, values, bits - (1022 << 2))


_EMPTY: Final = 0xE3B0C44298
"""The first 40 bits of the SHA-256 of nothing."""
