"""From the certificate of a connection to a principal, for every request anew.

Rules:
1. A connection proves nothing about now: expiry, start of validity and a disabled certificate are looked at for every
   request, so neither an open connection nor a resumed TLS session outlives its certificate.
2. What does not change with time (profile, signature) is examined once per certificate and remembered, up to a bound.
3. A verdict is remembered no longer than the chain validator vouches for it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509

from ca_auth.chain import ChainValidator, DirectIssuer
from ca_auth.principal import Principal
from ca_auth.profile import identity_of
from exchange import UnauthenticatedError


class Authenticator:
    """Says who is calling. Belongs to one event loop.

    Args:
        trust_anchors: PEM bundle of the accepted CAs.
        clock: Unix seconds.
        validate: How a certificate leads to an anchor; by default it must have been issued by one directly.
        remember: Most certificates remembered at once.
    """

    def __init__(
        self,
        trust_anchors: bytes,
        clock: Callable[[], float] = time.time,
        *,
        validate: ChainValidator | None = None,
        remember: int = 10_000,
    ) -> None:
        self._clock = clock
        self._validate = validate if validate is not None else DirectIssuer(trust_anchors)
        self._remember = remember
        self._known: dict[str, tuple[float, float, Principal]] = {}
        self._disabled: set[str] = set()

    def identify(self, fingerprint: str | None, der: bytes | None, now: float | None = None) -> Principal:
        """Return whom the certificate of a connection names, if it is good at `now` (default: the clock).

        Args:
            fingerprint: Of `der`, as `PeerCertificateProtocol` puts it into the state; None without a certificate.
            der: The certificate that TLS verified when the session began; None without one.
            now: Unix seconds.

        Raises:
            UnauthenticatedError: With rule `client-certificate` (none was sent), `certificate-expired`,
                `certificate-not-yet-valid`, `certificate-disabled`, `certificate-profile` or `certificate-chain`.
        """
        if now is None:
            now = self._clock()
        known = self._known.get(fingerprint)  # type: ignore[arg-type]  # None is never a key
        if known is not None and known[0] <= now <= known[1]:
            return known[2]
        return self._examine(fingerprint, der, now)

    def disable(self, fingerprint: str) -> None:
        """Refuse a certificate from its next request on, in this process."""
        self._disabled.add(fingerprint)
        self._known.pop(fingerprint, None)

    def enable(self, fingerprint: str) -> None:
        """Take back `disable`."""
        self._disabled.discard(fingerprint)

    def recheck(self) -> None:
        """Forget every verdict: the next request of each certificate is examined in full (new CRL, changed anchors)."""
        self._known.clear()

    def _examine(self, fingerprint: str | None, der: bytes | None, now: float) -> Principal:
        if fingerprint is None or der is None:
            raise UnauthenticatedError(
                "client-certificate",
                problem="The connection carries no client certificate.",
                problem_zh="连接没有出示客户端证书。",
            )
        if fingerprint in self._disabled:
            raise UnauthenticatedError(
                "certificate-disabled",
                problem="The certificate has been disabled.",
                problem_zh="证书已被停用。",
            )
        if hashlib.sha256(der).hexdigest() != fingerprint:
            raise ValueError("the fingerprint is not that of the certificate")
        try:
            certificate = x509.load_der_x509_certificate(der)
            principal = _principal(certificate, fingerprint, der)
        except ValueError as error:
            raise UnauthenticatedError(
                "certificate-profile",
                problem="The certificate cannot be read.",
                problem_zh="证书无法解析。",
            ) from error
        _check_validity(principal, now)
        until = self._validate(certificate, now)
        if len(self._known) >= self._remember:
            # The oldest goes: a certificate in use is examined again in a tenth of a millisecond.
            self._known.pop(next(iter(self._known)))
        self._known[fingerprint] = (principal.not_before, min(principal.not_after, until), principal)
        return principal


def _principal(certificate: x509.Certificate, fingerprint: str, der: bytes) -> Principal:
    identity = identity_of(certificate)
    return Principal(
        member=identity.member,
        subsystem=identity.subsystem,
        fingerprint=fingerprint,
        serial_number=f"{certificate.serial_number:x}",
        issuer=certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        der=der,
    )


def _check_validity(principal: Principal, now: float) -> None:
    if now > principal.not_after:
        at = _moment(principal.not_after)
        raise UnauthenticatedError(
            "certificate-expired",
            problem=f"The certificate expired at {at}.",
            problem_zh=f"证书已于 {at} 过期。",
        )
    if now < principal.not_before:
        at = _moment(principal.not_before)
        raise UnauthenticatedError(
            "certificate-not-yet-valid",
            problem=f"The certificate is valid from {at} on.",
            problem_zh=f"证书自 {at} 起有效。",
        )


def _moment(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
