"""The part that measures the log: real appends to a log of its own, and its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.errors import BenchError
from benchmarks.goals import all_goals, evaluate
from benchmarks.log_append import CALLERS, _Callers, measure
from benchmarks.report import log_table
from benchmarks.rounds import WARM_UP
from benchmarks.samples import Sample, summarise

FIGURES = {"rate", "p50_ms", "p99_ms", "covered_p50_ms", "covered_p99_ms", "covered_max_ms"}


def test_a_log_takes_records_and_each_is_covered_by_a_checkpoint(tmp_path: Path) -> None:
    samples = list(measure([], tmp_path, rounds=0, seconds=1))

    assert [(sample.round, sample.target, sample.load) for sample in samples] == [(WARM_UP, "alone", CALLERS)]
    [sample] = samples
    assert sample.figures.keys() == FIGURES
    assert 0 < sample.figures["p50_ms"] <= sample.figures["p99_ms"]
    assert 0 < sample.figures["covered_p50_ms"] <= sample.figures["covered_p99_ms"] <= sample.figures["covered_max_ms"]
    assert sample.faults == {"refused": 0}
    heading, _, *rows = log_table(summarise([sample])).splitlines()
    assert "appends/s" in heading
    assert len(rows) == 1
    assert "none" in rows[0]


def test_a_log_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError):
        _Callers(tmp_path, 1)


def test_what_the_log_promises_is_held_against_its_figures_beside_the_mesh() -> None:
    def outcomes(rate: float, covered_p99_ms: float, target: str = "beside the mesh") -> list[str]:
        figures = {"rate": rate, "covered_p99_ms": covered_p99_ms}
        sample = Sample(part="log", target=target, load=CALLERS, round=0, figures=figures)
        return [verdict.outcome for verdict in evaluate(all_goals(), [sample]) if verdict.goal.name == "L1"]

    assert outcomes(2500, 990) == ["met", "met"]
    assert outcomes(1500, 2100) == ["missed", "missed"]
    assert outcomes(2500, 990, "alone") == ["not measured", "not measured"]
