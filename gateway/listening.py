"""How our servers listen: a bound socket, an event loop with patience for handshakes, the name of the address."""

from __future__ import annotations

import socket
from typing import Any

import uvloop


class PortBusyError(OSError):
    """The address cannot be listened on: another program does, or it is not ours to take."""


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address, port 0 for a free one; raises PortBusyError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortBusyError(
            f"{host}:{port} cannot be listened on: {error.strerror}. "
            "Choose with --port or DATONG_PORT, --host or DATONG_HOST; port 0 takes a free one."
        ) from error
    return listener


def loop_with(handshake_timeout: float) -> type[uvloop.Loop]:
    """uvloop whose TLS servers give a handshake so many seconds: a minute is its default, and uvicorn passes none on.

    Until it is done a connection has no protocol of ours, so the edge's deadlines do not hold for it.
    """

    class ImpatientLoop(uvloop.Loop):
        async def create_server(self, *args: Any, **options: Any) -> Any:
            if options.get("ssl") is not None:
                options.setdefault("ssl_handshake_timeout", handshake_timeout)
            return await super().create_server(*args, **options)

    return ImpatientLoop


def name_of(host: str) -> str:
    """How an address is called from the same machine, as a part of a URL."""
    if host in ("127.0.0.1", "::1", "0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host
