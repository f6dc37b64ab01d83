"""Working days in China: against the State Council's notices as a table of our own, not against the library that holds them."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from exchange import UnprocessableError
from registry import Calendar, read_calendar
from registry.clock.working_days import library_years

# Year -> Mondays to Fridays that were off, and Saturdays and Sundays that were worked: read from the yearly notices.
NOTICES = {
    2019: (
        "01-01 02-04..02-08 04-05 05-01..05-03 06-07 09-13 10-01..10-04 10-07",
        "02-02 02-03 04-28 05-05 09-29 10-12",
    ),
    2020: (
        "01-01 01-24 01-27..01-31 04-06 05-01 05-04..05-05 06-25..06-26 10-01..10-02 10-05..10-08",
        "01-19 04-26 05-09 06-28 09-27 10-10",
    ),
    2021: (
        "01-01 02-11..02-12 02-15..02-17 04-05 05-03..05-05 06-14 09-20..09-21 10-01 10-04..10-07",
        "02-07 02-20 04-25 05-08 09-18 09-26 10-09",
    ),
    2022: (
        "01-03 01-31..02-04 04-04..04-05 05-02..05-04 06-03 09-12 10-03..10-07",
        "01-29 01-30 04-02 04-24 05-07 10-08 10-09",
    ),
    2023: (
        "01-02 01-23..01-27 04-05 05-01..05-03 06-22..06-23 09-29 10-02..10-06",
        "01-28 01-29 04-23 05-06 06-25 10-07 10-08",
    ),
    2024: (
        "01-01 02-12..02-16 04-04..04-05 05-01..05-03 06-10 09-16..09-17 10-01..10-04 10-07",
        "02-04 02-18 04-07 04-28 05-11 09-14 09-29 10-12",
    ),
    2025: (
        "01-01 01-28..01-31 02-03..02-04 04-04 05-01..05-02 05-05 06-02 10-01..10-03 10-06..10-08",
        "01-26 02-08 04-27 09-28 10-11",
    ),
    2026: (
        "01-01..01-02 02-16..02-20 02-23 04-06 05-01 05-04..05-05 06-19 09-25 10-01..10-02 10-05..10-07",
        "01-04 02-14 02-28 05-09 09-20 10-10",
    ),
}
DAY = timedelta(days=1)


def table_says(day: date) -> bool:
    """Whether the notices make it a working day, looked up the long way."""
    off, worked = NOTICES[day.year]
    name = day.strftime("%m-%d")
    if name in worked.split():
        assert day.weekday() >= 5
        return True
    for stretch in off.split():
        first, _, last = stretch.partition("..")
        if first <= name <= (last or first):
            return False
    return day.weekday() < 5


@pytest.fixture(scope="module")
def calendar() -> Calendar:
    return read_calendar()


@pytest.mark.parametrize("year", NOTICES)
def test_every_day_of_eight_years_is_as_the_notices_say(calendar: Calendar, year: int) -> None:
    days = [date(year, 1, 1) + DAY * number for number in range(365 + (year % 4 == 0))]
    assert [day for day in days if calendar.is_working_day(day) != table_says(day)] == []


@pytest.mark.parametrize(
    ("received", "after_1", "after_10", "after_20"),
    [
        ("2018-12-27", "2018-12-28", "2019-01-11", "2019-01-25"),
        ("2019-04-26", "2019-04-28", "2019-05-13", "2019-05-27"),
        ("2019-09-27", "2019-09-29", "2019-10-16", "2019-10-30"),
        ("2020-01-17", "2020-01-19", "2020-02-07", "2020-02-21"),
        ("2020-01-23", "2020-02-03", "2020-02-14", "2020-02-28"),
        ("2020-09-25", "2020-09-27", "2020-10-15", "2020-10-29"),
        ("2021-02-05", "2021-02-07", "2021-02-24", "2021-03-10"),
        ("2021-09-17", "2021-09-18", "2021-10-08", "2021-10-21"),
        ("2022-01-28", "2022-01-29", "2022-02-16", "2022-03-02"),
        ("2022-04-29", "2022-05-05", "2022-05-17", "2022-05-31"),
        ("2023-01-20", "2023-01-28", "2023-02-08", "2023-02-22"),
        ("2023-09-28", "2023-10-07", "2023-10-18", "2023-11-01"),
        ("2024-02-08", "2024-02-09", "2024-02-28", "2024-03-13"),
        ("2024-09-30", "2024-10-08", "2024-10-18", "2024-11-01"),
        ("2025-01-24", "2025-01-26", "2025-02-13", "2025-02-27"),
        ("2025-07-31", "2025-08-01", "2025-08-14", "2025-08-28"),
        ("2025-09-26", "2025-09-28", "2025-10-16", "2025-10-30"),
        ("2025-12-31", "2026-01-04", "2026-01-15", "2026-01-29"),
        ("2026-02-12", "2026-02-13", "2026-03-04", "2026-03-18"),
        ("2026-09-18", "2026-09-20", "2026-10-09", "2026-10-22"),
    ],
)
def test_counts_from_the_day_after_receipt(
    calendar: Calendar, received: str, after_1: str, after_10: str, after_20: str
) -> None:
    start = date.fromisoformat(received)
    for n, expected in ((1, after_1), (10, after_10), (20, after_20)):
        assert calendar.add_working_days(start, n) == (date.fromisoformat(expected), False)
        assert calendar.working_days_between(start, date.fromisoformat(expected)) == n


@pytest.mark.parametrize(
    "day",
    [f"2025-{day}" for day in ("01-26", "02-08", "04-27", "09-28", "10-11")]
    + [f"2026-{day}" for day in ("01-04", "02-14", "02-28", "05-09", "09-20", "10-10")],
)
def test_a_moved_weekend_is_worked(calendar: Calendar, day: str) -> None:
    moved = date.fromisoformat(day)
    assert moved.weekday() >= 5
    assert calendar.is_working_day(moved)
    assert calendar.moved_days(moved - DAY, moved).worked == (moved,)


def test_a_notice_reaches_back_into_december(calendar: Calendar) -> None:
    """2018-12-29 was worked and 2018-12-31 was off, by the notice for 2019; 2011-12-31 was worked, by that for 2012."""
    assert calendar.is_working_day(date(2018, 12, 29))
    assert not calendar.is_working_day(date(2018, 12, 31))
    assert calendar.is_working_day(date(2011, 12, 31))


def test_counting_there_and_back_agrees(calendar: Calendar) -> None:
    for number in range(0, 700, 7):
        start = date(2024, 1, 1) + DAY * number
        for n in (1, 5, 23, 60):
            due, _ = calendar.add_working_days(start, n)
            assert calendar.is_working_day(due)
            assert calendar.working_days_between(start, due) == n
            assert calendar.working_days_between(due, start) == -n
    assert calendar.working_days_between(date(2025, 1, 24), date(2025, 1, 24)) == 0


def test_the_published_calendar_ends_where_the_library_knows_no_more_moves(calendar: Calendar) -> None:
    """Derived from the installed library, so that a newer one moves the end by itself."""
    assert calendar.published_until == date(max(library_years()), 12, 31)
    assert calendar.published_until >= date(2026, 12, 31)
    assert calendar.begins == date(2001, 1, 1)


def test_what_is_counted_across_the_end_is_provisional(calendar: Calendar) -> None:
    end = calendar.published_until
    last = next(day for day in (end - DAY * n for n in range(9)) if calendar.is_working_day(day))
    before = last - DAY
    assert calendar.add_working_days(before, 1) == (last, False), "late December alone is not provisional"
    due, provisional = calendar.add_working_days(before, 2)
    assert due.year == end.year + 1
    assert provisional
    assert calendar.add_working_days(end + DAY * 30, 1)[1]


def test_an_unpublished_year_rests_on_the_holidays_of_the_law(calendar: Calendar) -> None:
    year = calendar.published_until.year + 1
    for day in (date(year, 1, 1), date(year, 5, 1), date(year, 10, 1), date(year, 10, 2), date(year, 10, 3)):
        assert not calendar.is_working_day(day)


@pytest.mark.parametrize("day", [date(2000, 12, 31), date(1066, 10, 14), date(9999, 12, 31), date(2099, 1, 1)])
def test_a_day_far_outside_is_refused_by_name(calendar: Calendar, day: date) -> None:
    with pytest.raises(UnprocessableError, match=str(day)) as refused:
        calendar.add_working_days(day, 1)
    assert str(day) in refused.value.detail_in("zh")


@pytest.mark.parametrize("n", [0, -1])
def test_no_days_are_not_counted(calendar: Calendar, n: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        calendar.add_working_days(date(2025, 1, 1), n)


def test_a_count_that_leaves_the_calendar_is_refused(calendar: Calendar) -> None:
    with pytest.raises(UnprocessableError, match="outside"):
        calendar.add_working_days(date(2026, 1, 1), 10_000)


# The statutory holidays of 2027 are those of the law and of the moon; how they are moved is made up.
NEXT_YEAR = """\
[[notices]]
year = 2027
title = "made up for a test"
days_off = [
    [2027-01-01, 2027-01-03],
    [2027-02-05, 2027-02-12],
    [2027-04-03, 2027-04-05],
    [2027-05-01, 2027-05-05],
    [2027-06-09],
    [2027-09-15],
    [2027-10-01, 2027-10-08],
]
working = [2026-12-26, 2027-02-13, 2027-02-20, 2027-05-08, 2027-10-09]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "notices.toml"
    path.write_text(NEXT_YEAR, encoding="utf-8")
    return path


