"""Counting: figures over many records, segment by segment. Pure.

Percentiles come from histograms: buckets of 1/128 of an octave for all records together, of 1/16 for a point of the series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exchange.errors import InvalidRequestError
from exchange.search.columns import Array, Column, NumberColumn, TextColumn
from exchange.search.statistics import (
    MOST_NAMES,
    MOST_PAIRS,
    MOST_POINTS,
    Durations,
    Pair,
    SeriesPoint,
    Statistics,
    Step,
)

COUNTED: Final = (
    *("client", "owner", "service", "purpose", "outcome", "rule"),
    *("at_ms", "status", "duration_us", "request_size", "answer_size"),
)
"""The columns that are counted."""

_CHINA_MS: Final = 8 * 3_600_000
_STEP_MS: Final = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_OUTCOMES: Final = ("answered", "refused", "failed", "unknown")
_FINE: Final = 7
_COARSE: Final = 4
"""Bits of a duration after its first that tell buckets apart."""
_OWNER_BITS: Final = 28
_OUTCOME_BITS: Final = 3


class Tally:
    """Adds up what it is given."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._total = 0
        self._outcomes: Counter[str] = Counter()
        self._rules: Counter[str] = Counter()
        self._services: Counter[str] = Counter()
        self._purposes: Counter[str] = Counter()
        self._classes: Counter[int] = Counter()
        self._request_bytes = self._answer_bytes = self._max_us = 0
        self._durations = np.zeros(_bucket_count(_FINE), dtype=np.int64)
        self._points: dict[int, tuple[Counter[str], Array]] = {}
        self._numbers: dict[str, int] = {}
        """A number for each caller and owner."""
        self._pairs: list[tuple[Array, Array]] = []

    def add(self, columns: Mapping[str, Column], chosen: Array | None) -> None:
        """Count records of one segment: those at the places `chosen`, or all.

        Raises:
            InvalidRequestError: The series would have more than MOST_POINTS points.
        """
        texts = {name: _chosen_codes(columns[name], chosen) for name in COUNTED[:6]}
        at, status, duration, request_size, answer_size = [_chosen(columns[name], chosen) for name in COUNTED[6:]]
        if not len(at):
            return
        self._total += len(at)
        for name, into in (
            ("outcome", self._outcomes),
            ("rule", self._rules),
            ("service", self._services),
            ("purpose", self._purposes),
        ):
            codes, names = texts[name]
            counts = np.bincount(codes, minlength=len(names))
            for code in np.flatnonzero(counts).tolist():
                into[names[code]] += int(counts[code])
        classes = np.bincount(status // 100)
        for number in np.flatnonzero(classes).tolist():
            self._classes[number] += int(classes[number])
        self._request_bytes += int(request_size.sum())
        self._answer_bytes += int(answer_size.sum())
        self._max_us = max(self._max_us, int(duration.max()))
        self._durations += np.bincount(_bucket(duration, _FINE), minlength=len(self._durations))
        self._add_points(at, texts["outcome"], duration)
        self._add_pairs(texts["client"], texts["owner"], texts["outcome"])

    def result(self, size: int) -> Statistics:
        """What was counted, over a log of `size` entries."""
        pairs, rest = self._matrix()
        return Statistics(
            size=size,
            total=self._total,
            by_outcome=_largest(self._outcomes),
            by_rule=_largest(self._rules),
            by_status_class={
                f"{number}xx" if number else "none": count for number, count in sorted(self._classes.items())
            },
            duration=Durations(
                p50_us=_percentile(self._durations, 50, _FINE, self._max_us),
                p95_us=_percentile(self._durations, 95, _FINE, self._max_us),
                p99_us=_percentile(self._durations, 99, _FINE, self._max_us),
                max_us=self._max_us,
            ),
            request_bytes=self._request_bytes,
            answer_bytes=self._answer_bytes,
            step=self._step,
            series=tuple(
                [
                    SeriesPoint(
                        start_ms=_start_ms(self._step, number),
                        count=outcomes.total(),
                        by_outcome=_largest(outcomes),
                        p95_us=_percentile(durations, 95, _COARSE, self._max_us),
                    )
                    for number, (outcomes, durations) in sorted(self._points.items())
                ]
            ),
            matrix=pairs,
            matrix_rest=rest,
            by_service=_largest(self._services, MOST_NAMES),
            by_purpose=_largest(self._purposes, MOST_NAMES),
        )

    def _add_points(self, at: Array, outcome: tuple[Array, tuple[str, ...]], duration: Array) -> None:
        numbers, local = _distinct(_step_numbers(self._step, at))
        known = [self._points.get(number) for number in numbers.tolist()]
        if len(self._points) + known.count(None) > MOST_POINTS:
            raise InvalidRequestError(
                "query-parameter",
                problem=f"The series would have more than {MOST_POINTS} points; choose a longer step or a shorter time.",
                problem_zh=f"时间序列将超过 {MOST_POINTS} 个点；请加大步长或缩短时间范围。",
            )
        codes, names = outcome
        by_outcome = np.bincount(local * len(names) + codes, minlength=len(numbers) * len(names))
        by_outcome = by_outcome.reshape(len(numbers), len(names))
        width = _bucket_count(_COARSE)
        durations = np.bincount(local * width + _bucket(duration, _COARSE), minlength=len(numbers) * width)
        durations = durations.reshape(len(numbers), width).astype(np.uint32)
        for place, number in enumerate(numbers.tolist()):
            point = known[place]
            if point is None:
                point = self._points[number] = (Counter(), np.zeros(width, dtype=np.uint32))
            for code in np.flatnonzero(by_outcome[place]).tolist():
                point[0][names[code]] += int(by_outcome[place, code])
            point[1][:] += durations[place]

    def _add_pairs(
        self,
        client: tuple[Array, tuple[str, ...]],
        owner: tuple[Array, tuple[str, ...]],
        outcome: tuple[Array, tuple[str, ...]],
    ) -> None:
        """Keep caller, owner and outcome as one number each, and how often it occurs."""
        owners, outcomes = len(owner[1]), len(outcome[1])
        local = (client[0].astype(np.int64) * owners + owner[0]) * outcomes + outcome[0]
        space = len(client[1]) * owners * outcomes
        if space <= 1 << 20:
            counts = np.bincount(local, minlength=space)
            keys = np.flatnonzero(counts)
            counts = counts[keys]
        else:
            keys, counts = np.unique(local, return_counts=True)
        number_of = [
            np.array([self._number(name) for name in names], dtype=np.int64) for names in (client[1], owner[1])
        ]
        place = {name: at for at, name in enumerate(_OUTCOMES)}
        outcome_of = np.array([place.get(name, len(_OUTCOMES)) for name in outcome[1]], dtype=np.int64)
        pairs = number_of[0][keys // outcomes // owners] << _OWNER_BITS | number_of[1][keys // outcomes % owners]
        self._pairs.append((pairs << _OUTCOME_BITS | outcome_of[keys % outcomes], counts))

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _matrix(self) -> tuple[tuple[Pair, ...], Pair]:
        if not self._pairs:
            return (), _pair("", "", np.zeros(5, dtype=np.int64))
        keys, inverse = np.unique(np.concatenate([keys for keys, _ in self._pairs]), return_inverse=True)
        counts = np.zeros(len(keys), dtype=np.int64)
        np.add.at(counts, inverse, np.concatenate([counts for _, counts in self._pairs]))
        pairs, inverse = np.unique(keys >> _OUTCOME_BITS, return_inverse=True)
        table = np.zeros((len(pairs), len(_OUTCOMES) + 1), dtype=np.int64)
        table[inverse, keys & (1 << _OUTCOME_BITS) - 1] = counts
        names = list(self._numbers)
        totals = table.sum(axis=1).tolist()
        named = [(names[pair >> _OWNER_BITS], names[pair & (1 << _OWNER_BITS) - 1]) for pair in pairs.tolist()]
        order = sorted(range(len(pairs)), key=lambda place: (-totals[place], named[place]))
        shown = tuple([_pair(*named[place], table[place]) for place in order[:MOST_PAIRS]])
        return shown, _pair("", "", table[order[MOST_PAIRS:]].sum(axis=0))


def _pair(client: str, owner: str, counts: Array) -> Pair:
    answered, refused, failed, unknown, other = [int(count) for count in counts]
    return Pair(
        client=client,
        owner=owner,
        count=answered + refused + failed + unknown + other,
        answered=answered,
        refused=refused,
        failed=failed,
        unknown=unknown,
    )


def _distinct(values: Array) -> tuple[Array, NDArray[np.int64]]:
    """The different values, ascending, and for each value its place among them."""
    low, high = int(values.min()), int(values.max())
    if high - low > 1 << 16:
        found, places = np.unique(values, return_inverse=True)
        return found, places.astype(np.int64)
    there = np.bincount(values - low) > 0
    return np.flatnonzero(there) + low, (np.cumsum(there) - 1)[values - low]


def _chosen(column: Column, chosen: Array | None) -> NDArray[np.int64]:
    assert isinstance(column, NumberColumn)
    if chosen is None:
        return column.values
    return column.deltas[chosen].astype(np.int64) + column.base


def _chosen_codes(column: Column, chosen: Array | None) -> tuple[Array, tuple[str, ...]]:
    assert isinstance(column, TextColumn)
    assert column.names is not None
    return column.codes if chosen is None else column.codes[chosen], column.names


def _largest(counts: Counter[str], most: int | None = None) -> dict[str, int]:
    """Those with the most first; the empty name is left out."""
    found = sorted(((name, count) for name, count in counts.items() if name), key=lambda each: (-each[1], each[0]))
    return dict(found[:most])


def _step_numbers(step: Step, at: Array) -> Array:
    """The number of the step in which each instant lies."""
    if step in ("minute", "hour"):
        return at // _STEP_MS[step]
    days = (at + _CHINA_MS) // _STEP_MS["day"]
    return days if step == "day" else days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _start_ms(step: Step, number: int) -> int:
    if step in ("minute", "hour"):
        return number * _STEP_MS[step]
    day = number
    if step == "month":
        day = int(np.int64(number).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64))
    return day * _STEP_MS["day"] - _CHINA_MS


def _bucket(values: Array, bits: int) -> Array:
    """The bucket of each value: itself if it is small, else its exponent and the first `bits` bits after it."""
    exact = 1 << bits
    shifted = values.astype(np.float64).view(np.int64) >> 52 - bits
    return np.where(values < exact, values, shifted - ((1023 + bits - 1) << bits))


def _bucket_count(bits: int) -> int:
    return int(_bucket(np.array([(1 << 53) - 1]), bits)[0]) + 1


def _middle(bucket: int, bits: int) -> int:
    """The middle of the values of a bucket."""
    exact = 1 << bits
    if bucket < exact:
        return bucket
    shift, rest = divmod(bucket, exact)
    low = (exact + rest) << shift - 1
    return low + ((1 << shift - 1) - 1) // 2


def _percentile(counts: Array, percent: int, bits: int, largest: int) -> int:
    """Of the nearest rank."""
    below = np.cumsum(counts, dtype=np.int64)
    total = int(below[-1])
    if not total:
        return 0
    rank = -(-total * percent // 100)
    return min(_middle(int(np.searchsorted(below, rank)), bits), largest)
