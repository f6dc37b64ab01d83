"""The gateway program: one uvicorn process, one listener, until it is told to stop."""

from __future__ import annotations

import gc
import socket
import ssl
import sys

import structlog
import uvicorn

from ca_auth import EdgeLimits, edge_protocol, server_context
from exchange import Settings, configure_events
from gateway.app import GatewayApp

DRAIN_SECONDS = 15


class PortBusyError(OSError):
    """Another program listens on the address."""


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress are finished, at most 15 seconds.

    Raises:
        PortBusyError: The address is taken.
    """
    configure_events()
    listener = _listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    public_url = settings.public_url or f"https://{_name(settings.host)}:{port}"
    app = GatewayApp(settings, public_url)

    def context(config: uvicorn.Config, default: object) -> ssl.SSLContext:
        return server_context(
            settings.server_certificate,
            settings.server_key,
            settings.trust_anchors,
            on_handshake_refused=app.handshake_refused,
        )

    limits = EdgeLimits(
        head_bytes=settings.max_head,
        header_lines=settings.max_header_lines,
        head_seconds=settings.head_timeout,
        body_seconds=settings.body_timeout,
        idle_seconds=settings.idle_timeout,
    )
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # a plain ASGI callable
        http=edge_protocol(limits, app.edge_refused),
        loop="uvloop",
        lifespan="on",
        ws="none",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        log_config=None,
        backlog=1024,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_context_factory=context,
    )
    server = _Server(config, settings, public_url)
    server.run([listener])
    if not server.started:
        sys.exit(1)


class _Server(uvicorn.Server):
    """uvicorn, which says when it is ready."""

    def __init__(self, config: uvicorn.Config, settings: Settings, public_url: str) -> None:
        super().__init__(config)
        self._settings = settings
        self._public_url = public_url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            # What start-up made lives as long as the process: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            structlog.get_logger("datong.gateway").info("gateway.ready", url=self._public_url)
            if self._settings.ready_file is not None:
                self._settings.ready_file.write_text(self._public_url)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortBusyError(
            f"{host}:{port} cannot be listened on: {error.strerror}. Choose another port with --port or DATONG_PORT."
        ) from error
    listener.set_inheritable(True)
    return listener


def _name(host: str) -> str:
    return "localhost" if host in ("127.0.0.1", "::1", "0.0.0.0", "::") else host
