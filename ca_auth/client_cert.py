"""The client certificate of a connection, handed to the application.

uvicorn 0.54 does not pass it on. This protocol class reads it once, when the handshake is over, and leaves it in two
places:

- `scope["state"]`: `peer_der` (bytes or None) and `peer` (lower-case hex SHA-256 of it, or None). uvicorn copies the
  state for every request anyway, so this costs nothing per request.
- `scope["extensions"]["tls"]`: the ASGI TLS extension 0.2, plus `client_cert` (DER) as uvicorn intends to add it
  (Kludex/uvicorn pull request 3132), so that this class can go once uvicorn has it. The dictionary is made once per
  connection and shared by its requests: treat it as read-only.

What OpenSSL let through is here; whether it is still good is asked again for every request (`ca_auth.authenticator`).
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import ssl
from typing import Any, Final

from cryptography import x509
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_TLS_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class PeerCertificateProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, knowing who is at the other end."""

    peer: str | None = None
    """Fingerprint of the client certificate of this connection."""

    extensions: dict[str, Any]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        self.peer = fingerprint_of(der) if der is not None else None
        self.app_state = {**self.app_state, "peer_der": der, "peer": self.peer}
        self.extensions = {} if tls is None else {"tls": tls_extension(tls, der)}

    def on_headers_complete(self) -> None:
        self.scope["extensions"] = self.extensions
        super().on_headers_complete()


def fingerprint_of(der: bytes) -> str:
    """Lower-case hex SHA-256 of a certificate's DER: how the mesh names a certificate."""
    return hashlib.sha256(der).hexdigest()


def tls_extension(tls: ssl.SSLObject, der: bytes | None) -> dict[str, Any]:
    """The `tls` entry of the ASGI extensions for one connection.

    `client_cert_chain` holds the leaf only: Python before 3.13 has no public way to the rest, and a resumed session has
    none. `client_cert_error` is always None: OpenSSL ends the handshake when a certificate does not verify.
    """
    pem, name = _leaf(der) if der is not None else (None, None)
    cipher = tls.cipher()
    return {
        "server_cert": getattr(tls, "server_certificate", None),
        "client_cert_chain": () if pem is None else (pem,),
        "client_cert_name": name,
        "client_cert_error": None,
        "client_cert": der,
        "tls_version": _TLS_VERSIONS.get(tls.version() or ""),
        "cipher_suite": _cipher_suites().get(cipher[0]) if cipher else None,
    }


@functools.lru_cache(maxsize=1024)
def _leaf(der: bytes) -> tuple[str, str | None]:
    """PEM and RFC 4514 name; cached because a caller comes back with the same certificate."""
    try:
        name = x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except ValueError:
        # OpenSSL is laxer than this parser. The connection stays; the authenticator refuses it with a reason.
        name = None
    return ssl.DER_cert_to_PEM_cert(der), name


@functools.cache
def _cipher_suites() -> dict[str, int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")  # only names are read; nothing is ever negotiated with this context
    return {suite["name"]: suite["id"] & 0xFFFF for suite in context.get_ciphers()}
