"""Texts of XML Schema's simple types as JSON values, and back; the forms are those of the SQL source.

Rules:
1. Whole numbers, floats and booleans are JSON numbers and booleans; decimals are text, so that they keep their digits.
2. Dates and times are text in ISO 8601. A date's time zone, which XML Schema allows, is left out.
3. Binary data is text in base64 (or hexadecimal, where the schema says that). A list is an array.
4. What does not have the form of its type is an error; lengths, patterns and enumerations are the contract's to check.
"""

from __future__ import annotations

import base64
import math
import re
from datetime import date

from department_adapters.soap.model import Simple

INTEGERS: dict[str, tuple[int | None, int | None]] = {
    "integer": (None, None),
    "nonPositiveInteger": (None, 0),
    "negativeInteger": (None, -1),
    "nonNegativeInteger": (0, None),
    "positiveInteger": (1, None),
    "long": (-(1 << 63), (1 << 63) - 1),
    "int": (-(1 << 31), (1 << 31) - 1),
    "short": (-(1 << 15), (1 << 15) - 1),
    "byte": (-128, 127),
    "unsignedLong": (0, (1 << 64) - 1),
    "unsignedInt": (0, (1 << 32) - 1),
    "unsignedShort": (0, (1 << 16) - 1),
    "unsignedByte": (0, 255),
}
"""Type -> least and greatest value."""
FLOATS = frozenset({"float", "double"})
_KEEPS_BLANKS = frozenset({"string", "normalizedString", "anySimpleType"})
_ZONE = r"(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d)?"
_DAY = r"(?:0[1-9]|[12]\d|3[01])"
_MONTH = r"(?:0[1-9]|1[0-2])"
_TIME = r"(?:(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?|24:00:00(?:\.0+)?)"
_IN_DAYS = r"(?:\d+Y(?:\d+M)?(?:\d+D)?|\d+M(?:\d+D)?|\d+D)"
_IN_SECONDS = r"T(?:\d+H(?:\d+M)?(?:\d+(?:\.\d+)?S)?|\d+M(?:\d+(?:\.\d+)?S)?|\d+(?:\.\d+)?S)"
FORMS: dict[str, str] = {
    "decimal": r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)",
    "date": rf"\d{{4}}-{_MONTH}-{_DAY}",
    "dateTime": rf"-?(?:[1-9]\d{{3,}}|0\d{{3}})-{_MONTH}-{_DAY}T{_TIME}{_ZONE}",
    "time": _TIME + _ZONE,
    "duration": rf"-?P(?:{_IN_DAYS}(?:{_IN_SECONDS})?|{_IN_SECONDS})",
    "gYear": rf"-?\d{{4,}}{_ZONE}",
    "gYearMonth": rf"-?\d{{4,}}-{_MONTH}{_ZONE}",
    "gMonth": rf"--{_MONTH}{_ZONE}",
    "gMonthDay": rf"--{_MONTH}-{_DAY}{_ZONE}",
    "gDay": rf"---{_DAY}{_ZONE}",
    "hexBinary": r"(?:[0-9A-Fa-f]{2})*",
}
"""Types told as text -> the form of it."""
_COMPILED = {name: re.compile(form, re.ASCII) for name, form in FORMS.items()}
_INTEGER = re.compile(r"[+-]?[0-9]{1,400}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[Ee][+-]?[0-9]+)?")
_NO_NUMBERS = {"NaN": math.nan, "INF": math.inf, "-INF": -math.inf, "+INF": math.inf}
# XML 1.0 has no place for these, in whatever form they are written.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read(kind: Simple, text: str) -> object:
    """The JSON value that a text of this type stands for; raises ValueError with what is wrong, without the text."""
    base = kind.base
    if base not in _KEEPS_BLANKS or kind.facets.get("whiteSpace") == "collapse":
        text = " ".join(text.split())
    if base in INTEGERS:
        if not _INTEGER.fullmatch(text):
            raise ValueError("is no whole number")
        return _within(base, int(text))
    if base in FLOATS:
        if text in _NO_NUMBERS:
            return "INF" if text == "+INF" else text
        if not _FLOAT.fullmatch(text):
            raise ValueError("is no number")
        number = float(text)
        return number if math.isfinite(number) else "-INF" if number < 0 else "INF"
    if base == "boolean":
        if text not in ("true", "false", "1", "0"):
            raise ValueError("is neither true nor false")
        return text in ("true", "1")
    if base == "base64Binary":
        return _base64(text)
    if base == "date" and len(text) > 10:
        text = re.sub(rf"{_ZONE}$", "", text)
    if base == "list" and kind.items is not None:
        return [read(kind.items, each) for each in text.split()]
    if base == "union":
        return _first_that_reads(kind, text)
    return _formed(base, text)


def write(kind: Simple, value: object) -> str:
    """The text of a JSON value; raises ValueError with what is wrong, without the value."""
    base = kind.base
    if base in INTEGERS:
        if type(value) is not int:
            raise ValueError("must be a whole number")
        return str(_within(base, value))
    if base in FLOATS:
        if isinstance(value, str) and value in _NO_NUMBERS:
            return value
        if type(value) not in (int, float):
            raise ValueError("must be a number")
        return repr(value)
    if base == "boolean":
        if type(value) is not bool:
            raise ValueError("must be true or false")
        return "true" if value else "false"
    if base == "list" and kind.items is not None:
        if not isinstance(value, list):
            raise ValueError("must be an array")
        texts = [write(kind.items, each) for each in value]
        if any(not text or text.split() != [text] for text in texts):
            raise ValueError("must list texts without blanks")
        return " ".join(texts)
    if base == "union":
        return _first_that_writes(kind, value)
    if not isinstance(value, str):
        raise ValueError("must be text")
    if _NOT_XML.search(value):
        raise ValueError("holds a character that XML has no place for")
    return _base64(value) if base == "base64Binary" else _formed(base, value)


def _within(base: str, number: int) -> int:
    least, greatest = INTEGERS[base]
    if (least is not None and number < least) or (greatest is not None and number > greatest):
        raise ValueError(f"is outside the range of xsd:{base}")
    return number


def _base64(text: str) -> str:
    try:
        base64.b64decode(text := re.sub(r"\s", "", text), validate=True)
    except ValueError:
        raise ValueError("is not base64") from None
    return text


def _formed(base: str, text: str) -> str:
    form = _COMPILED.get(base)
    if form is not None and not form.fullmatch(text):
        raise ValueError(f"has not the form of xsd:{base}")
    if base == "date":
        try:
            date.fromisoformat(text)
        except ValueError:
            raise ValueError("is no day of the calendar") from None
    return text


def _first_that_reads(kind: Simple, text: str) -> object:
    for member in kind.members:
        try:
            if not member.enumeration or text in member.enumeration:
                return read(member, text)
        except ValueError:
            continue
    raise ValueError("is nothing that its union knows")


def _first_that_writes(kind: Simple, value: object) -> str:
    for member in kind.members:
        try:
            text = write(member, value)
        except ValueError:
            continue
        if not member.enumeration or text in member.enumeration:
            return text
    raise ValueError("is nothing that its union knows")
