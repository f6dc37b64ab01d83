"""Rows of a database as JSON, as many as an answer may hold.

Rules:
1. Each row is written as it comes, so that what an answer may hold is all that is held; one row is held whole in any case.
2. Dates, times and moments are text as ISO 8601 has it, bytes are base64, decimals are text and keep their digits, NULL is null.
   What JSON has no form for (an address, a range) is told as text, NaN and the infinities as null.
3. That rows were left out is never kept quiet: `more` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from department_adapters.source import UnusableAnswerError
from exchange import PayloadTooLargeError

encode = msgspec.json.Encoder(decimal_format="string", enc_hook=str).encode
_decode = msgspec.json.Decoder().decode


class Rows:
    """What an answer holds so far: a `Sink`."""

    def __init__(
        self,
        *,
        max_rows: int,
        max_bytes: int,
        look_beyond: bool = True,
        booleans: Sequence[str] = (),
        json: Sequence[str] = (),
    ) -> None:
        """
        Args:
            max_rows: Most that the answer holds.
            look_beyond: Whether one more is asked for, to know whether there are more.
            max_bytes: Of all rows as JSON.
            booleans, json: Columns, as in `SqlOperation`.
        """
        self._max_rows = max_rows
        self._wanted = max_rows + 1 if look_beyond else max_rows
        self._max_bytes = max_bytes
        self._declared: dict[str, Callable[[Any], object]] = {
            **dict.fromkeys(booleans, _boolean),
            **dict.fromkeys(json, _json),
        }
        self._names: Sequence[str] = ()
        self._changed: list[tuple[str, Callable[[Any], object]]] = []
        self._size = 0
        self.items: list[bytes] = []
        """Each row as JSON."""
        self.more = False
        """Whether rows were left out."""

    def begin(self, names: Sequence[str]) -> None:
        """Raises UnusableAnswerError if a column that is declared is not there."""
        if unknown := set(self._declared) - set(names):
            raise UnusableAnswerError from ValueError(
                f"booleans or json names {min(unknown)!r}, which the query does not tell"
            )
        self._names = names
        self._changed = list(self._declared.items())
        self._size = 0
        self.items = []
        self.more = False

    @property
    def wanted(self) -> int:
        """The most rows that may still be taken."""
        return 0 if self.more else self._wanted - len(self.items)

    def take(self, rows: Sequence[Sequence[Any]]) -> None:
        """Raises PayloadTooLargeError if not even one row fits, and UnusableAnswerError if a value is not what is declared."""
        for row in rows:
            if len(self.items) == self._max_rows:
                self.more = True
                return
            item = self._item(row)
            self._size += len(item) + 1
            if self._size > self._max_bytes:
                if not self.items:
                    raise PayloadTooLargeError(limit=self._max_bytes)
                self.more = True
                return
            self.items.append(item)

    def _item(self, row: Sequence[Any]) -> bytes:
        value = dict(zip(self._names, row, strict=True))
        for name, change in self._changed:
            if value[name] is not None:
                try:
                    value[name] = change(value[name])
                except (ValueError, msgspec.DecodeError) as error:
                    raise UnusableAnswerError from ValueError(
                        f"the column {name!r} holds what it is not declared to: {error}"
                    )
        return encode(value)


def _boolean(value: object) -> bool:
    if value in (0, 1):
        return value == 1
    raise ValueError("neither 0 nor 1")


def _json(value: object) -> object:
    """As it is written, so that numbers keep their digits."""
    if not isinstance(value, str):
        return value  # the database has told so itself
    raw = value.encode()
    _decode(raw)
    return msgspec.Raw(raw)
