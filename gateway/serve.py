"""The gateway program: one uvicorn process, one listener, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
from pathlib import Path

import structlog
import uvicorn

from ca_auth import EdgeLimits, edge_protocol, load_certificate, server_context
from exchange import IdentityError, Settings, configure_events, settle_heap
from gateway import own_certificates
from gateway.app import GatewayApp
from gateway.listening import listen, loop_with, name_of

DRAIN_SECONDS = 15
_BUS_SECONDS = 2.0
"""So long a gateway that starts waits for the bus before it says that it is ready; longer, and it starts without."""


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress are finished, at most 15 seconds.

    Raises:
        PortBusyError: The address is taken.
        IdentityError: The server's certificate, its key or the trust anchors cannot be used.
        Exception: Whatever kept a part of the gateway from opening, see `gateway.app.open_gateway`.
    """
    configure_events()
    own_certificates.recover(settings)
    listener = listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    public_url = settings.public_url.rstrip("/") or f"https://{name_of(settings.host)}:{port}"
    app = GatewayApp(settings, public_url)

    context = _server_context(settings, app)
    app.on_anchors = lambda pem: context.load_verify_locations(cadata=pem.decode("ascii"))
    app.on_server_certificate = lambda: load_certificate(context, settings.server_certificate, settings.server_key)
    limits = EdgeLimits(
        head_bytes=settings.max_head,
        header_lines=settings.max_header_lines,
        head_seconds=settings.head_timeout,
        body_seconds=settings.body_timeout,
        body_rate=settings.body_rate,
        idle_seconds=settings.idle_timeout,
    )
    config = uvicorn.Config(
        app,
        http=edge_protocol(limits, app.edge_refused, terminators=app.terminators),
        loop=loop_with(settings.handshake_timeout),  # type: ignore[arg-type]  # uvicorn takes a class as it is
        interface="asgi3",
        lifespan="on",
        ws="none",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        log_config=None,
        backlog=1024,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_context_factory=lambda config, default: context,
    )
    server = _Server(config, settings, public_url, app)
    # uvicorn would print the traceback of a part that does not open; whoever called us says it in one line.
    logging.getLogger("uvicorn.error").addFilter(lambda record: app.failure is None)
    try:
        server.run([listener])
    except SystemExit:
        if app.failure is None:
            raise
    if app.failure is not None:
        raise app.failure
    if not server.started:
        sys.exit(1)


def _server_context(settings: Settings, app: GatewayApp) -> ssl.SSLContext:
    files = settings.server_certificate, settings.server_key, settings.trust_anchors
    try:
        return server_context(*files, on_handshake_refused=app.handshake_refused)
    except (OSError, ValueError) as error:
        raise IdentityError(f"{', '.join(map(str, files))}: {error}") from error


class _Server(uvicorn.Server):
    """uvicorn, which says when it is ready."""

    def __init__(self, config: uvicorn.Config, settings: Settings, public_url: str, app: GatewayApp) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._public_url = public_url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            for path in self._app.terminator_sockets:
                await self._listen_for_terminator(path)
            await self._app.wait_for_bus(_BUS_SECONDS)
            settle_heap()
            structlog.get_logger("datong.gateway").info("gateway.ready", url=self._public_url)
            if self._settings.ready_file is not None:
                self._settings.ready_file.write_text(self._public_url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for path in self._app.terminator_sockets:
            path.unlink(missing_ok=True)

    async def _listen_for_terminator(self, path: Path) -> None:
        """A Unix socket, in clear text: whoever may open it has terminated TLS and hands over the caller's certificate."""

        def connection() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]  # one of those over TCP
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        path.parent.mkdir(parents=True, exist_ok=True)
        self.servers.append(await asyncio.get_running_loop().create_unix_server(connection, str(path), backlog=1024))
        path.chmod(0o660)
        structlog.get_logger("datong.gateway").info("gateway.terminator", socket=str(path))
