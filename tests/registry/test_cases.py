"""Case patterns: what they take, and that no value makes matching expensive."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.grants.cases import compile_case_pattern


def meets(pattern: str, case: str) -> bool:
    compiled = compile_case_pattern(pattern)
    return compiled is None or compiled.fullmatch(case) is not None


@pytest.mark.parametrize(
    ("pattern", "case", "expected"),
    [
        ("", "", True),
        ("", "anything", True),
        ("沪民政〔####〕*号", "沪民政〔2026〕17号", True),
        ("沪民政〔####〕*号", "沪民政〔2026〕号", False),
        ("沪民政〔####〕*号", "沪民政〔26〕17号", False),
        ("沪民政〔####〕*号", "京民政〔2026〕17号", False),
        ("####", "２０２６", False),  # digits of other scripts are no digits here
        ("A?-#", "Ab-1", True),
        ("A?-#", "A-1", False),
        ("*", "", False),
        ("*", "x", True),
        ("**", "x", False),
        ("**", "xy", True),
        ("*-*", "a-b", True),
        ("*-*", "-b", False),
        ("a.c", "abc", False),
        ("(a|b)", "(a|b)", True),
        ("X-*", "X-1\n2", True),
    ],
)
def test_a_case_number_meets_a_pattern_when_it_looks_like_it(pattern: str, case: str, expected: bool) -> None:
    assert meets(pattern, case) is expected


@given(st.text("ab*?#1", min_size=1, max_size=9), st.text("ab1*", max_size=9))
@example("*a*ab", "xaab")
def test_the_bounded_matcher_agrees_with_the_plain_translation(pattern: str, case: str) -> None:
    plain = "".join({"*": ".+", "?": ".", "#": "[0-9]"}.get(each, re.escape(each)) for each in pattern)
    assert meets(pattern, case) is (re.fullmatch(plain, case, re.DOTALL) is not None)


@pytest.mark.timeout(10)
def test_no_value_makes_matching_expensive() -> None:
    assert not meets("*a" * 99 + "b", "a" * 255)
    assert not meets("*?#" * 60 + "b", "1" * 255)


@pytest.mark.parametrize("pattern", ["x" * 201, "a\nb", " a", "a\x00"])
def test_what_cannot_be_a_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="a case pattern"):
        compile_case_pattern(pattern)
