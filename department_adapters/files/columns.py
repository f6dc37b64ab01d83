"""What a cell of a file says: the pure part of the files source.

Rules:
1. A column is text unless it is declared otherwise. A number that identifies (a citizen number, a code with leading zeros)
   stays what is written; it never becomes a float.
2. A number cell of a spreadsheet holds 15 digits. One with more has been rounded before we saw it, so it is refused as text.
3. Space around a value is no part of it, and a cell with nothing in it is null.
4. A cell that is not of its column's type refuses the whole file. The message tells the rule, never the value.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

import msgspec

ColumnType = Literal["text", "integer", "number", "boolean", "date", "datetime"]
Value = str | int | float | bool | date | datetime | msgspec.Raw | None

_DIGITS_OF_A_CELL: Final = 10**15
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # what fits into 64 bits, in ASCII digits
_NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,2})?")
_DATES = (
    re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})", re.ASCII),
    re.compile(r"(\d{4})()(\d{2})(\d{2})", re.ASCII),
    re.compile(r"(\d{4})(年)(\d{1,2})月(\d{1,2})日", re.ASCII),
)
_MIDNIGHT = re.compile(r"[ T]00:00(:00(\.0+)?)?")
_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "是"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "否"), False),
}


class CellError(ValueError):
    """The cell is not of its column's type; the message says what is wrong and not what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column that leaves the department."""

    name: str
    """In answers."""
    heading: str
    """In the file."""
    type: ColumnType = "text"


def read_cell(kind: ColumnType) -> Callable[[object], Value]:
    """What turns a cell of a column of this type into its value; it raises CellError."""
    return _READERS[kind]


def index_text(value: object) -> str:
    """A value, as JSON holds it, as the text that it is found by. Not for numbers with a fraction."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def searched(kind: ColumnType, text: str) -> str | None:
    """The text by which values equal to `text` are found, None if there can be none; raises CellError."""
    value = read_cell(kind)(text)
    return None if value is None else index_text(msgspec.to_builtins(value))


def _text(cell: object) -> str | None:
    if isinstance(cell, str):
        return cell.strip() or None
    if cell is None:
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return _number_as_text(cell)
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, Decimal):
        return format(cell, "f")
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, bytes):
        return b64encode(cell).decode()
    raise CellError(f"a {type(cell).__name__} has no form as text")


def _number_as_text(cell: float) -> str:
    if not cell.is_integer():
        if cell != cell or cell in (float("inf"), float("-inf")):
            raise CellError("not a finite number")
        return repr(cell)
    if abs(cell) >= _DIGITS_OF_A_CELL:
        raise CellError("a number of more than 15 digits was rounded by the spreadsheet: make the cells text there")
    return str(int(cell))


def _integer(cell: object) -> int | None:
    text = _text(cell)
    if text is None:
        return None
    if isinstance(cell, bool) or not _INTEGER.fullmatch(text):
        raise CellError("not a whole number of at most 18 digits")
    return int(text)


def _number(cell: object) -> float | int | msgspec.Raw | None:
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        _text(cell)  # refuses what is no number
        return cell
    text = _text(cell)
    if text is None:
        return None
    if isinstance(cell, bool) or not _NUMBER.fullmatch(text):
        raise CellError("not a number")
    try:
        # The digits as they are written: a price of 1.10 does not become 1.1000000000000001.
        return msgspec.Raw(format(Decimal(text), "f").encode())
    except InvalidOperation as error:
        raise CellError("not a number") from error


def _boolean(cell: object) -> bool | None:
    text = _text(cell)
    if text is None:
        return None
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise CellError("not a truth value: true or false, yes or no, 1 or 0, 是 or 否")
    return value


def _date(cell: object) -> date | None:
    if isinstance(cell, datetime):
        if cell.time() != time():
            raise CellError("a date with a time of day: declare the column as datetime")
        return cell.date()
    if isinstance(cell, date):
        return cell
    text = _text(cell)
    if text is None:
        return None
    if (found := _MIDNIGHT.search(text)) and found.end() == len(text):
        text = text[: found.start()]
    for form in _DATES:
        if match := form.fullmatch(text):
            try:
                return date(int(match[1]), int(match[3]), int(match[4]))
            except ValueError as error:
                raise CellError("not a day of the calendar") from error
    raise CellError("not a date: YYYY-MM-DD, YYYY/M/D, YYYYMMDD or YYYY年M月D日")


def _datetime(cell: object) -> datetime | None:
    if isinstance(cell, datetime):
        return cell
    if isinstance(cell, date):
        return datetime.combine(cell, time())
    text = _text(cell)
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text.replace("/", "-"))
    except ValueError as error:
        raise CellError("not a date and time: YYYY-MM-DD HH:MM:SS") from error


_READERS: dict[ColumnType, Callable[[object], Value]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
}
