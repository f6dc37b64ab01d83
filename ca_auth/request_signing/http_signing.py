"""Signing a request (RFC 9421), for callers: what `ca_auth.request_signing.http_signatures` verifies.

    httpx.Client(auth=Signer(key, certificate), ...)

signs every request of the client; `sign_request` gives the headers for any other HTTP library.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca_auth.edge.client_cert import fingerprint_of
from ca_auth.request_signing.http_signatures import TAG, required_components
from exchange import (
    Body,
    RequestParts,
    SignatureComponent,
    SignatureParameters,
    SigningKey,
    algorithm_of,
    content_digest_field,
    fields_of,
    request_signature_base,
    sign_message,
)

if TYPE_CHECKING:
    import httpx

_PLAIN: Final = bytes([9, *range(32, 127)])
_NONCE_BYTES: Final = 16


def sign_request(
    key: SigningKey,
    keyid: str,
    *,
    method: str,
    path: bytes,
    query: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    body: Body,
    created: int,
    nonce: str = "",
    scheme: str = "https",
) -> list[tuple[str, str]]:
    """Return the headers to set, replacing those of the same name: Content-Digest (with a body), Signature-Input, Signature.

    Args:
        key: The private key of the caller's certificate.
        keyid: SHA-256 of that certificate, lower-case hex.
        path: Raw, as it will stand in the request line.
        query: Raw, without `?`.
        headers: All that will be sent, with Host; names in any case. Nothing of it may change afterwards.
        body: As it will be sent.
        created: Unix seconds.
        nonce: 16 to 64 visible characters, never used before; default: random.
        scheme: Of the URL; it says which port goes unsaid in Host.

    Raises:
        SignatureBaseError: X-Road-Client or Host is missing, or a value cannot be signed.
        UnsuitableKeyError: The key is of a kind that signs no requests.
    """
    new: list[tuple[str, str]] = []
    fields = fields_of([(name.lower(), value) for name, value in headers])
    if body:
        new.append(("Content-Digest", content_digest_field(body)))
        fields[b"content-digest"] = [new[0][1].encode()]
    names = required_components(fields, has_query=bool(query), has_body=bool(body))
    parameters = SignatureParameters(
        components=tuple(SignatureComponent(name, _needs_wrapping(fields.get(name.encode(), ()))) for name in names),
        values={
            "created": created,
            "nonce": nonce or secrets.token_urlsafe(_NONCE_BYTES),
            "keyid": keyid,
            "alg": algorithm_of(key),
            "tag": TAG,
        },
    )
    authority = fields.get(b"host", [b""])[0]
    parts = RequestParts(method=method, authority=authority, path=path, query=query, fields=fields, scheme=scheme)
    signature = sign_message(key, request_signature_base(parts, parameters))
    new.append(("Signature-Input", f"{TAG}={parameters.text}"))
    new.append(("Signature", f"{TAG}={_byte_sequence(signature)}"))
    return new


HASHED_BODY: Final = "datong.body"
"""Key in a request's extensions: an `exchange.HashedBody`, the digests of a body that is streamed."""


class Signer:
    """`auth` of an httpx client: signs each request as it goes out. Of a streamed body the digests must be in its extensions.

    Args:
        key: The private key of the certificate the client connects with.
        certificate: That certificate.
        clock: Unix seconds.

    Raises:
        UnsuitableKeyError: The key is of a kind that signs no requests.
        ValueError: It is not the certificate's.
    """

    def __init__(
        self, key: SigningKey, certificate: x509.Certificate, *, clock: Callable[[], float] = time.time
    ) -> None:
        algorithm_of(key)
        if key.public_key() != certificate.public_key():
            raise ValueError("the key is not the certificate's")
        self._key = key
        self._keyid = fingerprint_of(certificate.public_bytes(Encoding.DER))
        self._clock = clock

    def __call__(self, request: httpx.Request) -> httpx.Request:
        path, _, query = request.url.raw_path.partition(b"?")
        new = sign_request(
            self._key,
            self._keyid,
            method=request.method,
            path=path,
            query=query,
            headers=request.headers.raw,
            body=request.extensions.get(HASHED_BODY) or request.content,
            created=int(self._clock()),
            scheme=request.url.scheme,
        )
        for name, value in new:
            request.headers[name] = value
        return request


def _needs_wrapping(lines: Sequence[bytes]) -> bool:
    """Whether a field's value cannot stand in a base as it is: a purpose in Chinese."""
    return any(line.translate(None, _PLAIN) for line in lines)


def _byte_sequence(value: bytes) -> str:
    return f":{base64.b64encode(value).decode()}:"
