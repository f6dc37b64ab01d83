"""A gateway's own certificates while it serves: renewed in time, loaded when they change, and no request is dropped for it.

Rules:
1. Files are completed (`HeldCertificate.recover`) before anything loads them: a crash may have come between key and certificate.
2. The server's certificate: later handshakes use the new one, open connections go on.
3. The gateway's: the bus asks for it at the next connection. Seals change later, since adapters must have learnt of the new
   one first; then key and fingerprint change in one step, or a question would name one and be sealed with the other.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cryptography import x509

from ca_auth import HeldCertificate, RenewalKeeper
from exchange import IdentityError, Settings, SigningIdentity, load_identity


def recover(settings: Settings) -> None:
    """Complete replacements of our certificates that were interrupted; raises IdentityError."""
    for held in (_server(settings), _gateway(settings)):
        try:
            held.recover()
        except OSError as error:
            raise IdentityError(f"{held.certificate}: {error}") from error


@asynccontextmanager
async def keeping(
    settings: Settings,
    *,
    bus_tls: ssl.SSLContext,
    on_identity: Callable[[SigningIdentity, list[x509.Certificate]], None],
    on_server_certificate: Callable[[], None],
) -> AsyncIterator[None]:
    """Keep both certificates while the block runs.

    Args:
        bus_tls: Gets the new certificate for its next connection.
        on_identity: Called with what to seal with from now on, and with the CAs that came with it.
        on_server_certificate: Loads the server's files.
    """

    async def take_up_identity() -> None:
        held = _gateway(settings)
        identity = await asyncio.to_thread(load_identity, held.certificate, held.key)
        bus_tls.load_cert_chain(held.certificate, held.key, password="")
        sent = await asyncio.to_thread(_read, held.certificate)
        await asyncio.sleep(settings.certificate_settle)
        on_identity(identity, sent[1:])

    keepers = (
        _keeper(settings, "server", _server(settings), on_server_certificate),
        _keeper(settings, "gateway", _gateway(settings), take_up_identity),
    )
    tasks = [asyncio.create_task(keeper.run()) for keeper in keepers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def sent_along(settings: Settings) -> list[x509.Certificate]:
    """The CAs between the gateway's certificate and an anchor, as its file holds them."""
    return _read(settings.gateway_certificate)[1:]


def _keeper(
    settings: Settings, name: str, held: HeldCertificate, on_renewed: Callable[[], Awaitable[None] | None]
) -> RenewalKeeper:
    return RenewalKeeper(
        name,
        held,
        url=settings.renewal_url or None,
        trust_anchors=settings.trust_anchors,
        on_renewed=on_renewed,
        look_every=settings.certificate_look,
    )


def _server(settings: Settings) -> HeldCertificate:
    return HeldCertificate(settings.server_certificate, settings.server_key)


def _gateway(settings: Settings) -> HeldCertificate:
    return HeldCertificate(settings.gateway_certificate, settings.gateway_key)


def _read(file: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(file.read_bytes())
