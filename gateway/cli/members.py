"""`datong member`: organisations and their subsystems."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from exchange import MemberId, NotFoundError, SubsystemId
from gateway.cli import console_io as io
from registry import Change, Level, Member, Registry, Role, Snapshot, Subsystem

app = typer.Typer(help="Organisations and their subsystems: who takes part.", no_args_is_help=True)

MemberArgument = Annotated[str, typer.Argument(help="instance/class/code, e.g. CN/GOV/11990000000001011Q")]
SubsystemArgument = Annotated[str, typer.Argument(help="instance/class/code/subsystem, e.g. CN/GOV/…/tax")]
NameOption = Annotated[str, typer.Option("--name", help="Name in Chinese.")]
NameEnOption = Annotated[str, typer.Option("--name-en", help="Name in English.")]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace what is registered with other content.")]


@app.command()
def add(
    member: MemberArgument,
    name: NameOption,
    why: io.WhyOption,
    name_en: NameEnOption = "",
    exception: Annotated[
        str, typer.Option("--exception", help="Why a code that fails its check characters is accepted.")
    ] = "",
    level: Annotated[str, typer.Option("--level", help="national, province, city, county or township.")] = "",
    division: Annotated[
        str, typer.Option("--division", help="Six digits of GB/T 2260; default: those in the code.")
    ] = "",
    replace: ReplaceOption = False,
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Register an organisation.

    Example: datong member add CN/GOV/11990000000001011Q --name 示例市税务局 --level city --why 接入申请〔2026〕3号
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    record = Member(
        id=MemberId(member),
        name=name,
        name_en=name_en,
        check_exception=exception,
        level=cast("Level", level),  # the registry refuses others, and says which there are
        division=division,
    )
    change = terminal.run(
        lambda registry: registry.add_member(record, by=io.who(by), why=why, replace=replace), create=True
    )
    terminal.changed(change, member)


@app.command("add-subsystem")
def add_subsystem(
    subsystem: SubsystemArgument,
    name: NameOption,
    why: io.WhyOption,
    name_en: NameEnOption = "",
    role: Annotated[
        list[str] | None, typer.Option("--role", help="operator, owner, integrator or auditor; repeatable.")
    ] = None,
    replace: ReplaceOption = False,
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Register a system of a registered organisation.

    Example: datong member add-subsystem CN/GOV/11990000000001011Q/tax --name 税务征管系统 --role owner --why 接入申请
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    roles = cast("tuple[Role, ...]", tuple(role or ()))  # the registry refuses others, and says which there are
    record = Subsystem(id=SubsystemId(subsystem), name=name, name_en=name_en, roles=roles)
    change = terminal.run(lambda registry: registry.add_subsystem(record, by=io.who(by), why=why, replace=replace))
    terminal.changed(change, subsystem)


@app.command()
def suspend(
    subsystem: SubsystemArgument,
    why: io.WhyOption,
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Stop a subsystem: it may ask for nothing, and its services are closed.

    Example: datong member suspend CN/GOV/1199000000000102XG/housing --why 密钥可能泄露
    """
    _set_state(io.Terminal.of(data, database, as_json, lang), subsystem, active=False, by=by, why=why)


@app.command()
def activate(
    subsystem: SubsystemArgument,
    why: io.WhyOption,
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Let a suspended subsystem act again.

    Example: datong member activate CN/GOV/1199000000000102XG/housing --why 已更换证书
    """
    _set_state(io.Terminal.of(data, database, as_json, lang), subsystem, active=True, by=by, why=why)


def _set_state(terminal: io.Terminal, subsystem: str, *, active: bool, by: str, why: str) -> None:
    identifier = SubsystemId(subsystem)
    change = terminal.run(
        lambda registry: registry.set_subsystem_state(identifier, active=active, by=io.who(by), why=why)
    )
    terminal.changed(change, subsystem)


@app.command("list")
def list_members(
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """List organisations and their subsystems.

    Example: datong member list --lang zh
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    snapshot = terminal.run(Registry.snapshot)
    if as_json:
        io.print_json([_with_subsystems(snapshot, member) for member in snapshot.members()])
        return
    headers = terminal.say("identifier name roles state", "标识符 名称 角色 状态").split()
    rows: list[tuple[str, ...]] = []
    for member in snapshot.members():
        rows.append((member.id, terminal.say(member.name_en or member.name, member.name), "", ""))
        rows += [
            (f"  {each.id}", terminal.say(each.name_en or each.name, each.name), ", ".join(each.roles), _state(each))
            for each in snapshot.subsystems_of(member.id)
        ]
    io.print_table(headers, rows)


@app.command()
def show(
    member: MemberArgument,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Show an organisation, its subsystems and services, and how it came to be registered so.

    Example: datong member show CN/GOV/11990000000001011Q
    """
    terminal = io.Terminal.of(data, database, as_json, lang)

    async def read(registry: Registry) -> tuple[Snapshot, Member, tuple[Change, ...]]:
        snapshot = await registry.snapshot()
        found = snapshot.member(MemberId(member))
        if found is None:
            raise NotFoundError(what=f"member {member}")
        return snapshot, found, await registry.changes(target=member)

    snapshot, found, changes = terminal.run(read)
    if as_json:
        io.print_json({**_with_subsystems(snapshot, found), "changes": changes})
        return
    io.print_fields(
        [
            (terminal.say("identifier", "标识符"), found.id),
            (terminal.say("name", "名称"), found.name),
            (terminal.say("English name", "英文名称"), found.name_en),
            (terminal.say("exception", "校验例外"), found.check_exception),
            (terminal.say("level", "层级"), found.level),
            (terminal.say("division", "区划"), found.division_code),
            *(
                (
                    terminal.say("subsystem", "子系统"),
                    f"{each.id}  {each.name}  [{', '.join(each.roles)}]  {_state(each)}",
                )
                for each in snapshot.subsystems_of(found.id)
            ),
            *(
                (terminal.say("service", "服务"), f"{service.id}  {service.title_zh}")
                for each in snapshot.subsystems_of(found.id)
                for service in snapshot.services_of(each.id)
            ),
        ]
    )
    terminal.history(changes)


def _state(subsystem: Subsystem) -> str:
    return "active" if subsystem.active else "suspended"


def _with_subsystems(snapshot: Snapshot, member: Member) -> dict[str, object]:
    return {**io.plain(member), "subsystems": [io.plain(each) for each in snapshot.subsystems_of(member.id)]}
