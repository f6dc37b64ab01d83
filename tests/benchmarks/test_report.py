"""The report: tables that line up, faults that cannot be overlooked, numbers that can be read back."""

from __future__ import annotations

import json

import pytest

from benchmarks.goals import all_goals, evaluate
from benchmarks.report import Run, as_json, as_markdown, number, table, targets_table
from benchmarks.samples import Part, Sample


def sample(part: Part, target: str, load: int, figures: dict[str, float], **faults: int) -> Sample:
    return Sample(part=part, target=target, load=load, round=0, figures=figures, faults=faults)


def closed(target: str, rate: float, **faults: int) -> Sample:
    return sample("closed", target, 64, {"rate": rate, "p50_ms": 1.5, "p99_ms": 9.25, "cpu_us": 133.4}, **faults)


def run_of(*samples: Sample, complete: bool = True) -> Run:
    return Run(
        started="2026-01-02T03:04:05Z",
        revision="unknown",
        complete=complete,
        machine={"cores": "2"},
        options={"connections": (1, 64), "rounds": 5},
        samples=samples,
        verdicts=evaluate(all_goals(), samples),
    )


def section(markdown: str, title: str) -> list[str]:
    """The lines of one table."""
    _, _, after = markdown.partition(f"## {title}\n\n")
    return after.partition("\n\n")[0].splitlines()


@pytest.mark.parametrize(
    ("value", "text"), [(0.0912, "0.0912"), (2.7, "2.7"), (62.04, "62"), (133.4, "133"), (9300.4, "9300"), (0.0, "0")]
)
def test_a_number_has_three_significant_digits_or_is_whole(value: float, text: str) -> None:
    assert number(value) == text


def test_a_table_is_aligned_with_numbers_to_the_right() -> None:
    assert table(("name", "n"), [("a", "1"), ("long name", "1000")]).splitlines() == [
        "| name      |    n |",
        "| --------- | ---: |",
        "| a         |    1 |",
        "| long name | 1000 |",
    ]


def test_a_part_that_was_not_measured_has_no_section() -> None:
    markdown = as_markdown(run_of(closed("nginx", 100.0)))

    assert "Closed loop" in markdown
    assert "Open loop" not in markdown
    assert "Above the limit" not in markdown


def test_the_mesh_is_compared_with_each_peer_of_its_round() -> None:
    markdown = as_markdown(run_of(closed("nginx", 400.0), closed("aiohttp", 50.0), closed("mesh", 100.0)))

    heading, _, row = section(markdown, "Ratios of requests/s, round by round")

    assert [cell.strip() for cell in heading.strip("|").split("|")] == [
        "connections",
        "server",
        "/ nginx",
        "/ aiohttp",
    ]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "64",
        "mesh",
        "0.25 (0.25 - 0.25)",
        "2 (2 - 2)",
    ]


def test_faults_stand_beside_the_figures_and_take_the_place_of_the_outcome() -> None:
    run = run_of(closed("nginx", 100.0), closed("mesh", 90.0, status=7))

    markdown = as_markdown(run)
    (line,) = [line for line in targets_table(run.verdicts).splitlines() if line.startswith("| P2")]

    assert any(
        "| mesh " in line and "7 status" in line
        for line in section(markdown, "Closed loop: each connection sends again when answered")
    )
    assert "faults (7)" in line
    assert "| met" not in line


def test_every_part_has_its_table() -> None:
    waits = {"p50_ms": 1.0, "p90_ms": 2.0, "p99_ms": 3.0, "answered": 1.0}
    shakes = {"full_rate": 900.0, "full_cpu_us": 870.0, "full_ms": 1.9, "resumed_ms": 1.2, "resumed_share": 0.5}
    markdown = as_markdown(
        run_of(
            closed("mesh", 100.0),
            sample("open", "mesh", 1000, waits),
            sample("handshakes", "mesh", 16, shakes),
            sample("overload", "mesh", 512, {"accepted_rate": 800.0, "refused_share": 0.25}),
        )
    )

    assert " 100.0% |" in section(markdown, "Open loop: fixed rate, latency from the scheduled start")[2]
    assert "| 50% |" in " ".join(section(markdown, "New connections with client certificates")[2].split())
    assert "25.0%" in section(markdown, "Above the limit")[2]


def test_an_interrupted_run_says_so() -> None:
    assert "Interrupted" in as_markdown(run_of(closed("mesh", 1.0), complete=False))
    assert "Interrupted" not in as_markdown(run_of(closed("mesh", 1.0)))


def test_the_numbers_hold_each_sample_and_each_verdict() -> None:
    kept = json.loads(as_json(run_of(closed("nginx", 400.0), closed("mesh", 100.0))))

    assert [entry["figures"]["rate"] for entry in kept["samples"]] == [400.0, 100.0]
    (verdict,) = [entry for entry in kept["targets"] if entry["target"] == "P2"]
    assert verdict["measured"] == 0.25
    assert verdict["outcome"] == "met"
    assert kept["machine"] == {"cores": "2"}
    assert kept["options"]["connections"] == [1, 64]
