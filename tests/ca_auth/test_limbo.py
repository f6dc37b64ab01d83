"""C2SP x509-limbo, in its client flavour: every case, with the policy of the mesh."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ca_auth import PathPolicy
from tests.ca_auth.strict_cases import STRICT_CASES
from tests.ca_auth.vectors import Question, compare, load, require

FILE = "x509_limbo_client.json"
VECTORS = load(FILE)
CASES = VECTORS["testcases"] if VECTORS else []
MOST_STRICT = 12

by_case = pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])


def question(case: dict[str, Any]) -> Question:
    depth = case["max_chain_depth"]
    at = case["validation_time"]
    return Question(
        anchors=[text.encode() for text in case["trusted_certs"]],
        chain=[text.encode() for text in (case["peer_certificate"], *case["untrusted_intermediates"])],
        at=datetime.fromisoformat(at) if at else datetime.now(UTC),
        crls=tuple(text.encode() for text in case["crls"]),
        policy=PathPolicy() if depth is None else PathPolicy(max_depth=depth),
    )


def test_the_vectors_are_here() -> None:
    require(VECTORS, FILE)
    assert len(CASES) == 111


@by_case
def test_the_verdict_on_each_case_is_right(case: dict[str, Any]) -> None:
    compare(case["id"], case["expected_result"], question(case).ask)


@by_case
def test_the_command_gives_the_same_verdict(case: dict[str, Any], tmp_path: Path) -> None:
    asked = question(case)
    assert asked.ask_the_command(tmp_path) == asked.ask()


def test_few_cases_are_refused_that_could_be_accepted() -> None:
    require(VECTORS, FILE)
    good = {case["id"] for case in CASES if case["expected_result"] == "SUCCESS"}
    assert len(good & STRICT_CASES.keys()) <= MOST_STRICT


def test_without_the_policy_of_the_mesh_no_good_case_is_refused() -> None:
    """RFC 5280 alone accepts every valid chain of the suite, those with a CA certificate as leaf included."""
    require(VECTORS, FILE)
    plain = PathPolicy.rfc5280
    for case in CASES:
        if case["expected_result"] == "SUCCESS":
            asked = question(case)
            without = Question(
                asked.anchors, asked.chain, asked.at, asked.crls, policy=plain(max_depth=asked.policy.max_depth)
            )
            assert without.ask() == "", case["id"]
