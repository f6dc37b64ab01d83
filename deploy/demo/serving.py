"""Run one demo backend as a process of its own: bind, say where, serve, and never outlive the parent."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import uvicorn

AsgiApp = Callable[..., Awaitable[None]]


class _Closed(Protocol):
    def close(self) -> None: ...


_Register = TypeVar("_Register", bound=_Closed)


class _ChildServer(uvicorn.Server):
    """A uvicorn server that writes its port once it answers, and stops when `parent` is no longer the parent."""

    def __init__(self, config: uvicorn.Config, *, port: int, port_file: Path | None, parent: int) -> None:
        super().__init__(config)
        self._port, self._port_file, self._parent = port, port_file, parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and self._port_file is not None:
            # Renamed into place: whoever waits for the file never reads half a number.
            draft = self._port_file.with_name(f"{self._port_file.name}.{os.getpid()}.new")
            draft.write_text(f"{self._port}\n")
            draft.replace(self._port_file)

    async def on_tick(self, counter: int) -> bool:
        # uvicorn asks ten times a second. Looking at the parent works on every POSIX system and, unlike Linux's
        # parent-death signal, does not fire when merely the thread that started us ends.
        return await super().on_tick(counter) or os.getppid() != self._parent


def run_backend(
    name: str, file: str, open_register: Callable[[Path], _Register], app_of: Callable[[_Register], AsgiApp]
) -> None:
    """The program of a backend: its options, its register, its server. Exit 1: port or register cannot be used.

    Args:
        name: `tax bureau`.
        file: Of its register, in the folder it is given.
        app_of: What is served, made of the open register, which is closed at the end.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m deploy.demo.{name.replace(' ', '_')}", description=f"The demo {name}."
    )
    parser.add_argument("--data", type=Path, required=True, help=f"folder of its own register, {file}")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (default): any free port")
    parser.add_argument("--port-file", type=Path, help="where to write the port once requests are answered")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="process id to end with (default: the parent)")
    arguments = parser.parse_args()
    try:
        register = open_register(arguments.data / file)
        try:
            serve(
                app_of(register),
                host=arguments.host,
                port=arguments.port,
                port_file=arguments.port_file,
                parent=arguments.parent,
            )
        finally:
            register.close()
    except (OSError, RuntimeError, sqlite3.Error) as error:
        parser.exit(1, f"{name}: cannot start at {arguments.host}:{arguments.port}: {error}\n")


def serve(app: AsgiApp, *, host: str, port: int, port_file: Path | None, parent: int) -> None:
    """Serve `app` over HTTP until SIGTERM, SIGINT or the parent's death; requests in progress are finished.

    Args:
        port: 0 lets the system choose.
        port_file: Where to write the port, as text, once requests are answered; removed at the end.
        parent: Process id to live and die with.

    Raises:
        OSError: The port is taken or the address is not ours.
    """
    if port_file is not None:
        port_file.unlink(missing_ok=True)  # of one that was killed
    listener = socket.create_server((host, port), backlog=2048)
    # uvicorn repeats the signal that stopped it once it has finished; by default that would end us before our clean-up.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5
    )
    bound = listener.getsockname()[1]
    try:
        _ChildServer(config, port=bound, port_file=port_file, parent=parent).run(sockets=[listener])
    finally:
        listener.close()
        if port_file is not None:
            port_file.unlink(missing_ok=True)


def _ignore(_number: int, _frame: Any) -> None:
    """The server has stopped already."""
