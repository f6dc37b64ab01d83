"""`datong role`: who may operate, decide, describe and audit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, cast

import typer

from exchange import SubsystemId
from gateway.cli import console_io as io
from gateway.cli.acting import AsOption, actor_of
from gateway.cli.grant_terms import STATES
from registry import (
    Change,
    Registry,
    Role,
    RoleGrant,
    begins,
    ends,
    grant_role,
    revoke_role,
    revoke_standing_role,
    state_of,
)

app = typer.Typer(help="Roles: operator, owner, integrator, auditor, and who holds them.", no_args_is_help=True)

_DEFAULT_PERIOD = timedelta(days=365)


@app.command()
def grant(
    subsystem: Annotated[str, typer.Argument(help="Who is to hold it: instance/class/code/subsystem")],
    role: Annotated[str, typer.Argument(help="operator, owner, integrator or auditor")],
    why: io.WhyOption,
    valid_from: Annotated[str, typer.Option("--from", help="Date (in China) or instant; default: now.")] = "",
    valid_to: Annotated[
        str, typer.Option("--until", help="Last date, or the instant it ends; default: one year.")
    ] = "",
    identifier: Annotated[str, typer.Option("--id", help="Identifier of your choice; default: r and a number.")] = "",
    decided_by: Annotated[str, typer.Option("--decided-by", help="Who decided, if not --by.")] = "",
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Let a subsystem hold a role for a time; gateways follow within a second.

    Example: datong role grant CN/GOV/11990000000001030M/audit auditor --until 2026-12-31 --why 审计通知〔2026〕5号
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    try:
        begin = begins(valid_from) if valid_from else None
        end = ends(valid_to) if valid_to else max(begin or datetime.now(UTC), datetime.now(UTC)) + _DEFAULT_PERIOD
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--from, --until") from error

    async def give(registry: Registry) -> RoleGrant:
        actor = await actor_of(registry, acting_as, by)
        async with registry.change(by=actor.by, why=why) as change:
            wanted = RoleGrant(
                id=identifier,
                subsystem=SubsystemId(subsystem),
                role=cast("Role", role),  # the registry refuses others, and says which there are
                valid_from=begin or change.now,
                valid_to=end,
                reason=why,
                decided_by=decided_by or actor.by,
            )
            return await grant_role(change, actor, wanted)

    granted = terminal.run(give)
    if as_json:
        io.print_json(granted)
        return
    io.print_fields(
        [
            (terminal.say("role grant", "角色授予"), granted.id),
            (terminal.say("subsystem", "子系统"), granted.subsystem),
            (terminal.say("role", "角色"), granted.role),
            (terminal.say("from", "自"), io.plain(granted.valid_from)),
            (terminal.say("until", "至"), io.plain(granted.valid_to)),
            (terminal.say("decided by", "决定人"), granted.decided_by),
        ]
    )


@app.command()
def revoke(
    target: Annotated[str, typer.Argument(help="Identifier of a role grant (r42), or a subsystem, with --role.")],
    why: io.WhyOption,
    role: Annotated[str, typer.Option("--role", help="The role that the subsystem was registered with.")] = "",
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """End a role now: one that was granted, or one that a subsystem was registered with.

    Example: datong role revoke r42 --why 审计结束, or: datong role revoke CN/GOV/…/tax --role owner --why 职责调整
    """
    if ("/" in target) != bool(role):
        raise typer.BadParameter("name a role grant, or a subsystem and --role", param_hint="TARGET, --role")
    terminal = io.Terminal.of(data, database, as_json, lang)

    async def end(registry: Registry) -> Change | None:
        actor = await actor_of(registry, acting_as, by)
        async with registry.change(by=actor.by, why=why) as change:
            if role:
                return await revoke_standing_role(change, actor, SubsystemId(target), cast("Role", role))
            return await revoke_role(change, actor, target)

    terminal.changed(terminal.run(end), target)


@app.command("list")
def list_roles(
    subsystem: Annotated[str, typer.Option("--subsystem", help="Only of this subsystem.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Those that ended, too.")] = False,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """List who holds which role, by registration and by grant.

    Example: datong role list --all
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    snapshot = terminal.run(Registry.snapshot)
    now = datetime.now(UTC)
    chosen = [each for each in snapshot.subsystems() if subsystem in ("", each.id)]
    standing = [(each.id, role) for each in chosen for role in each.roles]
    granted = [
        (grant, state_of(grant.active, grant.valid_from, grant.valid_to, now))
        for each in chosen
        for grant in snapshot.role_grants_of(each.id)
    ]
    shown = [(grant, state) for grant, state in granted if everything or state in ("valid", "upcoming")]
    if as_json:
        io.print_json(
            {
                "standing": [{"subsystem": identifier, "role": role} for identifier, role in standing],
                "granted": [{**io.plain(grant), "state": state} for grant, state in shown],
            }
        )
        return
    rows: list[tuple[object, ...]] = [
        (identifier, role, terminal.say("registration", "登记"), "", "", "") for identifier, role in standing
    ]
    rows += [
        (
            grant.subsystem,
            grant.role,
            grant.id,
            io.plain(grant.valid_from),
            io.plain(grant.valid_to),
            terminal.say(state, STATES[state]),
        )
        for grant, state in shown
    ]
    headers = terminal.say("subsystem role by from until state", "子系统 角色 依据 自 至 状态").split()
    io.print_table(headers, sorted(rows, key=lambda row: str(row[:3])))
