"""How long records are kept: periods, classes, and files that are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.archive.retention import DEFAULT, Period, PeriodError, Retention
from exchange.errors import UnprocessableError
from exchange.log.reader import StoredEntry
from tests.exchange.archive_kit import event_attempt
from tests.exchange.log_kit import Attempt, attempt, change_attempt, change_record

NOW = datetime(2026, 8, 31, 12, tzinfo=UTC)


def entry(one: Attempt) -> StoredEntry:
    return StoredEntry(
        0, one.exchange_id, one.at_ms, one.client, one.service, one.outcome, one.rule, b"", None, one.record
    )


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "over"),
    [
        ("6m", ms(2026, 2, 28, 12)),  # there is no 31 February: nothing goes a day too early
        ("3y", ms(2023, 8, 31, 12)),
        ("18m", ms(2025, 2, 28, 12)),
        ("30m", ms(2024, 2, 29, 12)),
        ("400d", ms(2025, 7, 27, 12)),
        ("184d", ms(2026, 2, 28, 12)),
        ("9999y", 0),
        ("forever", 0),
    ],
)
def test_a_period_is_over_when_all_of_it_has_passed(text: str, over: int) -> None:
    assert Period.parse(text).over(NOW) == over


def test_a_period_of_months_is_never_shorter_than_it_says() -> None:
    """For every day of four years: what was recorded six months ago by the calendar is not yet over the day before."""
    period = Period.parse("6m")
    day = datetime(2024, 1, 1, 12, tzinfo=UTC)
    for _ in range(1461):
        begun = datetime.fromtimestamp(period.over(day) / 1000, UTC)
        months = (day.year - begun.year) * 12 + day.month - begun.month
        assert months == 6
        assert begun.day <= day.day
        day += timedelta(days=1)


@pytest.mark.parametrize("text", ["5m", "183d", "1d", "1m", "0y", "-3y", "3", "y", "3.5y", "3 y", "", "36M", "999999d"])
def test_less_than_six_months_and_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(PeriodError) as refused:
        Period.parse(text)
    assert refused.value.zh


def written(folder: Path, text: str) -> Path:
    path = folder / "retention.toml"
    path.write_text(text)
    return path


FILE = """
[[class]]
name = "refusals"
keep = "12m"
match = { outcome = "refused", rule = ["grant", "quota-*"] }

[[class]]
name = "housing"
keep = "10y"
[class.match]
purpose = "public-rental-*"
owner = "CN/GOV/OWNER1/tax"

[[class]]
name = "looks"
keep = "2y"
match = { kind = "access" }

[[class]]
name = "by-caller"
keep = "forever"
match = { client = ["CN/GOV/MEMBER3/*", "CN/GOV/MEMBER5/*"], outcome = ["answered", "failed"] }
"""


def test_the_first_class_that_fits_decides(tmp_path: Path) -> None:
    retention = Retention.from_file(written(tmp_path, FILE))

    def named(one: Attempt) -> str:
        return retention.class_of(entry(one)).name

    assert named(attempt(1, outcome="refused", rule="grant")) == "refusals"
    assert named(attempt(1, outcome="refused", rule="quota-day")) == "refusals"
    assert named(attempt(1)) == "housing"
    assert named(attempt(3)) == "by-caller"
    assert named(attempt(2)) == "default"
    assert named(attempt(3, outcome="refused", rule="deadline")) == "default"
    assert named(event_attempt()) == "looks"
    assert named(change_attempt(change_record())) == "forever"
    assert retention.newest_over(NOW) == Period.parse("12m").over(NOW)


def test_without_a_file_everything_is_kept_three_years_but_changes_and_removals() -> None:
    retention = Retention()
    assert retention.class_of(entry(attempt(1))) is DEFAULT
    assert retention.class_of(entry(event_attempt())) is DEFAULT
    assert DEFAULT.keep == Period(months=36)
    kept = retention.class_of(entry(change_attempt(change_record()))).keep
    assert kept.over(NOW) == 0
    removal = Attempt(b"", "id", 0, "datong log prune", "", "retention", "segment.pruned", b"")
    assert retention.class_of(entry(removal)).keep.over(NOW) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[class]]\nname = "a"\nkeep = "5m"\n', r"line 3: class\[0\].keep: records are kept for six months"),
        ('[[class]]\nname = "a"\nkeep = "3 years"\n', "write a period as"),
        ('[[class]]\nname = "a"\nkeep = "3y"\n[[class]]\nname = "a"\nkeep = "3y"\n', "line 5.*taken"),
        ('[[class]]\nname = "forever"\nkeep = "3y"\n', "taken"),
        ('[[class]]\nname = "A b"\nkeep = "3y"\n', "name"),
        ('[[class]]\nname = "a"\n', "keep"),
        ('[[class]]\nname = "a"\nkeep = 3\n', "keep"),
        ('[[class]]\nname = "a"\nkeep = "3y"\nmatch = { kind = "change" }\n', "kind"),
        ('[[class]]\nname = "a"\nkeep = "3y"\nmatch = { kind = ["retention"] }\n', "kind"),
        ('[[class]]\nname = "a"\nkeep = "3y"\nmatch = { outcom = "refused" }\n', "outcom"),
        ('[[class]]\nname = "a"\nkeep = "3y"\nmatch = { outcome = [] }\n', "outcome"),
        ("[class]\n", "class"),
        ("[[klass]]\n", "klass"),
        ("[[class]\n", "line 1"),
    ],
)
def test_a_file_that_says_anything_else_is_refused_with_the_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UnprocessableError, match=said) as refused:
        Retention.from_file(written(tmp_path, text))
    assert refused.value.rule == "retention-classes"
    assert refused.value.detail_in("zh")
