"""`datong application`: asking for data, deciding about it, and the deadlines of an answer."""

from __future__ import annotations

import typer

from gateway.cli.late_commands import late_commands

# Each module is loaded when one of its commands is asked for: `due` needs neither a database nor an API.
_LISTS, _STEPS, _DECISIONS = (f"gateway.cli.application_{name}" for name in ("lists", "steps", "decisions"))

app = typer.Typer(
    cls=late_commands(
        {
            "submit": f"{_STEPS}:submit",
            "list": f"{_LISTS}:list_applications",
            "show": f"{_LISTS}:show",
            "review": f"{_DECISIONS}:review",
            "ask": f"{_DECISIONS}:ask",
            "supplement": f"{_STEPS}:supplement",
            "decide": f"{_DECISIONS}:decide",
            "confirm": f"{_DECISIONS}:confirm",
            "withdraw": f"{_STEPS}:withdraw",
            "deliver": f"{_DECISIONS}:deliver",
            "dispute": f"{_STEPS}:dispute",
            "standing": f"{_DECISIONS}:standing",
            "misses": f"{_LISTS}:misses",
            "due": "gateway.cli.application_due:due",
        }
    ),
    help="Applications for data, and their deadlines.",
    no_args_is_help=True,
)


@app.callback()
def application() -> None:
    """Applications for data, and their deadlines."""
