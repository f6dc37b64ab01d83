"""The arithmetic of quotas against the long way of counting: every stretch of one second, every day in China."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.quotas.counting import SECOND, Counts, day_of

NOON = int(datetime.fromisoformat("2026-05-04T12:00:00+08:00").timestamp()) * SECOND
DAY = 86400 * SECOND


def china(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+08:00").timestamp() * SECOND)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(min_value=0, max_value=700_000), min_size=1, max_size=120),
    st.integers(min_value=1, max_value=7),
)
def test_no_stretch_of_one_second_holds_more_than_the_quota_and_none_is_refused_without_need(
    gaps: list[int], quota: int
) -> None:
    counts = Counts("g1")
    accepted: list[int] = []
    at = NOON
    for gap in gaps:
        at += gap
        verdict = counts.ask(quota, 0, at, at)
        # The long way: of a stretch that ends with this call, both ends included.
        fits = sum(at - SECOND <= each for each in accepted) < quota
        assert (verdict.refused is None) == fits
        assert verdict.state.remaining_second == quota - sum(at - SECOND <= each for each in accepted) - fits
        if fits:
            accepted.append(at)
        # As the row in the database would hold it.
        counts = Counts(
            "g1",
            day=counts.day,
            used=counts.used,
            accepted=counts.accepted,
            newest=counts.newest,
            instants=counts.packed(),
        )
    assert counts.accepted == len(accepted)
    for start in accepted:
        assert sum(start <= each <= start + SECOND for each in accepted) <= quota
    assert len(counts.instants) <= quota


def test_after_retry_after_there_is_room() -> None:
    counts = Counts("g1")
    for offset in (0, 200_000, 999_999):
        assert counts.ask(3, 0, NOON + offset, NOON + offset).refused is None
    refused = counts.ask(3, 0, NOON + SECOND, NOON + SECOND)
    assert (refused.refused, refused.retry_after) == ("quota-second", 1)
    later = NOON + SECOND + refused.retry_after * SECOND
    assert counts.ask(3, 0, later, later).refused is None


def test_a_day_lasts_from_midnight_to_midnight_in_china() -> None:
    counts = Counts("g1")
    last = china("2026-05-04T23:59:59.5")
    assert [counts.ask(0, 2, last, last).refused for _ in range(3)] == [None, None, "quota-day"]
    assert counts.ask(0, 2, last, last).retry_after == 1
    assert counts.ask(0, 2, china("2026-05-05T00:00:00"), NOON + DAY).refused is None
    assert counts.ask(0, 2, china("2026-05-05T09:00:00"), NOON + DAY).state.reset_day == 15 * 3600


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [("2026-05-04T00:00:00", 86400), ("2026-05-04T23:59:59.999", 1), ("2026-05-04T15:59:59", 28801)],
)
def test_a_used_up_day_says_when_the_next_begins(moment: str, seconds: int) -> None:
    counts = Counts("g1")
    clock = china(moment)
    assert counts.ask(0, 1, clock, clock).refused is None
    assert counts.ask(0, 1, clock, clock).retry_after == seconds


def test_a_refused_call_leaves_no_trace() -> None:
    counts = Counts("g1")
    assert counts.ask(1, 10, NOON, NOON).refused is None
    before = (counts.used, counts.accepted, counts.newest, counts.packed())
    assert counts.ask(1, 10, NOON + 5, NOON + 5).refused == "quota-second"
    assert (counts.used, counts.accepted, counts.newest, counts.packed()) == before


def test_the_day_is_told_when_both_are_used_up() -> None:
    counts = Counts("g1")
    assert counts.ask(1, 1, NOON, NOON).refused is None
    assert counts.ask(1, 1, NOON, NOON).refused == "quota-day"


def test_new_terms_find_what_was_used() -> None:
    counts = Counts("g1")
    for _ in range(5):
        assert counts.ask(5, 5, NOON, NOON).refused is None
    assert counts.ask(3, 3, NOON, NOON).state.remaining_day == 0
    assert [counts.ask(6, 6, NOON, NOON).refused for _ in range(2)] == [None, "quota-day"]
    smaller = NOON + SECOND + 1
    assert counts.ask(2, 100, smaller, smaller).state.remaining_second == 1


def test_a_clock_set_back_over_midnight_does_not_give_the_day_again() -> None:
    counts = Counts("g1")
    after = china("2026-05-05T00:10:00")
    assert counts.ask(0, 1, after, after).refused is None
    back = china("2026-05-04T23:50:00")
    refused = counts.ask(0, 1, back, after)
    assert refused.refused == "quota-day"
    assert refused.retry_after == 86400 + 600
    again = china("2026-05-05T00:00:01")
    assert counts.ask(0, 1, again, after).refused == "quota-day"


def test_a_clock_that_was_years_ahead_does_not_close_a_grant_for_years() -> None:
    counts = Counts("g1", day=day_of(NOON) + 20_000, used=1, accepted=1, newest=NOON + 20_000 * DAY)
    assert counts.ask(0, 2, NOON, counts.newest).refused is None, "what was used stays used"
    assert counts.ask(0, 2, NOON, counts.newest).refused == "quota-day"
    assert counts.ask(0, 2, NOON + DAY, counts.newest).refused is None


def test_without_a_quota_per_second_no_instants_are_kept() -> None:
    counts = Counts("g1")
    for _ in range(1000):
        assert counts.ask(0, 5000, NOON, NOON).refused is None
    assert counts.packed() == b""
    state = counts.state(0, 5000, NOON)
    assert (state.remaining_second, state.remaining_day) == (None, 4000)
    assert counts.state(7, 0, NOON).remaining_day is None
