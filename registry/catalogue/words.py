"""Texts as they are searched: what a resource is found by, and what somebody looks for. Pure.

Rules:
1. Both sides are normalised alike: NFKC (so that full-width letters are letters), case folded, white space made one space.
2. Chinese has no spaces between words, so a word is found wherever its characters stand together, be it one character.
3. Where nothing holds every word, what shares two-character pieces with them in its own name or an item's comes close.
4. Each name stands on a line of its own, so that a whole name can be told from a part of one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from registry.catalogue.resource import Resource

MOST_WORDS: Final = 10
MOST_PIECES: Final = 8
_NOT_STORED: Final = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Texts:
    """What a resource is found by, each name on a line of its own."""

    names: str
    item_names: str
    themes: str
    rest: str


def normal(text: str) -> str:
    """As both sides are compared."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_NOT_STORED.sub(" ", folded).split())


def texts_of(resource: Resource) -> Texts:
    """What a resource is found by; its department's names are looked up when somebody searches, for they may change."""
    steps = resource.classification
    return Texts(
        names=_lines([resource.name, resource.name_en]),
        item_names=_lines(text for item in resource.items for text in (item.name, item.name_en, item.path)),
        themes=_lines([*resource.themes, *resource.keywords]),
        rest=_lines(
            [
                resource.code,
                resource.abstract,
                resource.abstract_en,
                *(term.name for term in (steps.category, steps.subcategory, steps.entry, steps.detail)),
            ]
        ),
    )


def words_of(text: str) -> tuple[str, ...]:
    """The different words somebody looks for, in their order."""
    return tuple(dict.fromkeys(normal(text).split()))


def pieces_of(words: Iterable[str]) -> tuple[str, ...]:
    """The different two-character pieces of words, as many as are compared."""
    pieces = (word[at : at + 2] for word in words for at in range(len(word) - 1))
    return tuple(dict.fromkeys(pieces))[:MOST_PIECES]


def _lines(texts: Iterable[str]) -> str:
    found = dict.fromkeys(normal(text) for text in texts)
    return "\n" + "".join(f"{text}\n" for text in found if text)
