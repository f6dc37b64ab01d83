"""The part that measures growth: logs of two sizes, their table, and the promise held against it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.goals import all_goals, evaluate
from benchmarks.log_growth import measure
from benchmarks.report import growth_table
from benchmarks.rounds import WARM_UP
from benchmarks.samples import Sample, summarise


def test_logs_of_each_size_are_appended_to_in_turn(tmp_path: Path) -> None:
    samples = list(measure(tmp_path / "logs", sizes=(300, 2500), database="sqlite", rounds=1))
    assert [(each.round, each.load) for each in samples] == [(WARM_UP, 300), (WARM_UP, 2500), (0, 300), (0, 2500)]
    assert not list(tmp_path.iterdir())
    assert all(0 < each.figures["p50_ms"] <= each.figures["p99_ms"] for each in samples)
    heading, _, *rows = growth_table(summarise(samples[2:])).splitlines()
    assert "appends/s" in heading
    assert [row.split("|")[1].strip() for row in rows] == ["300", "2500"]


@pytest.mark.parametrize(("rate", "outcome"), [(9_000, "met"), (4_000, "missed")])
def test_a_large_log_takes_half_as_many_at_least(rate: float, outcome: str) -> None:
    samples = [
        Sample(part="growth", target="sqlite", load=load, round=0, figures={"rate": value})
        for load, value in ((10_000, 10_000), (10_000_000, rate))
    ]
    verdicts = [each for each in evaluate(all_goals(), samples) if each.goal.name == "L2"]
    assert [each.outcome for each in verdicts] == ["not measured", outcome, "not measured", "not measured"]
