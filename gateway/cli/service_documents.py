"""`datong service describe|difference`: OpenAPI documents, and what they change (✚ added, ~ changed, ✖ breaking)."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange import ServiceId, service_id
from gateway.cli import console_io as io
from gateway.cli.acting import AsOption, actor_of
from registry import Alteration, Comparison, Descriptions, Registration, Registry

ServiceArgument = Annotated[
    str, typer.Argument(help="instance/class/code/subsystem/service, e.g. CN/GOV/…/tax/enterprises")
]
FileArgument = Annotated[
    Path, typer.Argument(help="OpenAPI 3.0 or 3.1, JSON or YAML; - reads standard input.", metavar="FILE")
]

_MOST_NAMED = 5
"""Subsystems named behind a breaking change; the rest are counted."""


def describe(
    service: ServiceArgument,
    file: FileArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it changes, and for whom.")] = False,
    accept_breaking: Annotated[bool, typer.Option("--accept-breaking", help="It is meant to break callers.")] = False,
    why: Annotated[
        str, typer.Option("--why", help="The reason, kept on record; default: OpenAPI and its version.")
    ] = "",
    acting_as: AsOption = "",
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Register the OpenAPI document of a service, with the operations that it declares.

    Example: datong service describe CN/GOV/11990000000001011Q/tax/enterprises openapi.yaml --dry-run
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    identifier, document = identifier_of(service), _document(file)

    async def register(registry: Registry) -> Registration:
        return await Descriptions(registry).register(
            identifier,
            document,
            actor=await actor_of(registry, acting_as, by),
            why=why,
            accept_breaking=accept_breaking,
            dry_run=dry_run,
        )

    done = terminal.run(register)
    if as_json:
        change = done.change.version if done.change else None
        found = {"service": identifier, "number": done.number, "dry_run": dry_run, "change": change}
        io.print_json({**found, **_comparison_of(done.comparison)})
        return
    _print_comparison(terminal, done.comparison)
    if dry_run:
        typer.echo(terminal.say("Nothing was changed: a dry run.", "试运行，未作任何变更。"))
    else:
        terminal.changed(done.change, f"{identifier}/openapi/{done.number}")


def difference(
    service: ServiceArgument,
    file: FileArgument,
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Show what an OpenAPI document would add, change and break, and for whom; exit code 1 if it breaks somebody.

    Example: datong service difference CN/GOV/11990000000001011Q/tax/enterprises openapi.yaml
    """
    terminal = io.Terminal.of(data, database, as_json, lang)
    identifier, document = identifier_of(service), _document(file)
    found = terminal.run(lambda registry: Descriptions(registry).compare(identifier, document))
    if as_json:
        io.print_json(_comparison_of(found))
    else:
        _print_comparison(terminal, found)
    if found.breaking:
        raise typer.Exit(1)


def identifier_of(text: str) -> ServiceId:
    """A service's identifier as given; raises typer.BadParameter."""
    try:
        return service_id(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="SERVICE") from error


def _document(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from error


def _comparison_of(found: Comparison) -> dict[str, Any]:
    """As the API answers it."""
    return {
        "added": [_plain(each) for each in found.difference.added],
        "changed": [_plain(each) for each in found.difference.changed],
        "breaking": [{**_plain(each.alteration), "affects": list(each.affects)} for each in found.breaking],
        "complete": found.difference.complete,
    }


def _print_comparison(terminal: io.Terminal, found: Comparison) -> None:
    """One line for each difference, those that break callers last, where they are seen."""
    difference = found.difference
    if not (difference.added or difference.changed or difference.breaking):
        typer.echo(terminal.say("Nothing differs from what is registered.", "与已登记的文档没有差异。"))
        return
    _print_lines(terminal, "✚", difference.added)
    _print_lines(terminal, "~", difference.changed)
    for each in found.breaking:
        _print_lines(terminal, "✖", [each.alteration])
        if each.affects:
            more = f" +{len(each.affects) - _MOST_NAMED}" if len(each.affects) > _MOST_NAMED else ""
            named = ", ".join(each.affects[:_MOST_NAMED])
            typer.echo(f"    {terminal.say('concerns', '涉及')} {named}{more}")
    if not difference.complete:
        typer.echo(terminal.say("… and more than is listed here.", "……还有未列出的差异。"))
    counts = len(difference.added), len(difference.changed), len(difference.breaking), len(found.affects)
    whom = "subsystem" if len(found.affects) == 1 else "subsystems"
    en = "{} added, {} changed, {} breaking; {} " + whom + " concerned"
    typer.echo(terminal.say(en, "新增 {}，变更 {}，不兼容 {}；涉及 {} 个子系统").format(*counts))


def _print_lines(terminal: io.Terminal, mark: str, alterations: Iterable[Alteration]) -> None:
    for each in alterations:
        where = f"{each.method} {each.path}  " if each.path and each.part != "operation" else ""
        typer.echo(f"{mark} {where}{terminal.say(each.en, each.zh)}")


def _plain(found: Alteration) -> dict[str, Any]:
    plain: dict[str, Any] = io.plain(found)
    del plain["effect"]
    return plain
