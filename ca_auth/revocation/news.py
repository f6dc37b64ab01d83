"""News of revocations as evidence: what a receipt needs to show, years later, that a certificate was not revoked at the time.

Rules:
1. Complete lists and answers only, as they were signed. Delta and indirect lists, and lists for some reasons only, prove nothing
   alone and are left out.
2. What is larger than a receipt may be is left out, too; then the record of the gateway alone vouches for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from cryptography.hazmat.primitives.serialization import Encoding

from ca_auth.validation.crl import RevocationList
from ca_auth.validation.ocsp import OcspAnswer
from ca_auth.validation.revocation_data import RevocationData

LARGEST: Final = 256 << 10
"""Bytes of a list or an answer that is kept."""


@dataclass(frozen=True, slots=True)
class RevocationNews:
    """A CRL or an OCSP response, as it was signed."""

    kind: Literal["crl", "ocsp"]
    about: str
    """Whom it speaks of: hex SHA-256 of the issuer's name (DER); of an OCSP response, the issuer name's hash as it stands there,
    a colon, and the serial number, both hex."""
    this_update: datetime
    next_update: datetime | None
    der: bytes


def sources_in(data: Iterable[RevocationData | None]) -> Iterator[RevocationList | OcspAnswer]:
    """All lists and answers in what is known of some anchors."""
    for each in data:
        if each is not None:
            yield from each.lists
            yield from each.answers


def news_of(source: RevocationList | OcspAnswer) -> Iterator[RevocationNews]:
    """What can be kept of a list or an answer; nothing, if it proves nothing alone."""
    if source.defect is not None:
        return
    if isinstance(source, RevocationList):
        scope = source.distribution
        partial = scope is not None and (scope.indirect_crl or scope.only_some_reasons is not None)
        if source.crl is None or source.base_number is not None or partial:
            return
        der = source.crl.public_bytes(Encoding.DER)
        if len(der) <= LARGEST:
            about = hashlib.sha256(source.crl.issuer.public_bytes()).hexdigest()
            yield RevocationNews("crl", about, source.this_update, source.next_update, der)
        return
    if source.response is None:
        return
    der = source.response.public_bytes(Encoding.DER)
    if len(der) <= LARGEST:
        for status in source.statuses:
            about = f"{status.issuer_name_hash.hex()}:{status.serial_number:x}"
            yield RevocationNews("ocsp", about, status.this_update, status.next_update, der)
