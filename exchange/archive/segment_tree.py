"""The tree as far as a segment knows it: hashes for proofs, and that all of it leads to the covering checkpoint."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from exchange.archive.manifest import ArchiveError
from exchange.archive.segment import Segment
from exchange.transparency.merkle import HASH_SIZE, ProofError, root_of
from exchange.transparency.tile_paths import TileName
from exchange.transparency.tiles import HEIGHT, WIDTH, Edge, Wanted, edge_widths

_T = TypeVar("_T")
_TILES_IN_MEMORY = 256


class SegmentTiles:
    """A `TileReader` over a segment: for trees whose size lies in the segment or is that of a covering checkpoint."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._names = {(name.level, name.number): name for name in segment.manifest.tiles}
        self.hashes = lru_cache(_TILES_IN_MEMORY)(self._hashes)

    async def tiles(self, wanted: Sequence[Wanted]) -> list[bytes]:
        return [self.hashes(tile.level, tile.number) for tile in wanted]

    def edge(self, size: int) -> Edge:
        """The edge of the tree of the first `size` entries; raises ArchiveError if the segment does not reach there."""
        levels = []
        for level, width in enumerate(edge_widths(size)):
            hashes = self.hashes(level, size >> HEIGHT * (level + 1)) if width else b""
            levels.append(_split(hashes[: width * HASH_SIZE]))
        try:
            return Edge.from_levels(size, levels)
        except ProofError as error:
            raise ArchiveError(f"hashes of the tree of {size} entries are missing", "缺少哈希树数据") from error

    def check_links(self) -> None:
        """Return if the root of every complete tile stands in the tile above it; raises ArchiveError."""
        size = self._segment.manifest.covers[-1]
        for name in self._segment.manifest.tiles:
            hashes = self.hashes(name.level or 0, name.number)
            if name.width == WIDTH:
                above, slot = divmod(name.number, WIDTH)
                expected = self.hashes((name.level or 0) + 1, above)[slot * HASH_SIZE : (slot + 1) * HASH_SIZE]
                if root_of(_split(hashes)) != expected:
                    raise ArchiveError(
                        f"{name.path} does not lead to the checkpoint of {size} entries",
                        f"{name.path} 与 {size} 条记录的检查点不符",
                    )

    def _hashes(self, level: int, number: int) -> bytes:
        name = self._names.get((level, number))
        if name is None:
            raise ProofError(f"the segment holds no tile {TileName(level, number).path}")
        hashes = self._segment.read(name.path)
        if len(hashes) != name.width * HASH_SIZE:
            raise ArchiveError(f"{name.path} has not the length of its hashes", f"{name.path} 长度不符")
        return hashes


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)]


def at_once(proof: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that waits for nothing, as those over `SegmentTiles` do."""
    try:
        proof.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    proof.close()
    raise RuntimeError("it waited for something")
