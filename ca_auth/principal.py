"""Who is calling, once it is proven."""

from __future__ import annotations

from dataclasses import dataclass, field

from ca_auth.profiles.identity import Kind
from exchange import CallerFacts, MemberId, SubsystemId


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A member whose certificate is good now. Made by the authenticator only; not to be kept beyond the request."""

    member: MemberId
    subsystem: SubsystemId | None
    """The one subsystem the certificate speaks for; None: any subsystem of the member."""
    kind: Kind
    """What the certificate stands for: an organisation, one of its machines, or a natural person acting for it."""
    person: str | None
    """Pseudonym of the natural person (`exchange.pseudonym_of`), never put on record; None for a machine or an organisation."""
    profile: str
    """Name of the profile by which the certificate was read."""
    fingerprint: str
    """Lower-case hex SHA-256 of `der`."""
    serial_number: str
    """Lower-case hex."""
    issuer: str
    """Distinguished name, RFC 4514, without what may be a person's number."""
    facts: CallerFacts
    """For the record, without the person, whose hash there is another (`exchange.SubjectKeys`). Among the notes:
    `revocation-grace`, while the certificate is accepted on news of revocations that are past their time."""
    not_before: float
    not_after: float
    """Validity, Unix seconds, both ends included."""
    expires_soon: bytes = b""
    """The end of validity, RFC 3339, for a warning to the caller; empty while it is far away (`ca_auth.issuing.expiry`)."""
    der: bytes = field(repr=False)
