"""Tiles against the whole tree in memory: same root, same proofs, whatever the size."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.transparency.merkle import (
    ProofError,
    check_consistency,
    check_inclusion,
    hash_leaf,
    inclusion_proof,
    root_of,
)
from exchange.transparency.tiles import WIDTH, Edge, Tile, Wanted, consistency_proof, edge_widths, tree_root
from exchange.transparency.tiles import inclusion_proof as inclusion_proof_from_tiles

LEAVES = [hash_leaf(b"%d" % number) for number in range(70_000)]


class Stored:
    """A tree kept as the database keeps it: leaf hashes and complete tiles."""

    def __init__(self, leaf_hashes: Sequence[bytes], step: int) -> None:
        self.leaf_hashes = leaf_hashes
        self.edge = Edge.empty()
        self.complete: dict[tuple[int, int], Tile] = {}
        self.read = 0
        for start in range(0, len(leaf_hashes), step):
            self.edge, tiles = self.edge.extended(leaf_hashes[start : start + step])
            self.complete |= {(tile.level, tile.number): tile for tile in tiles}

    async def tiles(self, wanted: Sequence[Wanted]) -> list[bytes]:
        self.read += len(wanted)
        return [self.tile(*tile) for tile in wanted]

    def tile(self, level: int, index: int, width: int) -> bytes:
        if tile := self.complete.get((level, index)):
            return tile.hashes
        first = index * WIDTH
        if not level:
            return b"".join(self.leaf_hashes[first : first + width])
        return b"".join(self.complete[level - 1, number].root for number in range(first, first + width))


@pytest.fixture(scope="module")
def large() -> Stored:
    return Stored(LEAVES, 1000)


@given(size=st.integers(0, 1500), step=st.integers(1, 700))
def test_an_edge_has_the_root_of_the_whole_tree_however_it_was_appended(size: int, step: int) -> None:
    stored = Stored(LEAVES[:size], step)
    assert stored.edge.size == size
    assert stored.edge.root == root_of(LEAVES[:size])
    assert [len(level) for level in stored.edge.levels] == edge_widths(size)
    assert Edge.from_levels(size, stored.edge.levels) == stored.edge


def test_extending_an_edge_leaves_the_old_one_as_it_was() -> None:
    edge, _ = Edge.empty().extended(LEAVES[:300])
    root = edge.root
    edge.extended(LEAVES[300:900])
    assert (edge.size, edge.root) == (300, root)


def test_tiles_are_those_of_the_specification(large: Stored) -> None:
    """The worked example of c2sp.org/tlog-tiles: 70,000 leaves."""
    assert sum(level == 0 for level, _ in large.complete) == 273
    assert sum(level == 1 for level, _ in large.complete) == 1
    assert [len(level) for level in large.edge.levels] == [112, 17, 1]
    assert large.complete[0, 5].hashes == b"".join(LEAVES[5 * 256 : 6 * 256])
    assert large.complete[1, 0].hashes[32 * 5 : 32 * 6] == root_of(LEAVES[5 * 256 : 6 * 256])
    assert large.complete[1, 0].root == root_of(LEAVES[: 256 * 256])


@given(data=st.data())
async def test_proofs_from_tiles_verify_for_any_size(large: Stored, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(LEAVES)) | st.sampled_from([255, 256, 257, 65535, 65536, 65537]))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    root = await tree_root(large, size)
    check_inclusion(LEAVES[index], index, size, root, await inclusion_proof_from_tiles(large, index, size))
    check_consistency(old, await tree_root(large, old), size, root, await consistency_proof(large, old, size))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 513, 1000])
async def test_proofs_from_tiles_are_the_proofs_of_the_whole_tree(large: Stored, size: int) -> None:
    assert await tree_root(large, size) == root_of(LEAVES[:size])
    for index in {0, size // 2, size - 1}:
        assert await inclusion_proof_from_tiles(large, index, size) == inclusion_proof(LEAVES[:size], index)


async def test_a_proof_reads_two_tiles_of_a_level_at_most(large: Stored) -> None:
    large.read = 0
    await inclusion_proof_from_tiles(large, 12345, len(LEAVES))
    assert large.read <= 6


async def test_proofs_outside_the_tree_are_refused(large: Stored) -> None:
    with pytest.raises(ProofError):
        await inclusion_proof_from_tiles(large, 5, 5)
    with pytest.raises(ProofError):
        await consistency_proof(large, 0, 5)
    with pytest.raises(ProofError):
        await consistency_proof(large, 6, 5)
    with pytest.raises(ProofError):
        Edge.from_levels(3, [[LEAVES[0]]])
