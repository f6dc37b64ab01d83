"""Resource codes by pluggable schemes. Pure.

Rules:
1. A code that no scheme of the mesh knows is foreign, and refused: nobody could tell who gave it out.
2. The national scheme (2017 guide) is classification "/" sequence: 类 one digit (1 base, 2 theme, 3 department), 项 two, 目 three,
   细目 any number, then the sequence its owner gives out: `306001/000012`.
3. Provinces have schemes of their own. One is a regular expression; what its group `classification` matches, if it has one,
   must be the digits of the resource's classification.
4. A segment of a code that stands for something else in addresses (`versions`, `publish`, ...) is refused in every scheme.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

LONGEST_CODE: Final = 128
RESERVED_SEGMENTS: Final = frozenset({"draft", "export", "import", "publish", "template", "versions", "withdraw"})
_SHAPE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?")
_NATIONAL: Final = re.compile(r"(?P<classification>[123][0-9]{2}[0-9]{3}[0-9]{0,12})/[0-9]{1,20}")


class CodeScheme(Protocol):
    """A way to give codes to resources."""

    @property
    def name(self) -> str:
        """What it is called, in messages."""

    def classification(self, code: str) -> str | None:
        """The digits of the classification that `code` begins with, empty if its codes do not tell; None for a foreign code."""


@dataclass(frozen=True, slots=True)
class NationalScheme:
    """The scheme of the 2017 compilation guide."""

    name: str = "national-2017"

    def classification(self, code: str) -> str | None:
        found = _NATIONAL.fullmatch(code)
        return found["classification"] if found else None


@dataclass(frozen=True, slots=True)
class PatternScheme:
    """A scheme that a regular expression describes; the whole code must match it."""

    pattern: re.Pattern[str]
    name: str = "configured"

    @classmethod
    def of(cls, expression: str, name: str = "configured") -> PatternScheme:
        """Raises ValueError: not a regular expression."""
        try:
            return cls(re.compile(expression, re.ASCII), name)
        except re.error as error:
            raise ValueError(f"{expression!r} is not a regular expression: {error}") from error

    def classification(self, code: str) -> str | None:
        found = self.pattern.fullmatch(code)
        if found is None:
            return None
        return (found["classification"] or "") if "classification" in self.pattern.groupindex else ""


NATIONAL: Final[tuple[CodeScheme, ...]] = (NationalScheme(),)


def code_schemes(expression: str = "") -> tuple[CodeScheme, ...]:
    """The schemes of a mesh: the national one, and the one in its configuration; raises ValueError for a bad expression."""
    return (*NATIONAL, PatternScheme.of(expression)) if expression else NATIONAL


def is_addressable(code: str) -> bool:
    """Whether a code can stand in an address: short, of plain characters, no segment empty, dots or reserved."""
    segments = code.split("/")
    return (
        len(code) <= LONGEST_CODE
        and _SHAPE.fullmatch(code) is not None
        and not any(segment in ("", ".", "..") or segment in RESERVED_SEGMENTS for segment in segments)
    )


def classification_in(code: str, schemes: Iterable[CodeScheme]) -> str | None:
    """What the first scheme that knows `code` says of its classification; None if none knows it."""
    if not is_addressable(code):
        return None
    return next((found for scheme in schemes if (found := scheme.classification(code)) is not None), None)


def names_of(schemes: Sequence[CodeScheme]) -> str:
    """The schemes, for a message."""
    return ", ".join(scheme.name for scheme in schemes)
