"""`datong application submit|supplement|withdraw|dispute`: what applicants do, and disputes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange import InvalidRequestError
from gateway.api.application_bodies import Supplement, WantedOf
from gateway.api.bodies import parse_model
from gateway.cli import console_io as io
from gateway.cli.acting import AsOption
from gateway.cli.application_due import JurisdictionsOption, NoticesOption
from gateway.cli.application_prints import ApplicationArgument, TextOption, do, moment, print_dispute, run
from registry import ABOUTS, RULINGS, Actor, Applications, Ask, begins, ends

_ID = re.compile(r"a\d+")
_STEPS = ("say", "escalate", "concede", "give-up", "rule")


def submit(
    what: Annotated[str, typer.Argument(help="Code of the resource, or id of a draft to hand in.")],
    purpose: Annotated[list[str] | None, typer.Option("--purpose", help="Code of a purpose; repeatable.")] = None,
    purpose_text: Annotated[str, typer.Option("--purpose-text", help="What the data is for.")] = "",
    legal_basis: Annotated[str, typer.Option("--legal-basis", help="What lets you do that.")] = "",
    overriding_basis: Annotated[
        str, typer.Option("--overriding-basis", help="For what is not shared: what obliges the owner all the same.")
    ] = "",
    scenario: Annotated[str, typer.Option("--scenario", help="In which step of which matter.")] = "",
    item: Annotated[list[str] | None, typer.Option("--item", help="Item wanted; repeatable; else all.")] = None,
    valid_from: Annotated[str, typer.Option("--from", help="Date (in China) or instant; default: the decision.")] = "",
    valid_to: Annotated[str, typer.Option("--until", help="Last date, or the instant it ends.")] = "",
    calls_per_day: Annotated[int, typer.Option("--calls-per-day", help="Expected volume.")] = 0,
    case_rule: Annotated[str, typer.Option("--case", help="What your case numbers look like: * ? #.")] = "",
    contact: Annotated[str, typer.Option("--contact", help="Whom to ask.")] = "",
    official: Annotated[str, typer.Option("--official", help="Who answers for the use.")] = "",
    file: Annotated[
        Path | None, typer.Option("--file", help="All of that as JSON, in the form of POST /v1/applications.")
    ] = None,
    draft: Annotated[bool, typer.Option("--draft", help="Only write it down; hand it in later.")] = False,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Apply for a resource, or hand in a draft: the statutory clock starts.

    Example: datong application submit 306001/000012 --as CN/GOV/…/housing --purpose public-rental-housing
    --purpose-text 资格核查 --legal-basis 第七条 --scenario 受理 --until 2027-12-31 --contact 0771-1 --official 李四
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    if _ID.fullmatch(what):
        do(terminal, lambda desk, actor: desk.submit(actor, what), acting_as, by, jurisdictions, notices)
        return
    if file is not None:
        ask = _ask_in(terminal, file, what)
    else:
        ask = Ask(
            resource=what,
            purposes=tuple(purpose or ()),
            purpose_text=purpose_text,
            legal_basis=legal_basis,
            overriding_basis=overriding_basis,
            scenario=scenario,
            items=tuple(item or ()),
            valid_from=moment(begins, valid_from, "--from"),
            valid_to=moment(ends, valid_to, "--until"),
            calls_per_day=calls_per_day,
            case_rule=case_rule,
            contact=contact,
            official=official,
        )
    do(
        terminal,
        lambda desk, actor: desk.draft(actor, ask, submit=not draft),
        acting_as,
        by,
        jurisdictions,
        notices,
    )


def supplement(
    application: ApplicationArgument,
    text: TextOption,
    file: Annotated[
        Path | None, typer.Option("--file", help="What is asked for otherwise now, as JSON like the API's.")
    ] = None,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Reply to the owner, as the applicant: the clock goes on.

    Example: datong application supplement a42 --text 受理环节 --as CN/GOV/…/housing
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    changes: dict[str, Any] = {}
    if file is not None:
        with io.clear_errors(terminal.lang, as_json):
            changes = parse_model(_with_members(file, text=text), Supplement).changes()
    do(
        terminal,
        lambda desk, actor: desk.supplement(actor, application, text, changes),
        acting_as,
        by,
        jurisdictions,
        notices,
    )


def withdraw(
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
    """Give an application up, as the applicant.

    Example: datong application withdraw a42 --text 不再需要 --as CN/GOV/…/housing
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    do(terminal, lambda desk, actor: desk.withdraw(actor, application, text), acting_as, by, jurisdictions, notices)


def dispute(
    application: ApplicationArgument,
    text: TextOption,
    about: Annotated[str, typer.Option("--about", help=f"Open one about: {', '.join(ABOUTS)}.")] = "",
    miss: Annotated[str, typer.Option("--miss", help="Id of the missed deadline, such as m77.")] = "",
    step: Annotated[str, typer.Option("--step", help=f"Or a step of the open one: {', '.join(_STEPS)}.")] = "",
    outcome: Annotated[str, typer.Option("--outcome", help=f"Of a ruling: {' or '.join(RULINGS)}.")] = "",
    document: Annotated[str, typer.Option("--document", help="Of a ruling: the document.")] = "",
    acting_as: AsOption = "",
    by: io.ByOption = "",
    jurisdictions: JurisdictionsOption = None,
    notices: NoticesOption = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Dispute a refusal, an approval in part or a missed deadline; or take a step in a dispute.

    Example: datong application dispute a42 --about refusal --text 第七条已明确核查职责 --as CN/GOV/…/housing
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    if bool(about) == bool(step):
        raise typer.BadParameter("name one of both", param_hint="--about, --step")
    if step == "rule" and outcome not in RULINGS:
        raise typer.BadParameter(f"write {' or '.join(RULINGS)}", param_hint="--outcome")
    for option, value, known in (("--about", about, ABOUTS), ("--step", step, _STEPS)):
        if value and value not in known:
            raise typer.BadParameter(f"write one of {', '.join(known)}", param_hint=option)

    async def work(desk: Applications, actor: Actor) -> Any:
        if about:
            return await desk.dispute(actor, application, about, text, miss=miss)  # type: ignore[arg-type]
        ruling: Any = outcome or "upheld"
        return await desk.move(actor, application, step, text, ruling=ruling, document=document)  # type: ignore[arg-type]

    desk, _, found = run(terminal, work, acting_as=acting_as, by=by, jurisdictions=jurisdictions, notices=notices)
    print_dispute(terminal, desk, found)


def _ask_in(terminal: io.Terminal, file: Path, resource: str) -> Ask:
    with io.clear_errors(terminal.lang, terminal.as_json):
        return parse_model(_with_members(file, resource=resource), WantedOf).ask(resource)


def _with_members(file: Path, **members: str) -> bytes:
    """A file's JSON object, with members that the command line names."""
    import json

    from gateway.api.strict_json import parse_json

    content = parse_json(file.read_bytes())
    if not isinstance(content, dict):
        raise InvalidRequestError(
            "json", problem=f"{file.name} holds no JSON object.", problem_zh=f"{file.name} 不是 JSON 对象。"
        )
    return json.dumps({**content, **members}, ensure_ascii=False).encode()
