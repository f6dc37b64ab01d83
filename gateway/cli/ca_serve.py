"""`datong ca serve`: the CA's HTTP side on its own, for networks where no gateway holds the CA."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvicorn
from cryptography.hazmat.primitives import serialization
from fastapi import FastAPI

from ca_auth import (
    CertificateRequest,
    CrlKeeper,
    EdgeLimits,
    HandshakeRefusal,
    HeldCertificate,
    IssuingCA,
    RenewalKeeper,
    edge_protocol,
    load_certificate,
    renewal_due,
    server_context,
)
from exchange import configure_events
from gateway.api.errors import install_error_handlers
from gateway.cli import console_io as io
from gateway.cli.ca_io import FolderArgument, Voice, write_public
from gateway.enrolment import enrolment_router
from gateway.listening import listen, loop_with

events = structlog.get_logger("datong.ca")

_DRAIN_SECONDS = 10
_LOOK_EVERY = 60.0


def serve(
    folder: FolderArgument,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 chooses a free one.")] = 8444,
    server_name: Annotated[
        list[str] | None,
        typer.Option("--server-name", help="How departments reach it; repeatable. Default: localhost."),
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option("--ready-file", help="Written with the address when it accepts requests.")
    ] = None,
    lang: io.LangOption = "",
) -> None:
    """Serve enrolment, renewal and CRLs over HTTPS until SIGINT or SIGTERM.

    The server's own certificate is issued and renewed by the CA itself.

    Example: datong ca serve datong-ca --host 0.0.0.0 --port 8444 --server-name ca.example.gov.cn
    """
    voice = Voice.of(False, lang)
    configure_events()
    names = tuple(server_name or ("localhost", "127.0.0.1", "::1"))
    with voice.opened(folder) as ca:
        held = own_certificate(ca, names)
        anchors = folder / "server" / "clients.pem"
        chain = (*ca.chain[:-1], ca.root)
        write_public(anchors, b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain))
        context = server_context(held.certificate, held.key, anchors, on_handshake_refused=_handshake_refused)
        listener = listen(host, port)
        listener.listen()  # from here on callers wait instead of being refused: the address is told before uvicorn listens
        shown = names[0] if ":" not in names[0] else f"[{names[0]}]"
        url = f"https://{shown}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            _application(ca, held, names, anchors, context, url, ready_file),
            http=edge_protocol(EdgeLimits(body_seconds=15.0), _edge_refused),
            loop=loop_with(10.0),  # type: ignore[arg-type]  # uvicorn takes a class as it is
            lifespan="on",
            ws="none",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            log_config=None,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            ssl_context_factory=lambda config, default: context,
        )
        with listener:
            uvicorn.Server(config).run([listener])


def own_certificate(ca: IssuingCA, names: tuple[str, ...]) -> HeldCertificate:
    """The server's certificate for `names`, in the CA's folder; issued anew if it is missing, due or for other names."""
    folder = ca.folder.path / "server"
    folder.mkdir(mode=0o700, exist_ok=True)
    held = HeldCertificate(folder / "server.crt", folder / "server.key")
    wanted = CertificateRequest(common_name=names[0][:64], server_names=names)
    with held.locked():
        held.finish()
        if not _is_current(ca, held, wanted):
            key = held.next_key()
            issued = ca.issue(wanted, key.public_key(), by="datong ca serve", why="its own server certificate")
            held.install(key, issued.pem())
    return held


def _is_current(ca: IssuingCA, held: HeldCertificate, wanted: CertificateRequest) -> bool:
    try:
        certificate = held.read()
    except (OSError, ValueError):
        return False
    row = ca.store.certificate(f"{certificate.serial_number:x}")
    return (
        row is not None
        and row.request == wanted
        and row.state(ca.now()) == "valid"
        and ca.now() < renewal_due(certificate)
        and held.key.exists()
    )


def _application(
    ca: IssuingCA,
    held: HeldCertificate,
    names: tuple[str, ...],
    anchors: Path,
    context: ssl.SSLContext,
    url: str,
    ready_file: Path | None,
) -> FastAPI:
    def load() -> None:
        load_certificate(context, held.certificate, held.key)

    async def renew_own() -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            try:
                await asyncio.to_thread(own_certificate, ca, names)
            except Exception as error:  # noqa: BLE001  # the keeper below raises the alarm; the server goes on
                events.error("ca.server_certificate.not_renewed", error=repr(error))

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as running:
            watch = RenewalKeeper("ca-server", held, url=None, trust_anchors=anchors, on_renewed=load)
            for task in map(asyncio.create_task, (CrlKeeper(ca).run(), watch.run(), renew_own())):
                running.callback(task.cancel)
            events.info("ca.ready", url=url, root=ca.root_fingerprint)
            if ready_file is not None:
                ready_file.write_text(url, "utf-8")
            yield

    api = FastAPI(title="Datong CA", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    install_error_handlers(api)
    api.include_router(enrolment_router(ca))
    return api


def _edge_refused(rule: str, status: int, peer: str | None) -> None:
    events.info("ca.edge.refused", rule=rule, status=status, peer=peer)


def _handshake_refused(refusal: HandshakeRefusal) -> None:
    events.info("ca.handshake.refused", rule=refusal.rule, reason=refusal.reason)
