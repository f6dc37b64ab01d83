"""The rows of a table, as they are answered: JSON in one piece of memory, in the order of their keys.

A row costs the bytes of its JSON and 16 more, and 4 for each column that is searched by. Values are read from the rows again when
they are compared; a search looks at some twenty rows of a million.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
import numpy as np

from department_adapters.files.columns import CellError, Column, index_text, read_cell
from department_adapters.files.reading import FileError

_JOINT = "\0"
"""Between the parts of a key; no part holds one."""
_SHARED = 10_000
"""Values of a column that are held once while a table is built, however often they come."""
_RUN = 10_000
"""Items that are sorted in one step, a few milliseconds."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encoder = msgspec.json.Encoder(decimal_format="string")

_Item = TypeVar("_Item")
Positions = np.ndarray[Any, np.dtype[np.uint32]]
Offsets = np.ndarray[Any, np.dtype[np.uint64]]


class TooLargeError(FileError):
    """The rows need more memory than they may have."""


class Table:
    """Rows, sorted by key. Nothing in it changes."""

    def __init__(
        self, rows: bytearray, starts: Offsets, ends: Offsets, key: Sequence[str], orders: Mapping[str, Positions]
    ) -> None:
        self._rows = memoryview(rows)
        self._starts, self._ends = starts, ends
        self._key = key
        self._orders = orders

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def held(self) -> int:
        """Bytes of memory."""
        searched = sum(order.nbytes for order in self._orders.values())
        return len(self._rows) + self._starts.nbytes + self._ends.nbytes + searched

    def row(self, key: Sequence[str]) -> bytes | None:
        """The row with this key as JSON, or None."""
        wanted = _JOINT.join(key)
        position = bisect_left(range(len(self)), wanted, key=self._key_at)
        return self._json(position) if position < len(self) and self._key_at(position) == wanted else None

    def page(
        self, where: Mapping[str, str], after: Sequence[str] | None, size: int, max_bytes: int
    ) -> tuple[list[bytes], list[str] | None]:
        """Rows as JSON in the order of their keys, and the key to go on after, None at the end.

        Args:
            where: Column -> what its value is to be, as `index_text` writes it. Only columns that are searched by.
            after: Key; only rows behind it are returned.
            size: Most rows.
            max_bytes: Of all of them; one row is returned however large it is.
        """
        begin = 0 if after is None else bisect_right(range(len(self)), _JOINT.join(after), key=self._key_at)
        positions: range | Positions = range(begin, len(self))
        if where:
            positions = self._meeting(where)
            positions = positions[np.searchsorted(positions, begin) :]
        found: list[bytes] = []
        room = max_bytes
        for position in positions[: size + 1]:
            row = self._json(int(position))
            if found and (len(found) == size or len(row) > room):
                return found, self._key_at(int(positions[len(found) - 1])).split(_JOINT)
            room -= len(row) + 1
            found.append(row)
        return found, None

    def _meeting(self, where: Mapping[str, str]) -> Positions:
        meeting = sorted((self._having(column, value) for column, value in where.items()), key=len)
        positions = meeting[0]
        for other in meeting[1:]:
            positions = positions[np.isin(positions, other, assume_unique=True)]
        return positions

    def _having(self, column: str, value: str) -> Positions:
        order = self._orders[column]

        def value_at(position: int) -> str:
            return index_text(self._values(int(position))[column])

        begin = bisect_left(order, value, key=value_at)
        return order[begin : bisect_right(order, value, lo=begin, key=value_at)]

    def _json(self, position: int) -> bytes:
        return bytes(self._rows[int(self._starts[position]) : int(self._ends[position])])

    def _values(self, position: int) -> dict[str, Any]:
        return _decode(self._json(position))

    def _key_at(self, position: int) -> str:
        values = self._values(position)
        return _JOINT.join([index_text(values[name]) for name in self._key])


