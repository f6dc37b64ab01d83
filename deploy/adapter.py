"""`datong adapter run`: run what answers for a department, beside what `gateway.cli` does with its registration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from department_adapters import ContractError, read_contract, serve_adapter
from exchange import IdentityError, LedgerError, configure_events
from gateway.cli import adapters

app = adapters.app


@app.command()
def run(
    contract: Annotated[Path, typer.Argument(help="The adapter's file, adapter.toml.")],
    ready_file: Annotated[Path | None, typer.Option(help="Written once questions are taken.")] = None,
) -> None:
    """Run one adapter until SIGINT or SIGTERM: it connects outward to the bus and opens no port.

    Example: datong adapter run datong-data/adapters/tax/adapter.toml
    """
    configure_events()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_adapter(read_contract(contract), ready_file=ready_file))
    except (ContractError, IdentityError, LedgerError) as error:
        typer.echo(f"datong adapter: {error}", err=True)
        raise typer.Exit(2) from error
