"""`datong application review|ask|decide|confirm|deliver|standing`: what owners do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.api.application_views import StandingView
from gateway.cli import console_io as io
from gateway.cli.acting import AsOption
from gateway.cli.application_due import JurisdictionsOption, NoticesOption
from gateway.cli.application_prints import ApplicationArgument, TextOption, do, moment, run
from registry import REASON_CODES, Actor, Applications, Verdict, begins, ends


def review(
    application: ApplicationArgument,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Take an application up, as its owner.

    Example: datong application review a42 --as CN/GOV/…/tax
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    do(terminal, lambda desk, actor: desk.review(actor, application), acting_as, by, jurisdictions, notices)


def ask(
    application: ApplicationArgument,
    text: TextOption,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Ask the applicant for more, as the owner: the clock stands until it replies.

    Example: datong application ask a42 --text 请说明核查环节 --as CN/GOV/…/tax
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    do(terminal, lambda desk, actor: desk.ask(actor, application, text), acting_as, by, jurisdictions, notices)


def decide(
    application: ApplicationArgument,
    approve: Annotated[bool, typer.Option("--approve/--refuse", help="In which direction.")],
    reason_code: Annotated[
        str, typer.Option("--reason-code", help=f"For what is not given: {', '.join(REASON_CODES)}.")
    ] = "",
    text: TextOption = "",
    basis: Annotated[str, typer.Option("--basis", help="On which law it rests.")] = "",
    item: Annotated[list[str] | None, typer.Option("--item", help="Item granted; repeatable.")] = None,
    mask: Annotated[
        list[str] | None, typer.Option("--mask", help="ITEM=MASK; repeatable; ITEM= takes a proposed one away.")
    ] = None,
    purpose: Annotated[list[str] | None, typer.Option("--purpose", help="Purpose granted; repeatable.")] = None,
    valid_from: Annotated[str, typer.Option("--from", help="Not before today.")] = "",
    valid_to: Annotated[str, typer.Option("--until", help="Not after what was asked for.")] = "",
    per_second: Annotated[int, typer.Option("--per-second", help="Calls in any second; 0: no limit.")] = 0,
    per_day: Annotated[int, typer.Option("--per-day", help="Calls in a day of China's; 0: no limit.")] = 0,
    signed: Annotated[bool, typer.Option("--signed", help="Each request must be signed.")] = False,
    case: Annotated[str | None, typer.Option("--case", help="Form of the case number, if not as asked for.")] = None,
    two_persons: Annotated[
        bool,
        typer.Option("--two-persons", envvar="DATONG_TWO_PERSON_DECISIONS", help="Another person has to confirm."),
    ] = False,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Approve an application in whole or in part, which makes the grant, or refuse it; as the owner.

    Example: datong application decide a42 --refuse --reason-code no-legal-basis --text 依据不足 --basis 条例第二十条
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    verdict = Verdict(
        approve=approve,
        reason_code=reason_code,
        text=text,
        basis=basis,
        items=tuple(item) if item else None,
        masks=_masks(mask) if mask else None,
        purposes=tuple(purpose) if purpose else None,
        valid_from=moment(begins, valid_from, "--from"),
        valid_to=moment(ends, valid_to, "--until"),
        quota_per_second=per_second,
        quota_per_day=per_day,
        signed_requests=signed,
        case_pattern=case,
    )
    do(
        terminal,
        lambda desk, actor: desk.decide(actor, application, verdict, two_persons=two_persons),
        acting_as,
        by,
        jurisdictions,
        notices,
    )


def confirm(
    application: ApplicationArgument,
    agree: Annotated[bool, typer.Option("--agree/--reject", help="Make the proposed decision, or not.")],
    text: TextOption = "",
    acting_as: AsOption = "",
    by: io.ByOption = "",
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """As the second person, make the decision that another one proposed, or reject it.

    Example: datong application confirm a42 --agree --as CN/GOV/…/tax --by 赵六
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    do(
        terminal,
        lambda desk, actor: desk.confirm(actor, application, agree=agree, text=text),
        acting_as,
        by,
        jurisdictions,
        notices,
    )


def deliver(
    application: ApplicationArgument,
    text: TextOption = "",
    acting_as: AsOption = "",
    by: io.ByOption = "",
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Say that the data can be had from now on, as the owner. What can be called when it is approved is delivered with that.

    Example: datong application deliver a42 --text 接口已开通 --as CN/GOV/…/tax
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    do(terminal, lambda desk, actor: desk.deliver(actor, application, text), acting_as, by, jurisdictions, notices)


def standing(
    resource: Annotated[str, typer.Argument(help="Code of the resource; without one, all are listed.")] = "",
    text: TextOption = "",
    end: Annotated[bool, typer.Option("--end", help="Approve no longer.")] = False,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Approve beforehand whoever applies for what a resource shares unconditionally, as its owner; or list such approvals.

    Example: datong application standing 306001/000012 --text 依法公开，随申随批 --as CN/GOV/…/tax
    """
    terminal = io.Terminal.of(data, database, as_json, lang)

    async def work(desk: Applications, actor: Actor) -> Any:
        if not resource:
            return await desk.standing()
        return (await desk.stand(actor, resource, text, active=not end),)

    _, _, found = run(terminal, work, acting_as=acting_as, by=by)
    if as_json:
        io.print_json([StandingView.of(each).model_dump(mode="json") for each in found])
        return
    headers = terminal.say("resource provider decided by text state", "资源 提供方 决定人 说明 状态")
    names = headers.replace("decided by", "decided-by").split()
    states = {True: terminal.say("stands", "有效"), False: terminal.say("ended", "已终止")}
    io.print_table(
        names, [(each.resource, each.provider, each.decided_by, each.text, states[each.active]) for each in found]
    )


def _masks(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        path, equals, mask = text.rpartition("=")
        if not equals or not path:
            raise typer.BadParameter("write ITEM=MASK, such as owner.phone=phone", param_hint="--mask")
        found[path] = mask
    return found
