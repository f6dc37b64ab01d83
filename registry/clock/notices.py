"""Notices of the State Council that the library of holidays does not hold yet, from a TOML file; docs/clock.md explains it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from exchange import TomlSource, UnprocessableError, read_toml
from registry.clock.working_days import RULE, Calendar, Notice, library_holidays, library_years

_DAY = timedelta(days=1)


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
        if year in library_years():
            return
        missing = sorted(day for day in library_holidays(year, observed=False) if day not in self.days_off[year])
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
        return day.year in library_years() and not library_holidays(day.year, day.year + 1).is_working_day(day)

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
        return self.source.refuse(RULE, location, problem, zh)


def read_calendar(path: Path | None = None) -> Calendar:
    """The calendar, with the notices in a TOML file (docs/clock.md) over what the library holds.

    Raises:
        UnprocessableError: The file breaks the format, or contradicts itself; the message names the line and the key.
    """
    if path is None:
        return Calendar()
    content, source = read_toml(path, _NoticeFile, RULE)
    reading = _Reading(source)
    notices = [reading.notice(index, entry) for index, entry in enumerate(content.notices)]
    for index, entry in enumerate(content.notices):
        reading.check_complete(index, entry.year)
    return Calendar(notices)
