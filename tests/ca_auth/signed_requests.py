"""Callers of every kind of key and requests of theirs, to sign, change and verify."""

from __future__ import annotations

import base64
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ca_auth.request_signing.http_signatures import CallerKey, RequestSignature, verify_request
from ca_auth.request_signing.http_signing import sign_request
from exchange.signatures.signature_algorithms import SigningKey, sign
from exchange.signatures.signature_base import Component, Parameters, RequestParts, fields_of, signature_base

NOW = 1_800_000_000
ALGORITHMS = ("ecdsa-p256-sha256", "ecdsa-p384-sha384", "ed25519", "rsa-pss-sha512")
Headers = tuple[tuple[bytes, bytes], ...]


def make_key(algorithm: str) -> Any:
    match algorithm:
        case "ecdsa-p256-sha256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ecdsa-p384-sha384":
            return ec.generate_private_key(ec.SECP384R1())
        case "p521":
            return ec.generate_private_key(ec.SECP521R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


def self_signed(key: Any) -> x509.Certificate:
    """Who issued it is not the matter here; the authenticator looked at that."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "caller")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=datetime.now(UTC) - timedelta(days=1),
        not_valid_after=datetime.now(UTC) + timedelta(days=1),
    )
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


@dataclass(frozen=True)
class Caller:
    key: SigningKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def verifying(self) -> CallerKey:
        return CallerKey.of(self.der)

    @property
    def keyid(self) -> str:
        return self.verifying.keyid


@functools.cache
def caller(algorithm: str = "ecdsa-p256-sha256", number: int = 0) -> Caller:
    key = make_key(algorithm)
    return Caller(key, self_signed(key))


@dataclass(frozen=True)
class Request:
    method: str = "POST"
    path: bytes = b"/r1/CN/GOV/11990000000000000X/tax/enterprises/91990000000000000X"
    query: bytes = b"year=2026&q=%E7%A8%8E"
    headers: Headers = (
        (b"host", b"gateway.example:8443"),
        (b"accept", b"*/*"),
        (b"x-road-client", b"CN/GOV/11990000000000000X/housing"),
        (b"x-road-issue", b"2026-0001"),
        (b"x-road-userid", b"clerk-7"),
        (b"datong-purpose", b"public-rental-housing"),
        (b"datong-subject", b"91990000000000000X"),
        (b"content-type", b"application/json"),
    )
    body: bytes = b'{"hello": "world"}'

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": list(self.headers),
            "body": self.body,
        }

    def with_headers(self, *headers: tuple[bytes, bytes]) -> Request:
        """With these headers in place of those of the same names."""
        names = {name for name, _ in headers}
        return replace(self, headers=(*(pair for pair in self.headers if pair[0] not in names), *headers))

    def without(self, *names: bytes) -> Request:
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0] not in names))

    def value(self, name: bytes) -> bytes:
        return dict(self.headers)[name]

    def signed(self, by: Caller | None = None, *, created: int = NOW, nonce: str = "") -> Request:
        """As a caller of ours sends it."""
        by = by or caller()
        new = sign_request(by.key, by.keyid, **self.arguments, created=created, nonce=nonce)
        return self.with_headers(*((name.lower().encode(), value.encode()) for name, value in new))

    def signed_with(self, *components: str, by: Caller | None = None, label: str = "datong", **values: Any) -> Request:
        """As anybody might sign it: the components and parameters as given. `name;bs` wraps; None leaves a default out."""
        by = by or caller()
        defaults = {"created": NOW, "nonce": "0123456789abcdef", "keyid": by.keyid, "tag": "datong"}
        parameters = Parameters(
            components=tuple(Component(each.removesuffix(";bs"), each.endswith(";bs")) for each in components),
            values={name: value for name, value in {**defaults, **values}.items() if value is not None},
        )
        fields = fields_of(self.headers)
        parts = RequestParts(
            method=self.method,
            authority=fields[b"host"][0],
            path=self.path,
            query=self.query,
            fields=fields,
        )
        signature = base64.b64encode(sign(by.key, signature_base(parts, parameters)))
        return self.with_headers(
            (b"signature-input", f"{label}={parameters.text}".encode()),
            (b"signature", b"%b=:%b:" % (label.encode(), signature)),
        )

    def verified(self, by: Caller | None = None, *, now: float = NOW) -> RequestSignature:
        return verify_request(**self.arguments, caller=(by or caller()).verifying, now=now)


QUESTION = Request(
    method="GET",
    body=b"",
    query=b"",
    headers=(
        (b"host", b"gateway.example"),
        (b"x-road-client", b"CN/GOV/11990000000000000X/housing"),
    ),
)
"""The smallest request."""
MINIMUM = ("@method", "@authority", "@path", "x-road-client")
"""What its signature must cover."""


class Recorder(ThreadingHTTPServer):
    """A server that answers 204 and remembers what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        path, _, query = self.path.encode("latin-1").partition(b"?")
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        # http.client keeps header bytes as latin-1.
        headers = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in self.headers.items())
        assert isinstance(self.server, Recorder)
        self.server.requests.append(Request(self.command, path, query, headers, body))
        self.send_response(204)
        self.end_headers()

    do_GET = do_POST = answer  # noqa: N815 - http.server calls them so

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def request_recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
