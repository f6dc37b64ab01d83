"""An OpenAPI document as it was read, and places in it. Pure.

A place is what a JSON pointer (RFC 6901) names: the keys and numbers that lead to it from the top.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from exchange import UnprocessableError

Format = Literal["json", "yaml"]
Place = tuple[str | int, ...]

MEDIA_TYPES: Mapping[Format, str] = {"json": "application/json", "yaml": "application/yaml"}  # RFC 9512 for the latter
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


@dataclass(frozen=True, slots=True)
class Document:
    """A document that `registry.descriptions.reading` took in: its text, and the same as plain JSON values."""

    text: str
    format: Format
    tree: dict[str, Any]

    @property
    def version(self) -> str:
        """As it states it: `3.0.3`, `3.1.1`."""
        return str(self.tree["openapi"])

    @property
    def is_3_0(self) -> bool:
        return self.version.startswith("3.0")

    @property
    def sha256(self) -> str:
        return sha256_of(self.text)


def sha256_of(text: str) -> str:
    """Digest of a document's bytes, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def pointer(place: Place) -> str:
    """The JSON pointer to a place; empty for the whole document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def place_of(reference: str) -> Place:
    """Where a reference inside the document (`#/components/…`) leads, not yet looked at."""
    parts = unquote(reference[1:]).split("/")[1:]
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def step(value: Any, part: str | int) -> Any:
    """What stands below a value; raises LookupError if nothing does."""
    if isinstance(value, list):
        text = str(part)
        if not (text.isdecimal() and text.isascii() and len(text) < 10):
            raise LookupError(part)
        return value[int(text)]
    if isinstance(value, dict):
        return value[part]
    raise LookupError(part)


def at(tree: Any, place: Place) -> Any:
    """What stands at a place; raises LookupError if nothing does."""
    for part in place:
        tree = step(tree, part)
    return tree


def below(value: Any) -> Iterator[tuple[str | int, Any]]:
    """What stands directly below a value, with the parts that lead to it."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def refusal(rule: str, place: Place, problem: str, problem_zh: str) -> UnprocessableError:
    """What is wrong with a document, and where."""
    where = pointer(place)
    before, before_zh = (f"At {_short(where)}: ", f"{_short(where)}：") if where else ("", "")
    return UnprocessableError(rule, problem=before + problem, problem_zh=before_zh + problem_zh, pointer=where)


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"
