"""`datong`: every command, each loaded only when it is asked for, so that none waits for all the others."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from gateway.cli.late_commands import late_commands

# Name -> module and the function or typer app in it, in the order of `datong --help`.
COMMANDS = {
    "up": "deploy.up:up",
    "demo": "deploy.demo.tour:demo",
    "doctor": "gateway.cli.doctor:doctor",
    "call": "gateway.cli.call:call",
    "verify": "gateway.cli.verify:verify",
    "audit": "gateway.cli.audit:app",
    "log": "gateway.cli.log:app",
    "member": "gateway.cli.members:app",
    "service": "gateway.cli.services:app",
    "catalogue": "gateway.cli.catalogue:app",
    "application": "gateway.cli.applications:app",
    "grant": "gateway.cli.grants:app",
    "group": "gateway.cli.groups:app",
    "role": "gateway.cli.roles:app",
    "adapter": "deploy.adapter:app",
    "bus": "deploy.bus:bus",
    "ca": "gateway.cli.ca:app",
    "gateway": "gateway.cli.gateway:gateway",
}


app = typer.Typer(
    cls=late_commands(COMMANDS),
    help="Exchange data between government departments: certificates, grants, signed answers, a tamper-evident record. "
    "大同：部门间数据交换。",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show local variables, which may hold personal data and passwords
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            version = metadata.version("datong")
        except metadata.PackageNotFoundError:
            version = "from a source tree that is not installed"
        typer.echo(f"datong {version}")
        raise typer.Exit


@app.callback()
def datong(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console command."""
    app(prog_name="datong")


if __name__ == "__main__":
    main()
