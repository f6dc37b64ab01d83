"""NIST PKITS: RFC 5280 section 6 and revocation, without the policy of the mesh.

Sections 4.1 to 4.7 and 4.13 to 4.16 are the gate; those about certificate policies (4.8 to 4.12) pass as well, and are
tested so that it is seen when they no longer do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ca_auth import PathPolicy, PolicyInputs
from tests.ca_auth.strict_cases import STRICT_CASES
from tests.ca_auth.vectors import Question, compare, from_base64, load, require

FILE = "pkits.json"
VECTORS = load(FILE)
CASES = VECTORS["testcases"] if VECTORS else []
AT = datetime(2011, 4, 15, tzinfo=UTC)
CRL_OF_THE_ANCHOR = "TrustAnchorRootCRL.crl"

by_case = pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])


def question(case: dict[str, Any]) -> Question:
    inputs = case["policy_inputs"]
    defaults = PolicyInputs()
    policies = PolicyInputs(
        wanted=frozenset(inputs.get("user_initial_policy_set", defaults.wanted)),
        explicit=inputs.get("initial_explicit_policy", False),
        inhibit_mapping=inputs.get("initial_policy_mapping_inhibit", False),
        inhibit_any=inputs.get("initial_any_policy_inhibit", False),
    )
    crls = dict.fromkeys([*case["crls"], CRL_OF_THE_ANCHOR])
    chain = (case["certificate"], *case["other_certificates"])
    return Question(
        anchors=[from_base64(VECTORS["certificates"][VECTORS["trust_anchor"]])],
        chain=[from_base64(VECTORS["certificates"][name]) for name in chain],
        at=AT,
        crls=tuple(from_base64(VECTORS["crls"][name]) for name in crls),
        policy=PathPolicy(key_rules=False, client_auth=False, certificate_policies=policies),
    )


def test_the_vectors_are_here() -> None:
    require(VECTORS, FILE)
    assert len(CASES) == 191


@by_case
def test_the_verdict_on_each_case_is_right(case: dict[str, Any]) -> None:
    compare(case["id"], case["expected_result"], question(case).ask)


@pytest.mark.parametrize("case", [case for case in CASES if not case["policy_inputs"]], ids=lambda case: case["id"])
def test_the_command_gives_the_same_verdict(case: dict[str, Any], tmp_path: Path) -> None:
    asked = question(case)
    assert asked.ask_the_command(tmp_path, "none") == asked.ask()


def test_no_plain_case_is_refused_that_could_be_accepted() -> None:
    """Signatures, validity, names and full CRLs: sections 4.1 to 4.4 have no strict case."""
    plain = ("4.1.", "4.2.", "4.3.", "4.4.")
    assert not [case_id for case_id in STRICT_CASES if case_id.startswith(plain)]


@by_case
def test_without_its_lists_no_case_passes(case: dict[str, Any]) -> None:
    """Revocation fails closed: a CRL of the anchor alone covers at most what the anchor issued."""
    asked = question(case)
    only_the_anchors = Question(asked.anchors, asked.chain, asked.at, asked.crls[-1:], policy=asked.policy)
    if case["section"] != "4.16":  # there the anchor issued the leaf itself
        assert only_the_anchors.ask()
