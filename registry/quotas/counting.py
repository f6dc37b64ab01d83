"""How often a grant was used and may still be: the arithmetic of quotas. Pure.

Rules:
1. A quota per second holds in every stretch of one second, not in the seconds of a clock on the wall: the instants of the
   newest calls are kept, and a call is accepted when fewer than the quota lie within the second before it.
2. A quota per day holds from midnight to midnight in China.
3. Time never goes back. A clock that was set back stands, as far as a grant is concerned, at its newest call; then it goes on as
   fast as time truly passed since somebody first saw that call there. So a clock that goes back costs patience, never a quota.
   (A clock that is set forward lets time pass, as it does everywhere.)
4. A refused call leaves no trace. When the terms of a grant change, what was used stays used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal

from registry.validity import CHINA

SECOND: Final = 1_000_000
"""Instants are microseconds since 1970."""
_DAY: Final = 86400 * SECOND
_CHINA: Final = int(CHINA.utcoffset(None).total_seconds()) * SECOND

QuotaRule = Literal["quota-second", "quota-day"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaState:
    """What the quotas of a grant stand at, right after a call was accepted or refused."""

    per_second: int
    """0: there is no such quota; the same holds for `per_day`."""
    per_day: int
    remaining_second: int | None
    """Calls that would be accepted now; None when there is no such quota."""
    remaining_day: int | None
    reset_day: int
    """Seconds, rounded up, until midnight in China."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call was accepted."""

    state: QuotaState
    refused: QuotaRule | None
    retry_after: int
    """Seconds, rounded up, after which a refused call may be accepted; 0 for an accepted one."""


class Counts:
    """What calls have used under one grant, as its row in the database holds it.

    Args:
        day: Day number in China, since 1970; `used` counts its calls.
        accepted: How many were ever accepted while the row has been there: it tells whether the row changed.
        newest: Instant of the newest call, 0 if there was none.
        instants: Of the newest calls under a quota per second, oldest first; older than a second they may be missing.
    """

    __slots__ = ("accepted", "day", "grant", "instants", "newest", "used")

    def __init__(
        self, grant: str, *, day: int = 0, used: int = 0, accepted: int = 0, newest: int = 0, instants: bytes = b""
    ) -> None:
        self.grant = grant
        self.day = day
        self.used = used
        self.accepted = accepted
        self.newest = newest
        self.instants = list(struct.unpack(f">{len(instants) // 8}q", instants))

    def packed(self) -> bytes:
        """The instants as the row holds them."""
        return struct.pack(f">{len(self.instants)}q", *self.instants)

    def ask(self, per_second: int, per_day: int, clock: int, at: int) -> Verdict:
        """Accept a call or refuse it.

        Args:
            per_second: 0: there is no such quota; the same for `per_day`.
            clock: What the clock shows: it decides the day.
            at: Where time stands for this grant (rule 3), not before `newest`.
        """
        self.settle(clock, at)
        within = len(self.instants)
        if per_day and self.used >= per_day:
            return Verdict(self.state(per_second, per_day, clock), "quota-day", self._until_midnight(clock))
        if per_second and within >= per_second:
            # The microsecond more that rule 1 asks for passes while the refusal is told.
            wait = self.instants[within - per_second] + SECOND - at
            return Verdict(self.state(per_second, per_day, clock), "quota-second", _seconds(wait))
        self.used += 1
        self.accepted += 1
        self.newest = at
        if per_second:
            self.instants.append(at)
        return Verdict(self.state(per_second, per_day, clock), None, 0)

    def settle(self, clock: int, at: int) -> None:
        """Let go of what is over."""
        self._turn_the_day(clock)
        self._forget(at)

    def state(self, per_second: int, per_day: int, clock: int) -> QuotaState:
        """How quotas of this size stand, after `settle`."""
        return QuotaState(
            per_second=per_second,
            per_day=per_day,
            remaining_second=max(0, per_second - len(self.instants)) if per_second else None,
            remaining_day=max(0, per_day - self.used) if per_day else None,
            reset_day=self._until_midnight(clock),
        )

    def _turn_the_day(self, clock: int) -> None:
        today = day_of(clock)
        if self.day < today:
            self.day, self.used = today, 0
        elif self.day > today + 1:
            # No clock is set back by days: it was wrong before. The count stays, or that error would have given it twice.
            self.day = today

    def _forget(self, at: int) -> None:
        """A stretch of one second has both its ends: an instant exactly one second old still counts."""
        instants = self.instants
        fresh = 0
        while fresh < len(instants) and at - instants[fresh] > SECOND:
            fresh += 1
        if fresh:
            del instants[:fresh]

    def _until_midnight(self, clock: int) -> int:
        return _seconds((self.day + 1) * _DAY - _CHINA - clock)


def day_of(clock: int) -> int:
    """The number of the day in China, since 1970."""
    return (clock + _CHINA) // _DAY


def _seconds(stretch: int) -> int:
    return max(1, -(-stretch // SECOND))