@pytest.mark.skipif(2027 in library_years(), reason="the library holds 2027 by now: choose a later year")
class TestFile:
    """Yearly notices that the library does not hold yet."""

    def test_a_notice_extends_the_published_calendar(self, file: Path) -> None:
        calendar = read_calendar(file)
        assert calendar.published_until == date(2027, 12, 31)
        assert calendar.is_working_day(date(2026, 12, 26))
        assert not calendar.is_working_day(date(2027, 2, 12))
        assert calendar.is_working_day(date(2027, 2, 13))
        # Monday to Friday as in any week where the notice says nothing: an estimate of the library does not count.
        assert calendar.is_working_day(date(2027, 9, 16))
        assert calendar.is_working_day(date(2027, 9, 14))
        assert calendar.add_working_days(date(2027, 2, 4), 1) == (date(2027, 2, 13), False)
        assert calendar.add_working_days(date(2026, 12, 30), 2) == (date(2027, 1, 4), False)

    def test_a_later_notice_changes_single_days(self, file: Path) -> None:
        """As when the Spring Festival of 2020 was made longer on its third day."""
        file.write_text(
            NEXT_YEAR + '[[notices]]\nyear = 2027\ntitle = "longer"\ndays_off = [[2027-02-13, 2027-02-14]]\n'
            '[[notices]]\nyear = 2026\ntitle = "one day more"\ndays_off = [[2026-12-25]]\n',
            encoding="utf-8",
        )
        calendar = read_calendar(file)
        assert not calendar.is_working_day(date(2027, 2, 13))
        assert calendar.is_working_day(date(2027, 2, 20))
        assert not calendar.is_working_day(date(2026, 12, 25))
        assert calendar.is_working_day(date(2026, 12, 24))

    def test_a_gap_ends_the_published_calendar(self, file: Path) -> None:
        file.write_text('[[notices]]\nyear = 2028\ntitle = "t"\ndays_off = [[2028-01-01]]\n', encoding="utf-8")
        with pytest.raises(UnprocessableError, match="every day off of 2028"):
            read_calendar(file)
        whole = (
            '[[notices]]\nyear = 2028\ntitle = "t"\n'
            "days_off = [[2028-01-01], [2028-01-24, 2028-02-02], [2028-04-04], [2028-05-01, 2028-05-05], [2028-05-28],"
            " [2028-10-01, 2028-10-08]]\n"
        )
        file.write_text(whole, encoding="utf-8")
        assert read_calendar(file).published_until == date(2026, 12, 31)

    @pytest.mark.parametrize(
        ("change", "to", "line", "key", "problem"),
        [
            ("[2027-01-01, 2027-01-03]", "[2027-01-03, 2027-01-01]", 4, "notices[0].days_off[0]", "first and the last"),
            ("[2027-01-01, 2027-01-03]", "[]", 4, "notices[0].days_off[0]", "first and the last"),
            ("[2027-06-09]", "[2028-06-09]", 4, "notices[0].days_off[4]", "neither in 2027"),
            ("[2027-06-09],", "", 4, "notices[0].days_off", "2027-06-09 is missing"),
            ("2027-02-20", "2027-02-10", 13, "notices[0].working[2]", "days off, too"),
            ("2027-02-20", "2027-02-22", 13, "notices[0].working[2]", "no Saturday or Sunday"),
            ("2026-12-26", "2026-11-28", 13, "notices[0].working[0]", "neither in 2027"),
            ("year = 2027", 'year = "2027"', 2, "notices[0].year", "valid integer"),
            ("title =", 'tilte = "x"\ntitle =', 3, "notices[0].tilte", "not permitted"),
            ("2027-06-09", "2027-06-09T00:00:00", 4, "notices[0].days_off[4][0]", "valid date"),
            ("2027-06-09", "2027-06-31", None, "", "line 9"),
        ],
    )
    def test_a_wrong_file_is_refused_with_line_and_key(
        self, file: Path, change: str, to: str, line: int | None, key: str, problem: str
    ) -> None:
        assert change in NEXT_YEAR
        file.write_text(NEXT_YEAR.replace(change, to, 1), encoding="utf-8")
        with pytest.raises(UnprocessableError) as refused:
            read_calendar(file)
        text = refused.value.detail_in("en")
        assert text.startswith(f"notices.toml, line {line}: {key}" if line else "notices.toml"), text
        assert problem in text

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UnprocessableError, match=r"none\.toml cannot be read"):
            read_calendar(tmp_path / "none.toml")


def test_the_library_is_loaded_only_when_days_are_counted() -> None:
    program = (
        "import sys; from registry import Calendar, read_calendar, read_jurisdictions; read_calendar();"
        "read_jurisdictions(); print('holidays' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
