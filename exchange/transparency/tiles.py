"""The tree of a log that does not fit in memory: C2SP hash tiles, 256 wide, and proofs from them.

Rules:
1. A tile of level k, number n holds the hashes of 256 complete subtrees of 256**k leaves each, from number 256 * n on
   (c2sp.org/tlog-tiles). Only complete tiles are stored; they never change.
2. The unfinished tile of each level, at most 255 hashes, is the edge. Who appends holds it in memory, which so does not
   grow with the log; a reader puts it together from leaf hashes and roots of tiles.
3. `Edge` is never changed: a failed transaction leaves the writer with the edge it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from exchange.transparency.merkle import EMPTY_ROOT, HASH_SIZE, ProofError, parents, root_of

HEIGHT = 8
WIDTH = 1 << HEIGHT

_sha256 = hashlib.sha256


class Tile(NamedTuple):
    """A complete tile: `hashes` are WIDTH hashes one after the other, `root` is the hash over them."""

    level: int
    number: int
    root: bytes
    hashes: bytes


class Wanted(NamedTuple):
    """Names the first `width` hashes of a tile: all WIDTH of them if the tile is complete in the tree asked about."""

    level: int
    number: int
    width: int


class TileReader(Protocol):
    """Where proofs get their hashes from."""

    async def tiles(self, wanted: Sequence[Wanted]) -> Sequence[bytes]:
        """The hashes of each tile asked for, at least `width` of them, as one string of bytes.

        All lie inside the tree as it is stored. A tile that may be unfinished is put together from what lies below it.
        """


def edge_widths(size: int) -> list[int]:
    """Number of hashes in the unfinished tile of each level of a tree with `size` leaves."""
    widths = [size % WIDTH]
    while size := size >> HEIGHT:
        widths.append(size % WIDTH)
    return widths


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of a tree: all that is needed to append to it and to know its root."""

    size: int
    levels: tuple[list[bytes], ...]
    """The unfinished tile of each level."""
    stack: list[bytes]
    """Roots of the complete subtrees the tree consists of, one for each bit set in `size`, the largest first."""

    @classmethod
    def empty(cls) -> Edge:
        return cls(0, ([],), [])

    @classmethod
    def from_levels(cls, size: int, levels: Sequence[list[bytes]]) -> Edge:
        """The edge of a stored tree; raises ProofError if the levels have not the width that `size` asks for."""
        if [len(level) for level in levels] != edge_widths(size):
            raise ProofError("the edge of the tree is incomplete")
        stack: list[bytes] = []
        for level in reversed(levels):
            rest = level
            while rest:
                count = 1 << (len(rest).bit_length() - 1)
                stack.append(root_of(rest[:count]))
                rest = rest[count:]
        return cls(size, tuple(levels), stack)

    @property
    def root(self) -> bytes:
        """Root of the tree."""
        return _fold(self.stack)

    def extended(self, leaf_hashes: Iterable[bytes]) -> tuple[Edge, list[Tile]]:
        """The edge after more leaves, and the tiles that they completed."""
        size, stack, levels = self.size, self.stack.copy(), list(self.levels)
        tiles: list[Tile] = []
        levels[0] = levels[0].copy()  # the others only when a tile below them is complete
        for node in leaf_hashes:
            levels[0].append(node)
            height, carry = 0, size
            size += 1
            while carry & 1:
                node = _sha256(b"\1" + stack.pop() + node).digest()
                carry >>= 1
                height += 1
                if not height % HEIGHT:
                    level = height // HEIGHT
                    tiles.append(Tile(level - 1, (size - 1) >> height, node, b"".join(levels[level - 1])))
                    levels[level - 1] = []
                    if level == len(levels):
                        levels.append([])
                    levels[level] = [*levels[level], node]
            stack.append(node)
        return Edge(size, tuple(levels), stack), tiles


async def tree_root(reader: TileReader, size: int) -> bytes:
    """Root of the tree of the first `size` leaves."""
    if not size:
        return EMPTY_ROOT
    return (await _roots(reader, size, [(0, size)]))[0]


async def inclusion_proof(reader: TileReader, index: int, size: int) -> list[bytes]:
    """Inclusion proof of the leaf at `index` in the tree of the first `size` leaves; raises ProofError outside it."""
    if not 0 <= index < size:
        raise ProofError("the index lies outside the tree")
    ranges = []
    low, high = 0, size
    while high - low > 1:
        middle = _split(low, high)
        if index < middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    return await _roots(reader, size, ranges[::-1])


async def consistency_proof(reader: TileReader, old_size: int, new_size: int) -> list[bytes]:
    """Proof that the tree of `new_size` leaves begins with that of `old_size`; raises ProofError if it cannot."""
    if not 0 < old_size <= new_size:
        raise ProofError("the sizes do not describe a growing tree")
    ranges = []
    low, high = 0, new_size
    while high != old_size:
        middle = _split(low, high)
        if old_size <= middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    if low:
        ranges.append((low, high))
    return await _roots(reader, new_size, ranges[::-1])


def _split(low: int, high: int) -> int:
    return low + (1 << ((high - low - 1).bit_length() - 1))


def _fold(subtrees: Sequence[bytes]) -> bytes:
    """Root over complete subtrees of falling size."""
    if not subtrees:
        return EMPTY_ROOT
    node = subtrees[-1]
    for left in subtrees[-2::-1]:
        node = _sha256(b"\1" + left + node).digest()
    return node


def _subtrees(low: int, high: int) -> Iterator[tuple[Wanted, int, int]]:
    """The complete subtrees over leaves [low, high): where in which tile, first and count."""
    while low < high:
        height = (high - low).bit_length() - 1
        level, inner = divmod(height, HEIGHT)
        first = low >> (level * HEIGHT)
        offset = first % WIDTH
        yield Wanted(level, first // WIDTH, offset + (1 << inner)), offset, 1 << inner
        low += 1 << height


async def _roots(reader: TileReader, size: int, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Roots over ranges of leaves as RFC 9162 splits them, reading every tile once."""
    parts = [list(_subtrees(low, high)) for low, high in ranges]
    widths: dict[tuple[int, int], int] = {}
    for part in parts:
        for (level, number, width), _, _ in part:
            widths[level, number] = max(width, widths.get((level, number), 0))
    wanted = [
        Wanted(level, number, WIDTH if (number + 1) << HEIGHT <= size >> (HEIGHT * level) else width)
        for (level, number), width in widths.items()
    ]
    found = dict(zip(widths, await reader.tiles(wanted), strict=True)) if wanted else {}
    return [
        _fold([_root(found[tile.level, tile.number], first, count) for tile, first, count in part]) for part in parts
    ]


def _root(tile: bytes, first: int, count: int) -> bytes:
    nodes = [tile[at : at + HASH_SIZE] for at in range(first * HASH_SIZE, (first + count) * HASH_SIZE, HASH_SIZE)]
    if len(nodes) != count or len(nodes[-1]) != HASH_SIZE:
        raise ProofError("a stored tile is too short")
    while len(nodes) > 1:
        nodes = parents(nodes)
    return nodes[0]
