"""`datong adapter run`: one adapter, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from department_adapters import ContractError, read_contract, serve_adapter
from exchange import IdentityError, MeshError


def run(
    contract: Annotated[Path, typer.Argument(help="The adapter's adapter.toml.", exists=True, dir_okay=False)],
    ready_file: Annotated[
        Path | None, typer.Option(help="Written with the instance's identifier once questions are taken.")
    ] = None,
) -> None:
    """Serve a department's data to the mesh: dials out to the bus, opens no port.

    Example: datong adapter run datong-data/adapters/tax/adapter.toml

    SIGTERM or Ctrl-C: takes no more questions, finishes those in progress, ends.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_adapter(read_contract(contract), ready_file=ready_file, say=typer.echo))
    except (ContractError, IdentityError, MeshError, OSError) as error:
        typer.echo(f"datong adapter run: {error}", err=True)
        raise typer.Exit(1) from error
