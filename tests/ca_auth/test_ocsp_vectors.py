"""OpenSSL's OCSP answers, most of them forged or wrong: RFC 6960, without the policy of the mesh."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ca_auth import PathPolicy
from tests.ca_auth.vectors import Question, compare, from_base64, load, require

FILE = "ocsp.json"
VECTORS = load(FILE)
CASES = VECTORS["testcases"] if VECTORS else []

by_case = pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])


def question(case: dict[str, Any]) -> Question:
    return Question(
        anchors=[case["root"].encode()],
        chain=[text.encode() for text in (case["certificate"], *case["other_certificates"])],
        at=datetime.fromisoformat(case["validation_time"]),
        ocsp=tuple(map(from_base64, case["ocsp_responses"])),
        policy=PathPolicy.rfc5280(),
    )


def test_the_vectors_are_here() -> None:
    require(VECTORS, FILE)
    assert len(CASES) == 24


@by_case
def test_the_verdict_on_each_answer_is_right(case: dict[str, Any]) -> None:
    compare(case["id"], case["expected_result"], question(case).ask)


@by_case
def test_a_forged_answer_is_refused_for_what_is_wrong_with_it(case: dict[str, Any]) -> None:
    if case["expected_result"] == "FAILURE":
        assert question(case).ask().startswith("ocsp-")


@by_case
def test_the_command_gives_the_same_verdict(case: dict[str, Any], tmp_path: Path) -> None:
    asked = question(case)
    assert asked.ask_the_command(tmp_path, "none") == asked.ask()
