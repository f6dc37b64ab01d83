"""`datong grant explain` and `datong grant as-of`: what grants come to, now and on a day that is past."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

import typer

from exchange import ServiceId, SubsystemId
from gateway.cli import console_io as io
from gateway.cli.grant_terms import conditions, in_short, subject, what
from registry import Explanation, GrantInForce, Question, Registry, Snapshot, begins
from registry import explain as explained

KnownAtOption = Annotated[
    str,
    typer.Option("--known-at", help="As it was known at this date or instant, `now` included; default: at that time."),
]


def explain(
    client: Annotated[str, typer.Argument(help="Subsystem that calls: instance/class/code/subsystem")],
    service: Annotated[str, typer.Argument(help="instance/class/code/subsystem/service")],
    method: Annotated[str, typer.Argument(help="Method, e.g. GET")],
    path: Annotated[str, typer.Argument(help="Path after the service code, e.g. /enterprises/9111…")] = "",
    purpose: Annotated[str | None, typer.Option("--purpose", help="Purpose the caller would name.")] = None,
    case: Annotated[str, typer.Option("--case", help="Case number the caller would name (X-Road-Issue).")] = "",
    at: Annotated[str, typer.Option("--at", help="Decide as of this date or instant; default: now.")] = "",
    known_at: KnownAtOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Say whether a call would be permitted and by which grant, or why not (exit code 1). Nothing is called.

    Example: datong grant explain CN/GOV/1199000000000102XG/housing CN/GOV/11990000000001011Q/tax/enterprises
    GET /enterprises/91990000… --purpose public-rental-housing --at 2026-03-01
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    moment, known = _moment(at, "--at"), _moment(known_at, "--known-at")

    async def read(registry: Registry) -> Snapshot:
        if moment is None and known is None:
            return await registry.snapshot()
        return await registry.snapshot_at(moment or datetime.now(UTC), known)

    question = Question(
        client=SubsystemId(client),
        service=ServiceId(service),
        method=method.upper(),
        path=path,
        purpose=purpose,
        case=case,
        at=(moment or datetime.now(UTC)).timestamp(),
    )
    explanation = explained(terminal.run(read), question)
    if as_json:
        io.print_json(_plain(terminal, explanation))
    else:
        _print_explanation(terminal, explanation)
    if not explanation.permitted:
        raise typer.Exit(1)


def as_of(
    day: Annotated[str, typer.Argument(help="The day, in China: 2026-03-01")],
    client: Annotated[str, typer.Option("--client", help="Only what this subsystem held, through groups, too.")] = "",
    service: Annotated[str, typer.Option("--service", help="Only for this service, through resources, too.")] = "",
    known_at: KnownAtOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Who could see what on a day, from when until when, and by whose decision.

    Example: datong grant as-of 2026-03-01 --service CN/GOV/11990000000001011Q/tax/enterprises
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    try:
        asked = date.fromisoformat(day)
    except ValueError as error:
        raise typer.BadParameter(f"{day!r} is not a date such as 2026-03-01", param_hint="DAY") from error
    known = _moment(known_at, "--known-at")
    found = terminal.run(
        lambda registry: registry.grants_as_of(
            asked,
            known_at=known,
            client=SubsystemId(client) if client else None,
            service=ServiceId(service) if service else None,
        )
    )
    if as_json:
        io.print_json({"day": day, "known_at": known, "grants": found})
        return
    headers = terminal.say(
        "id to for covers purposes terms from until decided recorded why",
        "编号 授予 对象 范围 用途 条件 自 至 决定人 登记 理由",
    )
    io.print_table(headers.split(), [_row(terminal, each) for each in found])


def _row(terminal: io.Terminal, found: GrantInForce) -> tuple[str, ...]:
    grant = found.grant
    revoked = ""
    if grant.revoked_at is not None:
        revoked = terminal.say("; revoked by ", "；撤销：") + f"{found.revoked_by}, {grant.revocation_reason}"
    return (
        grant.id,
        subject(terminal, grant),
        what(terminal, grant),
        f"{grant.method} {grant.path}",
        ", ".join(grant.purposes),
        in_short(terminal, grant),
        io.plain(found.begins),
        io.plain(found.ends),
        grant.decided_by,
        f"{io.plain(found.recorded_at)} {found.recorded_by}",
        f"{grant.application} {found.why}{revoked}".strip(),
    )


def _plain(terminal: io.Terminal, explanation: Explanation) -> dict[str, object]:
    error = explanation.error
    return {
        "permitted": explanation.permitted,
        "code": error.code if error else "",
        "rule": explanation.rule,
        "detail": explanation.detail_in(terminal.lang),
        "next": explanation.next_in(terminal.lang),
        "grant": explanation.grant,
        "nearest": explanation.nearest,
        "operation": explanation.operation,
        "purpose": explanation.purpose,
        "conditions": explanation.conditions,
    }


def _print_explanation(terminal: io.Terminal, explanation: Explanation) -> None:
    detail = explanation.detail_in(terminal.lang)
    grant, operation = explanation.grant, explanation.operation
    if grant is None or operation is None:
        typer.echo(f"{terminal.say('Refused', '拒绝')} [{explanation.rule}]: {detail}")
        typer.echo(explanation.next_in(terminal.lang))
        return
    typer.echo(detail)
    kind = terminal.say("safe", "安全") if operation.safe else terminal.say("unsafe", "非安全")
    typer.echo(terminal.say("Operation: ", "操作：") + f"{operation.method} {operation.path} ({kind})")
    io.print_fields(conditions(terminal, grant))


def _moment(text: str, option: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.now(UTC) if text == "now" else begins(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
