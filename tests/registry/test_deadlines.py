"""Deadlines, countdowns and clocks that stop; and `datong application due`, as a person and as a script use it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import app
from registry import Calendar, Clock, Pause, countdown, deadline_after, read_calendar


@pytest.fixture(scope="module")
def calendar() -> Calendar:
    return read_calendar()


def china(text: str) -> datetime:
    """An instant, by the clock on the wall in China."""
    return datetime.fromisoformat(f"{text}+08:00")


def test_a_deadline_lasts_until_the_end_of_its_day_in_china(calendar: Calendar) -> None:
    due = deadline_after(calendar, date(2025, 1, 24), 10)
    assert (due.due_date, due.working_days, due.provisional) == (date(2025, 2, 13), 10, False)
    assert due.due_at == china("2025-02-14T00:00:00")
    assert due.due_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("received", "due"),
    [
        ("2025-07-31T00:00:00", "2025-08-01"),
        ("2025-07-31T23:59:59", "2025-08-01"),
        ("2025-08-01T00:00:00", "2025-08-04"),
    ],
)
def test_the_day_of_receipt_is_the_day_in_china(calendar: Calendar, received: str, due: str) -> None:
    for moment in (china(received), china(received).astimezone(UTC)):
        assert deadline_after(calendar, moment, 1).due_date == date.fromisoformat(due)


def test_an_instant_without_an_offset_is_refused(calendar: Calendar) -> None:
    with pytest.raises(ValueError, match="offset"):
        deadline_after(calendar, datetime(2025, 1, 1), 1)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("now", "state", "left", "late_by"),
    [
        ("2025-09-26T17:00", "running", 10, 0),
        ("2025-09-28T09:00", "running", 9, 0),
        ("2025-10-05T09:00", "running", 7, 0),
        ("2025-10-15T09:00", "running", 1, 0),
        ("2025-10-16T09:00", "running", 0, 0),
        ("2025-10-16T23:59", "running", 0, 0),
        ("2025-10-17T00:00", "late", 0, 1),
        ("2025-10-18T12:00", "late", 0, 1),
        ("2025-10-20T12:00", "late", 0, 2),
    ],
)
def test_a_countdown_counts_working_days(calendar: Calendar, now: str, state: str, left: int, late_by: int) -> None:
    stands = countdown(calendar, deadline_after(calendar, date(2025, 9, 26), 10), china(now))
    assert (stands.state, stands.left, stands.late_by) == (state, left, late_by)


def test_late_on_a_weekend_is_late_by_no_working_day_yet(calendar: Calendar) -> None:
    stands = countdown(calendar, deadline_after(calendar, date(2025, 11, 6), 1), china("2025-11-08T10:00"))
    assert (stands.state, stands.late_by) == ("late", 0)


def clock(*pauses: tuple[str, str | None], received: str = "2025-11-03T10:00", n: int = 10) -> Clock:
    """A clock from a Monday in November 2025, which has no holidays."""
    return Clock(
        received=china(received),
        working_days=n,
        pauses=tuple(Pause(begins=china(begins), ends=china(ends) if ends else None) for begins, ends in pauses),
    )


@pytest.mark.parametrize(
    ("pauses", "due"),
    [
        ([], "2025-11-17"),
        # Asked on Thursday the 6th (Tuesday and Wednesday have run), answered on Tuesday the 11th: 8 days from the 12th.
        ([("2025-11-06T09:00", "2025-11-11T18:00")], "2025-11-21"),
        # On the day of receipt itself nothing has run.
        ([("2025-11-03T11:00", "2025-11-04T09:00")], "2025-11-18"),
        # Asked and answered on one day costs that day only.
        ([("2025-11-06T09:00", "2025-11-06T10:00")], "2025-11-18"),
        ([("2025-11-06T09:00", "2025-11-06T10:00"), ("2025-11-06T11:00", "2025-11-06T12:00")], "2025-11-18"),
        # Over a weekend.
        ([("2025-11-08T09:00", "2025-11-09T10:00")], "2025-11-17"),
        # Two pauses: 2 days, then 1 (the 12th), then 7 from the 14th.
        ([("2025-11-06T09:00", "2025-11-11T18:00"), ("2025-11-13T09:00", "2025-11-13T10:00")], "2025-11-24"),
        # Asked on the last day: that day is left for after the reply.
        ([("2025-11-17T09:00", "2025-11-19T10:00")], "2025-11-20"),
        # Asked when it had run out: a miss stays a miss.
        ([("2025-11-18T09:00", "2025-11-24T10:00")], "2025-11-17"),
        ([("2025-11-18T09:00", None)], "2025-11-17"),
    ],
)
def test_a_clock_stands_while_the_applicant_is_asked(
    calendar: Calendar, pauses: list[tuple[str, str | None]], due: str
) -> None:
    found = clock(*pauses).deadline(calendar)
    assert found is not None
    assert (found.due_date, found.working_days) == (date.fromisoformat(due), 10)


def test_a_standing_clock_has_no_deadline_and_says_what_is_left(calendar: Calendar) -> None:
    standing = clock(("2025-11-06T09:00", None))
    assert standing.deadline(calendar) is None
    for now in ("2025-11-06T09:00", "2025-11-30T09:00"):
        stands = standing.countdown(calendar, china(now))
        assert (stands.state, stands.left, stands.late_by, stands.deadline) == ("stopped", 8, 0, None)


def test_it_goes_on_with_what_was_left(calendar: Calendar) -> None:
    stands = clock(("2025-11-06T09:00", "2025-11-11T18:00")).countdown(calendar, china("2025-11-11T19:00"))
    assert (stands.state, stands.left) == ("running", 8)


def test_every_whole_day_with_the_file_counts_once(calendar: Calendar) -> None:
    """However pauses fall: from receipt to deadline there are as many days without a pause as were allowed."""
    start = china("2025-09-20T12:00")
    for first in range(0, 25, 3):
        for length in range(0, 30, 4):
            begins = start + timedelta(days=first)
            ends = begins + timedelta(days=length, hours=1)
            again = Pause(begins=ends + timedelta(days=2), ends=ends + timedelta(days=3))
            found = Clock(received=start, working_days=10, pauses=(Pause(begins=begins, ends=ends), again)).deadline(
                calendar
            )
            assert found is not None
            stopped = [(begins.date(), ends.date()), (ends.date() + timedelta(2), ends.date() + timedelta(3))]
            days = [start.date() + timedelta(days=n) for n in range(1, (found.due_date - start.date()).days + 1)]
            counted = [
                day
                for day in days
                if calendar.is_working_day(day) and not any(first <= day <= last for first, last in stopped)
            ]
            assert len(counted) == 10
            assert counted[-1] == found.due_date


@pytest.mark.parametrize(
    "pauses",
    [
        [("2025-11-02T09:00", "2025-11-04T09:00")],
        [("2025-11-06T09:00", "2025-11-05T09:00")],
        [("2025-11-06T09:00", "2025-11-11T09:00"), ("2025-11-10T09:00", "2025-11-12T09:00")],
        [("2025-11-06T09:00", None), ("2025-11-10T09:00", "2025-11-12T09:00")],
    ],
)
def test_impossible_pauses_are_refused(pauses: list[tuple[str, str | None]]) -> None:
    with pytest.raises(ValueError, match="pauses follow"):
        clock(*pauses)


def due(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["application", "due", *arguments], prog_name="datong", env={"LC_ALL": "C.UTF-8"})
    assert result.exit_code == exit_code, (result.stdout, result.stderr, result.exception)
    return result


def test_the_command_prints_the_date_and_then_why() -> None:
    lines = due("--received", "2025-01-24", "--class", "conditional").stdout.splitlines()
    assert lines[0] == "2025-02-13"
    why = "\n".join(lines[1:])
    assert "10 working days after 2025-01-24" in why
    assert "2025-01-26 2025-02-08" in why
    assert "National (CN)" in why
    assert "Decree 809" in why
    assert "provisional" not in why


def test_the_command_speaks_chinese() -> None:
    lines = due("--received", "2025-01-24", "--class", "conditional", "--lang", "zh").stdout.splitlines()
    assert lines[0] == "2025-02-13"
    assert "第 10 个工作日" in lines[1]
    assert "政务数据共享条例" in "\n".join(lines)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--class", "unconditional"], "2025-01-26"),
        (["--class", "conditional", "--duty", "delivery"], "2025-02-27"),
        (["--class", "conditional", "--jurisdiction", "CN-140581"], "2025-02-10"),
        (["--class", "conditional", "--division", "140581", "--duty", "answer-unpublished"], "2025-02-17"),
        (["--class", "conditional", "--division", "520102"], "2025-02-13"),
    ],
)
def test_the_command_knows_classes_duties_and_places(arguments: list[str], expected: str) -> None:
    assert due("--received", "2025-01-24", *arguments).stdout.splitlines()[0] == expected


def test_a_local_clock_slower_than_the_law_above_is_pointed_out() -> None:
    shown = due(
        "--received", "2025-01-24", "--class", "conditional", "--division", "140581", "--duty", "answer-unpublished"
    )
    assert "sooner, on 2025-02-13" in shown.stdout
    assert "sooner" not in due("--received", "2025-01-24", "--class", "conditional", "--division", "140581").stdout


def test_json_carries_the_same() -> None:
    found = json.loads(due("--received", "2025-01-24T18:00:00Z", "--class", "conditional", "--json").stdout)
    assert found["received"] == "2025-01-25", "it was the 25th in China"
    assert (found["due_date"], found["provisional"]) == ("2025-02-13", False)
    assert found["due_at"] == "2025-02-13T16:00:00.000Z"
    assert found["steps"][0]["jurisdiction"] == "CN"


def test_past_the_published_calendar_the_date_is_provisional(calendar: Calendar) -> None:
    end = calendar.published_until.isoformat()
    shown = due("--received", end, "--class", "conditional")
    assert f"provisional: working days are published until {end}" in shown.stdout
    assert json.loads(due("--received", end, "--class", "conditional", "--json").stdout)["provisional"] is True
    assert "暂定" in due("--received", end, "--class", "conditional", "--lang", "zh").stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--received", "2025-02-30", "--class", "conditional"], "'2025-02-30' is no date"),
        (["--received", "yesterday", "--class", "conditional"], "'yesterday' is no date"),
        (["--received", "2025-02-03T10:00:00", "--class", "conditional"], "no instant with its offset"),
        (["--received", "0001-01-01", "--class", "conditional"], "no date"),
        (["--received", "1066-10-14", "--class", "conditional"], "1066-10-14 lies outside"),
        (["--received", "9999-12-31", "--class", "conditional"], "9999-12-31 lies outside"),
        (["--received", "2025-01-24", "--class", "secret"], "none of unconditional, conditional"),
        (["--received", "2025-01-24", "--class", "conditional", "--duty", "x"], "none of formal-check, answer,"),
        (["--received", "2025-01-24", "--class", "conditional", "--jurisdiction", "XX"], "known are CN, CN-52,"),
        (["--received", "2025-01-24", "--class", "conditional", "--duty", "formal-check"], "has no formal-check"),
        (["--received", "2025-01-24", "--class", "conditional", "--jurisdictions", "none.toml"], "cannot be read"),
    ],
)
def test_what_cannot_be_counted_is_one_clear_line(arguments: list[str], problem: str) -> None:
    refused = due(*arguments, exit_code=1)
    assert problem in refused.stderr
    assert refused.stdout == ""
    assert "Traceback" not in refused.output


def test_files_of_one_s_own_come_from_options_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices = tmp_path / "notices.toml"
    notices.write_text(
        '[[notices]]\nyear = 2025\ntitle = "one day more"\ndays_off = [[2025-02-13]]\n', encoding="utf-8"
    )
    assert due("--received", "2025-01-24", "--class", "conditional", "--notices", str(notices)).stdout.startswith(
        "2025-02-14"
    )
    monkeypatch.setenv("DATONG_HOLIDAY_NOTICES", str(notices))
    assert due("--received", "2025-01-24", "--class", "conditional").stdout.startswith("2025-02-14")


def test_the_command_needs_no_database_and_loads_none() -> None:
    program = (
        "import sys, typer.testing, deploy.cli as cli\n"
        "shown = typer.testing.CliRunner().invoke(cli.app, "
        "['application', 'due', '--received', '2025-01-24', '--class', 'conditional'])\n"
        "print(shown.stdout[:10], [name for name in ('sqlalchemy', 'nats', 'fastapi') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2025-02-13 []"
