"""What a CA has on its books: the rows of its store, as values. Times are Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ca_auth.issuing.ca_certificates import Reason
from ca_auth.issuing.issuance import CertificateRequest

CertificateState = Literal["valid", "not-yet-valid", "expired", "revoked"]
CodeState = Literal["open", "used", "expired", "void"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRow:
    """A certificate the CA has issued."""

    serial: str
    """Lower-case hex without leading zeros."""
    fingerprint: str
    subject: str
    """For people: without a natural person's number."""
    holder: str
    """The identity, a server's first name, or a person's name: what `revoke --for` and `list` go by."""
    not_before: int
    not_after: int
    der: bytes
    key_hash: str
    request: CertificateRequest
    days: float
    issued_at: float
    by: str
    why: str
    code: str | None = None
    """Name of the enrolment code that was spent on it."""
    renews: str | None = None
    """Serial of the certificate that asked for it."""
    revoked_at: int | None = None
    reason: Reason | None = None

    def state(self, now: float) -> CertificateState:
        if self.revoked_at is not None:
            return "revoked"
        if now > self.not_after:
            return "expired"
        return "valid" if now >= self.not_before else "not-yet-valid"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRow:
    """An enrolment code that was given out."""

    name: str
    secret_hash: bytes
    request: CertificateRequest
    holder: str
    days: float
    created_at: float
    expires_at: float
    by: str
    why: str
    key_hash: str | None = None
    """Of the key it was spent on."""
    used_at: float | None = None
    void_at: float | None = None
    refused: int = 0
    """How often somebody tried to use it for another key after it was spent."""

    def state(self, now: float) -> CodeState:
        if self.used_at is not None:
            return "used"
        if self.void_at is not None:
            return "void"
        return "open" if now <= self.expires_at else "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationRow:
    """That a certificate is revoked. The certificate itself may be unknown, after the loss of the newest state."""

    serial: str
    at: int
    reason: Reason
    by: str
    why: str
    not_after: int | None
    """None: unknown, so it stays on the CRL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlRow:
    """A CRL that was made."""

    number: int
    this_update: int
    """When it was made; the CRL itself says a little earlier."""
    next_update: int
    der: bytes
