"""Groups of commands whose modules are loaded when a command is asked for, so that none waits for all the others."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


def late_commands(places: Mapping[str, str]) -> type[TyperGroup]:
    """The class of a group.

    Args:
        places: Name -> `module:function` or `module:app`, in the order of `--help`.
    """

    class LateCommands(TyperGroup):
        def list_commands(self, context: object) -> list[str]:
            return list(places)

        def get_command(self, context: object, name: str) -> TyperGroup | TyperCommand | None:
            if name not in places:
                return None
            module, _, attribute = places[name].partition(":")
            found = getattr(importlib.import_module(module), attribute)
            if not isinstance(found, typer.Typer):
                function, found = found, typer.Typer()
                found.command(name)(function)
            command = get_command(found)
            command.name = name
            return command  # type: ignore[return-value]

    return LateCommands
