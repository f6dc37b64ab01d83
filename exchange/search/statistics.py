"""What is counted of records: the figures that `LogSearch.statistics` gives. Without the library that counts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Step = Literal["minute", "hour", "day", "month"]
"""Minutes and hours of UTC; days and months of China time (UTC+8)."""
MOST_POINTS: Final = 5000
"""Of a time series."""
MOST_PAIRS: Final = 10_000
"""Of callers and owners."""
MOST_NAMES: Final = 100
"""Of services and of purposes."""
DURATION_ERROR: Final = 1 / 256
"""Relative: how far p50, p95 and p99 of all records may be from a duration that was recorded."""
POINT_ERROR: Final = 1 / 32
"""Likewise, for p95 of one point of the series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long exchanges took, from the end of the request head to the record, in microseconds; 0 if there are none.

    The percentiles are of the nearest rank, within DURATION_ERROR; `max_us` is exact.
    """

    p50_us: int
    p95_us: int
    p99_us: int
    max_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPoint:
    """One step of time. Steps without a record are left out."""

    start_ms: int
    """Unix milliseconds of its beginning."""
    count: int
    by_outcome: Mapping[str, int]
    p95_us: int
    """Within POINT_ERROR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What one caller asked of one owner. The four outcomes make up `count`, where the records are of exchanges."""

    client: str
    owner: str
    count: int
    answered: int
    refused: int
    failed: int
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Figures over all records that a filter finds.

    Records are counted by what the index holds of them. A condition on a text is compared there by 40 bits of its SHA-256: a
    record too many among 10 million has the odds of one in 100,000. All else is exact, but for the percentiles.
    """

    size: int
    """Entries of the log that were counted over: those with smaller numbers."""
    total: int
    by_outcome: Mapping[str, int]
    by_rule: Mapping[str, int]
    """Of refusals and failures; empty rules are left out."""
    by_status_class: Mapping[str, int]
    """"2xx"; "none" where no status was given."""
    duration: Durations
    request_bytes: int
    answer_bytes: int
    step: Step
    series: tuple[SeriesPoint, ...]
    """In order of time."""
    matrix: tuple[Pair, ...]
    """The MOST_PAIRS with the most records, the largest first."""
    matrix_rest: Pair
    """All others together, with empty names."""
    by_service: Mapping[str, int]
    """The MOST_NAMES with the most records, the largest first; those without a service are left out."""
    by_purpose: Mapping[str, int]
    """Likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStatus:
    """How far the index is."""

    indexed: int
    """Entries that stand in it; those after them are read from their rows, which takes longer."""
    size: int
    """Entries of the log."""
