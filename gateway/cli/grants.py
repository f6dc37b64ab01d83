"""`datong grant`: who may ask for what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import unquote

import typer

from exchange import MeshError, NotFoundError, ServiceId, SubsystemId
from gateway.cli import console_io as io
from registry import Change, Decision, Grant, Registry, begins, ends

app = typer.Typer(help="Grants: who may ask for what, for which purpose, until when.", no_args_is_help=True)

_DEFAULT_PERIOD = timedelta(days=365)

ClientArgument = Annotated[str, typer.Argument(help="Subsystem that calls: instance/class/code/subsystem")]
ServiceArgument = Annotated[str, typer.Argument(help="instance/class/code/subsystem/service")]
GrantArgument = Annotated[str, typer.Argument(help="Identifier of the grant, e.g. g42")]


@app.command()
def add(
    client: ClientArgument,
    service: ServiceArgument,
    purpose: Annotated[list[str], typer.Option("--purpose", help="What for; repeatable.")],
    why: io.WhyOption,
    method: Annotated[str, typer.Option("--method", help="Method, or * for every one.")] = "*",
    path: Annotated[
        str, typer.Option("--path", help="Path: {name} is one segment, * part of one, ** anything.")
    ] = "**",
    valid_from: Annotated[str, typer.Option("--from", help="Date (in China) or instant; default: now.")] = "",
    valid_to: Annotated[
        str, typer.Option("--until", help="Last date, or the instant it ends; default: one year.")
    ] = "",
    signed: Annotated[
        bool, typer.Option("--signed", help="Each request must be signed with the caller's own key.")
    ] = False,
    identifier: Annotated[str, typer.Option("--id", help="Identifier of your choice; default: g and a number.")] = "",
    decided_by: Annotated[str, typer.Option("--decided-by", help="Who decided, if not --by.")] = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Let a subsystem call a service; gateways follow within a second.

    Example: datong grant add CN/GOV/1199000000000102XG/housing CN/GOV/11990000000001011Q/tax/enterprises
    --method GET --path "/enterprises/{uscc}" --purpose public-rental-housing --until 2027-12-31 --why 批复〔2026〕7号
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    now = datetime.now(UTC)
    try:
        begin = begins(valid_from) if valid_from else now
        end = ends(valid_to) if valid_to else max(begin, now) + _DEFAULT_PERIOD
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--from, --until") from error
    grant = terminal.run(
        lambda registry: registry.grant(
            client=SubsystemId(client),
            service=ServiceId(service),
            purposes=purpose,
            method=method,
            path=path,
            signed_requests=signed,
            valid_from=begin,
            valid_to=end,
            grant_id=identifier,
            decided_by=decided_by,
            by=io.who(by),
            why=why,
        )
    )
    if as_json:
        io.print_json(grant)
    else:
        _print_grant(terminal, grant)


@app.command()
def revoke(
    grant: GrantArgument,
    why: io.WhyOption,
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """End a grant now; it stays on record, and does not come back.

    Example: datong grant revoke g42 --why 项目结束
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    change = terminal.run(lambda registry: registry.revoke(grant, by=io.who(by), why=why))
    terminal.changed(change, grant)


