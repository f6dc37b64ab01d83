"""For tests of revocation: CAs with a sub-CA, lists and OCSP answers of any kind, and HTTP servers that behave as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from ca_auth.profiles.naming import Naming
from ca_auth.profiles.profiles import DEFAULT, PROFILES
from ca_auth.profiles.trust import Anchor, Revocation, Trust
from ca_auth.revocation.revocation_feed import RevocationFeed
from ca_auth.validation.rejection import ChainRefusedError
from ca_auth.validation.validation import PathValidator, ValidatedPath

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass
class Clock:
    """Unix seconds; stands still until it is moved."""

    now: float = field(default_factory=lambda: float(int(datetime.now(UTC).timestamp())))

    def __call__(self) -> float:
        return self.now

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def pass_time(self, much: timedelta) -> None:
        self.now += much.total_seconds()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True)
class CA:
    """A CA with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, name: str, at: datetime, above: CA | None = None) -> CA:
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (_usage(sign=False), True),
        ]
        subject = _name(name)
        issuer = subject if above is None else above.certificate.subject
        signer = key if above is None else above.key
        return cls(_certificate(subject, key, issuer, signer, extensions, at), key)

    def leaf(self, at: datetime, name: str = "leaf", ocsp_url: str | None = None) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(sign=True), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (x509.SubjectAlternativeName([x509.UniformResourceIdentifier("datong:CN/GOV/11990000000000000X")]), False),
        ]
        if ocsp_url is not None:
            access = x509.AccessDescription(
                AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp_url)
            )
            extensions.append((x509.AuthorityInformationAccess([access]), False))
        return _certificate(_name(name), key, self.certificate.subject, self.key, extensions, at)

    def crl(
        self,
        number: int,
        at: datetime,
        revoked: Iterable[x509.Certificate] = (),
        *,
        life: timedelta = 7 * DAY,
        key: ec.EllipticCurvePrivateKey | None = None,
        algorithm: hashes.SHA256 | hashes.SHA224 | None = None,
        pem: bool = False,
    ) -> bytes:
        """A list; with another `key` it is a forgery."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(at)
            .next_update(at + life)
            .add_extension(x509.CRLNumber(number), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.serial_number).revocation_date(at)
            builder = builder.add_revoked_certificate(entry.build())
        made = builder.sign(key or self.key, algorithm or hashes.SHA256())
        return made.public_bytes(Encoding.PEM if pem else Encoding.DER)

    def ocsp_answer(
        self,
        certificate: x509.Certificate,
        at: datetime,
        *,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        nonce: bytes | None = None,
        life: timedelta = DAY,
        by: CA | None = None,
        forged: bool = False,
    ) -> bytes:
        """An answer, by the CA itself or `by` a responder with a certificate of its own."""
        responder = by if by is not None else self
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                certificate, self.certificate, hashes.SHA1(), status, at, at + life, at if revoked else None, None
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
        )
        if by is not None:
            builder = builder.certificates([by.certificate])
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), False)
        content = builder.sign(responder.key, hashes.SHA256()).public_bytes(Encoding.DER)
        # Without certificates in it, an answer ends with its signature.
        return content[:-1] + bytes([content[-1] ^ 1]) if forged else content

    def delegate(self, at: datetime, *, may_answer: bool = True) -> CA:
        """A responder: a certificate for OCSP signing and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.OCSP_SIGNING if may_answer else ExtendedKeyUsageOID.CLIENT_AUTH
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(sign=True), True),
            (x509.ExtendedKeyUsage([purpose]), False),
            (x509.OCSPNoCheck(), False),
        ]
        return CA(_certificate(_name("responder"), key, self.certificate.subject, self.key, extensions, at), key)


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(sign, False, False, False, False, not sign, not sign, False, False)


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    extensions: Iterable[tuple[x509.ExtensionType, bool]],
    at: datetime,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - DAY)
        .not_valid_after(at + 300 * DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


class World:
    """A root, a sub-CA, a leaf of each, a clock, folders; and feeds that follow what a test says."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        at = self.at
        self.root = CA.create("Test Root", at)
        self.sub = CA.create("Test Sub-CA", at, self.root)
        self.leaf = self.root.leaf(at, "leaf of the root")
        self.sub_leaf = self.sub.leaf(at, "leaf of the sub-CA")
        self.forger = ec.generate_private_key(ec.SECP256R1())
        self.crls = folder / "crls"
        self.crls.mkdir()
        self.state = folder / "state"
        self.changes = 0

    @property
    def at(self) -> datetime:
        return self.clock.at

    def anchor(self, **revocation: object) -> Anchor:
        """An anchor; by default its lists are in `crls` and required."""
        settings: dict[str, object] = {"crl_paths": (self.crls,), "required": True, **revocation}
        return Anchor(
            name="test",
            certificates=(self.root.certificate,),
            profile=PROFILES[DEFAULT],
            naming=Naming(member_of_code=lambda code: None),
            revocation=Revocation(**settings),  # type: ignore[arg-type]  # the tests' own names
        )

    @staticmethod
    def stranger(at: datetime) -> CA:
        """A CA that nobody trusts."""
        return CA.create("Stranger", at)

    def _changed(self) -> None:
        self.changes += 1

    @asynccontextmanager
    async def feed(self, anchor: Anchor, **settings: object) -> AsyncIterator[RevocationFeed]:
        """A feed that looks often; stopped at the end."""
        chosen: dict[str, object] = {"look_seconds": 0.05, "clock": self.clock, **settings}
        feed = RevocationFeed(Trust(anchors=(anchor,)), self.state, on_change=self._changed, **chosen)  # type: ignore[arg-type]
        try:
            await feed.start()
            yield feed
        finally:
            await feed.stop()

    def drop(self, name: str, content: bytes) -> Path:
        """Put a list into the folder in one step."""
        draft = self.crls / f".{name}"
        draft.write_bytes(content)
        return draft.replace(self.crls / name)

    def verdict(self, feed: RevocationFeed, anchor: Anchor, leaf: x509.Certificate) -> ValidatedPath:
        """What the validator says with the feed's data of now."""
        validator = PathValidator(anchor.certificates, revocation=feed.data(anchor))
        return validator.validate(leaf, [self.sub.certificate], self.at)

    def rule(self, feed: RevocationFeed, anchor: Anchor, leaf: x509.Certificate) -> str:
        """`crl`, `ocsp`, `grace` or `unchecked` if it accepts, else the rule by which it refuses."""
        try:
            return self.verdict(feed, anchor, leaf).revocation
        except ChainRefusedError as error:
            return error.rule


@dataclass(frozen=True)
class Request:
    """What a server was sent."""

    method: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """What it sends back."""

    body: bytes = b""
    status: str = "200 OK"
    headers: tuple[str, ...] = ()
    length: int | None = None
    """Said to be the body's length; None: it is."""

    def head(self) -> bytes:
        length = len(self.body) if self.length is None else self.length
        lines = (f"HTTP/1.1 {self.status}", f"Content-Length: {length}", "Connection: close", *self.headers)
        return "\r\n".join((*lines, "", "")).encode()


Handler = Callable[[Request, asyncio.StreamWriter], Awaitable[Response | None]]


@dataclass
class Server:
    """An HTTP server on a port of its own; `answer` may be exchanged while it runs."""

    port: int
    answer: Handler
    requests: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/x"


@asynccontextmanager
async def http_server(answer: Handler | bytes | Response) -> AsyncIterator[Server]:
    """Serve what `answer` returns, until the end of the block."""
    tasks: set[asyncio.Task[object]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            request = Request(first.split()[0], headers, body)
            server.requests.append(request)
            response = await server.answer(request, writer)
            if response is not None:
                writer.write(response.head() + response.body)
                await writer.drain()
        tasks.discard(task)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server = Server(listener.sockets[0].getsockname()[1], always(answer) if not callable(answer) else answer)
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def always(answer: bytes | Response) -> Handler:
    """The same for everybody."""

    async def handler(request: Request, writer: asyncio.StreamWriter) -> Response:
        return answer if isinstance(answer, Response) else Response(answer)

    return handler


async def hang(request: Request, writer: asyncio.StreamWriter) -> None:
    """Say nothing until the server ends."""
    await asyncio.Event().wait()


async def drip(request: Request, writer: asyncio.StreamWriter) -> None:
    """Send an endless answer, a byte at a time."""
    writer.write(Response(length=1 << 20).head())
    while True:
        writer.write(b"0")
        await writer.drain()
        await asyncio.sleep(0.02)


def nonce_of(question: ocsp.OCSPRequest) -> bytes:
    return question.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce


@dataclass
class Responder:
    """Answers for one CA; what it says can be changed."""

    ca: CA
    certificates: list[x509.Certificate]
    at: Callable[[], datetime]
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD
    nonce: Callable[[bytes], bytes | None] = lambda sent: sent
    life: timedelta = DAY
    age: timedelta = timedelta(0)
    by: CA | None = None
    forged: bool = False
    delay: float = 0.0
    asked: list[int] = field(default_factory=list)

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> Response:
        question = ocsp.load_der_ocsp_request(request.body)
        self.asked.append(question.serial_number)
        nonce = nonce_of(question)
        assert len(nonce) == 32
        if self.delay:
            await asyncio.sleep(self.delay)
        about = next(each for each in self.certificates if each.serial_number == question.serial_number)
        content = self.ca.ocsp_answer(
            about,
            self.at() - self.age,
            status=self.status,
            nonce=self.nonce(nonce),
            life=self.life,
            by=self.by,
            forged=self.forged,
        )
        return Response(content, headers=("Content-Type: application/ocsp-response",))


def with_revocation(anchor: Anchor, **revocation: object) -> Anchor:
    """The same anchor with other settings."""
    return replace(anchor, revocation=replace(anchor.revocation, **revocation))  # type: ignore[arg-type]
