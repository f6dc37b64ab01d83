"""Deadlines counted in working days, and clocks that stop while somebody else is to act. Pure, but for the calendar's loading.

Rules:
1. Days are days in China (UTC+8). What is received at any time of a day is counted from the day after.
2. A deadline is met until the end of its day; the next instant is late.
3. While the applicant is asked for more, the clock stands. Neither the day of the question counts, nor that of the reply: the
   owner has the file for whole days only, and the day after a reply counts like the day after receipt.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from registry.clock.working_days import Calendar
from registry.validity import CHINA, ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """When something is due."""

    due_date: date
    """The last day on which it is in time, in China."""
    due_at: datetime
    """The end of that day: the first instant that is late, in UTC."""
    working_days: int
    """How many were counted."""
    provisional: bool
    """No notice of the State Council covers that day yet: it may move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Countdown:
    """Where a clock stands at one moment."""

    state: Literal["running", "stopped", "late"]
    left: int
    """Working days after today until the due day; 0 on that day itself, and when it is late. Of a stopped clock: still to come."""
    late_by: int
    """Whole working days that have begun since the due day; 0 while it is not late."""
    deadline: Deadline | None
    """None while the clock stands: it depends on when it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """From a question until its reply."""

    begins: datetime
    ends: datetime | None = None
    """None while nobody has replied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Working days that run from a receipt, but for its pauses.

    Raises:
        ValueError: Pauses that overlap, run backwards, begin before the receipt, or follow one that has not ended.
    """

    received: datetime
    working_days: int
    pauses: tuple[Pause, ...] = ()

    def __post_init__(self) -> None:
        if self.working_days < 1:
            raise ValueError("a clock runs for one working day at least")
        before: datetime | None = self.received
        for pause in self.pauses:
            if before is None or pause.begins < before or (pause.ends is not None and pause.ends < pause.begins):
                raise ValueError("pauses follow the receipt and each other, and end after they begin")
            before = pause.ends

    def deadline(self, calendar: Calendar) -> Deadline | None:
        """When it runs out; None if it stands before that."""
        start, left = self._rest(calendar)
        if start is None:
            return None
        found = deadline_after(calendar, start, left)
        return Deadline(
            due_date=found.due_date,
            due_at=found.due_at,
            working_days=self.working_days,
            provisional=found.provisional,
        )

    def countdown(self, calendar: Calendar, now: datetime) -> Countdown:
        """Where it stands at `now`, which is not before its last pause."""
        due = self.deadline(calendar)
        if due is None:
            return Countdown(state="stopped", left=self._rest(calendar)[1], late_by=0, deadline=None)
        return countdown(calendar, due, now)

    def _rest(self, calendar: Calendar) -> tuple[date | None, int]:
        """The day after which the rest is counted (None while it stands), and how many working days that is."""
        start, left = china_day(self.received), self.working_days
        for pause in self.pauses:
            asked = china_day(pause.begins)
            ran = max(0, calendar.working_days_between(start, asked) - calendar.is_working_day(asked))
            if ran >= left:
                break  # it had run out before the question
            left -= ran
            if pause.ends is None:
                return None, left
            start = china_day(pause.ends)
        return start, left


def deadline_after(calendar: Calendar, received: date | datetime, working_days: int) -> Deadline:
    """When something received then is due.

    Args:
        received: A day in China, or an instant.
        working_days: At least 1.

    Raises:
        UnprocessableError: It leaves the calendar.
    """
    due, provisional = calendar.add_working_days(china_day(received), working_days)
    return Deadline(due_date=due, due_at=ends(due), working_days=working_days, provisional=provisional)


def countdown(calendar: Calendar, deadline: Deadline, now: datetime) -> Countdown:
    """Working days left, or late."""
    today = china_day(now)
    late = now >= deadline.due_at
    between = calendar.working_days_between(today, deadline.due_date)
    return Countdown(
        state="late" if late else "running",
        left=0 if late else between,
        late_by=-between if late else 0,
        deadline=deadline,
    )


def china_day(moment: date | datetime) -> date:
    """The day in China at an instant; a plain date is one already."""
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise ValueError("an instant without an offset has no day")
    return moment.astimezone(CHINA).date()
