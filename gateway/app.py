"""Joins the parts of one gateway; opens them in order, closes them in reverse."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, FastAPI
from starlette.types import Receive, Scope, Send

from ca_auth import Authenticator, HandshakeRefusal, NonceStore, TerminatorTrust, TrustKeeper, fingerprint_of
from exchange import (
    ANSWER_CONTEXT,
    Broker,
    ErasureRecorder,
    ExchangeLog,
    NatsBus,
    PrivateKey,
    PublicKey,
    SealVerifier,
    SearchProcess,
    Settings,
    SigningIdentity,
    Spool,
    SubjectKeys,
    SubsystemId,
    bus_tls,
    load_identity,
    sealing_key,
)
from gateway import own_certificates
from gateway.adapter_watch import AdapterWatch
from gateway.api import audit
from gateway.api.health import answer_alive
from gateway.api.management import management_api
from gateway.change_recorder import ChangeRecorder
from gateway.contract_check import ContractChecks
from gateway.exchanges import ExchangeFace
from gateway.issuing import certificates_router, opened_ca
from gateway.metaservices import Metaservices
from gateway.revocation_recorder import RevocationRecorder
from gateway.vouching import Vouching, check_with_witnesses, vouching, witness_policy
from registry import Applications, DeadlineKeeper, Descriptions, QuotaStore, Registry, RegistryMirror


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of a running gateway."""

    settings: Settings
    identity: SigningIdentity
    trust: TrustKeeper
    registry: RegistryMirror
    log: ExchangeLog
    bus: NatsBus
    face: ExchangeFace
    public_url: str
    """How callers reach it, without a slash at the end."""
    database: Registry
    """The registry itself, to be changed and searched; `registry` follows it, and requests are judged by that."""
    recorder: ChangeRecorder
    """Puts every change of the registry on the log."""
    applications: Applications
    """Applications for resources, and the ledger of missed deadlines."""
    quotas: QuotaStore
    """How often each grant was used, for all gateways of the mesh."""
    descriptions: Descriptions
    """OpenAPI documents of services."""
    subjects: SubjectKeys
    """Under what hash a person or company stands on record."""
    search: SearchProcess
    """Finds and counts records."""
    vouching: Vouching
    """Who else vouches for the log, and receipts."""
    adapters: AdapterWatch
    """What answers for departments now."""
    certificates: APIRouter | None
    """How certificates of the CA that this gateway serves are got, if it serves one."""

    @property
    def authenticator(self) -> Authenticator:
        """Who is calling, by what is trusted now."""
        return self.trust.authenticator


