"""`datong audit opening`: one record for somebody who sees only counts, when a second person agrees."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, TypeVar

import typer

from gateway.cli import console_io as io
from gateway.cli.acting import AsOption, actor_of
from registry import OPENING_STATES, Actor, Opening, OpeningFilter, Openings, OpeningState, Registry

app = typer.Typer(help="Openings: an operator looks at one record, when a second person agreed.", no_args_is_help=True)

_T = TypeVar("_T")
_EXCHANGE_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OpeningArgument = Annotated[str, typer.Argument(help="Id of the opening, such as o42.")]
_STATES: dict[OpeningState, str] = {"asked": "待审批", "approved": "已批准", "refused": "已拒绝"}


@app.command()
def ask(
    exchange: Annotated[str, typer.Argument(help="Exchange id, as in X-Road-Request-Id.")],
    why: io.WhyOption,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Ask to look at one record, for a subsystem that is operator or auditor, and by name.

    Example: datong audit opening ask 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b --as CN/GOV/…/operator --by 张三 --why 投诉〔2026〕9号
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    exchange = exchange.removeprefix("urn:uuid:")
    if not _EXCHANGE_ID.fullmatch(exchange):
        raise typer.BadParameter("an exchange id is a UUID in lower case", param_hint="EXCHANGE")

    async def work(openings: Openings, actor: Actor) -> Opening:
        opening, _ = await openings.ask(actor, exchange, why)
        return opening

    _print(terminal, *_run(terminal, work, acting_as, by))


@app.command()
def approve(
    opening: _OpeningArgument,
    why: io.WhyOption,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """As the second person: open the record to who asked, for 24 hours.

    Example: datong audit opening approve o42 --as CN/GOV/…/audit --by 李四 --why 属实
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    decided = _run(terminal, lambda all_of, actor: all_of.decide(actor, opening, approve=True, why=why), acting_as, by)
    _print(terminal, *decided)


@app.command()
def refuse(
    opening: _OpeningArgument,
    why: io.WhyOption,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """As the second person: the record stays closed.

    Example: datong audit opening refuse o42 --as CN/GOV/…/audit --by 李四 --why 理由不充分
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    decided = _run(terminal, lambda all_of, actor: all_of.decide(actor, opening, approve=False, why=why), acting_as, by)
    _print(terminal, *decided)


@app.command("list")
def list_openings(
    exchange: Annotated[str, typer.Option("--exchange", help="Only of this record.")] = "",
    state: Annotated[str, typer.Option("--state", help=f"Only in this state: {', '.join(OPENING_STATES)}.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    cursor: Annotated[int | None, typer.Option(min=1, help="Where the page before ended.")] = None,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Openings, newest first: who asked for what and why, and who decided.

    Example: datong audit opening list --state asked
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    chosen = next((each for each in OPENING_STATES if each == state), None)
    if state and chosen is None:
        raise typer.BadParameter(f"write one of {', '.join(OPENING_STATES)}", param_hint="--state")
    wanted = OpeningFilter(exchange=exchange, state=chosen)
    (found, after), now = _run(
        terminal, lambda all_of, actor: all_of.page(actor, wanted, before=cursor, limit=limit), "", ""
    )
    if as_json:
        io.print_json({"openings": [_plain(each, now) for each in found], "next_cursor": after})
        return
    headers = terminal.say(
        "id at by exchange why state decided until", "编号 时间 申请人 交换编号 理由 状态 审批人 有效期至"
    )
    rows = [
        (
            each.id,
            io.plain(each.asked_at),
            f"{each.asked_by} ({each.official})",
            each.exchange,
            each.why,
            terminal.say(each.state, _STATES[each.state]),
            each.decided_by,
            io.plain(each.valid_until),
        )
        for each in found
    ]
    io.print_table(headers.split(), rows)
    if after is not None:
        typer.echo(terminal.say(f"more: --cursor {after}", f"下一页：--cursor {after}"))


def _run(
    terminal: io.Terminal, work: Callable[[Openings, Actor], Awaitable[_T]], acting_as: str, by: str
) -> tuple[_T, datetime]:
    """Do something with the openings of the registry in somebody's name; and the registry's time."""

    async def opened(registry: Registry) -> tuple[_T, datetime]:
        openings = Openings(registry)
        return await work(openings, await actor_of(registry, acting_as, by)), openings.now()

    return terminal.run(opened)


def _print(terminal: io.Terminal, opening: Opening, now: datetime) -> None:
    if terminal.as_json:
        io.print_json(_plain(opening, now))
        return
    say = terminal.say
    io.print_fields(
        [
            (say("opening", "调阅申请"), opening.id),
            (say("exchange", "交换编号"), opening.exchange),
            (say("asked by", "申请人"), f"{opening.asked_by} ({opening.official})"),
            (say("why", "理由"), opening.why),
            (say("state", "状态"), say(opening.state, _STATES[opening.state])),
            (say("decided by", "审批人"), opening.decided_by),
            (say("because", "审批意见"), opening.decision_why),
            (say("open until", "有效期至"), io.plain(opening.valid_until)),
        ]
    )
    if opening.state == "asked":
        typer.echo(
            say(
                f"Another person decides: datong audit opening approve {opening.id} --as … --by … --why …",
                f"须由另一人审批：datong audit opening approve {opening.id} --as … --by … --why …",
            )
        )


def _plain(opening: Opening, now: datetime) -> dict[str, object]:
    return {**io.plain(opening), "open": opening.is_open(now)}
