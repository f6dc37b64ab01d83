"""Instants and identifiers: the cheap forms equal the obvious ones."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import Entropy, Rfc3339, parse_rfc3339, uuid7

DAY = 86_400_000
YEAR_9999 = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1000)


@given(moments=st.lists(st.integers(0, YEAR_9999), min_size=1, max_size=5))
def test_a_formatted_instant_is_read_back(moments: list[int]) -> None:
    text = Rfc3339()
    for unix_ms in moments:
        expected = datetime.fromtimestamp(unix_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        assert text(unix_ms) == f"{expected}.{unix_ms % 1000:03d}Z"
        assert parse_rfc3339(text(unix_ms)) == unix_ms


@given(
    moment=st.integers(DAY, YEAR_9999 - 2 * DAY).map(lambda unix_ms: datetime.fromtimestamp(unix_ms / 1000, UTC)),
    offset=st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_an_instant_with_any_offset_is_the_same_instant(moment: datetime, offset: timezone) -> None:
    aware = moment.replace(tzinfo=offset)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_rfc3339(aware.isoformat()) == since // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "unix_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T08:00:00+08:00", 0),
        ("2024-02-29T23:59:59.9999Z", 1709251199999),
        ("0001-01-01T00:00:00+23:59", -62135683140000),
        ("9999-12-31T23:59:59-23:59", 253402387139000),
    ],
)
def test_the_ends_of_the_calendar_are_read(text: str, unix_ms: int) -> None:
    assert parse_rfc3339(text) == unix_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-02T03:04:05",  # no offset
        "2026-01-02T03:04:05+08",
        "2026-01-02 03:04:05Z",
        "20260102T030405Z",
        "2026-W01-1T00:00:00Z",
        "2026-01-02T03:04Z",
        "2026-13-02T03:04:05Z",
        "2026-02-29T03:04:05Z",
        "2026-01-02T24:00:01Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05Z ",
        "２026-01-02T03:04:05Z",
        "2026-01-02T03:04:05+99:99",
        "2026-01-02T03:04:05Z" * 1000,
    ],
)
def test_anything_else_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|must be in|isoformat|out of range|strictly between"):
        parse_rfc3339(text)


@given(unix_ms=st.integers(0, 2**48 - 1))
def test_a_uuid_is_one_of_version_7_with_its_time(unix_ms: int) -> None:
    text = uuid7(unix_ms, Entropy())
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == unix_ms


def test_uuids_of_one_millisecond_differ_and_later_ones_sort_behind() -> None:
    entropy = Entropy()
    ids = [uuid7(1_700_000_000_000, entropy) for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert max(ids) < uuid7(1_700_000_000_001, entropy)


@given(counts=st.lists(st.integers(1, 64), max_size=300))
def test_entropy_is_as_long_as_asked_and_never_given_twice(counts: list[int]) -> None:
    entropy = Entropy()
    drawn = [entropy.draw(count) for count in counts]
    assert [len(each) for each in drawn] == counts
    long = [each for each in drawn if len(each) >= 8]
    assert len(set(long)) == len(long)
    assert not any(re.fullmatch(rb"\0+", each) for each in long)
