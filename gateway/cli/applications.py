"""`datong application`: asking for data, and the deadlines of an answer."""

from __future__ import annotations

import typer

from gateway.cli.application_due import due

app = typer.Typer(help="Applications for data, and their deadlines.", no_args_is_help=True)


@app.callback()
def application() -> None:
    """Applications for data, and their deadlines."""


app.command()(due)
