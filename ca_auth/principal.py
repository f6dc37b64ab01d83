"""Who is calling, once it is proven."""

from __future__ import annotations

from dataclasses import dataclass

from exchange import MemberId, SubsystemId


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A member whose certificate is good now. Made by the authenticator only; not to be kept beyond the request."""

    member: MemberId
    subsystem: SubsystemId | None
    """The one subsystem the certificate speaks for; None: any subsystem of the member."""
    fingerprint: str
    """Lower-case hex SHA-256 of `der`."""
    serial_number: str
    """Lower-case hex."""
    issuer: str
    """Distinguished name, RFC 4514."""
    not_before: float
    not_after: float
    """Validity, Unix seconds, both ends included."""
    der: bytes
