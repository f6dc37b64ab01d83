"""`datong grant`: who may ask for what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from exchange import NotFoundError, ServiceId, SubsystemId
from gateway.cli import console_io as io
from gateway.cli.acting import AsOption, actor_of
from gateway.cli.grant_answers import as_of, explain
from gateway.cli.grant_terms import in_short, print_grant, state, subject, what
from registry import Change, Grant, Registry, begins, ends, give_grant, revoke_grant

app = typer.Typer(help="Grants: who may ask for what, for which purpose, until when.", no_args_is_help=True)

_DEFAULT_PERIOD = timedelta(days=365)

GrantArgument = Annotated[str, typer.Argument(help="Identifier of the grant, e.g. g42")]


@app.command()
def add(
    purpose: Annotated[list[str], typer.Option("--purpose", help="What for; repeatable.")],
    why: io.WhyOption,
    client: Annotated[str, typer.Argument(help="Subsystem that calls: instance/class/code/subsystem")] = "",
    service: Annotated[str, typer.Argument(help="instance/class/code/subsystem/service")] = "",
    group: Annotated[str, typer.Option("--group", help="A group of subsystems, instead of one.")] = "",
    resource: Annotated[str, typer.Option("--resource", help="A resource of the catalogue, not a service.")] = "",
    method: Annotated[str, typer.Option("--method", help="Method, or * for every one.")] = "*",
    path: Annotated[
        str, typer.Option("--path", help="Path: {name} is one segment, * part of one, ** anything.")
    ] = "**",
    item: Annotated[
        list[str] | None, typer.Option("--item", help="Item that is released; repeatable; else all.")
    ] = None,
    mask: Annotated[list[str] | None, typer.Option("--mask", help="ITEM=MASK; repeatable.")] = None,
    per_second: Annotated[int, typer.Option("--per-second", help="Calls in any second; 0: no limit.")] = 0,
    per_day: Annotated[int, typer.Option("--per-day", help="Calls in a day of China's; 0: no limit.")] = 0,
    case: Annotated[
        str, typer.Option("--case", help="Form of the case number to name: * any characters, ? one, # a digit.")
    ] = "",
    signed: Annotated[
        bool, typer.Option("--signed", help="Each request must be signed with the caller's own key.")
    ] = False,
    valid_from: Annotated[str, typer.Option("--from", help="Date (in China) or instant; default: now.")] = "",
    valid_to: Annotated[
        str, typer.Option("--until", help="Last date, or the instant it ends; default: one year.")
    ] = "",
    identifier: Annotated[str, typer.Option("--id", help="Identifier of your choice; default: g and a number.")] = "",
    decided_by: Annotated[str, typer.Option("--decided-by", help="Who decided, if not --by.")] = "",
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Let a subsystem, or a group, call a service or use a resource; gateways follow within a second.

    Example: datong grant add CN/GOV/1199000000000102XG/housing CN/GOV/11990000000001011Q/tax/enterprises
    --method GET --path "/enterprises/{uscc}" --item name --item taxpayer.phone --mask taxpayer.phone=phone --per-day 500
    --purpose public-rental-housing --until 2027-12-31 --why 批复〔2026〕7号
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    if group and not service:
        client, service = "", client  # the one that was named is the service
    try:
        begin = begins(valid_from) if valid_from else None
        end = ends(valid_to) if valid_to else max(begin or datetime.now(UTC), datetime.now(UTC)) + _DEFAULT_PERIOD
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--from, --until") from error
    masks = dict(map(_mask, mask or ()))

    async def give(registry: Registry) -> Grant:
        actor = await actor_of(registry, acting_as, by)
        async with registry.change(by=actor.by, why=why) as change:
            grant = Grant(
                id=identifier,
                client=SubsystemId(client),
                group=group,
                service=ServiceId(service),
                resource=resource,
                method=method,
                path=path,
                items=tuple(item or ()),
                masks=masks,
                quota_per_second=per_second,
                quota_per_day=per_day,
                case_pattern=case,
                signed_requests=signed,
                purposes=tuple(purpose),
                valid_from=begin or change.now,
                valid_to=end,
                reason=why,
                decided_by=decided_by or actor.by,
            )
            return await give_grant(change, actor, grant)

    grant = terminal.run(give)
    if as_json:
        io.print_json(grant)
    else:
        print_grant(terminal, grant)


@app.command()
def revoke(
    grant: GrantArgument,
    why: io.WhyOption,
    acting_as: AsOption = "",
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

    async def end(registry: Registry) -> Change | None:
        actor = await actor_of(registry, acting_as, by)
        async with registry.change(by=actor.by, why=why) as change:
            return await revoke_grant(change, actor, grant)

    terminal.changed(terminal.run(end), grant)


@app.command("list")
def list_grants(
    client: Annotated[str | None, typer.Option("--client", help="Only of this subsystem itself.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only of this group.")] = None,
    service: Annotated[str | None, typer.Option("--service", help="Only for this service.")] = None,
    resource: Annotated[str | None, typer.Option("--resource", help="Only for this resource.")] = None,
    application: Annotated[str | None, typer.Option("--application", help="Only from this application.")] = None,
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
    grants = terminal.run(
        lambda registry: registry.grants(
            client=client, group=group, service=service, resource=resource, application=application, revoked=revoked
        )
    )
    if as_json:
        io.print_json(grants)
        return
    headers = terminal.say(
        "id to for method path purposes terms until state", "编号 授予 对象 方法 路径 用途 条件 截止 状态"
    )
    rows = [
        (
            each.id,
            subject(terminal, each),
            what(terminal, each),
            each.method,
            each.path,
            ", ".join(each.purposes),
            in_short(terminal, each),
            io.plain(each.valid_to),
            state(terminal, each),
        )
        for each in grants
    ]
    io.print_table(headers.split(), rows)


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
            raise NotFoundError(what=f"grant {grant}", what_zh=f"授权 {grant}")
        return found, await registry.changes(target=grant)

    found, changes = terminal.run(read)
    if as_json:
        io.print_json({**io.plain(found), "changes": changes})
        return
    print_grant(terminal, found)
    terminal.history(changes)


app.command()(explain)
app.command("as-of")(as_of)


def _mask(text: str) -> tuple[str, str]:
    path, equals, name = text.rpartition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not ITEM=MASK, such as taxpayer.phone=phone", param_hint="--mask")
    return path, name
