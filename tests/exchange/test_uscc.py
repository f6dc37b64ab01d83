"""Unified social credit codes: our arithmetic, an independent implementation, and codes outside the standard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import uscc as independent

from exchange.uscc import ALPHABET, check_character, compose, fault_of

_BODY = st.text("0123456789ABCDEFGHJKLMNPQRTUWXY", min_size=8, max_size=8)


@given(st.sampled_from(["11", "12", "51", "91", "92", "93"]), _BODY)
def test_composed_codes_pass_ours_and_an_independent_check(kind: str, body: str) -> None:
    """Division 110000 (Beijing), because the independent one demands a known kind and digits in front."""
    code = compose(kind, "110000", body)
    assert fault_of(code) is None
    assert independent.is_valid(code)


@given(st.text(ALPHABET, min_size=18, max_size=18))
def test_what_the_independent_check_refuses_we_fault_unless_it_is_for_letters_in_front(code: str) -> None:
    if fault_of(code) is None and code[:8].isdigit():
        assert independent.is_valid(code)


@given(st.text("0123456789", min_size=6, max_size=6), _BODY, st.integers(0, 17), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_always_noticed(division: str, body: str, position: int, other: str) -> None:
    code = compose("11", division, body)
    wrong = code[:position] + other + code[position + 1 :]
    assert (fault_of(wrong) is None) == (wrong == code)


@pytest.mark.parametrize("front", ["A1", "N2", "Y1"])
def test_letters_occur_in_front(front: str) -> None:
    assert fault_of(compose(front, "110000", "00000001")) is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [("91350100M0001TGQXM", "1"), ("91350211M0000XUF46", "R"), ("91350203M0001FUE2P", "J")],
)
def test_real_codes_of_the_pilot_fail_the_outer_check_only(code: str, expected: str) -> None:
    fault = fault_of(code)
    assert fault is not None
    assert fault.kind == "check-character"
    assert fault.problem.endswith(f"should be {expected}")
    assert expected in fault.problem_zh
    assert fault_of(code[:17] + expected) is None  # the inner one is right


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("", "length"),
        ("9135", "length"),
        ("11100000000013338w", "alphabet"),
        ("1110000000001333OW", "alphabet"),
        ("１１１０００００００００１３３３８Ｗ", "alphabet"),
        ("11100000000013338X", "check-character"),
    ],
)
def test_a_fault_is_told_and_never_crashes(code: str, kind: str) -> None:
    fault = fault_of(code)
    assert fault is not None
    assert fault.kind == kind
    assert fault.problem
    assert fault.problem_zh


@given(st.text(max_size=24))
def test_any_text_gets_a_verdict(text: str) -> None:
    fault_of(text)


def test_the_inner_check_is_looked_at_too() -> None:
    good = compose("11", "110000", "00000001")
    wrong = good[:16] + ("0" if good[16] != "0" else "1")
    fault = fault_of(wrong + check_character(wrong))
    assert fault is not None
    assert fault.kind == "organisation-check-character"
