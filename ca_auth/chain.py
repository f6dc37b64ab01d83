"""From a certificate to a trust anchor.

`ChainValidator` is the doorway for full path validation (RFC 5280 section 6) with revocation. `DirectIssuer`, which
ships first, covers one step: OpenSSL has built and checked a path in the handshake already; this check makes sure that
the certificate which arrives in the application, also on a resumed session and after a change of anchors, was issued by
one of the anchors of today.
"""

from __future__ import annotations

from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from exchange import UnauthenticatedError


class ChainValidator(Protocol):
    """Decides whether a certificate leads to a trust anchor."""

    def __call__(self, certificate: x509.Certificate, now: float) -> float:
        """Return until when the verdict may be relied on (Unix seconds): the path's first end, a CRL's next update.

        Called for each certificate when it is first seen, when its verdict has run out, and after
        `Authenticator.recheck`. It runs on the event loop: no I/O, under a millisecond.

        Raises:
            UnauthenticatedError: The certificate does not lead to an anchor (rule `certificate-chain`), or must not be
                accepted although it does.
        """


class DirectIssuer:
    """Accepts certificates signed by one of the anchors themselves.

    No intermediates, no name constraints, no revocation.

    Args:
        trust_anchors: PEM bundle of CA certificates.

    Raises:
        ValueError: The bundle is empty or holds something else than CA certificates.
    """

    def __init__(self, trust_anchors: bytes) -> None:
        anchors = x509.load_pem_x509_certificates(trust_anchors)
        if not anchors:
            raise ValueError("no trust anchors: nobody could be authenticated")
        for anchor in anchors:
            if not _is_ca(anchor):
                raise ValueError(f"not a CA certificate: {anchor.subject.rfc4514_string()}")
        self._anchors = tuple(anchors)

    def __call__(self, certificate: x509.Certificate, now: float) -> float:
        """Return when the anchor ends. Several anchors may share a name; the one that signed counts."""
        for anchor in self._anchors:
            if anchor.subject != certificate.issuer:
                continue
            begin, end = anchor.not_valid_before_utc.timestamp(), anchor.not_valid_after_utc.timestamp()
            if not begin <= now <= end:
                continue
            try:
                certificate.verify_directly_issued_by(anchor)
            except (InvalidSignature, ValueError, TypeError):
                continue  # another anchor of the same name, or an algorithm that is not accepted
            return end
        raise UnauthenticatedError(
            "certificate-chain",
            problem="The certificate was not issued by a CA that is accepted now.",
            problem_zh="证书不是由当前受信任的 CA 签发的。",
        )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
