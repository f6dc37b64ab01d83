"""Tiles and entry bundles as files: their paths and their bytes (c2sp.org/tlog-tiles), for servers, archives and mirrors.

Rules:
1. One file has one path: numbers without leading zeros, indexes in groups of three digits, all but the last behind an `x`.
   Whatever is written otherwise is no path.
2. A file never changes, and is never empty. A tile of which a tree holds the first hashes only has the path of that width.
3. A bundle is its entries in order, each behind its length in two bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from exchange.transparency.merkle import HASH_SIZE, ProofError
from exchange.transparency.tiles import HEIGHT, WIDTH, TileReader, Wanted

HIGHEST_LEVEL = 63
LONGEST_ENTRY = (1 << 16) - 1
"""Bytes of an entry in a bundle."""

_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<number>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)
_GROUPS = 6
"""Of three digits: what an index has at most."""


class TilePathError(ValueError):
    """It is not the path of a tile or of an entry bundle."""


class BundleError(ValueError):
    """The entries have no bundle, or the bytes are not one."""


class TileName(NamedTuple):
    """Names a tile, or a bundle of entries, by the part of it that is meant."""

    level: int | None
    """None for a bundle, which lies as the tiles of level 0 do."""
    number: int
    width: int = WIDTH
    """Of its hashes or entries, the first so many."""

    @classmethod
    def from_path(cls, path: str) -> TileName:
        """Parse `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`; raises TilePathError."""
        found = _PATH.fullmatch(path)
        if found is None:
            raise TilePathError(f"not the path of a tile: {path[:100]!r}")
        groups = found["number"].replace("x", "").split("/")
        level = None if found["level"] == "entries" else int(found["level"])
        width = int(found["width"] or WIDTH)
        name = cls(level, int("".join(groups)), width)
        # A leading group of zeros would name the tile a second time; so would a partial tile of full width.
        again = len(groups) > 1 and groups[0] == "000"
        if again or len(groups) > _GROUPS or (level or 0) > HIGHEST_LEVEL or (found["width"] and width >= WIDTH):
            raise TilePathError(f"not the path of a tile: {path[:100]!r}")
        return name

    @property
    def path(self) -> str:
        """The path, without a slash before it."""
        above, last = divmod(self.number, 1000)
        groups = [f"{last:03d}"]
        while above:
            above, group = divmod(above, 1000)
            groups.insert(0, f"x{group:03d}")
        kind = "entries" if self.level is None else str(self.level)
        part = "" if self.width == WIDTH else f".p/{self.width}"
        return "/".join(["tile", kind, *groups]) + part

    @property
    def first(self) -> int:
        """Number, within its level, of its first hash or entry."""
        return self.number << HEIGHT

    def is_in(self, size: int) -> bool:
        """Whether the tree of the first `size` entries holds all of it."""
        return self.first + self.width <= size >> HEIGHT * (self.level or 0)


async def read_tile(reader: TileReader, name: TileName, size: int) -> bytes:
    """The hashes of a tile, one after the other.

    Args:
        reader: Reads a log of at least `size` entries.
        size: Of a tree that holds the tile (`TileName.is_in`).

    Raises:
        ProofError: The stored log lacks a part of it.
    """
    level = name.level or 0
    # Of a complete tile the row is read, however much of it is wanted: entries below it may have been removed.
    width = WIDTH if TileName(level, name.number).is_in(size) else name.width
    (hashes,) = await reader.tiles([Wanted(level, name.number, width)])
    length = name.width * HASH_SIZE
    if len(hashes) < length:
        raise ProofError("a stored tile is too short")
    return hashes[:length]


def pack_bundle(entries: Iterable[bytes]) -> bytes:
    """The bundle of some entries; raises BundleError if one is longer than LONGEST_ENTRY."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > LONGEST_ENTRY:
            raise BundleError(f"an entry of {len(entry)} bytes has no place in a bundle")
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def unpack_bundle(data: bytes) -> list[bytes]:
    """The entries of a bundle; raises BundleError."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise BundleError("the bundle ends inside an entry")
        entries.append(data[at + 2 : end])
        at = end
    return entries