class GatewayApp:
    """The ASGI application: `/r1` goes straight to the exchange face, everything but that and `/healthz` to FastAPI.

    uvicorn runs its lifespan, which opens the gateway; before that it answers nothing.
    """

    def __init__(self, settings: Settings, public_url: str) -> None:
        self._settings = settings
        self._public_url = public_url
        self._face: ExchangeFace | None = None
        self._trust: TrustKeeper | None = None
        self._bus: NatsBus | None = None
        self._api = management_api(self._lifespan)
        self.on_anchors: Callable[[bytes], None] = lambda pem: None
        """Told of the accepted CAs (PEM) at the start and when they change."""
        self.on_server_certificate: Callable[[], None] = lambda: None
        """Told when the files of the server's certificate hold another one."""
        self.failure: Exception | None = None
        """What kept the gateway from opening."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine of its own: every step of an exchange would pass through it.
        if scope["type"] == "http" and self._face is not None:
            if scope["raw_path"].startswith(b"/r1/"):
                return self._face(scope, receive, send)
            if scope["raw_path"] == b"/healthz" and scope["method"] in ("GET", "HEAD"):
                return answer_alive(scope["state"]["respond"])
        return self._api(scope, receive, send)

    def terminators(self) -> TerminatorTrust:
        """Who may hand over the certificates of others now (RFC 9440)."""
        return self._trust.terminators() if self._trust is not None else TerminatorTrust()

    @property
    def terminator_sockets(self) -> tuple[Path, ...]:
        """Unix sockets to listen on for them."""
        return self._trust.trust.terminators.sockets if self._trust is not None else ()

    async def wait_for_bus(self, within: float) -> None:
        """Return when the bus is there, or after so many seconds: a gateway says what it refuses without it, too."""
        if self._bus is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._bus.wait_connected()

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
                gateway = await opened.enter_async_context(
                    open_gateway(
                        self._settings,
                        self._public_url,
                        on_anchors=self.on_anchors,
                        on_server_certificate=self.on_server_certificate,
                    )
                )
            except Exception as error:
                self.failure = error  # uvicorn tells its caller only that there was one
                raise
            api.state.gateway = gateway
            if gateway.certificates is not None:
                api.include_router(gateway.certificates)
            self._face, self._trust, self._bus = gateway.face, gateway.trust, gateway.bus
            yield


@asynccontextmanager
async def open_gateway(
    settings: Settings,
    public_url: str,
    *,
    on_anchors: Callable[[bytes], None] = lambda pem: None,
    on_server_certificate: Callable[[], None] = lambda: None,
) -> AsyncIterator[Gateway]:
    """Open every part of a gateway; a part that cannot be opened ends the start with its error.

    Args:
        on_anchors: Told of the accepted CAs (PEM) when they change, for the listener.
        on_server_certificate: Told when the files of the server's certificate hold another one, likewise.
    """
    identity = load_identity(settings.gateway_certificate, settings.gateway_key)
    subject_key = settings.subject_key.read_bytes()
    async with AsyncExitStack() as parts:
        registry = await Registry.open(settings.registry_database)
        parts.push_async_callback(registry.close)
        mirror = RegistryMirror(
            registry, poll_seconds=settings.registry_poll, max_age_seconds=settings.registry_max_age
        )
        await mirror.start()
        parts.push_async_callback(mirror.stop)
        policy = witness_policy(settings)
        await check_with_witnesses(settings, policy)
        log = await ExchangeLog.start(
            database=settings.log_database,
            log_key=settings.log_key,
            gateway=settings.gateway_name or identity.uri,
            checkpoint_interval=settings.checkpoint_interval,
            recovery_grace=settings.recovery_grace,
        )
        parts.push_async_callback(log.close)
        voucher = await parts.enter_async_context(vouching(settings, policy, log))
        search = await SearchProcess.start(log_database=settings.log_database, search_database=settings.search_database)
        parts.push_async_callback(search.stop)
        recorder = ChangeRecorder(registry, mirror, log)
        await recorder.start()
        parts.push_async_callback(recorder.stop)
        applications = Applications.of_files(
            registry,
            jurisdictions=settings.jurisdictions,
            notices=settings.holiday_notices,
            two_persons=settings.two_person_decisions,
        )
        deadlines = DeadlineKeeper(applications)
        await deadlines.start()
        parts.push_async_callback(deadlines.stop)
        revocations = RevocationRecorder(log)
        parts.push_async_callback(revocations.stop)
        trust = TrustKeeper(
            bundle=settings.trust_anchors,
            trust_file=settings.trust_file,
            folder=settings.revocation_folder,
            person_key=subject_key,
            member_of_code=lambda code: mirror.snapshot.member_of_code(code),
            on_anchors=on_anchors,
            on_cas=lambda cas: _remember(log, cas),
            on_news=revocations.take,
        )
        await trust.start()
        parts.push_async_callback(trust.stop)
        nonces = await NonceStore.open(settings.nonce_database)
        parts.push_async_callback(nonces.close)
        quotas = await QuotaStore.open(settings.quota_database)
        parts.push_async_callback(quotas.close)
        subjects = await SubjectKeys.open(settings.subject_database, subject_key)
        parts.push_async_callback(subjects.close)
        erasures = ErasureRecorder(subjects, log)
        await erasures.start()
        parts.push_async_callback(erasures.stop)
        descriptions = Descriptions(registry, snapshot=lambda: mirror.current(time.monotonic()))
        tls = bus_tls(settings.gateway_certificate, settings.gateway_key, settings.trust_anchors)
        bus = NatsBus(settings.bus_url, tls, identity.uri)
        bus.start()
        parts.push_async_callback(bus.stop)
        verifier, adapter_keys = SealVerifier(ANSWER_CONTEXT), AdapterKeys(mirror, log)

        streams = asyncio.Semaphore(settings.max_streams)

        def broker(key: PrivateKey) -> Broker:
            return Broker(
                bus=bus,
                log=log,
                sealing_key=key,
                verifier=verifier,
                adapter_key=adapter_keys,
                stall=settings.stream_stall,
                streams=streams,
            )

        contracts = ContractChecks(settings.contract_checks, descriptions)
        parts.push_async_callback(contracts.stop)
        face = ExchangeFace(
            authenticator=trust.authenticator,
            registry=mirror,
            broker=broker(identity.key),
            log=log,
            nonces=nonces,
            quotas=quotas,
            metaservices=Metaservices(descriptions),
            gateway_fingerprint=identity.fingerprint,
            subjects=subjects,
            vouching=voucher,
            public_url=public_url,
            max_body=settings.max_body,
            max_in_progress=settings.max_in_progress,
            max_in_progress_per_client=settings.max_in_progress_per_client,
            body_rate=settings.body_rate,
            spool=Spool(settings.spool_folder),
            stall=settings.stream_stall,
            contracts=contracts,
        )
        if settings.keys_file is not None:
            keys = audit.key_list(trust.trust.pem(), log.vkey, voucher.keys())
            settings.keys_file.write_text(json.dumps(keys, indent=2), encoding="utf-8")

        def seal_as(renewed: SigningIdentity, cas: Sequence[x509.Certificate]) -> None:
            _remember(log, [renewed.certificate, *cas])
            face.seal_as(renewed.fingerprint, broker(renewed.key))

        _remember(log, [identity.certificate, *own_certificates.sent_along(settings)])
        certificates = None
        if settings.ca_folder is not None:
            ca = await parts.enter_async_context(opened_ca(settings.ca_folder, registry))
            _remember(log, ca.chain[:-1])
            certificates = certificates_router(ca, registry, mirror)
        await parts.enter_async_context(
            own_certificates.keeping(
                settings, bus_tls=tls, on_identity=seal_as, on_server_certificate=on_server_certificate
            )
        )
        yield Gateway(
            settings,
            identity,
            trust,
            mirror,
            log,
            bus,
            face,
            public_url,
            registry,
            recorder,
            applications,
            quotas,
            descriptions,
            subjects,
            search,
            voucher,
            AdapterWatch(bus),
            certificates,
        )


def _remember(log: ExchangeLog, certificates: Sequence[x509.Certificate]) -> None:
    """Keep certificates that receipts need years later: our own, and CAs between a caller's and its anchor."""
    for each in certificates:
        der = each.public_bytes(Encoding.DER)
        log.remember_certificate(fingerprint_of(der), der)


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
