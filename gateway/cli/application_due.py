"""`datong application due`: when an answer or a delivery is due, in working days as China counts them. No registry is needed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from exchange import UnprocessableError
from gateway.cli import console_io as io
from registry import (
    DUTIES,
    DUTY_CLASSES,
    Calendar,
    Deadline,
    Duty,
    DutyClass,
    Jurisdiction,
    Jurisdictions,
    begins,
    china_day,
    deadline_after,
    read_calendar,
    read_jurisdictions,
)

_Name = TypeVar("_Name", bound=str)

JurisdictionsOption = Annotated[
    Path | None,
    typer.Option(
        "--jurisdictions", envvar="DATONG_JURISDICTIONS", help="TOML file of deadlines; default: the packaged ones."
    ),
]
NoticesOption = Annotated[
    Path | None,
    typer.Option(
        "--notices", envvar="DATONG_HOLIDAY_NOTICES", help="TOML file of holiday notices not known to the program yet."
    ),
]

_DUTY_NAMES = {
    "formal-check": ("formal check by the authority", "主管部门形式审查"),
    "answer": ("answer", "答复"),
    "answer-unpublished": ("answer, the data not being on the platform yet", "答复（数据尚未上平台）"),
    "delivery": ("delivery", "提供数据"),
    "supplement": ("the applicant's reply when asked for more", "申请方补充材料"),
    "draft": ("end of an untouched draft", "草稿失效"),
}


@dataclass(frozen=True, slots=True)
class _Question:
    """What was asked, and what is needed to answer it."""

    calendar: Calendar
    received: date
    duty_class: DutyClass
    duty: Duty

    def due(self, place: Jurisdiction) -> Deadline:
        """The deadline in a jurisdiction; raises UnprocessableError if nothing is owed there."""
        days = sum(term.days for _, term in place.steps(self.duty_class, self.duty))
        if not days:
            raise UnprocessableError(
                "jurisdictions",
                problem=f"--duty: {place.id} has no {self.duty} for {self.duty_class} sharing.",
                problem_zh=f"--duty：辖区 {place.id} 对 {self.duty_class} 类没有 {self.duty} 环节。",
            )
        return deadline_after(self.calendar, self.received, days)


def due(
    received: Annotated[
        str,
        typer.Option(
            "--received",
            help="Date (in China) or instant of receipt; for a delivery, of the approval. It does not count itself.",
        ),
    ],
    duty_class: Annotated[str, typer.Option("--class", help=f"Sharing class: {' or '.join(DUTY_CLASSES)}.")],
    jurisdiction: Annotated[str, typer.Option("--jurisdiction", help="Whose deadlines, e.g. CN.")] = "",
    division: Annotated[str, typer.Option("--division", help="Instead: the owner's division code, e.g. 450103.")] = "",
    duty: Annotated[str, typer.Option("--duty", help=f"What is owed: {', '.join(DUTIES)}.")] = "answer",
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Print the date on which something is due, then why: nothing is registered.

    Example: datong application due --received 2025-01-24 --class conditional
    """
    terminal = io.Terminal.of(io.DATA, "", as_json, lang)
    if jurisdiction and division:
        raise typer.BadParameter("name one of both", param_hint="--jurisdiction, --division")
    with io.clear_errors(terminal.lang, as_json):
        question = _Question(
            calendar=read_calendar(notices),
            received=_day(received),
            duty_class=_one_of(duty_class, DUTY_CLASSES, "--class"),
            duty=_one_of(duty, DUTIES, "--duty"),
        )
        known = read_jurisdictions(jurisdictions)
        place = known.of_division(division) if division or not jurisdiction else known.get(jurisdiction)
        facts = _facts(question, place, known)
    if as_json:
        io.print_json(facts)
    else:
        _explain(terminal, question, place, facts)


def _facts(question: _Question, place: Jurisdiction, known: Jurisdictions) -> dict[str, Any]:
    deadline = question.due(place)
    moved = question.calendar.moved_days(question.received, deadline.due_date)
    above = known.get(place.parent) if place.parent else None
    sooner = question.due(above) if above and above.steps(question.duty_class, question.duty) else deadline
    return {
        "due_date": deadline.due_date.isoformat(),
        "due_at": deadline.due_at,
        "working_days": deadline.working_days,
        "provisional": deadline.provisional,
        "received": question.received.isoformat(),
        "class": question.duty_class,
        "duty": question.duty,
        "jurisdiction": {"id": place.id, "name": place.name},
        "steps": [
            {"duty": duty, "working_days": term.days, "jurisdiction": term.jurisdiction, "basis": term.basis}
            for duty, term in place.steps(question.duty_class, question.duty)
        ],
        "worked_weekend_days": [day.isoformat() for day in moved.worked],
        "weekdays_off": [day.isoformat() for day in moved.off],
        "published_until": question.calendar.published_until.isoformat(),
        "sooner_above": sooner.due_date.isoformat() if sooner.due_date < deadline.due_date else None,
    }


def _explain(terminal: io.Terminal, question: _Question, place: Jurisdiction, facts: dict[str, Any]) -> None:
    say, lang = terminal.say, terminal.lang
    typer.echo(facts["due_date"])
    days, received = facts["working_days"], facts["received"]
    typer.echo(
        say(
            f"{days} working {'day' if days == 1 else 'days'} after {received}; the day of receipt does not count.",
            f"自 {received} 次日起第 {days} 个工作日（收到当日不计）。",
        )
    )
    for label, label_zh, key in (
        ("worked weekend days counted", "计入的调休上班日", "worked_weekend_days"),
        ("weekdays off, not counted", "不计入的放假日", "weekdays_off"),
    ):
        if facts[key]:
            typer.echo(f"{say(label, label_zh)}{say(': ', '：')}{' '.join(facts[key])}")
    typer.echo(f"{say('jurisdiction: ', '辖区：')}{place.name[lang]} ({place.id})")
    for duty, term in place.steps(question.duty_class, question.duty):
        name = say(*_DUTY_NAMES[duty])
        typer.echo(
            say(f"{name}: {term.days} by {term.basis['en']}", f"{name}：{term.days} 个工作日，{term.basis['zh']}")
        )
    if facts["sooner_above"]:
        typer.echo(
            say(
                f"note: the jurisdiction above ({place.parent}) has it due sooner, on {facts['sooner_above']}.",
                f"注意：上级辖区（{place.parent}）的期限更早，为 {facts['sooner_above']}。",
            )
        )
    if facts["provisional"]:
        typer.echo(
            say(
                f"provisional: working days are published until {facts['published_until']}; this date may move.",
                f"暂定：工作日历仅公布至 {facts['published_until']}，该日期可能变动。",
            )
        )


def _day(text: str) -> date:
    try:
        return china_day(begins(text))
    except (ValueError, OverflowError) as error:
        raise UnprocessableError(
            "received",
            problem=f"--received: {text!r} is no date (2025-01-24) and no instant with its offset.",
            problem_zh=f"--received：“{text}”不是有效日期（如 2025-01-24），也不是带时区的时刻。",
        ) from error


def _one_of(text: str, known: tuple[_Name, ...], option: str) -> _Name:
    if text not in known:
        raise UnprocessableError(
            "known-name",
            problem=f"{option}: {text!r} is none of {', '.join(known)}.",
            problem_zh=f"{option}：“{text}”不在可选值之中：{'、'.join(known)}。",
        )
    return text
