"""Whether patterns and grants overlap: decided exactly, and proven by a path that both match."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exchange import ServiceId, SubsystemId
from registry import Grant, compile_pattern
from registry.grants.overlaps import common_path, overlap_of
from registry.patterns import path_of

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def matches(pattern: str, path: str) -> bool:
    """As the gateway would ask."""
    segments = tuple(path[1:].split("/")) if path != "/" else ()
    spelled = path_of(segments)
    return spelled is not None and compile_pattern(pattern).matches(segments, spelled)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("**", "**", True),
        ("**", "/", True),
        ("/a", "/a", True),
        ("/a", "/b", False),
        ("/a", "/a/", False),
        ("/enterprises/{uscc}", "/enterprises/search", True),
        ("/enterprises/{uscc}", "/enterprises/", False),
        ("/enterprises/{uscc}", "/enterprises/{code}/arrears", False),
        ("/enterprises/{uscc}", "/residents/{number}", False),
        ("/enterprises/**", "/enterprises", False),
        ("/enterprises/**", "/enterprises/{uscc}/arrears", True),
        ("/{kind}/list", "/enterprises/{uscc}", True),
        ("/{kind}/list", "/enterprises/{uscc}/list", False),
        ("/files/{id}.pdf", "/files/{id}.xml", False),
        ("/files/{id}.pdf", "/files/{name}", True),
        ("/files/{id}.pdf", "/files/*pdf", True),
        ("/files/{id}.pdf", "/files/.pdf", False),
        ("/a*c", "/ab*", True),
        ("/a*c", "/b*", False),
        ("/*/x", "/**/y", False),
        ("**/x", "/a/**", True),
        ("**a", "**b", False),
        ("*", "**", False),  # no path begins without a slash
        (r"/\*", "/*", True),
        (r"/\*", "/x", False),
        (r"/\{a}", "/{a}", True),
        ("/居民/{number}", "/居民/张三", True),
    ],
)
def test_patterns_overlap_when_a_path_matches_both(one: str, other: str, overlap: bool) -> None:
    for left, right in ((one, other), (other, one)):
        found = common_path(compile_pattern(left), compile_pattern(right))
        assert (found is not None) is overlap
        if found is not None:
            assert matches(left, found)
            assert matches(right, found)


_PIECES = ["a", "b", "/", "*", "**", "{x}", r"\*"]
_PATTERNS = st.lists(st.sampled_from(_PIECES), max_size=6).map(lambda pieces: "/" + "".join(pieces))
_PATHS = ["/" + "".join(rest) for length in range(6) for rest in itertools.product("ab/*", repeat=length)]


@settings(deadline=None, max_examples=300)
@given(_PATTERNS, _PATTERNS)
@example("/*a", "/**b")
@example("/{x}*", "/{x}")
@example("/a**/b", "/**a/**")
def test_the_answer_is_the_one_that_trying_paths_gives(one: str, other: str) -> None:
    found = common_path(compile_pattern(one), compile_pattern(other))
    if found is not None:
        assert matches(one, found)  # the proof proves it
        assert matches(other, found)
    else:
        common = [path for path in _PATHS if matches(one, path) and matches(other, path)]
        assert not common


def test_patterns_as_long_as_may_be_are_compared_in_a_moment() -> None:
    one, other = "/" + "*a" * 249, "/" + "**b{x}" * 80
    begun = time.perf_counter()
    common_path(compile_pattern(one), compile_pattern(other))
    assert time.perf_counter() - begun < 10


def grant(identifier: str = "new", **terms: Any) -> Grant:
    base = Grant(
        id=identifier,
        client=SubsystemId("CN/GOV/A/a"),
        service=ServiceId("CN/GOV/B/b/s"),
        purposes=("p", "q"),
        valid_from=NOON,
        valid_to=NOON + timedelta(days=10),
        reason="test",
        decided_by="test",
    )
    return replace(base, **terms)


@pytest.mark.parametrize(
    ("terms", "overlaps"),
    [
        ({}, True),
        ({"purposes": ("q", "r")}, True),
        ({"purposes": ("r",)}, False),
        ({"method": "GET", "path": "/a"}, True),
        ({"valid_from": NOON + timedelta(days=10), "valid_to": NOON + timedelta(days=11)}, False),
        ({"valid_from": NOON - timedelta(days=1), "valid_to": NOON}, False),
        ({"valid_from": NOON - timedelta(days=1), "valid_to": NOON + timedelta(seconds=1)}, True),
        ({"items": ("name",), "quota_per_day": 5, "signed_requests": True, "case_pattern": "X*"}, True),
    ],
)
def test_grants_overlap_where_all_that_says_for_what_they_are_meets(terms: dict[str, Any], overlaps: bool) -> None:
    found = overlap_of(grant(), [grant("other", **terms)])
    assert (found is not None) is overlaps
    if found is not None:
        assert found.other.id == "other"
        assert found.purpose in grant().purposes


def test_grants_for_other_methods_do_not_overlap() -> None:
    assert overlap_of(grant(method="GET"), [grant("other", method="POST")]) is None
    found = overlap_of(grant(method="GET"), [grant("other", method="POST"), grant("third")])
    assert found is not None
    assert (found.other.id, found.method) == ("third", "GET")
