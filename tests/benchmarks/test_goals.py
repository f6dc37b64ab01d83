"""What a run says about the targets: met, missed, not measured, or nothing because something went wrong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.goals import Goal, Outcome, all_goals, evaluate
from benchmarks.samples import Measured, Part, Sample


def goal(sense: str, bound: float, values: Sequence[float], faults: int = 0) -> Goal:
    assert sense in ("at least", "at most")
    measured = Measured(values=tuple(values), faults=faults) if values else None
    return Goal(
        name="P0",
        text="something",
        sense="at least" if sense == "at least" else "at most",
        bound=bound,
        measure=lambda samples: measured,
    )


@pytest.mark.parametrize(
    ("sense", "values", "faults", "expected"),
    [
        ("at least", (2.5,), 0, "met"),
        ("at least", (9.0, 2.4, 2.4), 0, "missed"),
        ("at most", (2.5,), 0, "met"),
        ("at most", (1.0, 2.6, 2.6), 0, "missed"),
        ("at least", (99.0,), 1, "faults"),
        ("at least", (), 0, "not measured"),
    ],
)
def test_a_goal_is_judged_by_the_median_of_clean_rounds(
    sense: str, values: Sequence[float], faults: int, expected: Outcome
) -> None:
    (verdict,) = evaluate([goal(sense, 2.5, values, faults)], [])

    assert verdict.outcome == expected


def sample(part: Part, target: str, load: int, *, number: int = 0, **figures: float) -> Sample:
    return Sample(part=part, target=target, load=load, round=number, figures=figures)


def outcomes(samples: Sequence[Sample], name: str) -> dict[str, Outcome]:
    return {
        verdict.goal.text: verdict.outcome for verdict in evaluate(all_goals(), samples) if verdict.goal.name == name
    }


def test_every_target_that_was_asked_for_has_its_lines() -> None:
    lines = [goal.name for goal in all_goals()]

    assert {name: lines.count(name) for name in lines} == {
        "P1": 3, "P2": 1, "P3": 4, "P4": 4, "P5": 3, "P6": 2, "P7": 2, "P8": 4, "P12": 3, "P13": 2, "D1": 3, "L1": 2, "L2": 4,
    }  # fmt: skip


def test_nothing_measured_meets_nothing() -> None:
    assert {verdict.outcome for verdict in evaluate(all_goals(), [])} == {"not measured"}


def test_the_warm_up_does_not_count() -> None:
    samples = [
        sample("closed", "mesh", 64, number=-1, rate=100.0),
        sample("closed", "nginx", 64, number=-1, rate=100.0),
    ]

    assert set(outcomes(samples, "P2").values()) == {"not measured"}


def test_rates_at_64_connections_are_held_against_each_peer() -> None:
    peers = {"aiohttp": 4.0, "httpx": 1.0, "faststream": 6.0}
    samples = [sample("closed", name, 64, rate=rate) for name, rate in {**peers, "mesh": 10.0}.items()]

    assert outcomes(samples, "P1") == {
        "64 connections: requests/s of mesh / aiohttp": "met",
        "64 connections: requests/s of mesh / httpx": "missed",
        "64 connections: requests/s of mesh / faststream": "missed",
    }


def test_the_same_backend_is_asked_of_the_mesh_with_an_http_source() -> None:
    samples = [sample("closed", "mesh", 16, rate=9.0), sample("closed", "aiohttp", 16, rate=5.0)]
    text = "16 connections: requests/s of mesh_http / aiohttp"

    assert outcomes(samples, "P5")[text] == "not measured"
    assert outcomes([*samples, sample("closed", "mesh_http", 16, rate=6.0)], "P5")[text] == "met"


def test_the_median_wait_at_one_connection_may_exceed_that_of_nginx_by_1_1_ms() -> None:
    samples = [sample("closed", "mesh", 1, p50_ms=1.25), sample("closed", "nginx", 1, p50_ms=0.1)]

    assert outcomes(samples, "P4")["1 connections: p50 of mesh - nginx, ms"] == "missed"


def test_latency_at_a_fixed_rate_is_held_against_the_peers_at_that_rate() -> None:
    samples = [
        sample("open", "mesh", 1000, p99_ms=4.0),
        sample("open", "aiohttp", 1000, p99_ms=2.0),
        sample("open", "aiohttp", 2500, p99_ms=9.0),
    ]

    assert outcomes(samples, "P8")["1000/s: p99 of mesh / aiohttp"] == "met"
    assert outcomes(samples, "P8")["2500/s: p99 of mesh / aiohttp"] == "not measured"


def test_overload_is_judged_at_the_loads_below_and_above_the_limit_that_was_found() -> None:
    samples = [
        sample("overload", "mesh", 300, accepted_p99_ms=50.0, refused_share=0.0),
        sample("overload", "mesh", 600, accepted_p99_ms=90.0, refused_share=0.2),
    ]

    found = outcomes(samples, "P12")

    assert found["above the limit: share answered 503"] == "met"
    assert found["accepted requests: p99 above / below the limit"] == "met"


def test_a_mesh_that_never_resumes_a_session_misses_that_line_only() -> None:
    samples = [
        sample("handshakes", "mesh", 16, full_rate=700.0, resumed_share=0.0),
        sample("handshakes", "nginx", 16, full_rate=1000.0, resumed_share=1.0),
    ]

    assert outcomes(samples, "P13") == {
        "new connections/s of mesh / nginx": "met",
        "share of offered sessions that mesh resumes": "missed",
    }
