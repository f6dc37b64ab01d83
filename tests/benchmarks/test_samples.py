"""The arithmetic on rounds: what is compared with what, and how faults travel with the figures."""

from __future__ import annotations

import pytest

from benchmarks.samples import Point, Sample, difference, percentile, plain, ratio, summarise, total_faults


def sample(target: str, number: int, rate: float, *, load: int = 64, faults: dict[str, int] | None = None) -> Sample:
    return Sample(
        part="closed", target=target, load=load, round=number, figures={"rate": rate}, faults=faults or {"status": 0}
    )


def at(target: str, load: int = 64) -> Point:
    return Point(part="closed", target=target, load=load)


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.01, 1.0), (0.5, 5.0), (0.55, 6.0), (0.9, 9.0), (0.99, 10.0), (1.0, 10.0)]
)
def test_a_percentile_is_the_nearest_rank(fraction: float, expected: float) -> None:
    assert percentile([float(value) for value in range(1, 11)], fraction) == expected


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert percentile([3.0], 0.99) == 3.0


def test_a_ratio_is_taken_inside_each_round_and_not_between_medians() -> None:
    """The machine was half as fast in round 1: the ratio of medians would be 3 / 1.5, each round says otherwise."""
    samples = [
        *(sample("mesh", i, rate) for i, rate in enumerate([4.0, 1.5, 3.0])),
        *(sample("peer", i, rate) for i, rate in enumerate([2.0, 0.5, 1.0])),
    ]

    measured = ratio(samples, "rate", at("mesh"), at("peer"))

    assert measured is not None
    assert measured.values == (2.0, 3.0, 3.0)
    assert measured.median == 3.0


def test_rounds_that_only_one_side_has_are_left_out() -> None:
    samples = [sample("mesh", 0, 4.0), sample("mesh", 1, 9.0), sample("peer", 0, 2.0)]

    measured = ratio(samples, "rate", at("mesh"), at("peer"))

    assert measured is not None
    assert measured.values == (2.0,)


def test_a_comparison_between_loads_of_one_target_pairs_the_rounds_too() -> None:
    samples = [sample("mesh", 0, 9.0, load=256), sample("mesh", 0, 10.0)]

    measured = ratio(samples, "rate", at("mesh", 256), at("mesh", 64))

    assert measured is not None
    assert measured.median == pytest.approx(0.9)


def test_there_is_no_ratio_to_a_target_that_answered_nothing() -> None:
    assert ratio([sample("mesh", 0, 4.0), sample("peer", 0, 0.0)], "rate", at("mesh"), at("peer")) is None


def test_what_was_not_measured_is_none() -> None:
    samples = [sample("mesh", 0, 4.0)]

    assert ratio(samples, "rate", at("mesh"), at("peer")) is None
    assert ratio([*samples, sample("peer", 0, 2.0)], "p99_ms", at("mesh"), at("peer")) is None
    assert difference(samples, "rate", at("mesh"), at("peer")) is None
    assert plain(samples, "rate", at("peer")) is None


def test_a_difference_is_taken_inside_each_round() -> None:
    samples = [sample("mesh", 0, 1.5), sample("peer", 0, 0.5), sample("mesh", 1, 3.0), sample("peer", 1, 1.0)]

    measured = difference(samples, "rate", at("mesh"), at("peer"))

    assert measured is not None
    assert measured.values == (1.0, 2.0)


def test_faults_on_either_side_are_faults_of_the_comparison() -> None:
    samples = [sample("mesh", 0, 4.0, faults={"timeout": 2}), sample("peer", 0, 2.0, faults={"status": 1})]

    measured = ratio(samples, "rate", at("mesh"), at("peer"))

    assert measured is not None
    assert measured.faults == 3


def test_faults_of_the_same_kind_add_up_and_absent_kinds_are_left_out() -> None:
    samples = [sample("a", 0, 1.0, faults={"status": 1, "read": 0}), sample("a", 1, 1.0, faults={"status": 2})]

    assert total_faults(samples) == {"status": 3}


def test_a_summary_has_median_and_range_of_its_rounds() -> None:
    (summary,) = summarise([sample("mesh", i, rate) for i, rate in enumerate([3.0, 9.0, 1.0])])

    assert summary.rounds == 3
    assert summary.figures == {"rate": 3.0}
    assert summary.spread == {"rate": (1.0, 9.0)}


def test_a_summary_keeps_a_figure_that_its_first_round_lacks() -> None:
    first = Sample(part="overload", target="mesh", load=8, round=0, figures={"refused_share": 1.0})
    second = Sample(part="overload", target="mesh", load=8, round=1, figures={"refused_share": 0.5, "p99_ms": 7.0})

    (summary,) = summarise([first, second])

    assert summary.figures == {"refused_share": 0.75, "p99_ms": 7.0}


def test_each_load_of_a_target_has_a_summary_of_its_own() -> None:
    summaries = summarise([sample("mesh", 0, 1.0, load=1), sample("peer", 0, 1.0), sample("mesh", 0, 2.0)])

    assert [(summary.target, summary.load) for summary in summaries] == [("mesh", 1), ("peer", 64), ("mesh", 64)]
