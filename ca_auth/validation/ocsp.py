"""An OCSP answer taken apart once (RFC 6960). Pure.

Parsing is not checking: whether the answer is about a certificate, signed by one who may, and fresh is judged in
`ca_auth.validation.revocation`. An answer that must not be used is kept with the reason in `defect`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509 import ocsp

from ca_auth.validation import der
from ca_auth.validation.distinguished_names import CanonicalName, canonical_name
from ca_auth.validation.path_certificate import PathCertificate, without_copies
from ca_auth.validation.rejection import printable

NO_CHECK: Final = x509.OCSPNoCheck.oid.dotted_string
_SINGLE_EXTENSIONS: Final = 0xA1
_RESPONSE_EXTENSIONS: Final = 0xA1
_TRUE: Final = b"\xff"
_PEM: Final = re.compile(rb"-----BEGIN OCSP RESPONSE-----(.*?)-----END OCSP RESPONSE-----", re.DOTALL)
_NONCE: Final = "1.3.6.1.5.5.7.48.1.2"


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """What an answer says of one certificate."""

    hash_name: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int
    status: ocsp.OCSPCertStatus
    reason: x509.ReasonFlags | None
    this_update: datetime
    next_update: datetime | None

    def is_about(self, certificate: PathCertificate, issuer: PathCertificate) -> bool:
        """Whether the identifier in the answer is this certificate's: serial number, issuer's name and issuer's key."""
        if self.serial_number != certificate.serial_number:
            return False
        try:
            names = {
                hashlib.new(self.hash_name, name).digest() for name in (certificate.issuer_der, issuer.subject_der)
            }
            key = hashlib.new(self.hash_name, issuer.key_bits).digest()
        except ValueError:  # a hash that this machine does not know
            return False
        return self.issuer_name_hash in names and self.issuer_key_hash == key


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OcspAnswer:
    """One answer, about one certificate or several. Made by `load_ocsp`; equal only to itself."""

    response: ocsp.OCSPResponse | None
    defect: tuple[str, str] | None = None
    """Why it must not be used, English and Chinese; then the fields below mean nothing."""
    statuses: tuple[CertificateStatus, ...] = ()
    responder_name: CanonicalName | None = None
    responder_key_hash: bytes | None = None
    certificates: tuple[PathCertificate, ...] = ()
    nonce: bytes | None = None
    expected_nonce: bytes | None = None
    """If set, the answer must carry it."""

    def is_of(self, responder: PathCertificate) -> bool:
        """Whether the answer names this certificate's subject or key as the one who answers."""
        if self.responder_name is not None:
            return self.responder_name == responder.subject
        # RFC 6960 section 4.2.1 fixes SHA-1 here; it identifies and does not protect.
        return self.responder_key_hash == hashlib.sha1(responder.key_bits, usedforsecurity=False).digest()


def load_ocsp(data: bytes, *, nonce: bytes | None = None) -> OcspAnswer:
    """Take an OCSP answer apart: DER, or its base64, with PEM lines or without.

    Args:
        data: The body of the responder's reply.
        nonce: What was sent in the request; None if nothing was.

    Raises:
        ValueError: The data is nothing like an OCSP answer.
    """
    if data[:1] != b"\x30":
        armoured = _PEM.search(data)
        try:
            data = base64.b64decode(b"".join((armoured[1] if armoured else data).split()), validate=True)
        except binascii.Error:
            data = b""
        if data[:1] != b"\x30":
            raise ValueError("no OCSP answer in DER or base64")
    response: ocsp.OCSPResponse | None = None
    try:
        response = ocsp.load_der_ocsp_response(data)
        return _take_apart(response, data, nonce)
    except Exception as error:  # noqa: BLE001
        # As for certificates: whatever the parser raises for hostile bytes means that the answer is not used.
        shown = printable(str(error) or type(error).__name__)
        return OcspAnswer(response=response, defect=(f"it cannot be read: {shown}", f"无法解析：{shown}"))


def _take_apart(response: ocsp.OCSPResponse, data: bytes, nonce: bytes | None) -> OcspAnswer:
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        name = response.response_status.name.lower().replace("_", " ")
        return OcspAnswer(response=response, defect=(f"the responder says: {name}", f"OCSP 服务答复：{name}"))
    unknown, sent = _extensions(data)
    if unknown:
        problem = (f"its critical extension {unknown} is unknown", f"含有未知的关键扩展项 {unknown}")
        return OcspAnswer(response=response, defect=problem)
    return OcspAnswer(
        response=response,
        statuses=tuple(_status(single) for single in response.responses),
        responder_name=canonical_name(response.responder_name) if response.responder_name is not None else None,
        responder_key_hash=response.responder_key_hash,
        certificates=tuple(without_copies(response.certificates)),
        nonce=sent,
        expected_nonce=nonce,
    )


def _status(single: ocsp.OCSPSingleResponse) -> CertificateStatus:
    return CertificateStatus(
        hash_name=single.hash_algorithm.name,
        issuer_name_hash=single.issuer_name_hash,
        issuer_key_hash=single.issuer_key_hash,
        serial_number=single.serial_number,
        status=single.certificate_status,
        reason=single.revocation_reason,
        this_update=single.this_update_utc,
        next_update=single.next_update_utc,
    )


def _extensions(data: bytes) -> tuple[str, bytes | None]:
    """Return the first critical extension that is not known (or nothing), and the nonce.

    The library reads the extensions of an answer about a single certificate only.
    """
    # OCSPResponse { status, [0] { responseType, OCTET STRING of BasicOCSPResponse { ResponseData, ... } } }
    body = der.sequence(der.sequence(data)[1].content)[1].content
    fields = der.elements(der.sequence(body)[0].content)
    found: list[der.Element] = []
    if fields[-1].tag == _RESPONSE_EXTENSIONS:
        # The responder's name may have this tag, too, but never stands last: the statuses come after it.
        found += der.sequence(fields[-1].content)
    statuses = next(field for field in fields[1:] if field.tag == der.SEQUENCE)
    for single in der.elements(statuses.content):
        last = der.elements(single.content)[-1]
        if last.tag == _SINGLE_EXTENSIONS:
            found += der.sequence(last.content)
    unknown, nonce = "", None
    for extension in found:
        identifier, *criticality, value = der.elements(extension.content)
        name = der.dotted(identifier)
        if name == _NONCE:
            nonce = value.content
        elif criticality and criticality[0].content == _TRUE:
            unknown = unknown or name
    return unknown, nonce


def nonce_matches(answer: OcspAnswer) -> bool:
    """Whether the answer carries the nonce that was asked for; without one in the request, any will do.

    RFC 8954 wraps the nonce in an OCTET STRING; some responders send it bare.
    """
    expected = answer.expected_nonce
    if expected is None:
        return True
    return answer.nonce is not None and answer.nonce in (expected, bytes([0x04, len(expected)]) + expected)
