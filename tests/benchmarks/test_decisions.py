"""The part that measures decisions: every way of spreading grants, on small registries, and its table."""

from __future__ import annotations

from benchmarks.decisions import measure
from benchmarks.goals import all_goals, evaluate
from benchmarks.report import decisions_table
from benchmarks.rounds import WARM_UP
from benchmarks.samples import Sample, summarise

FIGURES = {"permitted_us", "implied_us", "refused_us", "take_in_ms", "first_us"}


def test_every_way_of_spreading_grants_is_measured_under_every_load() -> None:
    samples = list(measure(rounds=1, loads=(10, 200)))

    assert [sample.round for sample in samples] == [WARM_UP] * 6 + [0] * 6
    counted = [sample for sample in samples if sample.round == 0]
    assert {(sample.target, sample.load) for sample in counted} == {
        (target, load) for target in ("spread", "groups", "one pair") for load in (10, 200)
    }
    for sample in counted:
        assert sample.figures.keys() == FIGURES
        assert all(value > 0 for value in sample.figures.values())
    heading, _, *rows = decisions_table(summarise(counted)).splitlines()
    assert "permitted us" in heading
    assert len(rows) == 6


def test_decisions_are_flat_when_the_most_grants_cost_no_more_than_twice_the_fewest() -> None:
    def sample(load: int, us: float) -> Sample:
        return Sample(part="decisions", target="spread", load=load, round=0, figures={"permitted_us": us})

    for us, expected in ((3.0, "met"), (7.0, "missed")):
        verdicts = evaluate(all_goals(), [sample(10, 2.0), sample(100_000, us)])
        outcomes = {verdict.goal.text: verdict.outcome for verdict in verdicts if verdict.goal.name == "D1"}
        assert outcomes.pop("decision, spread: us at 100000 / at 10 grants") == expected
        assert set(outcomes.values()) == {"not measured"}
