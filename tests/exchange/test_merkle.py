"""The tree against published proofs, against the RFC's own recursive definition, and against every tampering."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.transparency.merkle import (
    ProofError,
    check_consistency,
    check_inclusion,
    hash_children,
    hash_leaf,
    inclusion_proof,
    inclusion_proofs,
    root_from_inclusion_proof,
    root_of,
)

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "merkle_proofs.json"


def leaves(count: int) -> list[bytes]:
    return [hash_leaf(b"%d" % number) for number in range(count)]


def root_by_definition(nodes: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162 section 2.1.1, as it is written there."""
    if not nodes:
        return hashlib.sha256().digest()
    if len(nodes) == 1:
        return nodes[0]
    split = 1 << (len(nodes) - 1).bit_length() - 1
    return hash_children(root_by_definition(nodes[:split]), root_by_definition(nodes[split:]))


def consistency_by_definition(old: int, nodes: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 9162 section 2.1.4.1, as it is written there."""
    if old == len(nodes):
        return [] if whole else [root_by_definition(nodes)]
    split = 1 << (len(nodes) - 1).bit_length() - 1
    if old <= split:
        return [*consistency_by_definition(old, nodes[:split], whole), root_by_definition(nodes[split:])]
    return [*consistency_by_definition(old - split, nodes[split:], False), root_by_definition(nodes[:split])]


def published() -> dict[str, dict[str, Any]]:
    if not VECTORS.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"published proofs are missing: {VECTORS.name}")
        pytest.skip("published proofs are not on this machine")
    loaded: dict[str, dict[str, Any]] = json.loads(VECTORS.read_text())
    return loaded


def hashes(texts: list[str] | None) -> list[bytes]:
    return [base64.b64decode(text) for text in texts or []]


def verdicts(cases: dict[str, Any], check: Any) -> dict[str, bool]:
    wrong = {}
    for name, case in cases.items():
        try:
            check(case)
            refused = False
        except ProofError:
            refused = True
        if refused != case["wantErr"]:
            wrong[name] = refused
    return wrong


def test_published_inclusion_proofs_get_their_published_verdict() -> None:
    cases = published()["inclusion"]

    def check(case: dict[str, Any]) -> None:
        leaf, root = hashes([case["leafHash"], case["root"]])
        check_inclusion(leaf, case["leafIdx"], case["treeSize"], root, hashes(case["proof"]))

    assert len(cases) == 76
    assert verdicts(cases, check) == {}


def test_published_consistency_proofs_get_their_published_verdict() -> None:
    cases = published()["consistency"]

    def check(case: dict[str, Any]) -> None:
        old, new = hashes([case["root1"], case["root2"]])
        check_consistency(case["size1"], old, case["size2"], new, hashes(case["proof"]))

    assert len(cases) == 74
    assert verdicts(cases, check) == {}


def test_the_empty_tree_has_the_root_of_the_rfc() -> None:
    assert root_of([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(1, 70))
def test_root_and_every_proof_agree_with_the_definition(size: int) -> None:
    nodes = leaves(size)
    root = root_of(nodes)
    assert root == root_by_definition(nodes)
    batch_root, batch = inclusion_proofs(nodes)
    assert batch_root == root
    for index in range(size):
        proof = inclusion_proof(nodes, index)
        assert b"".join(proof) == batch[index]
        check_inclusion(nodes[index], index, size, root, proof)
    for old in range(1, size + 1):
        check_consistency(old, root_of(nodes[:old]), size, root, consistency_by_definition(old, nodes))


@given(size=st.integers(1, 300), data=st.data())
def test_an_inclusion_proof_serves_no_other_leaf_index_or_size(size: int, data: st.DataObject) -> None:
    nodes = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(nodes, index)
    other_index = data.draw(st.integers(-2, size + 2).filter(lambda number: number != index))
    with pytest.raises(ProofError):
        check_inclusion(nodes[index], other_index, size, root_of(nodes), proof)
    with pytest.raises(ProofError):
        check_inclusion(hash_leaf(b"other"), index, size, root_of(nodes), proof)
    for broken in (proof[:-1], [*proof, nodes[0]], [nodes[0], *proof], [node[:-1] for node in proof]):
        if broken != proof:
            with pytest.raises(ProofError):
                check_inclusion(nodes[index], index, size, root_of(nodes), broken)


@given(new=st.integers(1, 200), data=st.data())
def test_a_consistency_proof_with_any_change_is_refused(new: int, data: st.DataObject) -> None:
    nodes = leaves(new)
    old = data.draw(st.integers(1, new))
    proof = consistency_by_definition(old, nodes)
    roots = root_of(nodes[:old]), root_of(nodes)
    check_consistency(old, roots[0], new, roots[1], proof)
    with pytest.raises(ProofError):
        check_consistency(old, roots[0], new, roots[1], [*proof, nodes[0]])
    with pytest.raises(ProofError):
        check_consistency(0, root_of([]), new, roots[1], proof)
    with pytest.raises(ProofError):
        check_consistency(old, hash_leaf(b"other"), new, roots[1], proof)
    with pytest.raises(ProofError):
        check_consistency(old, roots[0], new, hash_leaf(b"other"), proof)
    for position, node in enumerate(proof):
        with pytest.raises(ProofError):
            check_consistency(old, roots[0], new, roots[1], proof[:position] + proof[position + 1 :])
        changed = bytes([node[0] ^ 1]) + node[1:]
        with pytest.raises(ProofError):
            check_consistency(old, roots[0], new, roots[1], [*proof[:position], changed, *proof[position + 1 :]])


def test_a_proof_for_nothing_is_refused() -> None:
    with pytest.raises(ProofError):
        root_from_inclusion_proof(hash_leaf(b""), 0, 0, [])
    with pytest.raises(ProofError):
        inclusion_proof([], 0)
