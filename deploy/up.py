"""`datong up`: the one-machine mesh, from the command line."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, TextIO, cast

import structlog
import typer

from deploy.announce import JsonAnnouncer, TextAnnouncer
from deploy.child import end_with_parent
from deploy.mesh import Announcer, bring_up
from deploy.nats import BusServerError
from deploy.state import MeshOptions, MeshStateError
from deploy.supervisor import StartError
from exchange import MeshError
from gateway.cli import console_io as io


def up(
    data: Annotated[Path, typer.Option(help="Folder for keys and state; made if missing, reused if there.")] = io.DATA,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the gateway; 0 takes a free one. Default: as before, or 8443."),
    ] = None,
    nats_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the bus; 0 takes a free one. Default: as before.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address of the gateway. Default: as before, or 127.0.0.1.")] = None,
    database: Annotated[
        str | None, typer.Option(help="Registry: sqlite:///PATH or postgresql://USER@HOST/NAME. Default: in --data.")
    ] = None,
    log_database: Annotated[str | None, typer.Option(help="Exchange log, likewise. Default: in --data.")] = None,
    lang: io.LangOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    with_parent: Annotated[bool, typer.Option("--end-with-parent", hidden=True)] = False,
) -> None:
    """Bring up a real mesh on this machine and keep it up until Ctrl-C: demo CA, bus, gateway, four departments.

    Example: datong up --data ./datong-data --port 8443
    """
    if with_parent:
        # `make up`: make cannot pass on a signal when it is killed itself.
        end_with_parent(signal.SIGTERM)
    cast(TextIO, sys.stdout).reconfigure(errors="replace")  # type: ignore[attr-defined]  # a terminal without Chinese
    # What our own parts log goes beside what we say, never into it.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    announcer: Announcer = JsonAnnouncer(_say) if as_json else TextAnnouncer(_say, io.language(lang))
    options = MeshOptions(
        data=data, host=host, port=port, nats_port=nats_port, database=database, log_database=log_database
    )
    try:
        asyncio.run(_until_told_to_stop(options, announcer))
    except MeshStateError as error:
        io.fail(error.texts[io.language(lang)], as_json=as_json)
    except (BusServerError, StartError) as error:
        io.fail(str(error), as_json=as_json)
    except (MeshError, ValueError) as error:
        io.fail(f"The mesh cannot be brought up: {error}", as_json=as_json)


async def _until_told_to_stop(options: MeshOptions, announcer: Announcer) -> None:
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(bring_up(options, announcer))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Once is enough: stopping has a deadline of its own, and a second cancellation would leave it half done.
        loop.add_signal_handler(number, lambda: None if work.cancelling() else work.cancel())
    await asyncio.wait([work])
    if not work.cancelled():
        await work  # raises what ended it


def _say(line: str) -> None:
    typer.echo(line)
