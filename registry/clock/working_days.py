"""Working days in China, as the State Council's yearly notices move them.

Rules:
1. Monday to Friday are working days unless a notice frees them; Saturday and Sunday are not, unless a notice moves work
   onto them.
2. The notices are those that the library `holidays` holds, and over them those in a file of our own: what the file says of a
   day counts. Of a year that the library does not hold, only the file counts, and it must list every day off.
3. Counting begins the day after receipt: the n-th working day after it is the due day.
4. The published calendar ends with the last year in an unbroken row of years with a notice. A day after that end is
   provisional, and so is whatever was counted across it: until the notice comes it rests on the holidays of the law, unmoved.
5. A day in late December of the last published year is not provisional. Next year's notice has moved such days (2018-12-29
   was worked and 2018-12-31 was off, said on 2018-12-06). But every published day can be changed by a later notice, as the
   Spring Festival of 2020 was; `provisional` says that no notice covers the day, nothing more. And next year's notice comes
   in November or early December as a rule, so a flag on late December would say nothing on the days when it matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final

from exchange import UnprocessableError

if TYPE_CHECKING:
    from holidays import HolidayBase

RULE: Final = "working-days"
"""What errors about the calendar name."""
_YEARS_AHEAD: Final = 5
"""How many years past the published calendar are counted at all; nothing is owed later than that."""
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a notice says of the days it names."""

    year: int
    working: Mapping[date, bool]
    """Day -> whether it is a working day."""


class Calendar:
    """Which days are working days. The library is loaded when it is first asked, which takes a moment.

    Args:
        notices: Those of a file, in its order: a later one wins over an earlier one.
    """

    def __init__(self, notices: Sequence[Notice] = ()) -> None:
        self._named = {day: works for notice in notices for day, works in notice.working.items()}
        self._noticed = {notice.year for notice in notices}
        self._years: dict[int, HolidayBase] = {}
        self._published: tuple[date, date] | None = None

    @property
    def begins(self) -> date:
        """The first day that can be counted."""
        return self._span()[0]

    @property
    def published_until(self) -> date:
        """The last day that a notice covers."""
        return self._span()[1]

    def is_working_day(self, day: date) -> bool:
        """Whether people in offices work on that day; raises UnprocessableError far outside the calendar."""
        first, until = self._span()
        if not first <= day or day.year > until.year + _YEARS_AHEAD:
            raise UnprocessableError(
                RULE,
                problem=f"Working days are known from {first} on and estimated until {until.year + _YEARS_AHEAD}-12-31; "
                f"{day} lies outside.",
                problem_zh=f"工作日历自 {first} 起已知，推算至 {until.year + _YEARS_AHEAD}-12-31；{day} 超出范围。",
            )
        named = self._named.get(day)
        if named is not None:
            return named
        if day.year in self._noticed and day.year not in library_years():
            return day.weekday() < 5  # the notice lists every day off: what it does not name is as in any week
        return self._library(day.year).is_working_day(day)

    def add_working_days(self, day: date, n: int) -> tuple[date, bool]:
        """The `n`-th working day after `day` (n >= 1), and whether that is provisional.

        Raises:
            ValueError: `n` is below 1.
            UnprocessableError: The count leaves the calendar.
        """
        if n < 1:
            raise ValueError("at least one working day is counted")
        self.is_working_day(day)  # refuses a day outside the calendar by its own name
        left = n
        while left:
            day += _DAY
            left -= self.is_working_day(day)
        return day, day > self.published_until

    def working_days_between(self, start: date, end: date) -> int:
        """How many working days follow `start` up to and including `end`; negative the other way round."""
        if end < start:
            return -self.working_days_between(end, start)
        return sum(self.is_working_day(start + _DAY * each) for each in range(1, (end - start).days + 1))

    def moved_days(self, start: date, end: date) -> MovedDays:
        """What is unlike any other week after `start` up to and including `end`: it explains a count."""
        days = [start + _DAY * each for each in range(1, (end - start).days + 1)]
        return MovedDays(
            worked=tuple(day for day in days if day.weekday() >= 5 and self.is_working_day(day)),
            off=tuple(day for day in days if day.weekday() < 5 and not self.is_working_day(day)),
        )

    def _span(self) -> tuple[date, date]:
        if self._published is None:
            known = library_years() | self._noticed
            first = last = min(library_years())
            while last + 1 in known:
                last += 1
            self._published = date(first, 1, 1), date(last, 12, 31)
        return self._published

    def _library(self, year: int) -> HolidayBase:
        found = self._years.get(year)
        if found is None:
            # With the year after: its notice may move work onto this year's last days.
            found = self._years[year] = library_holidays(year, year + 1)
        return found


@dataclass(frozen=True, slots=True)
class MovedDays:
    """Days on which offices do other than the day of the week says."""

    worked: tuple[date, ...]
    """Saturdays and Sundays that are working days."""
    off: tuple[date, ...]
    """Mondays to Fridays that are not."""


@cache
def library_years() -> frozenset[int]:
    """The years whose notices the library holds: its own table of moved days says how far it goes."""
    return frozenset(getattr(library_holidays(2025), "special_public_holidays"))  # noqa: B009  # not in its types


def library_holidays(*years: int, observed: bool = True) -> HolidayBase:
    """The library's days off in these years.

    Args:
        observed: False leaves the holidays of the law, on the days the law names.
    """
    from holidays import country_holidays  # slow to load, and most programs never count days

    return country_holidays("CN", years=years, observed=observed)
