"""What one run on one target gave, and the arithmetic on many of them.

Targets are visited in turn within a round, so figures of the same round saw the same machine. Therefore a comparison
is made inside each round first, and the median is taken over rounds: noise that slows a whole round cancels out.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Part = Literal["closed", "open", "handshakes", "overload", "decisions", "log", "growth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The figures of one target in one round.

    Attributes:
        load: Connections at once, requests per second in the open loop, grants in the registry, callers of the log, or entries
            in it.
        figures: By name; the unit is part of the name (`p99_ms`, `cpu_us`), rates are per second.
        faults: Count by kind of everything that should not have happened (a status, a time-out, a lost connection).
    """

    part: Part
    target: str
    load: int
    round: int
    figures: Mapping[str, float]
    faults: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All rounds of one target under one load: medians, and how far the rounds lie apart."""

    part: Part
    target: str
    load: int
    rounds: int
    figures: Mapping[str, float]
    spread: Mapping[str, tuple[float, float]]
    faults: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A comparison: one value for each round, and whether both sides answered without a fault."""

    values: tuple[float, ...]
    faults: int

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where a figure is found: which part, target and load."""

    part: Part
    target: str
    load: int


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The smallest value that at least `fraction` of all values do not exceed (nearest rank).

    Args:
        ordered: Ascending, not empty.
        fraction: 0 < fraction <= 1.
    """
    rank = -int(-fraction * len(ordered) // 1)  # rounded up
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def summarise(samples: Iterable[Sample]) -> list[Summary]:
    """One summary for each part, target and load, in the order in which they first appear."""
    groups: dict[tuple[Part, int, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.part, sample.load, sample.target), []).append(sample)
    return [_summary(group) for group in groups.values()]


def _summary(group: Sequence[Sample]) -> Summary:
    first = group[0]
    # A figure may be absent from a round (no latency without an answer), so the names of all rounds count.
    names = dict.fromkeys(name for sample in group for name in sample.figures)
    columns = {name: [s.figures[name] for s in group if name in s.figures] for name in names}
    return Summary(
        part=first.part,
        target=first.target,
        load=first.load,
        rounds=len(group),
        figures={name: statistics.median(values) for name, values in columns.items()},
        spread={name: (min(values), max(values)) for name, values in columns.items()},
        faults=total_faults(group),
    )


def total_faults(samples: Iterable[Sample]) -> dict[str, int]:
    """Faults of all samples together, by kind; kinds that never happened are left out."""
    total: dict[str, int] = {}
    for sample in samples:
        for kind, count in sample.faults.items():
            if count:
                total[kind] = total.get(kind, 0) + count
    return total


def ratio(samples: Iterable[Sample], figure: str, of: Point, to: Point) -> Measured | None:
    """`figure` of one point divided by the same figure of another, round by round. None: no common round.

    A round in which the divisor is 0 has no ratio and is left out; it carries faults, so it does not pass unseen.
    """
    return _compared(samples, figure, of, to, lambda a, b: a / b if b else None)


def difference(samples: Iterable[Sample], figure: str, of: Point, to: Point) -> Measured | None:
    """`figure` of one point minus the same figure of another, round by round. None: no common round."""
    return _compared(samples, figure, of, to, lambda a, b: a - b)


def plain(samples: Iterable[Sample], figure: str, of: Point) -> Measured | None:
    """`figure` of one point, round by round. None: it was not measured."""
    found = [s for s in _at(samples, of).values() if figure in s.figures]
    values = tuple(s.figures[figure] for s in found)
    return Measured(values=values, faults=sum(total_faults(found).values())) if values else None


def _compared(
    samples: Iterable[Sample], figure: str, of: Point, to: Point, combine: Callable[[float, float], float | None]
) -> Measured | None:
    known = list(samples)
    left, right = _at(known, of), _at(known, to)
    rounds = [r for r in left if r in right and figure in left[r].figures and figure in right[r].figures]
    combined = (combine(left[r].figures[figure], right[r].figures[figure]) for r in rounds)
    values = tuple(value for value in combined if value is not None)
    faults = total_faults([*(left[r] for r in rounds), *(right[r] for r in rounds)])
    return Measured(values=values, faults=sum(faults.values())) if values else None


def _at(samples: Iterable[Sample], point: Point) -> dict[int, Sample]:
    return {s.round: s for s in samples if (s.part, s.target, s.load) == (point.part, point.target, point.load)}
