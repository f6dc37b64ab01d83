"""When the end of a certificate is near enough to be told. Pure; all times are Unix seconds."""

from __future__ import annotations

from typing import Final

ALARM_DAYS: Final = (30, 7, 1)
DAY: Final = 86_400.0


def expiry_alarm(not_before: float, not_after: float, now: float) -> int | None:
    """The alarm a certificate deserves now: 30, 7 or 1 (days left, at most), 0 if it has ended, None if all is well.

    A life shorter than the alarm is no reason for it: nothing is said before two thirds have passed.
    """
    if now > not_after:
        return 0
    if now < expiry_alarms_begin(not_before, not_after):
        return None
    left = (not_after - now) / DAY
    return min((days for days in ALARM_DAYS if left <= days), default=None)


def expiry_alarms_begin(not_before: float, not_after: float) -> float:
    """From when on `expiry_alarm` says something."""
    return max(not_before + (not_after - not_before) * 2 / 3, not_after - max(ALARM_DAYS) * DAY)
