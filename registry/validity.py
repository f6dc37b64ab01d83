"""From when until when: dates and instants that people write in seeds and commands. Pure.

A plain date means the day in China (UTC+8, no summer time): a grant until 2027-12-31 still holds on that day. An
instant carries its offset; one without is refused, because guessing would move a grant's end by hours.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

CHINA = timezone(timedelta(hours=8))


def begins(value: str | date) -> datetime:
    """The instant from which something holds that begins at `value`; raises ValueError."""
    return _instant(value, timedelta(0))


def ends(value: str | date) -> datetime:
    """The instant from which something no longer holds that is valid until `value`; raises ValueError."""
    return _instant(value, timedelta(days=1))


def _instant(value: str | date, after_the_date: timedelta) -> datetime:
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is neither a date (2027-12-31) nor an instant with its offset") from error
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=CHINA).astimezone(UTC) + after_the_date
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no offset; write {value.isoformat()}+08:00, or the date alone")
    return value.astimezone(UTC)
