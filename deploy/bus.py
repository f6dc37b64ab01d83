"""`datong bus`: the bus server of a mesh, whose users are what the registry says, for as long as it runs."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import structlog
import typer
from sqlalchemy.exc import SQLAlchemyError

from deploy.admission import bus_users, follow
from deploy.nats import ANY_PORT, BusAddress, BusServerError, NatsServer
from deploy.state import MeshStateError, data_folder
from deploy.supervisor import Event, StartError, Supervisor
from exchange import MeshError, configure_events
from gateway.cli import console_io as io
from registry import Registry, RegistryMirror

events = structlog.get_logger("datong.bus")


def bus(
    certificate: Annotated[Path, typer.Option("--cert", help="PEM certificate of this server, with its chain.")],
    key: Annotated[Path, typer.Option("--key", help="Its PEM key.")],
    trust_anchors: Annotated[
        Path, typer.Option("--cacert", help="PEM of the CAs that certify gateways and adapters, intermediate ones too.")
    ],
    database: Annotated[
        str,
        typer.Option(
            "--database",
            envvar=io.DATABASE_VARIABLE,
            help="Registry: sqlite:///PATH or postgresql://USER@HOST/NAME.",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 4222,
    data: Annotated[Path, typer.Option("--data", help="Folder for its configuration and log.")] = Path("datong-bus"),
    ready_file: Annotated[Path | None, typer.Option(help="Written with its address once it takes connections.")] = None,
    lang: io.LangOption = "",
) -> None:
    """Run the bus until SIGINT or SIGTERM. Who may connect, and do what there, follows the registry within a second.

    Example: datong bus --cert bus.crt --key bus.key --cacert ca.pem --database postgresql://bus@db/registry --host 0.0.0.0
    """
    speak = io.language(lang)
    configure_events()
    address = BusAddress(
        host=host,
        port=port or ANY_PORT,
        certificate=certificate.resolve(),
        key=key.resolve(),
        trust_anchors=trust_anchors.resolve(),
    )
    try:
        asyncio.run(_until_told_to_stop(address, database, data, ready_file))
    except MeshStateError as error:
        io.fail(error.texts[speak])
    except (BusServerError, StartError) as error:
        io.fail(str(error))
    except MeshError as error:
        io.fail(error.detail_in(speak), todo=error.next_in(speak))
    except (SQLAlchemyError, OSError, ValueError) as error:
        # Not SQLAlchemy's text: it carries the statement.
        cause = getattr(error, "orig", None) or (type(error).__name__ if isinstance(error, SQLAlchemyError) else error)
        io.fail({"en": f"The bus cannot be run: {cause}", "zh": f"消息总线无法启动：{cause}"}[speak])


async def _until_told_to_stop(address: BusAddress, database: str, data: Path, ready_file: Path | None) -> None:
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(_run(address, database, data, ready_file))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: None if work.cancelling() else work.cancel())
    await asyncio.wait([work])
    if not work.cancelled():
        await work  # raises what ended it


async def _run(address: BusAddress, database: str, data: Path, ready_file: Path | None) -> None:
    with data_folder(data):
        registry = await Registry.open(database)
        try:
            mirror = RegistryMirror(registry)
            await mirror.start()
            try:
                async with Supervisor(data.resolve() / "run", _tell) as supervisor:
                    run = data.resolve() / "run"
                    server = NatsServer(supervisor, address, folder=data.resolve() / "nats", run_folder=run)
                    users = bus_users(mirror.snapshot)
                    await server.start(users)
                    events.info("bus.ready", url=server.url, gateways=len(users.gateways), adapters=len(users.adapters))
                    if ready_file is not None:
                        ready_file.write_text(server.url, encoding="utf-8")
                    await follow(server, mirror, lambda problem: events.error("bus.behind", problem=problem))
            finally:
                await mirror.stop()
        finally:
            await registry.close()


def _tell(event: Event) -> None:
    if event.kind in ("died", "failed", "restarting"):
        events.error(f"bus.{event.kind}", code=event.code, log=str(event.log))
