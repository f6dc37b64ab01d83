"""The client certificate of a connection, handed to the application.

uvicorn 0.54 does not pass it on. This protocol class reads it once, when the handshake is over, and leaves it in two
places:

- `scope["state"]`: `peer_der` (bytes or None), `peer` (lower-case hex SHA-256 of it, or None) and `peer_sent` (what came
  with it, DER, in a tuple; empty on a resumed session). uvicorn copies the state for every request anyway, so this costs
  nothing per request. On a connection of a TLS terminator (RFC 9440) they are those of the request's `Client-Cert`; if a
  terminator sends what it may not, there is no certificate, and `peer_refusal` says why. `peer_via` is the terminator's
  `Connection` if it came over TLS: its own certificate has to count, too. `peer_spoken_for`: the certificate was handed over
  by a terminator; that its key is at the other end, we have not seen ourselves. `abort` ends the connection at once, for an
  answer that broke off in the middle. `requests` holds all that this server is answering now, on whatever connection.
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
from collections.abc import Callable
from typing import Any, ClassVar, Final

from cryptography import x509

from ca_auth.edge.client_cert_header import Connection, RefusedHeaderError, TerminatorTrust, parse_client_cert
from ca_auth.edge.http_protocol import HttpProtocol
from ca_auth.profiles.identity import UNREADABLE
from ca_auth.profiles.shown_names import shown_name

_ENCODING_DER: Final = 2
"""Of the `_ssl` module, which names it privately."""
_TLS_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class PeerCertificateProtocol(HttpProtocol):
    """The HTTP/1.1 protocol, knowing who is at the other end."""

    terminators: ClassVar[Callable[[], TerminatorTrust]] = staticmethod(TerminatorTrust)
    """Who may speak for others."""

    peer: str | None = None
    """Fingerprint of the client certificate of this connection."""
    connection: Connection
    terminator = False
    """Whether this connection spoke for others when it was opened; it is asked again for each request."""

    _trust: TerminatorTrust
    """Who was trusted when it was last asked; `_speaks_for_others` is what that says of this connection."""
    _speaks_for_others = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        self.peer = fingerprint_of(der) if der is not None else None
        sent = sent_with(tls) if tls is not None and der is not None else ()
        path = self.server[0] if self.server is not None and self.server[1] is None else ""
        self.connection = Connection(unix_socket=path, peer=self.peer or "", leaf=der or b"", chain=sent)
        self._trust = type(self).terminators()
        self.terminator = self._speaks_for_others = self._trust.trusts(self.connection)
        own = {"peer_der": der, "peer": self.peer, "peer_sent": sent, "abort": transport.abort}
        self.app_state = {
            **self.app_state,
            **own,
            "peer_via": None,
            "peer_refusal": None,
            "peer_spoken_for": False,
            "requests": self.tasks,
            "respond": None,
        }
        if tls is not None:
            extensions: dict[Any, Any] = {"tls": tls_extension(tls, der)}
            self._blank_scope["extensions"] = extensions

    def request_state(self) -> dict[str, Any]:
        trust = type(self).terminators()
        if trust is not self._trust:
            self._trust, self._speaks_for_others = trust, trust.trusts(self.connection)
        state = self.app_state.copy()
        if self._speaks_for_others:
            state.update(_spoken_for(self.connection, self.headers))
        return state


def fingerprint_of(der: bytes) -> str:
    """Lower-case hex SHA-256 of a certificate's DER: how the mesh names a certificate."""
    return hashlib.sha256(der).hexdigest()


def _spoken_for(connection: Connection, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """The state of a request that a terminator passes on."""
    via = connection if connection.peer else None
    state: dict[str, Any] = {"peer_der": None, "peer": None, "peer_sent": (), "peer_via": via, "peer_spoken_for": True}
    try:
        presented = parse_client_cert(headers)
    except RefusedHeaderError as refusal:
        return {**state, "peer_refusal": refusal}
    if presented is None:
        return state
    leaf = presented.leaf
    return {**state, "peer_der": leaf, "peer": fingerprint_of(leaf), "peer_sent": presented.chain}


def sent_with(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """What the other end sent along with its certificate, DER; at most 20 of them."""
    # Public from Python 3.13 on, there since 3.10.
    inner: Any = tls if hasattr(tls, "get_unverified_chain") else tls._sslobj  # type: ignore[attr-defined]
    chain = inner.get_unverified_chain() or ()
    return tuple(each if isinstance(each, bytes) else each.public_bytes(_ENCODING_DER) for each in chain[1:21])


def tls_extension(tls: ssl.SSLObject, der: bytes | None) -> dict[str, Any]:
    """The `tls` entry of the ASGI extensions for one connection.

    `client_cert_chain` holds the leaf only: a resumed session has no more. `client_cert_error` is always None: OpenSSL ends
    the handshake when a certificate does not verify.
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
        name = shown_name(x509.load_der_x509_certificate(der).subject)
    except UNREADABLE:
        # OpenSSL is laxer than this parser. The connection stays; the authenticator refuses it with a reason.
        name = None
    return ssl.DER_cert_to_PEM_cert(der), name


@functools.cache
def _cipher_suites() -> dict[str, int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")  # only names are read; nothing is ever negotiated with this context
    return {suite["name"]: suite["id"] & 0xFFFF for suite in context.get_ciphers()}
