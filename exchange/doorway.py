"""The doorway of a room, opened name by name.

`from exchange import Keys` must not load the bus and the database toolkit: a command that checks a file would take a second to
start. So the list of a room's public names stands in `__init__.pyi`, where people and type checkers read it, and a name's module
is imported when the name is first asked for (PEP 562).
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path


def open_doorway(room: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a room.

    Args:
        room: Its `__name__`.
        file: Its `__file__`, beside which the stub stands.
    """
    places: dict[str, tuple[str, str]] = {}
    for node in ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            places |= {name.asname or name.name: (node.module, name.name) for name in node.names}

    def get(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        module, inside = places[name]
        found = getattr(importlib.import_module(module), inside)
        setattr(sys.modules[room], name, found)  # the next time it is simply there
        return found

    return get, lambda: sorted(places), sorted(places)
