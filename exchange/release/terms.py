"""Release terms: which items of an answer a grant releases, and how they are masked. Pure.

Rules:
1. An item path is object keys joined by `.`. A key's own `.`, `=`, `*` and `\\` is escaped with `\\`; the empty key is written
   `\\e`. Arrays are transparent: the path goes on in each of their elements, also at the top.
2. A term is `path`, `path=mask`, or `*`. A path releases the whole subtree below it, `*` releases everything.
3. Whatever no term releases is withheld. Terms add up: none takes back what another releases.
4. Of the masks at or above a value the nearest one counts. A term without a mask below one with a mask lifts nothing.
5. Terms stand in a signed statement, sorted, each once, and few enough that the statement stays small.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from exchange.release.masks import MASKS, Mask

EVERYTHING = "*"
MAX_TERMS = 200
MAX_TERMS_BYTES = 6 << 10
"""UTF-8, of all terms together: a statement of 16 kB holds them and the longest of everything else."""
MAX_KEYS = 64
"""Keys in one path; no deeper JSON is looked into."""

_SPECIAL = re.compile(r"[.=*\\]")
_PART = re.compile(r"(?:\\[.=*\\]|[^.=*\\])+|\\e")
"""A key as it is written."""


class Node:
    """Where some terms lead: what holds for the item at this path, and the keys that terms name below it."""

    __slots__ = ("below", "granted", "mask", "mask_path", "path")

    def __init__(self, path: str, granted: bool, mask: Mask | None, mask_path: str) -> None:
        self.path = path
        """Empty at the top."""
        self.granted = granted
        self.mask = mask
        self.mask_path = mask_path
        """Where that mask was named."""
        self.below: dict[str, Node] = {}


@dataclass(frozen=True, slots=True)
class Terms:
    """Release terms that were read."""

    entries: tuple[str, ...]
    root: Node


def item_path(keys: Sequence[str]) -> str:
    """The path of the item that these object keys lead to."""
    return ".".join([_SPECIAL.sub(r"\\\g<0>", key) or r"\e" for key in keys])


def item_keys(path: str) -> tuple[str, ...]:
    """The object keys of an item path; raises ValueError if it is none: the message says why."""
    keys: list[str] = []
    at = -1
    while at < len(path):
        part = _PART.match(path, at + 1)
        at = part.end() if part else at + 1
        if part is None or path[at : at + 1] not in ("", "."):
            raise ValueError(
                f"the item path {path!r} cannot be read at character {at + 1}: {_why_not(path[at : at + 1])}"
            )
        keys.append("" if part[0] == r"\e" else re.sub(r"\\(.)", r"\1", part[0], flags=re.DOTALL))
    if len(keys) > MAX_KEYS:
        raise ValueError(f"the item path {path!r} has more than {MAX_KEYS} keys")
    if not path.isprintable():
        raise ValueError(f"the item path {path!r} holds characters that cannot be shown")
    return tuple(keys)


def _why_not(sign: str) -> str:
    if sign in ("", "."):
        return "there is an empty part; an empty key is written `\\e`"
    if sign == "\\":
        return "`\\` escapes only `.`, `=`, `*` and `\\`"
    return f"in a key write `\\{sign}`" if sign in "=*" else "`\\e` is a key of its own"


def release_terms(items: Sequence[str], masks: Mapping[str, str]) -> tuple[str, ...]:
    """The terms of a grant as they stand in the signed statement; empty if nothing is restricted.

    Args:
        items: Paths of the items that may be released; none: everything.
        masks: Item path -> name of a mask.

    Raises:
        ValueError: A path or mask is none, an item is masked that is not released, or there are too many.
    """
    if not items and not masks:
        return ()
    released = [item_keys(path) for path in items]
    for path in masks:
        keys = item_keys(path)
        if released and not any(keys[: len(each)] == each for each in released):
            raise ValueError(f"{path!r} has a mask, and is not among the items that are released")
    entries = {path for path in items if path not in masks}
    entries |= {f"{path}={mask}" for path, mask in masks.items()}
    if not items:
        entries.add(EVERYTHING)
    return read_terms(sorted(entries)).entries


def read_terms(entries: Sequence[str]) -> Terms:
    """Read terms as they stand in a statement; raises ValueError with what is wrong."""
    return _read(tuple(entries))


@lru_cache(1024)
def _read(entries: tuple[str, ...]) -> Terms:
    if not entries:
        raise ValueError("there are no release terms; where nothing is restricted they are left out")
    if list(entries) != sorted(set(entries)):
        raise ValueError("release terms stand sorted, and each once")
    if (
        len(entries) > MAX_TERMS
        or sum(len(each.encode("utf-8", "surrogatepass")) for each in entries) > MAX_TERMS_BYTES
    ):
        raise ValueError(f"there are more than {MAX_TERMS} release terms, or {MAX_TERMS_BYTES} bytes of them")
    named: dict[tuple[str, ...], tuple[str, Mask | None]] = {}
    for entry in entries:
        if entry == EVERYTHING:
            continue
        path, mask = _split(entry)
        keys = item_keys(path)
        if keys in named:
            raise ValueError(f"there are two release terms for {path!r}")
        named[keys] = path, mask
    root = Node("", EVERYTHING in entries, None, "")
    # Shorter paths first, so that what holds above is known when a path goes on below it.
    for keys in sorted(named, key=lambda keys: (len(keys), keys)):
        _, mask = named[keys]
        node = root
        for depth, key in enumerate(keys, 1):
            if key not in node.below:
                path = item_path(keys[:depth])
                node.below[key] = Node(path, node.granted, node.mask, node.mask_path)
            node = node.below[key]
        node.granted = True
        if mask is not None:
            node.mask, node.mask_path = mask, node.path
    return Terms(entries, root)


def _split(entry: str) -> tuple[str, Mask | None]:
    """Path and mask of a term."""
    split = re.fullmatch(r"((?:[^=\\]|\\.)*)=(.*)", entry, re.DOTALL)
    if split is None:
        return entry, None
    path, name = split.groups()
    if name not in MASKS:
        raise ValueError(f"the term {entry!r} names no mask: there are {', '.join(sorted(MASKS))}")
    return path, MASKS[name]
