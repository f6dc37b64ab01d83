"""Run one demo backend as a process of its own: bind, say where, serve, and never outlive the parent."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn

AsgiApp = Callable[..., Awaitable[None]]


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
