"""`datong log`: those who vouch for an exchange log, and what is kept of it."""

from __future__ import annotations

import typer

from gateway.cli.late_commands import late_commands

# Name -> module and function, in the order of `datong log --help`.
COMMANDS = {
    "witness": "gateway.cli.log_witness:witness",
    "witness-key": "gateway.cli.log_witness:witness_key",
    "evidence": "gateway.cli.log_witness:evidence",
    "policy": "gateway.cli.log_policy:policy",
    "stamps": "gateway.cli.log_stamps:stamps",
    "archive": "gateway.cli.log_archive:archive",
    "prune": "gateway.cli.log_archive:prune",
    "restore": "gateway.cli.log_archive:restore",
}

app = typer.Typer(
    cls=late_commands(COMMANDS),
    help="Those who vouch for an exchange log: witnesses and time stamps; and what is kept of it: archives.",
    no_args_is_help=True,
)


@app.callback()
def log() -> None:
    pass
