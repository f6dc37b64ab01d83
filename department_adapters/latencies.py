"""How long answers took: quantiles of the last minutes, at the cost of one addition an answer.

Times are counted in buckets an eighth of a power of two wide, as in an HDR histogram: a quantile is at most an eighth too
high, and never too low.
"""

from __future__ import annotations

import itertools
from typing import Final

_BUCKETS: Final = 256
"""Up to 2**34 microseconds, more than four hours."""
PERIOD: Final = 300.0
"""Seconds: quantiles are of what was answered in the running period and the one before it."""


class Latencies:
    """Times in nanoseconds, noted at a moment that never goes back (seconds)."""

    __slots__ = ("_before", "_running", "_until")

    def __init__(self) -> None:
        self._running = [0] * _BUCKETS
        self._before = [0] * _BUCKETS
        self._until = 0.0

    def note(self, took: int, now: float) -> None:
        """Count one answer that took `took` nanoseconds."""
        if now >= self._until:
            self._begin(now)
        micros = took // 1000
        bits = micros.bit_length()
        self._running[micros if bits <= 4 else min(((bits - 4) << 3) + (micros >> (bits - 4)), _BUCKETS - 1)] += 1

    def quantile(self, share: float, now: float) -> float | None:
        """Milliseconds within which this share of the answers of the last minutes was given; None without answers."""
        if now >= self._until:
            self._begin(now)
        counts = [one + two for one, two in zip(self._running, self._before, strict=True)]
        wanted = share * sum(counts)
        if not wanted:
            return None
        reached = next(bucket for bucket, so_far in enumerate(itertools.accumulate(counts)) if so_far >= wanted)
        return _upper(reached) / 1000

    def _begin(self, now: float) -> None:
        quiet = now >= self._until + PERIOD
        self._before = [0] * _BUCKETS if quiet else self._running
        self._running = [0] * _BUCKETS
        self._until = now + PERIOD


def _upper(bucket: int) -> int:
    """The most microseconds that fall into a bucket."""
    if bucket < 16:
        return bucket
    octave, eighth = divmod(bucket - 8, 8)
    return ((eighth + 9) << octave) - 1
