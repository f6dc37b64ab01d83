"""What somebody owes until a deadline, kept as it was when it began: days, basis, jurisdiction, due day. Pure.

Rules:
1. A duty keeps the days and the basis it began with: a jurisdiction that changes its rules changes no duty under way.
2. Its due day changes only when it goes on after a pause, or when a provisional one is counted again.
3. Missing a deadline does not end a duty: it is late until it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Literal

from exchange import Language
from registry.clock.deadlines import Clock, Countdown, Pause, china_day
from registry.clock.jurisdictions import DisputeLevel, Duty, Term
from registry.clock.working_days import Calendar

End = Literal["", "done", "void"]
"""`void`: nothing is owed any more, such as an answer to an application that was withdrawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """One duty, who answers for it, and where its clock stands."""

    duty: Duty | DisputeLevel
    responsible: str
    """The subsystem that answers for it, or `authority`, `government`, `parties`."""
    jurisdiction: str
    basis: Mapping[Language, str]
    working_days: int
    received: datetime
    """From the day after it is counted."""
    pauses: tuple[Pause, ...] = ()
    due_date: date | None = None
    """None while the clock stands."""
    due_at: datetime | None = None
    provisional: bool = False
    ended_at: datetime | None = None
    end: End = ""
    miss: str = ""
    """Id of its line in the ledger of misses."""

    @property
    def open(self) -> bool:
        return not self.end

    def countdown(self, calendar: Calendar, now: datetime) -> Countdown | None:
        """Where its clock stands; None once it has ended."""
        return self._clock().countdown(calendar, now) if self.open else None

    def taken(self, calendar: Calendar, at: datetime) -> int:
        """Working days from the day after receipt up to and including that of `at`, without those on which the clock stood."""
        start, gone = china_day(self.received), 0
        for pause in self.pauses:
            asked = china_day(pause.begins)
            gone += max(0, calendar.working_days_between(start, asked) - calendar.is_working_day(asked))
            if pause.ends is None:
                return gone
            start = china_day(pause.ends)
        return gone + calendar.working_days_between(start, china_day(at))

    def is_late(self, at: datetime) -> bool:
        """Whether it was not done in time, had it been done at `at`."""
        return self.due_at is not None and at >= self.due_at

    def paused(self, calendar: Calendar, at: datetime) -> Owed:
        """The clock stands from now on; one that had run out goes on being late."""
        return self._with_pauses((*self.pauses, Pause(begins=at)), calendar)

    def resumed(self, calendar: Calendar, at: datetime) -> Owed:
        """The clock goes on."""
        *before, last = self.pauses
        return self._with_pauses((*before, replace(last, ends=at)), calendar)

    def counted_again(self, calendar: Calendar) -> Owed:
        """As the calendar has it now; the same when nothing changed, or when it was not provisional."""
        return self._with_pauses(self.pauses, calendar) if self.provisional and self.open else self

    def ended(self, at: datetime, end: End = "done") -> Owed:
        return replace(self, ended_at=at, end=end)

    def _clock(self) -> Clock:
        return Clock(received=self.received, working_days=self.working_days, pauses=self.pauses)

    def _with_pauses(self, pauses: tuple[Pause, ...], calendar: Calendar) -> Owed:
        changed = replace(self, pauses=pauses)
        deadline = changed._clock().deadline(calendar)
        if deadline is None:
            return replace(changed, due_date=None, due_at=None, provisional=False)
        return replace(changed, due_date=deadline.due_date, due_at=deadline.due_at, provisional=deadline.provisional)


def begin(calendar: Calendar, duty: Duty | DisputeLevel, responsible: str, term: Term, received: datetime) -> Owed:
    """A duty that begins with what was received at that instant."""
    started = Owed(
        duty=duty,
        responsible=responsible,
        jurisdiction=term.jurisdiction,
        basis=dict(term.basis),
        working_days=term.days,
        received=received,
    )
    return started._with_pauses((), calendar)
