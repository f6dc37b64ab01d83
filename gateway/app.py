"""Joins the parts of one gateway; opens them in order, closes them in reverse."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import FastAPI

from ca_auth import Authenticator, HandshakeRefusal
from exchange import (
    ANSWER_CONTEXT,
    Broker,
    ExchangeLog,
    NatsBus,
    PublicKey,
    SealVerifier,
    Settings,
    SigningIdentity,
    SubsystemId,
    bus_tls,
    load_identity,
    sealing_key,
)
from gateway import audit
from gateway.exchanges import ExchangeFace, Receive, Scope, Send
from gateway.health import answer_alive
from gateway.management import management_api
from registry import Registry, RegistryMirror


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of a running gateway."""

    settings: Settings
    identity: SigningIdentity
    authenticator: Authenticator
    registry: RegistryMirror
    log: ExchangeLog
    bus: NatsBus
    face: ExchangeFace
    public_url: str
    """How callers reach it, without a slash at the end."""


class GatewayApp:
    """The ASGI application: `/r1` goes straight to the exchange face, everything but that and `/healthz` to FastAPI.

    uvicorn runs its lifespan, which opens the gateway; before that it answers nothing.
    """

    def __init__(self, settings: Settings, public_url: str) -> None:
        self._settings = settings
        self._public_url = public_url
        self._face: ExchangeFace | None = None
        self._api = management_api(self._lifespan)
        self.failure: Exception | None = None
        """What kept the gateway from opening."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._face is not None:
            if scope["raw_path"].startswith(b"/r1/"):
                await self._face(scope, receive, send)
                return
            if scope["raw_path"] == b"/healthz" and scope["method"] in ("GET", "HEAD"):
                await answer_alive(send)
                return
        await self._api(scope, receive, send)

    def edge_refused(self, rule: str, status: int, peer: str | None) -> None:
        """Put on the record a request that ended before it reached the application."""
        if self._face is not None:
            self._face.record_edge_refusal(rule, status, peer)

    def handshake_refused(self, refusal: HandshakeRefusal) -> None:
        """Put on the record a connection that ended in its TLS handshake."""
        if self._face is not None:
            self._face.record_handshake_refusal(refusal)

    @asynccontextmanager
    async def _lifespan(self, api: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            try:
                gateway = await opened.enter_async_context(open_gateway(self._settings, self._public_url))
            except Exception as error:
                self.failure = error  # uvicorn tells its caller only that there was one
                raise
            api.state.gateway = gateway
            self._face = gateway.face
            yield


@asynccontextmanager
async def open_gateway(settings: Settings, public_url: str) -> AsyncIterator[Gateway]:
    """Open every part of a gateway; a part that cannot be opened ends the start with its error."""
    identity = load_identity(settings.gateway_certificate, settings.gateway_key)
    authenticator = Authenticator(settings.trust_anchors.read_bytes())
    async with AsyncExitStack() as parts:
        registry = await Registry.open(settings.registry_database)
        parts.push_async_callback(registry.close)
        mirror = RegistryMirror(
            registry, poll_seconds=settings.registry_poll, max_age_seconds=settings.registry_max_age
        )
        await mirror.start()
        parts.push_async_callback(mirror.stop)
        log = await ExchangeLog.start(
            database=settings.log_database,
            log_key=settings.log_key,
            gateway=settings.gateway_name or identity.uri,
            checkpoint_interval=settings.checkpoint_interval,
            recovery_grace=settings.recovery_grace,
        )
        parts.push_async_callback(log.close)
        bus = NatsBus(
            settings.bus_url,
            bus_tls(settings.gateway_certificate, settings.gateway_key, settings.trust_anchors),
            identity.uri,
        )
        bus.start()
        parts.push_async_callback(bus.stop)
        broker = Broker(
            bus=bus,
            log=log,
            sealing_key=identity.key,
            verifier=SealVerifier(ANSWER_CONTEXT),
            adapter_key=AdapterKeys(mirror, log),
        )
        face = ExchangeFace(
            authenticator=authenticator,
            registry=mirror,
            broker=broker,
            log=log,
            gateway_fingerprint=identity.fingerprint,
            subject_key=settings.subject_key.read_bytes(),
            public_url=public_url,
            max_body=settings.max_body,
            max_in_progress=settings.max_in_progress,
            max_in_progress_per_client=settings.max_in_progress_per_client,
        )
        if settings.keys_file is not None:
            keys = audit.key_list(settings.trust_anchors, log.vkey)
            settings.keys_file.write_text(json.dumps(keys, indent=2), encoding="utf-8")
        log.remember_certificate(identity.fingerprint, identity.certificate.public_bytes(Encoding.DER))
        yield Gateway(settings, identity, authenticator, mirror, log, bus, face, public_url)


class AdapterKeys:
    """Fingerprint -> subsystem and key of a registered adapter certificate, each parsed once.

    The registry is asked every time, so that a certificate it no longer lists stops counting at once.
    """

    def __init__(self, registry: RegistryMirror, log: ExchangeLog) -> None:
        self._registry = registry
        self._log = log
        self._keys: dict[str, PublicKey] = {}

    def __call__(self, fingerprint: str) -> tuple[SubsystemId, PublicKey] | None:
        found = self._registry.current(time.monotonic()).adapter_certificate(fingerprint)
        if found is None:
            return None
        key = self._keys.get(fingerprint)
        if key is None:
            key = self._keys[fingerprint] = sealing_key(x509.load_der_x509_certificate(found[1]))
            self._log.remember_certificate(fingerprint, found[1])
        return found[0], key
