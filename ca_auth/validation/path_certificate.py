"""A certificate taken apart once, as path validation needs it. Pure.

Parsing is the `cryptography` library's, which is strict about DER. What it does not hand out (raw names, the order and
the raw bytes of extensions) is read from the bytes. A certificate that cannot be taken apart is kept, with the reason in
`defect`, since a chain may hold it and lead past it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from ca_auth.profiles.shown_names import shown_name
from ca_auth.validation.certificate_bytes import CertificateBytes, take_apart, with_dsa_parameters
from ca_auth.validation.distinguished_names import CanonicalName, canonical_name
from ca_auth.validation.rejection import printable

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
_WITH_EXTENSIONS: Final = 3
_SERIAL_ZERO: Final = b"\x82\x01\x00"
"""authorityCertSerialNumber 0, as roots have it that were made with old tools."""

CertificateSource: TypeAlias = x509.Certificate | bytes
"""A certificate, parsed or as DER. As DER it may be damaged, and may be a DSA certificate without parameters, which the
library refuses to load."""

_Value = TypeVar("_Value", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PathCertificate:
    """One certificate. Made by `of`; equal only to itself."""

    parsed: x509.Certificate | None
    """With numbers that mean nothing as parameters of a DSA key that has none (`inherits_parameters`)."""
    encoded: bytes
    """The whole certificate as it was given, DER."""
    signed: bytes = b""
    """What its signature is over."""
    defect: str = ""
    """Why it cannot be used at all; then the fields below, but for the subject, mean nothing."""
    version: int = 0
    """1, 2 or 3."""
    serial_number: int = 0
    serial_octets: int = 0
    subject: CanonicalName = ()
    subject_der: bytes = b""
    issuer: CanonicalName = ()
    issuer_der: bytes = b""
    begin: datetime = _LAST
    end: datetime = _FIRST
    """Validity, both ends included."""
    generalized_times: tuple[bool, bool] = (False, False)
    """Whether the beginning and the end are written as GeneralizedTime."""
    key_info: bytes = b""
    """SubjectPublicKeyInfo, DER: the identity of a key."""
    key_bits: bytes = b""
    """The key's BIT STRING without its count of unused bits: what key identifiers are made from."""
    key: CertificatePublicKeyTypes | None = None
    """None: the key is of a kind that is not supported, or takes its parameters from the issuer's."""
    inherits_parameters: bool = False
    """A DSA key without parameters (RFC 5280 section 6.1.4 (e))."""
    extensions: dict[str, tuple[bool, x509.ExtensionType]]
    """By dotted identifier: whether it is critical, and its value."""
    raw_extensions: dict[str, bytes]

    @classmethod
    def of(cls, source: CertificateSource) -> PathCertificate:
        """Take a certificate apart; never raises."""
        encoded = source if isinstance(source, bytes) else source.public_bytes(Encoding.DER)
        parsed: x509.Certificate | None = None
        try:
            parsed = _load(source) if isinstance(source, bytes) else source
            raw = take_apart(encoded)
            extensions = _extensions(parsed, raw)
            if extensions and raw.version != _WITH_EXTENSIONS:
                raise ValueError("extensions in a certificate that is not of version 3")
            return cls(
                parsed=parsed,
                encoded=encoded,
                signed=raw.signed,
                version=raw.version,
                serial_number=raw.serial_number,
                serial_octets=raw.serial_octets,
                subject=canonical_name(parsed.subject),
                subject_der=raw.subject,
                issuer=canonical_name(parsed.issuer),
                issuer_der=raw.issuer,
                begin=parsed.not_valid_before_utc,
                end=parsed.not_valid_after_utc,
                generalized_times=raw.generalized_times,
                key_info=raw.key_info,
                key_bits=raw.key_bits,
                key=_key(parsed, raw),
                inherits_parameters=raw.lacks_dsa_parameters,
                extensions=extensions,
                raw_extensions=raw.extensions,
            )
        except Exception as error:  # noqa: BLE001
            # The parser answers hostile bytes with ValueError, TypeError, DuplicateExtension, UnsupportedAlgorithm and
            # whatever its next release chooses. Each means the same: the certificate is not used.
            return cls(
                parsed=parsed,
                encoded=encoded,
                defect=printable(str(error) or type(error).__name__),
                subject=_subject(parsed) if parsed is not None else (),
                extensions={},
                raw_extensions={},
            )

    @property
    def certificate(self) -> x509.Certificate:
        """The parsed certificate. There is one unless there is a defect."""
        assert self.parsed is not None
        return self.parsed

    @property
    def label(self) -> str:
        """Subject and serial number, for people; without what may be a person's number."""
        if self.parsed is None:
            return "a certificate that cannot be read"
        try:
            name = printable(shown_name(self.parsed.subject)) or "(empty subject)"
        except (ValueError, TypeError):
            name = "(unreadable subject)"
        return name if self.defect else f"{name}, serial {self.serial_number:x}"

    def get(self, kind: type[_Value]) -> _Value | None:
        """The value of an extension, or None."""
        found = self.extensions.get(kind.oid.dotted_string)
        return found[1] if found is not None and isinstance(found[1], kind) else None

    def is_critical(self, kind: type[x509.ExtensionType]) -> bool:
        """Whether the extension is there and critical."""
        return self.extensions.get(kind.oid.dotted_string, (False, None))[0]

    @property
    def is_ca(self) -> bool:
        constraints = self.get(x509.BasicConstraints)
        return constraints is not None and constraints.ca

    @property
    def is_self_issued(self) -> bool:
        return self.subject == self.issuer

    @property
    def key_identifier(self) -> bytes | None:
        """The subject key identifier."""
        found = self.get(x509.SubjectKeyIdentifier)
        return found.digest if found is not None else None

    @property
    def authority_key_identifier(self) -> bytes | None:
        """The key identifier of the issuer, if it is named."""
        found = self.get(x509.AuthorityKeyIdentifier)
        return found.key_identifier if found is not None else None


