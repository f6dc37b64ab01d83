"""What a certificate proves at one moment: a path to an anchor, not revoked, and the identity its anchor may vouch for. Pure.

Rules:
1. OpenSSL has looked at the chain in the handshake. It is looked at again here, by rules of our own, because OpenSSL judges a
   session once and by the anchors of that day, and because it lets pass what a government CA must not (docs/decisions/0014).
2. Each anchor is asked by itself, with its own news of revoked certificates and its own depth. The first that accepts counts;
   but a certificate that any of them knows to be revoked is refused, or another anchor would be a way around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from cryptography import x509

from ca_auth.profiles.identity import Identity
from ca_auth.profiles.trust import Anchor, Trust
from ca_auth.validation.key_policy import PathPolicy
from ca_auth.validation.revocation import RevocationData
from ca_auth.validation.validation import PathValidator, RevocationOutcome
from exchange import SubsystemId, UnauthenticatedError

News = Callable[[Anchor], RevocationData | None]
"""What is known of revoked certificates below an anchor; None: it is not checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found about a certificate."""

    identity: Identity
    until: float
    """Until when that may be relied on (Unix seconds): the path's first end, the news' next update."""
    cas: tuple[x509.Certificate, ...]
    """The CA certificates of the path, the anchor last."""
    revocation: RevocationOutcome


class CertificateJudge(Protocol):
    """Decides whom a certificate names. It runs on the event loop: no I/O, about a millisecond."""

    def examine(self, certificate: x509.Certificate, sent: Sequence[x509.Certificate], now: float) -> Verdict:
        """Return the verdict at `now` (Unix seconds).

        Args:
            sent: Certificates that may stand between it and an anchor, in any order.

        Raises:
            UnauthenticatedError: It must not be accepted; the rule says why.
        """

    def check_pin(self, subsystem: SubsystemId, fingerprint: str) -> None:
        """Return if the certificate may act as `subsystem`; raises UnauthenticatedError if others are pinned to it."""


class Judge:
    """`CertificateJudge` by a trust file."""

    def __init__(self, trust: Trust, news: News = lambda anchor: None) -> None:
        """
        Args:
            news: Asked now, once for each anchor: news that change make another judge.
        """
        self.trust = trust
        self._validators = [
            PathValidator(anchor.certificates, revocation=news(anchor), policy=PathPolicy(max_depth=anchor.max_depth))
            for anchor in trust.anchors
        ]

    def check_pin(self, subsystem: SubsystemId, fingerprint: str) -> None:
        self.trust.check_pin(subsystem, fingerprint)

    def examine(self, certificate: x509.Certificate, sent: Sequence[x509.Certificate], now: float) -> Verdict:
        at = datetime.fromtimestamp(now, UTC)
        accepted: Verdict | None = None
        refused: UnauthenticatedError | None = None
        for validator in self._validators:
            try:
                path = validator.validate(certificate, sent, at)
                identity = self.trust.principal(path.certificates)
            except UnauthenticatedError as error:
                if error.rule == "certificate-revoked":
                    raise
                if refused is None or refused.rule == "certificate-chain":
                    refused = error  # that there is no path says less than what is wrong with one
                continue
            if accepted is None:
                accepted = Verdict(
                    identity=identity, until=path.until, cas=path.certificates[1:], revocation=path.revocation
                )
        if accepted is None:
            assert refused is not None  # there is no trust without anchors
            raise refused
        return accepted
