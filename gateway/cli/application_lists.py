"""`datong application list|show|misses`: what there is, and the public ledger of missed deadlines."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.api.deadline_views import DepartmentView
from gateway.cli import console_io as io
from gateway.cli.acting import AsOption
from gateway.cli.application_due import JurisdictionsOption, NoticesOption
from gateway.cli.application_prints import ApplicationArgument, print_case, print_list, print_misses, run
from registry import STATES, ApplicationFilter, ends


def list_applications(
    state: Annotated[str, typer.Option("--state", help=f"One of {', '.join(STATES)}.")] = "",
    resource: Annotated[str, typer.Option("--resource", help="Only for this resource.")] = "",
    applicant: Annotated[str, typer.Option("--applicant", help="Only of this subsystem.")] = "",
    provider: Annotated[str, typer.Option("--provider", help="Only to this subsystem.")] = "",
    due_before: Annotated[str, typer.Option("--due-before", help="Only with a deadline by this date.")] = "",
    limit: Annotated[int, typer.Option("--limit", help="How many at most.", min=1, max=10_000)] = 50,
    acting_as: AsOption = "",
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """List applications, newest first, with the countdown of each.

    Example: datong application list --state submitted --due-before 2026-03-31
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    if state and state not in STATES:
        raise typer.BadParameter(f"write one of {', '.join(STATES)}", param_hint="--state")
    try:
        before = ends(due_before) if due_before else None
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint="--due-before") from error
    wanted = ApplicationFilter(
        state=state or None,
        resource=resource,
        applicant=applicant,
        provider=provider,
        due_before=before,
    )
    desk, actor, (found, _) = run(
        terminal,
        lambda desk, actor: desk.page(actor, wanted, limit=limit),
        acting_as=acting_as,
        jurisdictions=jurisdictions,
        notices=notices,
    )
    print_list(terminal, desk, actor, found)


def show(
    application: ApplicationArgument,
    acting_as: AsOption = "",
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Show an application: countdown, decision, disputes, and who did what about it when.

    Example: datong application show a42
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    desk, actor, file = run(
        terminal,
        lambda desk, actor: desk.find(actor, application),
        acting_as=acting_as,
        jurisdictions=jurisdictions,
        notices=notices,
    )
    print_case(terminal, desk, actor, file)


def misses(
    department: Annotated[str, typer.Option("--department", help="Only of this member.")] = "",
    still: Annotated[bool, typer.Option("--open", help="Only those that are late still.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Per department, worst first.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="How many at most.", min=1, max=10_000)] = 50,
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """The public ledger of missed deadlines, or how each department keeps its own.

    Example: datong application misses --summary --lang zh
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    if not summary:
        desk, _, (found, _) = run(
            terminal,
            lambda desk, _: desk.misses(department=department, open_only=still, limit=limit),
            jurisdictions=jurisdictions,
            notices=notices,
        )
        print_misses(terminal, desk, found)
        return
    _, _, records = run(terminal, lambda desk, _: desk.league_table(), jurisdictions=jurisdictions, notices=notices)
    if department:
        records = tuple(each for each in records if each.department == department)
    if as_json:
        io.print_json([DepartmentView.of(each).model_dump(mode="json") for each in records])
        return
    headers = terminal.say(
        "department decided in-time late overdue median-days misses",
        "部门 已办结 按期 超期办结 超期未办 中位工作日 超期记录",
    ).split()
    rows = [
        (
            terminal.say(each.name_en or each.name, each.name),
            each.decided,
            each.in_time,
            each.late,
            each.overdue,
            "-" if each.median_working_days is None else f"{each.median_working_days:g}",
            each.misses,
        )
        for each in records
    ]
    io.print_table(headers, rows)
