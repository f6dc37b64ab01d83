"""`datong adapter`: what answers for a department, from its first draft to its operation."""

from __future__ import annotations

import typer

from gateway.cli.late_commands import late_commands

# Name -> function, in the order of `datong adapter --help`.
COMMANDS = {
    "new": "deploy.adapter_new:new",
    "check": "deploy.adapter_check:check",
    "enrol": "deploy.adapter_enrol:enrol_adapter",
    "register": "gateway.cli.adapters:register",
    "run": "deploy.adapter_run:run",
    "list": "gateway.cli.adapter_views:list_adapters",
    "info": "gateway.cli.adapter_views:info",
    "stats": "gateway.cli.adapter_views:stats",
    "ping": "gateway.cli.adapter_views:ping",
}

app = typer.Typer(
    cls=late_commands(COMMANDS),
    help="Adapters: draft, check, enrol and run what answers for a department; see those that run. "
    "适配器：起草、检查、注册、运行、查看。",
    no_args_is_help=True,
)


@app.callback()
def adapter() -> None:
    pass