@app.command("list")
def list_grants(
    client: Annotated[str | None, typer.Option("--client", help="Only of this subsystem.")] = None,
    service: Annotated[str | None, typer.Option("--service", help="Only for this service.")] = None,
    revoked: Annotated[bool, typer.Option("--all", help="Revoked ones too.")] = False,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """List grants.

    Example: datong grant list --service CN/GOV/11990000000001011Q/tax/enterprises --all
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    grants = terminal.run(lambda registry: registry.grants(client=client, service=service, revoked=revoked))
    if as_json:
        io.print_json(grants)
        return
    headers = terminal.say(
        "id client service method path purposes signed until state", "编号 调用方 服务 方法 路径 用途 签名 截止 状态"
    ).split()
    now = datetime.now(UTC)
    rows = [
        (
            each.id,
            each.client,
            each.service,
            each.method,
            each.path,
            ", ".join(each.purposes),
            terminal.say("required", "必须") if each.signed_requests else "-",
            io.plain(each.valid_to),
            _state(each, now),
        )
        for each in grants
    ]
    io.print_table(headers, rows)


@app.command()
def show(
    grant: GrantArgument,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Show a grant's terms, and who decided what about it.

    Example: datong grant show g42
    """
    terminal = io.Terminal.of(data, database, as_json, lang)

    async def read(registry: Registry) -> tuple[Grant, tuple[Change, ...]]:
        found = await registry.find_grant(grant)
        if found is None:
            raise NotFoundError(what=f"grant {grant}")
        return found, await registry.changes(target=grant)

    found, changes = terminal.run(read)
    if as_json:
        io.print_json({**io.plain(found), "changes": changes})
        return
    _print_grant(terminal, found)
    terminal.history(changes)


@app.command()
def explain(
    client: ClientArgument,
    service: ServiceArgument,
    method: Annotated[str, typer.Argument(help="Method, e.g. GET")],
    path: Annotated[str, typer.Argument(help="Path after the service code, e.g. /enterprises/9111…")] = "",
    purpose: Annotated[str | None, typer.Option("--purpose", help="Purpose the caller would name.")] = None,
    at: Annotated[str, typer.Option("--at", help="Date or instant; default: now.")] = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Say whether a call would be permitted and by which grant, or why not (exit code 1). Nothing is called.

    Example: datong grant explain CN/GOV/1199000000000102XG/housing CN/GOV/11990000000001011Q/tax/enterprises
    GET /enterprises/91990000… --purpose public-rental-housing
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    try:
        moment = begins(at) if at else datetime.now(UTC)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--at") from error
    bare = path.removeprefix("/")
    segments = tuple(unquote(segment) for segment in bare.split("/")) if bare else ()
    snapshot = terminal.run(Registry.snapshot)
    try:
        decision = snapshot.decide(
            SubsystemId(client), ServiceId(service), method.upper(), segments, purpose, moment.timestamp()
        )
    except MeshError as error:
        _explain_refusal(terminal, error)
    else:
        _explain_permission(terminal, decision)


def _explain_permission(terminal: io.Terminal, decision: Decision) -> None:
    if terminal.as_json:
        io.print_json(
            {
                "permitted": True,
                "grant": decision.grant,
                "operation": decision.operation,
                "purpose": decision.purpose,
            }
        )
        return
    grant, operation = decision.grant, decision.operation
    typer.echo(
        terminal.say(
            f"Permitted by grant {grant.id} (version {grant.version}) for the purpose {decision.purpose}.",
            f"允许：依据授权 {grant.id}（版本 {grant.version}），用途 {decision.purpose}。",
        )
    )
    if grant.signed_requests:
        typer.echo(
            terminal.say(
                "The request must be signed with the caller's own key (docs/signed-requests.md).",
                "请求须由调用方私钥签名（见 docs/signed-requests.md）。",
            )
        )
    kind = "safe" if operation.safe else "unsafe"
    typer.echo(terminal.say("Operation: ", "操作：") + f"{operation.method} {operation.path} ({kind})")


def _explain_refusal(terminal: io.Terminal, error: MeshError) -> None:
    if terminal.as_json:
        io.print_json(
            {
                "permitted": False,
                "code": error.code,
                "rule": error.rule,
                "detail": error.detail_in(terminal.lang),
                "next": error.next_in(terminal.lang),
            }
        )
    else:
        typer.echo(f"{terminal.say('Refused', '拒绝')} [{error.rule}]: {error.detail_in(terminal.lang)}")
        typer.echo(error.next_in(terminal.lang))
    raise typer.Exit(1)


def _print_grant(terminal: io.Terminal, grant: Grant) -> None:
    io.print_fields(
        [
            (terminal.say("grant", "授权"), grant.id),
            (terminal.say("client", "调用方"), grant.client),
            (terminal.say("service", "服务"), grant.service),
            (terminal.say("covers", "范围"), f"{grant.method} {grant.path}"),
            (terminal.say("purposes", "用途"), ", ".join(grant.purposes)),
            (
                terminal.say("signed", "签名"),
                terminal.say("every request, by the caller's own key", "每次请求须由调用方私钥签名")
                if grant.signed_requests
                else terminal.say("not required", "不要求"),
            ),
            (terminal.say("from", "自"), io.plain(grant.valid_from)),
            (terminal.say("until", "至"), io.plain(grant.valid_to)),
            (terminal.say("reason", "理由"), grant.reason),
            (terminal.say("decided by", "决定人"), grant.decided_by),
            (terminal.say("state", "状态"), _state(grant, datetime.now(UTC))),
            (
                terminal.say("revoked", "撤销"),
                grant.revoked_at and f"{io.plain(grant.revoked_at)}: {grant.revocation_reason}",
            ),
            (terminal.say("version", "版本"), grant.version),
        ]
    )


def _state(grant: Grant, now: datetime) -> str:
    if not grant.active:
        return "revoked"
    if now < grant.valid_from:
        return "upcoming"
    return "valid" if now < grant.valid_to else "expired"
