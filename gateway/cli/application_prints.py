"""What the commands about applications print: for people as tables, with `--json` what the API answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from gateway.api.application_views import ApplicationView, CaseView
from gateway.api.deadline_views import DisputeView, MissView
from gateway.cli import console_io as io
from gateway.cli.acting import actor_of
from registry import (
    REASON_CODES,
    REASON_NAMES,
    STATE_NAMES,
    Actor,
    Application,
    ApplicationDecision,
    Applications,
    CaseFile,
    Dispute,
    Miss,
    Owed,
    Registry,
    kinds_of,
    possible_actions,
)

_T = TypeVar("_T")

ApplicationArgument = Annotated[str, typer.Argument(help="Id of the application, such as a42.")]
TextOption = Annotated[str, typer.Option("--text", help="What is said; kept on record, and shown to both sides.")]

_DUTIES = {
    "formal-check": ("check of the form", "形式审查"),
    "answer": ("answer", "答复"),
    "answer-unpublished": ("answer", "答复"),
    "delivery": ("delivery", "提供数据"),
    "supplement": ("applicant's reply", "申请方补正"),
    "draft": ("life of the draft", "草稿有效期"),
    "negotiating": ("negotiation", "双方协商"),
    "authority": ("authority's ruling", "主管部门协调"),
    "government": ("government's ruling", "政府裁决"),
}
_OFFICES = {
    "authority": ("authority", "主管部门"),
    "government": ("government", "政府"),
    "parties": ("parties", "双方"),
}


def run(
    terminal: io.Terminal,
    work: Callable[[Applications, Actor], Awaitable[_T]],
    *,
    acting_as: str = "",
    by: str = "",
    jurisdictions: Path | None = None,
    notices: Path | None = None,
    two_persons: bool = False,
) -> tuple[Applications, Actor, _T]:
    """Do something with the applications of the registry that a terminal works on, in somebody's name."""

    async def opened(registry: Registry) -> tuple[Applications, Actor, _T]:
        applications = Applications.of_files(
            registry, jurisdictions=jurisdictions, notices=notices, two_persons=two_persons
        )
        actor = await actor_of(registry, acting_as, by)
        return applications, actor, await work(applications, actor)

    return terminal.run(opened)


def do(
    terminal: io.Terminal,
    work: Callable[[Applications, Actor], Awaitable[Application]],
    acting_as: str,
    by: str,
    jurisdictions: Path | None,
    notices: Path | None,
) -> None:
    """Take a step, and print the application as it is then."""
    desk, actor, application = run(
        terminal, work, acting_as=acting_as, by=by, jurisdictions=jurisdictions, notices=notices
    )
    print_application(terminal, desk, actor, application)


def moment(read: Callable[[str], datetime], text: str, option: str) -> datetime | None:
    """The instant that an option names; None without one."""
    if not text:
        return None
    try:
        return read(text)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def print_application(terminal: io.Terminal, desk: Applications, actor: Actor, application: Application) -> None:
    """An application, its countdown, and what may be done next."""
    now = desk.now()
    if terminal.as_json:
        io.print_json(ApplicationView.of(application, actor, desk.book.calendar, now).model_dump(mode="json"))
        return
    say, ask, decision = terminal.say, application.ask, application.decision
    state = application.state_at(now)
    possible = possible_actions(state, kinds_of(actor, application), application.void_steps)
    io.print_fields(
        [
            (say("application", "申请"), application.id),
            (say("state", "状态"), STATE_NAMES[state][terminal.lang]),
            (say("applicant", "申请方"), application.applicant),
            (say("provider", "提供方"), application.provider),
            (say("resource", "资源"), f"{ask.resource} ({application.sharing_class})"),
            (say("purposes", "用途"), ", ".join(ask.purposes)),
            (say("what for", "使用目的"), ask.purpose_text),
            (say("legal basis", "使用依据"), ask.legal_basis),
            (say("overriding basis", "提供依据"), ask.overriding_basis),
            (say("scenario", "应用场景"), ask.scenario),
            (say("items", "信息项"), ", ".join(ask.items) or say("all", "全部")),
            (say("until", "使用期限至"), ask.valid_to and io.plain(ask.valid_to)),
            (say("calls per day", "预计日调用量"), ask.calls_per_day or None),
            (say("official", "责任人"), ask.official),
            (say("submitted", "提交时间"), application.submitted_at and io.plain(application.submitted_at)),
            (say("decided", "决定"), decision and _decision(terminal, application)),
            (say("reason", "理由"), decision and _reason(terminal, decision)),
            (say("basis", "依据"), decision and decision.basis),
            (say("grants", "授权"), ", ".join(application.grants)),
            (say("delivered", "交付时间"), application.delivered_at and io.plain(application.delivered_at)),
            (say("possible now", "可进行"), ", ".join(possible)),
        ]
    )
    _print_deadlines(terminal, desk, [each for each in application.owed if each.open or each.miss])


def print_case(terminal: io.Terminal, desk: Applications, actor: Actor, file: CaseFile) -> None:
    """An application with its disputes, missed deadlines and history."""
    if terminal.as_json:
        late = map(desk.late_days, file.misses)
        view = CaseView.of_file(file, actor, desk.book.calendar, desk.now(), late)
        io.print_json(view.model_dump(mode="json"))
        return
    print_application(terminal, desk, actor, file.application)
    for dispute in file.disputes:
        typer.echo("")
        print_dispute(terminal, desk, dispute)
    terminal.history(file.events)


