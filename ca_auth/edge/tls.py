"""TLS contexts of the mesh, and the reason when a handshake is refused.

Rules:
1. TLS 1.2 or newer, forward secrecy and AEAD only; no renegotiation.
2. The server asks for a client certificate and does not insist: without one the application can explain what is missing
   (401), where an aborted handshake explains nothing. A certificate that does not verify ends the handshake, with the
   alert that says why.
3. Session tickets are on (a resumed handshake costs half), one per connection, ONLY because the application asks for
   every request whether the certificate is still good. A resumed session still delivers it. Tests hold both facts.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

_RULES_OF_VERIFY_CODES: Final = {
    2: "certificate-chain",  # unable to get issuer certificate
    7: "certificate-signature",
    9: "certificate-not-yet-valid",
    10: "certificate-expired",
    18: "certificate-chain",  # self-signed leaf
    19: "certificate-chain",  # self-signed certificate in the chain
    20: "certificate-chain",  # unable to get local issuer certificate
    21: "certificate-chain",  # unable to verify the first certificate
    22: "certificate-chain",  # chain too long
    23: "certificate-revoked",
    24: "certificate-chain",  # invalid CA certificate
    26: "certificate-profile",  # unsuitable purpose
    66: "certificate-key",  # end-entity key too small
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeRefusal:
    """Why a handshake ended before there was a connection.

    `rule` is one of the authenticator's rules where the certificate was at fault, `client-alert` if the client gave up
    (it does not trust our certificate, say), else `tls-handshake`. `verify_code` is OpenSSL's X509_V_ERR number. Who it
    was is not known: OpenSSL shows a certificate only after it verified, and the address belongs to the transport.
    """

    rule: str
    reason: str
    verify_code: int | None


class _ServerObject(ssl.SSLObject):
    """One server side of a handshake; subclassed per context."""

    server_certificate: str | None = None
    """PEM of our own certificate, for the ASGI TLS extension."""

    on_refused: Callable[[HandshakeRefusal], None]

    _refused: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._refused is not None:
            raise self._refused
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            type(self).on_refused(_refusal(error))
            if not isinstance(error, ssl.SSLCertVerificationError):
                raise
            # The alert tells the caller what is wrong with its certificate, and the event loop would drop it together
            # with the connection. Asking for more makes it write first. A caller closes when it reads a fatal alert; one
            # that does not is cut off by the handshake's deadline.
            self._refused = error
            raise ssl.SSLWantReadError from error

    def getpeercert(self, binary_form: bool = False) -> Any:
        """The certificate, DER. The event loop asks for it taken apart, for every connection, and nobody reads that: {}."""
        return super().getpeercert(binary_form=True) if binary_form else {}


def server_context(
    certificate: Path,
    key: Path,
    trust_anchors: Path,
    *,
    on_handshake_refused: Callable[[HandshakeRefusal], None],
) -> ssl.SSLContext:
    """A context for the gateway's listener: certificates of `trust_anchors` are asked for and verified, not required.

    Args:
        certificate: PEM chain of the server, leaf first.
        key: Its PEM key.
        trust_anchors: PEM bundle of the CAs whose client certificates are accepted.
        on_handshake_refused: Called on the event loop for every failed handshake; it must not block or raise.

    Raises:
        OSError, ssl.SSLError: A file is missing, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.load_verify_locations(cafile=str(trust_anchors))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 1
    context.set_alpn_protocols(["http/1.1"])

    class ServerObject(_ServerObject):
        on_refused = staticmethod(on_handshake_refused)

    context.sslobject_class = ServerObject
    load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Give a context its certificate, or a new one: later handshakes use it, open connections are left alone."""
    context.load_cert_chain(certfile=str(certificate), keyfile=str(key))
    server_object = context.sslobject_class
    if server_object is not None and issubclass(server_object, _ServerObject):
        server_object.server_certificate = _first_pem(certificate.read_text("ascii"))


def client_context(trust_anchors: Path, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """A context for calling a gateway or the bus: checks the server's name; `certificate` and `key` say who we are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.load_verify_locations(cafile=str(trust_anchors))
    if certificate is not None:
        context.load_cert_chain(certfile=str(certificate), keyfile=str(key) if key is not None else None)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION


def _refusal(error: ssl.SSLError) -> HandshakeRefusal:
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        return HandshakeRefusal(
            rule=_RULES_OF_VERIFY_CODES.get(code, "certificate-chain"),
            reason=error.verify_message,
            verify_code=code,
        )
    reason = (error.reason or str(error)).lower().replace("_", " ")
    rule = "client-alert" if " alert " in reason else "tls-handshake"
    return HandshakeRefusal(rule=rule, reason=reason, verify_code=None)


def _first_pem(text: str) -> str:
    end = "-----END CERTIFICATE-----"
    start = text.index("-----BEGIN CERTIFICATE-----")
    return text[start : text.index(end, start) + len(end)] + "\n"
