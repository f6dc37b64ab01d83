"""Quantiles of times: never too low, at most an eighth too high, and of the last minutes only."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from department_adapters.latencies import PERIOD, Latencies

TIMES = st.lists(st.integers(1000, 3_600_000_000_000), min_size=1, max_size=200)


@given(times=TIMES, share=st.sampled_from([0.5, 0.95, 1.0]))
def test_a_quantile_is_at_most_an_eighth_above_the_true_one(times: list[int], share: float) -> None:
    latencies = Latencies()
    for took in times:
        latencies.note(took, 10.0)
    true = sorted(times)[math.ceil(share * len(times)) - 1] / 1e6
    found = latencies.quantile(share, 10.0)
    assert found is not None
    assert true - 0.001 <= found <= true * 1.125 + 0.001


def test_what_is_older_than_two_periods_is_forgotten() -> None:
    latencies = Latencies()
    assert latencies.quantile(0.5, 0.0) is None
    latencies.note(1_000_000, 0.0)
    latencies.note(9_000_000, PERIOD + 1)
    assert latencies.quantile(0.5, PERIOD + 1) == 1.023
    assert latencies.quantile(0.5, 2 * PERIOD + 2) == 9.215
    assert latencies.quantile(0.5, 5 * PERIOD) is None


def test_a_time_beyond_all_measure_is_counted() -> None:
    latencies = Latencies()
    latencies.note(1 << 80, 0.0)
    assert latencies.quantile(0.5, 0.0) == ((1 << 34) - 1) / 1000
