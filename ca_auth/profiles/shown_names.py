"""Names in certificates as they may be shown: in a refusal, an event, on the screen of an operator. Pure.

A subject may hold the number of a person: as serialNumber, where ETSI EN 319 412-1 puts it, or wherever a CA thought
fit. `rfc4514_string` would carry it into every log.

Rules:
1. What serialNumber, userId and pseudonym hold is never shown.
2. Elsewhere no run of 15 or more digits is shown, but for the code in organizationIdentifier: a company is no secret.
"""

from __future__ import annotations

import re
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

HIDDEN: Final = "***"

_PERSONAL: Final = frozenset({NameOID.SERIAL_NUMBER, NameOID.USER_ID, NameOID.PSEUDONYM})
_NUMBER: Final = re.compile(r"\d(?:[ .-]?\d){13,}[ .-]?[\dXxＸｘ]")


def shown_name(name: x509.Name) -> str:
    """The name as RFC 4514 writes it, without what may be a person's number.

    Raises:
        ValueError, TypeError: It cannot be read.
    """
    rdns: list[x509.RelativeDistinguishedName] = [
        x509.RelativeDistinguishedName(_shown(attribute) for attribute in rdn) for rdn in name.rdns
    ]
    return x509.Name(rdns).rfc4514_string()


def _shown(attribute: x509.NameAttribute[str | bytes]) -> x509.NameAttribute[str | bytes]:
    value = attribute.value
    if attribute.oid in _PERSONAL or isinstance(value, bytes):
        shown = HIDDEN
    elif attribute.oid == NameOID.ORGANIZATION_IDENTIFIER:
        return attribute
    else:
        shown = _NUMBER.sub(HIDDEN, value)
    return attribute if shown == value else x509.NameAttribute(attribute.oid, shown)
