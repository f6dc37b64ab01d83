"""What the mesh is to reach, as comparisons within one run. A goal is met when every one of its lines is.

P1 to P6, P8, P12, P13, D1 and L1 are the project's own targets; P7 comes for free from the same rounds. Each bound but those
of L1 is a ratio or a difference between two targets of the same round, so it holds for machines of any speed with few cores.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.samples import Measured, Part, Point, Sample, difference, plain, ratio

Outcome = Literal["met", "missed", "faults", "not measured"]
Measurement = Callable[[Sequence[Sample]], Measured | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One line of a target: what is compared, and the bound on the median over rounds.

    Attributes:
        sense: Whether the bound is the least or the most that will do.
        measure: Takes all samples of a run; None means that the run did not measure this.
    """

    name: str
    text: str
    sense: Literal["at least", "at most"]
    bound: float
    measure: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run says about a goal. `faults` counts what went wrong on either side; then nothing is claimed."""

    goal: Goal
    measured: Measured | None
    outcome: Outcome


def evaluate(goals: Sequence[Goal], samples: Sequence[Sample]) -> list[Verdict]:
    """One verdict for each goal, from counted rounds only."""
    counted = [sample for sample in samples if sample.round >= 0]
    return [_verdict(goal, goal.measure(counted)) for goal in goals]


def _verdict(goal: Goal, measured: Measured | None) -> Verdict:
    return Verdict(goal=goal, measured=measured, outcome=_outcome(goal, measured))


def _outcome(goal: Goal, measured: Measured | None) -> Outcome:
    if measured is None:
        return "not measured"
    if measured.faults:
        return "faults"
    enough = measured.median >= goal.bound if goal.sense == "at least" else measured.median <= goal.bound
    return "met" if enough else "missed"


def all_goals() -> list[Goal]:
    """Every goal, in the order in which the report shows them."""
    return [
        *_rate_goals("P1", 64, "mesh", {"aiohttp": 2.5, "httpx": 30, "faststream": 2.0}),
        *_rate_goals("P2", 64, "mesh", {"nginx": 0.20}),
        *_rate_goals("P3", 16, "mesh", {"aiohttp": 1.5, "httpx": 10, "faststream": 1.5, "nginx": 0.12}),
        *_rate_goals("P4", 1, "mesh", {"httpx": 1.0, "aiohttp": 0.45, "faststream": 0.8}),
        _p50_above_nginx("P4", 1, 1.1),
        *_rate_goals("P5", 64, "mesh_http", {"aiohttp": 1.5, "httpx": 30}),
        *_rate_goals("P5", 16, "mesh_http", {"aiohttp": 1.0}),
        *_rate_goals("P6", 64, "mesh", {"mesh_no_evidence": 0.75}),
        *_rate_goals("P6", 16, "mesh", {"mesh_no_evidence": 0.60}),
        *_ratio_goals("P7", "closed", "cpu_us", "at most", 64, "mesh", {"aiohttp": 0.50, "nginx": 6.0}),
        *_ratio_goals("P8", "open", "p99_ms", "at most", 1000, "mesh", {"aiohttp": 2.2, "faststream": 1.4}),
        *_ratio_goals("P8", "open", "p99_ms", "at most", 2500, "mesh", {"aiohttp": 1.0, "faststream": 0.25}),
        _many_connections("P12", 0.95),
        *_overload_goals("P12"),
        *_handshake_goals("P13"),
        *_decision_goals("D1"),
        *_log_goals("L1"),
        *_growth_goals("L2"),
    ]


def _ratio_goals(
    name: str,
    part: Part,
    figure: str,
    sense: Literal["at least", "at most"],
    load: int,
    subject: str,
    bounds: dict[str, float],
) -> Iterator[Goal]:
    unit = "/s" if part == "open" else " connections"
    for other, bound in bounds.items():
        of, to = Point(part=part, target=subject, load=load), Point(part=part, target=other, load=load)
        yield Goal(
            name=name,
            text=f"{load}{unit}: {_FIGURES[figure]} of {subject} / {other}",
            sense=sense,
            bound=bound,
            measure=_ratio(figure, of, to),
        )


def _rate_goals(name: str, load: int, subject: str, bounds: dict[str, float]) -> Iterator[Goal]:
    return _ratio_goals(name, "closed", "rate", "at least", load, subject, bounds)


def _p50_above_nginx(name: str, load: int, bound_ms: float) -> Goal:
    of, to = Point(part="closed", target="mesh", load=load), Point(part="closed", target="nginx", load=load)
    return Goal(
        name=name,
        text=f"{load} connections: p50 of mesh - nginx, ms",
        sense="at most",
        bound=bound_ms,
        measure=lambda samples: difference(samples, "p50_ms", of, to),
    )


def _many_connections(name: str, bound: float) -> Goal:
    of, to = Point(part="closed", target="mesh", load=256), Point(part="closed", target="mesh", load=64)
    return Goal(
        name=name,
        text="mesh: requests/s at 256 / at 64 connections",
        sense="at least",
        bound=bound,
        measure=_ratio("rate", of, to),
    )


def _overload_goals(name: str) -> list[Goal]:
    def refused(samples: Sequence[Sample]) -> Measured | None:
        loads = _overload_points(samples)
        return plain(samples, "refused_share", loads[1]) if loads else None

    def slower(samples: Sequence[Sample]) -> Measured | None:
        loads = _overload_points(samples)
        return ratio(samples, "accepted_p99_ms", loads[1], loads[0]) if loads else None

    return [
        Goal(
            name=name,
            text="above the limit: share answered 503",
            sense="at least",
            bound=0.001,
            measure=refused,
        ),
        Goal(
            name=name,
            text="accepted requests: p99 above / below the limit",
            sense="at most",
            bound=2.0,
            measure=slower,
        ),
    ]


def _overload_points(samples: Sequence[Sample]) -> tuple[Point, Point] | None:
    """Below and above the limit; the loads depend on the limit, so they are read from the samples."""
    loads = sorted({sample.load for sample in samples if sample.part == "overload"})
    if len(loads) < 2:
        return None
    return (
        Point(part="overload", target="mesh", load=loads[0]),
        Point(part="overload", target="mesh", load=loads[-1]),
    )


def _handshake_goals(name: str) -> list[Goal]:
    of, to = (Point(part="handshakes", target=target, load=16) for target in ("mesh", "nginx"))
    return [
        Goal(
            name=name,
            text="new connections/s of mesh / nginx",
            sense="at least",
            bound=0.6,
            measure=_ratio("full_rate", of, to),
        ),
        Goal(
            name=name,
            text="share of offered sessions that mesh resumes",
            sense="at least",
            bound=0.99,
            measure=lambda samples: plain(samples, "resumed_share", of),
        ),
    ]


def _decision_goals(name: str) -> Iterator[Goal]:
    """Flat from 10 to 100,000 grants, in whatever way they are spread."""
    for target in ("spread", "groups", "one pair"):
        few, many = (Point(part="decisions", target=target, load=load) for load in (10, 100_000))
        yield Goal(
            name=name,
            text=f"decision, {target}: us at 100000 / at 10 grants",
            sense="at most",
            bound=2.0,
            measure=_ratio("permitted_us", many, few),
        )


def _log_goals(name: str) -> Iterator[Goal]:
    """The only bounds on figures themselves: what the log promises, it promises on machines like this one."""
    beside = Point(part="log", target="beside the mesh", load=64)
    yield Goal(
        name=name,
        text="durable appends/s beside the running mesh",
        sense="at least",
        bound=2000,
        measure=lambda samples: plain(samples, "rate", beside),
    )
    yield Goal(
        name=name,
        text="ms from append to signed checkpoint, p99, beside the running mesh",
        sense="at most",
        bound=2000,
        measure=lambda samples: plain(samples, "covered_p99_ms", beside),
    )


def _growth_goals(name: str) -> Iterator[Goal]:
    """Records are taken as fast by a large log as by a small one: half as fast would be no growth worth the name."""
    for database in ("sqlite", "postgresql"):
        few, *more = (Point(part="growth", target=database, load=size) for size in (10_000, 1_000_000, 10_000_000))
        for many in more:
            yield Goal(
                name=name,
                text=f"appends/s, {database}: with {many.load} entries / with {few.load}",
                sense="at least",
                bound=0.5,
                measure=_ratio("rate", many, few),
            )


def _ratio(figure: str, of: Point, to: Point) -> Measurement:
    return lambda samples: ratio(samples, figure, of, to)


_FIGURES = {"rate": "requests/s", "cpu_us": "CPU per request", "p99_ms": "p99"}
