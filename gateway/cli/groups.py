"""`datong group`: subsystems that a grant names together."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from exchange import NotFoundError, SubsystemId
from gateway.cli import console_io as io
from gateway.cli.acting import AsOption, actor_of
from registry import Change, Group, Level, Registry, Snapshot, add_group, close_group

app = typer.Typer(help="Groups of subsystems, by list or by level, division and code.", no_args_is_help=True)

GroupArgument = Annotated[str, typer.Argument(help="Identifier of the group, e.g. county-civil-affairs")]


@app.command()
def add(
    group: GroupArgument,
    name: Annotated[str, typer.Option("--name", help="Name in Chinese.")],
    why: io.WhyOption,
    name_en: Annotated[str, typer.Option("--name-en", help="Name in English.")] = "",
    member: Annotated[
        list[str] | None,
        typer.Option("--member", help="Subsystem that is in it: instance/class/code/subsystem; repeatable."),
    ] = None,
    level: Annotated[
        str, typer.Option("--level", help="national, province, city, county or township: of the subsystems' members.")
    ] = "",
    division: Annotated[str, typer.Option("--division", help="Six digits; 450000 covers all of 45xxxx.")] = "",
    code: Annotated[str, typer.Option("--code", help="Last part of the subsystems' identifiers, e.g. civil.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace what is registered with other content.")] = False,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Register a group, or change it with --replace; gateways follow within a second.

    Example: datong group add county-civil-affairs --name 各县民政系统 --level county --division 450000 --code civil --why 方案
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    record = Group(
        id=group,
        name=name,
        name_en=name_en,
        members=tuple(map(SubsystemId, member or ())),
        level=cast("Level", level),  # the registry refuses others, and says which there are
        division=division,
        subsystem_code=code,
    )

    async def register(registry: Registry) -> Change | None:
        actor = await actor_of(registry, acting_as, by)
        async with registry.change(by=actor.by, why=why) as change:
            return await add_group(change, actor, record, replace=replace)

    terminal.changed(terminal.run(register), group)


@app.command()
def close(
    group: GroupArgument,
    why: io.WhyOption,
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Let a group hold nobody any more, for good; what was granted to it stays on record.

    Example: datong group close county-civil-affairs --why 机构改革
    """
    terminal = io.Terminal.of(data, database, as_json, lang)

    async def end(registry: Registry) -> Change | None:
        actor = await actor_of(registry, acting_as, by)
        async with registry.change(by=actor.by, why=why) as change:
            return await close_group(change, actor, group)

    terminal.changed(terminal.run(end), group)


@app.command("list")
def list_groups(
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """List groups, and how many subsystems each holds now.

    Example: datong group list --lang zh
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    snapshot = terminal.run(Registry.snapshot)
    if as_json:
        io.print_json([_with_held(snapshot, each) for each in snapshot.groups()])
        return
    headers = terminal.say("id name level division code listed holds state", "编号 名称 层级 区划 代码 列出 现有 状态")
    rows = [
        (
            each.id,
            terminal.say(each.name_en or each.name, each.name),
            each.level,
            each.division,
            each.subsystem_code,
            len(each.members),
            len(snapshot.members_of_group(each.id)),
            _state(terminal, each),
        )
        for each in snapshot.groups()
    ]
    io.print_table(headers.split(), rows)


@app.command()
def show(
    group: GroupArgument,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Show a group, the subsystems it holds now, and how it came to be so.

    Example: datong group show county-civil-affairs
    """
    terminal = io.Terminal.of(data, database, as_json, lang)

    async def read(registry: Registry) -> tuple[Snapshot, Group, list[Change]]:
        snapshot = await registry.snapshot()
        found = snapshot.group(group)
        if found is None:
            raise NotFoundError(what=f"group {group}", what_zh=f"分组 {group}")
        changes = await registry.changes(target=group)
        return snapshot, found, [each for each in changes if each.action.startswith("group.")]

    snapshot, found, changes = terminal.run(read)
    if as_json:
        io.print_json({**_with_held(snapshot, found), "changes": changes})
        return
    io.print_fields(
        [
            (terminal.say("group", "分组"), found.id),
            (terminal.say("name", "名称"), found.name),
            (terminal.say("English name", "英文名称"), found.name_en),
            (terminal.say("level", "层级"), found.level),
            (terminal.say("division", "区划"), found.division),
            (terminal.say("code", "子系统代码"), found.subsystem_code),
            (terminal.say("state", "状态"), _state(terminal, found)),
            *((terminal.say("listed", "列出"), each) for each in found.members),
            *(
                (terminal.say("holds", "现有"), f"{each.id}  {each.name}")
                for each in snapshot.members_of_group(found.id)
            ),
        ]
    )
    terminal.history(changes)


def _with_held(snapshot: Snapshot, group: Group) -> dict[str, object]:
    return {**io.plain(group), "holds": [each.id for each in snapshot.members_of_group(group.id)]}


def _state(terminal: io.Terminal, group: Group) -> str:
    return terminal.say("active", "有效") if group.active else terminal.say("closed", "已关闭")