def without_copies(sources: Iterable[CertificateSource]) -> list[PathCertificate]:
    """Take certificates apart, each once however often it is given; the order stays."""
    seen: dict[bytes, PathCertificate] = {}
    for source in sources:
        encoded = source if isinstance(source, bytes) else source.public_bytes(Encoding.DER)
        if encoded not in seen:
            seen[encoded] = PathCertificate.of(source)
    return list(seen.values())


def _load(encoded: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        # The library warns of what our rules judge, such as serial numbers that are not positive.
        warnings.simplefilter("ignore")
        try:
            return x509.load_der_x509_certificate(encoded)
        except ValueError:
            if not take_apart(encoded).lacks_dsa_parameters:
                raise
            return x509.load_der_x509_certificate(with_dsa_parameters(encoded, 1, 1, 1))


def _extensions(certificate: x509.Certificate, raw: CertificateBytes) -> dict[str, tuple[bool, x509.ExtensionType]]:
    authority = raw.extensions.get(x509.AuthorityKeyIdentifier.oid.dotted_string, b"")
    if raw.serial_number > 0 and _SERIAL_ZERO not in authority:
        return {each.oid.dotted_string: (each.critical, each.value) for each in certificate.extensions}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        return {each.oid.dotted_string: (each.critical, each.value) for each in certificate.extensions}


def _key(certificate: x509.Certificate, raw: CertificateBytes) -> CertificatePublicKeyTypes | None:
    if raw.lacks_dsa_parameters or raw.spells_out_its_curve:
        return None
    try:
        return certificate.public_key()
    except Exception:  # noqa: BLE001  # see `of`: an unknown curve, broken numbers, a kind of key that is not known
        return None


def _subject(certificate: x509.Certificate) -> CanonicalName:
    try:
        return canonical_name(certificate.subject)
    except (ValueError, TypeError):
        return ()
