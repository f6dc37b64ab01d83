"""The Merkle tree of RFC 9162 section 2.1 with SHA-256: leaf and node hashes, roots, inclusion and consistency proofs.

Rules:
1. A leaf is hashed with the prefix 0x00, a node with 0x01: a node's bytes never pass for a leaf.
2. A node without a right sibling moves up unchanged. Built from below this is the tree the RFC defines from above.
3. Verifiers take nothing on trust: sizes, positions, the number of hashes in a proof and their length are all checked.
   Nothing is consistent with an empty tree here: every caller that holds an old root holds one of at least one leaf.

Everything here works on hashes in memory; `exchange.transparency.tiles` proves in trees that do not fit there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

HASH_SIZE = 32

_sha256 = hashlib.sha256
EMPTY_ROOT = _sha256().digest()
"""Root of the tree without leaves."""


class ProofError(ValueError):
    """The proof does not prove what it is said to prove."""


def hash_leaf(data: bytes) -> bytes:
    """Hash of a leaf that holds `data`."""
    return _sha256(b"\0" + data).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Hash of the node over two nodes."""
    return _sha256(b"\1" + left + right).digest()


def parents(nodes: Sequence[bytes]) -> list[bytes]:
    """The next level up: hashes of pairs, and the last node itself if it has no sibling."""
    above = [_sha256(b"\1" + left + right).digest() for left, right in zip(nodes[::2], nodes[1::2], strict=False)]
    if len(nodes) & 1:
        above.append(nodes[-1])
    return above


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """Root of the tree over `leaf_hashes`."""
    if not leaf_hashes:
        return EMPTY_ROOT
    nodes = leaf_hashes
    while len(nodes) > 1:
        nodes = parents(nodes)
    return nodes[0]


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Sibling hashes from the leaf at `index` upwards; raises ProofError if there is no such leaf."""
    if not 0 <= index < len(leaf_hashes):
        raise ProofError("the index lies outside the tree")
    proof: list[bytes] = []
    nodes = leaf_hashes
    while len(nodes) > 1:
        sibling = index ^ 1
        if sibling < len(nodes):
            proof.append(nodes[sibling])
        nodes, index = parents(nodes), index >> 1
    return proof


def inclusion_proofs(leaf_hashes: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """Root of a small tree, and for each leaf the concatenated hashes of its inclusion proof.

    Costs one hash per node in all, where `inclusion_proof` costs as much for each leaf.
    """
    size = len(leaf_hashes)
    proofs = [b""] * size
    nodes, level = leaf_hashes, 0
    while len(nodes) > 1:
        count = len(nodes)
        for index in range(size):
            sibling = (index >> level) ^ 1
            if sibling < count:
                proofs[index] += nodes[sibling]
        nodes, level = parents(nodes), level + 1
    return root_of(nodes), proofs


def root_from_inclusion_proof(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Return the root hash that `proof` leads to (RFC 9162 section 2.1.3.2). The caller compares it with one it trusts.

    Args:
        leaf_hash: 32 bytes, from `hash_leaf`.
        index: Zero-based position of the entry, 0 <= index < size.
        size: Number of entries in the tree the proof was made for.
        proof: Sibling hashes from the leaf upwards, 32 bytes each.

    Raises:
        ProofError: The index lies outside the tree, or the proof has the wrong length.
    """
    if not 0 <= index < size:
        raise ProofError("the index lies outside the tree")
    if len(leaf_hash) != HASH_SIZE:
        raise ProofError("the leaf hash has the wrong length")
    node, last = leaf_hash, size - 1
    for sibling in proof:
        if not last:
            raise ProofError("the proof is too long")
        if len(sibling) != HASH_SIZE:
            raise ProofError("a hash in the proof has the wrong length")
        if index & 1:
            node = _sha256(b"\1" + sibling + node).digest()
        elif index < last:
            node = _sha256(b"\1" + node + sibling).digest()
        else:
            node = _sha256(b"\1" + sibling + node).digest()
            # The node moved up without a sibling to where it is a right child. A lone node at the root has none left.
            while index and not index & 1:
                index >>= 1
                last >>= 1
        index >>= 1
        last >>= 1
    if last:
        raise ProofError("the proof is too short")
    return node


def check_inclusion(leaf_hash: bytes, index: int, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Return if `proof` shows the leaf at `index` of the tree with this size and root; raises ProofError otherwise."""
    if root_from_inclusion_proof(leaf_hash, index, size, proof) != root:
        raise ProofError("the proof leads to another root")


def check_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Return if `proof` shows that the new tree begins with the whole old one (RFC 9162 section 2.1.4.2).

    Args:
        old_size: Leaves of the old tree, at least 1.
        old_root: Its root.
        new_size: Leaves of the new tree, at least `old_size`.
        new_root: Its root.
        proof: Hashes of 32 bytes; empty if the sizes are equal.

    Raises:
        ProofError: The new tree is not shown to be an extension of the old one.
    """
    if not 0 < old_size <= new_size:
        raise ProofError("the sizes do not describe a growing tree")
    if any(len(node) != HASH_SIZE for node in (old_root, new_root, *proof)):
        raise ProofError("a hash has the wrong length")
    if old_size == new_size:
        if proof or old_root != new_root:
            raise ProofError("two trees of one size are the same tree or not consistent")
        return
    rest = list(proof)
    if old_size & (old_size - 1) == 0:
        rest.insert(0, old_root)
    if not rest:
        raise ProofError("the proof is too short")
    index, last = old_size - 1, new_size - 1
    while index & 1:
        index >>= 1
        last >>= 1
    old = new = rest[0]
    for sibling in rest[1:]:
        if not last:
            raise ProofError("the proof is too long")
        if index & 1 or index == last:
            old = _sha256(b"\1" + sibling + old).digest()
            new = _sha256(b"\1" + sibling + new).digest()
            while index and not index & 1:
                index >>= 1
                last >>= 1
        else:
            new = _sha256(b"\1" + new + sibling).digest()
        index >>= 1
        last >>= 1
    if last:
        raise ProofError("the proof is too short")
    if old != old_root:
        raise ProofError("the proof leads to another old root")
    if new != new_root:
        raise ProofError("the proof leads to another new root")
