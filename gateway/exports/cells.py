"""Texts that a spreadsheet program would take for a formula. Pure."""

from __future__ import annotations

import unicodedata
from typing import Final

_FORMULA: Final = frozenset("=+-@")
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
"""Controls, marks without width, spaces: programs pass over them before they look for a formula."""


def is_formula_like(text: str) -> bool:
    """Whether a program may read the text as a formula, or as a cell of its own: by what it begins with.

    `=`, `+`, `-` and `@` count, also in their full-width and small forms and behind spaces or what cannot be seen; so does a
    tabulator or a line break at the beginning.
    """
    first = text[:1]
    if first.isascii() and (first.isalnum() or not first):
        return False  # nearly all
    if first in "\t\r\n":
        return True
    for character in text:
        if unicodedata.category(character) not in _INVISIBLE:
            return unicodedata.normalize("NFKC", character)[:1] in _FORMULA
    return False
