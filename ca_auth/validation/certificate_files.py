"""Certificates in files as people have them: PEM or DER, one or several, some of them damaged. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from ca_auth.validation import der
from ca_auth.validation.path_certificate import PathCertificate

_PEM: Final = re.compile(
    rb"-----BEGIN (?P<label>(?:X509 |TRUSTED )?CERTIFICATE)-----(?P<body>.*?)-----END (?P=label)-----", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class FiledCertificate:
    """One certificate of a file, or what was given as one."""

    position: int
    """Its place in the file, counted from 1."""
    encoded: bytes
    """DER, for `PathValidator`."""
    defect: str
    """Why it cannot be used at all; empty if it can."""


def read_certificate_file(data: bytes) -> list[FiledCertificate]:
    """Return the certificates in a file in their order; what is damaged keeps its place.

    Args:
        data: PEM (other text and other blocks are passed over) or DER, several one after the other.

    Raises:
        ValueError: There is nothing in it that claims to be a certificate.
    """
    blocks: list[bytes] = []
    for block in _PEM.finditer(data):
        try:
            blocks.append(base64.b64decode(b"".join(block["body"].split()), validate=True))
        except binascii.Error:
            blocks.append(b"")
    if not blocks and data[:1] == b"\x30":
        try:
            blocks += der.concatenated(data)
        except der.DerError:
            blocks.append(data)  # a DER file that was cut off
    if not blocks:
        raise ValueError("no certificate in PEM or DER")
    return [
        FiledCertificate(position, encoded, PathCertificate.of(encoded).defect)
        for position, encoded in enumerate(blocks, start=1)
    ]
