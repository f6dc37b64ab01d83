"""What an OpenAPI document changes, as people read it (✚ added, ~ changed, ✖ breaking) and as scripts do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

from gateway.cli import console_io as io
from registry import Alteration, Comparison

_MOST_NAMED = 5
"""Subsystems named behind a breaking change; the rest are counted."""


def comparison_of(found: Comparison) -> dict[str, Any]:
    """As the API answers it."""
    return {
        "added": [_plain(each) for each in found.difference.added],
        "changed": [_plain(each) for each in found.difference.changed],
        "breaking": [{**_plain(each.alteration), "affects": list(each.affects)} for each in found.breaking],
        "complete": found.difference.complete,
    }


def print_comparison(terminal: io.Terminal, found: Comparison) -> None:
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
    concerned = len(found.affects)
    counts = len(difference.added), len(difference.changed), len(difference.breaking), concerned
    typer.echo(
        terminal.say(
            "{} added, {} changed, {} breaking; {} subsystems concerned",
            "新增 {}，变更 {}，不兼容 {}；涉及 {} 个子系统",
        ).format(*counts)
    )


def _print_lines(terminal: io.Terminal, mark: str, alterations: Iterable[Alteration]) -> None:
    for each in alterations:
        where = f"{each.method} {each.path}  " if each.path and each.part != "operation" else ""
        typer.echo(f"{mark} {where}{terminal.say(each.en, each.zh)}")


def _plain(found: Alteration) -> dict[str, Any]:
    plain: dict[str, Any] = io.plain(found)
    del plain["effect"]
    return plain
