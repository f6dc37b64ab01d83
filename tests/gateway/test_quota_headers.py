"""Quotas as a caller sees them: RateLimit fields in answers, and a complete refusal."""

from __future__ import annotations

import json
from typing import Any

import http_sf
import pytest

from gateway.problems import render
from gateway.quota_headers import NAMES, quota_headers
from registry import QuotaExceededError, QuotaState
from registry.quotas.counting import SECOND, Counts

NOON = 1_777_867_200 * SECOND


def state(per_second: int = 0, per_day: int = 0, calls: int = 1) -> QuotaState:
    counts = Counts("g1")
    for _ in range(calls):
        verdict = counts.ask(per_second, per_day, NOON, NOON)
    return verdict.state


def parsed(state: QuotaState) -> dict[str, Any]:
    return {name.decode(): http_sf.parse(value, tltype="list") for name, value in quota_headers(state)}


def test_both_quotas_are_told_by_name() -> None:
    assert parsed(state(10, 1000, calls=3)) == {
        "ratelimit-policy": [("second", {"q": 10, "w": 1}), ("day", {"q": 1000, "w": 86400})],
        "ratelimit": [("second", {"r": 7, "t": 1}), ("day", {"r": 997, "t": 43200})],
    }


@pytest.mark.parametrize(("per_second", "per_day", "names"), [(5, 0, ["second"]), (0, 5, ["day"])])
def test_only_what_there_is_is_told(per_second: int, per_day: int, names: list[str]) -> None:
    fields = parsed(state(per_second, per_day))
    assert set(fields) == {name.decode() for name in NAMES}
    for items in fields.values():
        assert [name for name, _ in items] == names


def test_without_a_quota_nothing_is_told() -> None:
    assert quota_headers(state()) == []


@pytest.mark.parametrize(
    ("per_second", "per_day", "rule", "retry_after", "limit"),
    [
        (2, 9, "quota-second", b"1", b'"second";r=0;t=1, "day";r=7;t=43200'),
        (0, 2, "quota-day", b"43200", b'"day";r=0;t=43200'),
    ],
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_refusal_says_how_long_to_wait_and_what_remains(
    per_second: int, per_day: int, rule: str, retry_after: bytes, limit: bytes, language: str
) -> None:
    counts = Counts("g1")
    *_, refused = [counts.ask(per_second, per_day, NOON, NOON) for _ in range(3)]
    error = QuotaExceededError("g1", refused)
    headers, body = render(error, exchange_id="", accept_language=language.encode())
    fields = dict(headers)
    assert fields[b"retry-after"] == retry_after
    assert fields[b"ratelimit"] == limit
    assert b"ratelimit-policy" in fields
    problem = json.loads(body)
    assert (problem["status"], problem["type"], problem["rule"]) == (429, "/problems/quota-exceeded", rule)
    assert "{" not in problem["detail"] + problem["next"]
    assert ("授权 g1" if language == "zh" else "Grant g1 allows 2 calls") in problem["detail"]
