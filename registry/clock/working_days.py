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
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from exchange import TomlSource, UnprocessableError, read_toml

if TYPE_CHECKING:
    from holidays import HolidayBase

_RULE: Final = "working-days"
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
                _RULE,
                problem=f"Working days are known from {first} on and estimated until {until.year + _YEARS_AHEAD}-12-31; "
                f"{day} lies outside.",
                problem_zh=f"工作日历自 {first} 起已知，推算至 {until.year + _YEARS_AHEAD}-12-31；{day} 超出范围。",
            )
        named = self._named.get(day)
        if named is not None:
            return named
        if day.year in self._noticed and day.year not in _library_years():
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
            known = _library_years() | self._noticed
            first = last = min(_library_years())
            while last + 1 in known:
                last += 1
            self._published = date(first, 1, 1), date(last, 12, 31)
        return self._published

    def _library(self, year: int) -> HolidayBase:
        found = self._years.get(year)
        if found is None:
            # With the year after: its notice may move work onto this year's last days.
            found = self._years[year] = _holidays(year, year + 1)
        return found


@dataclass(frozen=True, slots=True)
class MovedDays:
    """Days on which offices do other than the day of the week says."""

    worked: tuple[date, ...]
    """Saturdays and Sundays that are working days."""
    off: tuple[date, ...]
    """Mondays to Fridays that are not."""


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _NoticeEntry(_Model):
    year: int = Field(ge=2001, le=2099)
    title: str = Field(min_length=1)
    days_off: list[list[date]] = Field(default_factory=list)
    working: list[date] = Field(default_factory=list)


class _NoticeFile(_Model):
    notices: list[_NoticeEntry]


@dataclass
class _Reading:
    """The entries of a file, one after the other."""

    source: TomlSource
    days_off: dict[int, set[date]] = field(default_factory=dict)

    def notice(self, index: int, entry: _NoticeEntry) -> Notice:
        working: dict[date, bool] = {}
        for position, stretch in enumerate(entry.days_off):
            if len(stretch) not in (1, 2) or stretch[0] > stretch[-1]:
                raise self._wrong(
                    index,
                    "days_off",
                    position,
                    "write one day, or the first and the last of a stretch: [2027-10-01, 2027-10-07].",
                    "请写一天，或起止两天：[2027-10-01, 2027-10-07]。",
                )
            for number in range((stretch[-1] - stretch[0]).days + 1):
                day = stretch[0] + _DAY * number
                self._check_year(index, entry.year, "days_off", position, day)
                working[day] = False
        for position, day in enumerate(entry.working):
            self._check_year(index, entry.year, "working", position, day)
            if day in working:
                raise self._wrong(
                    index, "working", position, f"{day} is among the days off, too.", f"{day} 同时列为放假。"
                )
            if day.weekday() < 5 and not self._is_freed(entry.year, day):
                raise self._wrong(
                    index,
                    "working",
                    position,
                    f"{day} is no Saturday or Sunday, nor was it a day off: it is worked anyway.",
                    f"{day} 不是周末，也未被列为放假，本来就上班。",
                )
            working[day] = True
        self.days_off.setdefault(entry.year, set()).update(day for day, works in working.items() if not works)
        return Notice(year=entry.year, working=working)

    def check_complete(self, index: int, year: int) -> None:
        """Refuse a year that only the file knows when a holiday of the law is missing: the whole year would be wrong."""
        if year in _library_years():
            return
        missing = sorted(day for day in _holidays(year, observed=False) if day not in self.days_off[year])
        if missing:
            raise self._wrong(
                index,
                "days_off",
                None,
                f"every day off of {year} must be listed, because nothing else is known of it; {missing[0]} is missing.",
                f"{year} 年尚无其他日历数据，须列出全部放假日；缺少 {missing[0]}。",
            )

    def _is_freed(self, year: int, day: date) -> bool:
        if day in self.days_off.get(year, ()):
            return True
        return day.year in _library_years() and not _holidays(day.year, day.year + 1).is_working_day(day)

    def _check_year(self, index: int, year: int, key: str, position: int, day: date) -> None:
        # A notice may reach back into December, when it frees days before New Year's Day or moves work there.
        if day.year != year and (day.year, day.month) != (year - 1, 12):
            raise self._wrong(
                index,
                key,
                position,
                f"{day} is neither in {year} nor in the December before.",
                f"{day} 不在 {year} 年，也不在上年 12 月。",
            )

    def _wrong(self, index: int, key: str, position: int | None, problem: str, zh: str) -> UnprocessableError:
        location = ("notices", index, key) if position is None else ("notices", index, key, position)
        return self.source.refuse(_RULE, location, problem, zh)


def read_calendar(path: Path | None = None) -> Calendar:
    """The calendar, with the notices in a TOML file (docs/clock.md) over what the library holds.

    Raises:
        UnprocessableError: The file breaks the format, or contradicts itself; the message names the line and the key.
    """
    if path is None:
        return Calendar()
    content, source = read_toml(path, _NoticeFile, _RULE)
    reading = _Reading(source)
    notices = [reading.notice(index, entry) for index, entry in enumerate(content.notices)]
    for index, entry in enumerate(content.notices):
        reading.check_complete(index, entry.year)
    return Calendar(notices)


def _library_years() -> frozenset[int]:
    """The years of whose notices the library holds the moves: its own data say how far it goes."""
    global _known_years  # noqa: PLW0603  # a fact about an installed library: it does not change while we run
    if _known_years is None:
        _known_years = frozenset(getattr(_holidays(2025), "special_public_holidays"))  # noqa: B009  # not in its types
    return _known_years


_known_years: frozenset[int] | None = None


def _holidays(*years: int, observed: bool = True) -> HolidayBase:
    from holidays import country_holidays  # slow to load, and most programs never count days

    return country_holidays("CN", years=years, observed=observed)