class TableBuilder:
    """Takes rows in any order."""

    def __init__(
        self, columns: Sequence[Column], key: Sequence[str], searched: Sequence[str], *, last: bool, max_bytes: int
    ) -> None:
        """
        Args:
            key: Names of the columns that make it.
            searched: Names of those that rows are searched by.
            last: Of rows with the same key, the last one counts; otherwise they are refused.
            max_bytes: Most memory of the rows.
        """
        self._names = [column.name for column in columns]
        self._readers = [read_cell(column.type) for column in columns]
        self._key = [self._names.index(name) for name in key]
        self._key_names = tuple(key)
        self._searched = {name: self._names.index(name) for name in searched}
        self._last = last
        self._max_bytes = max_bytes
        self._rows = bytearray()
        self._ends = array("Q")
        self._keys: list[str] = []
        self._found: dict[str, list[str | None]] = {name: [] for name in searched}
        self._shared: dict[str, str] = {}

    def add(self, cells: Sequence[object]) -> None:
        """Add a row; `cells` in the order of the columns. Raises FileError."""
        values = []
        for place, cell in enumerate(cells):
            try:
                values.append(self._readers[place](cell))
            except CellError as error:
                raise FileError(f"column {self._names[place]!r}: {error}") from error
        start = len(self._rows)
        _encoder.encode_into(dict(zip(self._names, values, strict=True)), self._rows, start)
        if len(self._rows) > self._max_bytes:
            raise TooLargeError(f"the rows need more memory than max_bytes, {self._max_bytes}")
        self._ends.append(len(self._rows))
        parts = []
        for place in self._key:
            if values[place] is None:
                raise FileError(f"column {self._names[place]!r} is of the key and empty")
            parts.append(index_text(msgspec.to_builtins(values[place])))
        key = _JOINT.join(parts)
        if key.count(_JOINT) >= len(parts):
            raise FileError("the key holds a character that cannot be asked for")
        self._keys.append(key)
        for name, place in self._searched.items():
            value = values[place]
            self._found[name].append(None if value is None else self._once(index_text(msgspec.to_builtins(value))))

    def _once(self, text: str) -> str:
        held = self._shared.get(text)
        if held is None:
            held = text
            if len(self._shared) < _SHARED:
                self._shared[text] = text
        return held

    def finish(self) -> tuple[Table, list[tuple[int, int]]]:
        """The table, and the rows with a key that was there before: pairs of numbers, counted from 0 as they were added."""
        keys = self._keys
        order = gradually_sorted(range(len(keys)), keys.__getitem__)  # equal keys stay in the order they came in
        twice = [(a, b) for a, b in pairwise(order) if keys[a] == keys[b]]
        if twice and self._last:
            replaced = {earlier for earlier, _ in twice}
            order = [number for number in order if number not in replaced]
        ends = np.array(self._ends, np.uint64)
        starts = np.concatenate((np.zeros(1, np.uint64), ends))[:-1]
        chosen = np.array(order, np.uint64)
        orders = {name: _order(found, chosen) for name, found in self._found.items()}
        return Table(self._rows, starts[chosen], ends[chosen], self._key_names, orders), twice


def gradually_sorted(items: Sequence[_Item], key: Callable[[_Item], str]) -> list[_Item]:
    """`sorted`, stable as it is, without keeping other threads out for seconds: it is one step of the interpreter."""
    runs = [sorted(items[begin : begin + _RUN], key=key) for begin in range(0, len(items), _RUN)]
    return list(heapq.merge(*runs, key=key)) if len(runs) > 1 else [item for run in runs for item in run]


def _order(found: list[str | None], chosen: Offsets) -> Positions:
    """Positions of the rows that have a value, sorted by it, and by position where it is the same."""
    distinct = gradually_sorted(list({value for value in found if value is not None}), _itself)
    rank_of: dict[str | None, int] = {value: rank for rank, value in enumerate(distinct)}
    ranks = np.fromiter((rank_of.get(value, -1) for value in found), np.int32, len(found))[chosen]
    order = np.argsort(ranks, kind="stable")
    return order[ranks[order] >= 0].astype(np.uint32)


def _itself(text: str) -> str:
    return text