def print_dispute(terminal: io.Terminal, desk: Applications, dispute: Dispute) -> None:
    """A dispute, step by step."""
    if terminal.as_json:
        io.print_json(DisputeView.of(dispute, desk.book.calendar, desk.now()).model_dump(mode="json"))
        return
    say = terminal.say
    typer.echo(f"{say('dispute', '争议')} {dispute.id}: {dispute.about} · {dispute.level} · {dispute.state}")
    headers = say("at level by step text", "时间 层级 人员 步骤 内容").split()
    rows = [(io.plain(each.at), each.level, each.by, each.kind, each.text) for each in dispute.moves]
    io.print_table(headers, rows)
    _print_deadlines(terminal, desk, [each for each in dispute.owed if each.open])


def print_list(terminal: io.Terminal, desk: Applications, actor: Actor, found: Sequence[Application]) -> None:
    """Applications, one a line, with the countdown of each."""
    now = desk.now()
    if terminal.as_json:
        views = [ApplicationView.of(each, actor, desk.book.calendar, now).model_dump(mode="json") for each in found]
        io.print_json(views)
        return
    headers = terminal.say("id state applicant resource due countdown", "编号 状态 申请方 资源 期限 剩余").split()
    rows = []
    for each in found:
        due = [duty for duty in each.owed if duty.open]
        rows.append(
            (
                each.id,
                STATE_NAMES[each.state_at(now)][terminal.lang],
                each.applicant,
                each.ask.resource,
                _due_date(terminal, due[-1]) if due else "",
                countdown_text(terminal, desk, due[-1], now) if due else "",
            )
        )
    io.print_table(headers, rows)


def print_misses(terminal: io.Terminal, desk: Applications, found: Sequence[Miss]) -> None:
    """Lines of the public ledger."""
    if terminal.as_json:
        io.print_json([MissView.of(each, desk.late_days(each)).model_dump(mode="json") for each in found])
        return
    headers = terminal.say(
        "id application duty responsible due late ended told", "编号 申请 事项 责任方 期限 超期 办结 已通知"
    ).split()
    rows = [
        (
            each.id,
            each.application,
            terminal.say(*_DUTIES[each.duty]),
            _responsible(terminal, each.responsible),
            each.due_date,
            terminal.say(f"{desk.late_days(each)} working days", f"{desk.late_days(each)} 个工作日"),
            terminal.say("set aside", "不计入") if each.set_aside else each.ended_at and io.plain(each.ended_at),
            ", ".join(rung.name[terminal.lang] for rung in each.escalations),
        )
        for each in found
    ]
    io.print_table(headers, rows)


def countdown_text(terminal: io.Terminal, desk: Applications, owed: Owed, now: datetime) -> str:
    """Working days left or late, or that the clock stands."""
    standing = owed.countdown(desk.book.calendar, now)
    if standing is None:
        return ""
    if standing.state == "late":
        return terminal.say(f"{standing.late_by} working days late", f"已超期 {standing.late_by} 个工作日")
    if standing.state == "stopped":
        return terminal.say(f"stopped, {standing.left} working days left", f"暂停，剩余 {standing.left} 个工作日")
    return terminal.say(f"{standing.left} working days left", f"剩余 {standing.left} 个工作日")


def _print_deadlines(terminal: io.Terminal, desk: Applications, owed: Sequence[Owed]) -> None:
    if not owed:
        return
    headers = terminal.say("owed by due countdown basis", "应办 责任方 期限 剩余 依据").split()
    rows = [
        (
            terminal.say(*_DUTIES[each.duty]),
            _responsible(terminal, each.responsible),
            _due_date(terminal, each),
            countdown_text(terminal, desk, each, desk.now()) if each.open else terminal.say("ended", "已办结"),
            each.basis[terminal.lang],
        )
        for each in owed
    ]
    typer.echo("")
    io.print_table(headers, rows)


def _due_date(terminal: io.Terminal, owed: Owed) -> str:
    if owed.due_date is None:
        return "-"
    return f"{owed.due_date}{terminal.say(' (provisional)', '（暂定）') if owed.provisional else ''}"


def _responsible(terminal: io.Terminal, responsible: str) -> str:
    return terminal.say(*_OFFICES[responsible]) if responsible in _OFFICES else responsible


def _reason(terminal: io.Terminal, decision: ApplicationDecision) -> str:
    code = next((each for each in REASON_CODES if each == decision.reason_code), None)
    return terminal.say(": ", "：").join(filter(None, (code and REASON_NAMES[code][terminal.lang], decision.text)))


def _decision(terminal: io.Terminal, application: Application) -> Any:
    decision = application.decision
    assert decision is not None  # asked only then
    by = f"{decision.decided_by} + {decision.confirmed_by}" if decision.confirmed_by else decision.decided_by
    days = terminal.say(f"{decision.working_days} working days", f"{decision.working_days} 个工作日")
    return f"{STATE_NAMES[decision.outcome][terminal.lang]} {decision.decided_on} · {by} · {days}"
