"""Whom a certificate names, and the checks every profile makes before it looks for a name. Pure.

Rules of every profile:
1. The certificate's extensions and names can be parsed, and no extension occurs twice.
2. It is not a CA certificate.
3. If it has a key usage, that includes digitalSignature; if it has extended key usages, they include clientAuth.
4. A refusal says what is wrong and quotes nothing from the certificate: what stands in the wrong field may be the
   number of a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from exchange import MemberId, SubsystemId, UnauthenticatedError

Kind = Literal["organisation", "subsystem", "person"]

UNREADABLE: Final = (
    ValueError,
    TypeError,  # an attribute that is a BIT STRING and may not be one
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,  # x400Address and ediPartyName
    UnsupportedAlgorithm,
)
"""What the parser answers hostile bytes with, when a certificate is loaded and when its parts are looked at."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate names."""

    member: MemberId
    subsystem: SubsystemId | None = None
    """The one subsystem the certificate speaks for; None: any subsystem of the member."""
    person: str | None = None
    """Pseudonym of the natural person (`exchange.pseudonym_of`), as of one who is asked about; None for a machine."""
    profile: str = "datong-uri"
    warnings: tuple[str, ...] = ()
    """Faults that do not refuse (`person-number-check-character`, say), for the record."""

    @property
    def kind(self) -> Kind:
        """What the certificate stands for: a natural person, one machine, or the organisation as such."""
        if self.person is not None:
            return "person"
        return "organisation" if self.subsystem is None else "subsystem"


def check_purpose(certificate: x509.Certificate) -> x509.Extensions:
    """Return the extensions of a certificate that may identify a client.

    Raises:
        UnauthenticatedError: It breaks one of the rules above; rule `certificate-profile`.
    """
    try:
        extensions = certificate.extensions
        constraints = extension_of(extensions, x509.BasicConstraints)
        usage = extension_of(extensions, x509.KeyUsage)
        purposes = extension_of(extensions, x509.ExtendedKeyUsage)
    except UNREADABLE as error:
        raise breach("its extensions cannot be read", "扩展项无法解析") from error
    if constraints is not None and constraints.ca:
        raise breach("it is a CA certificate", "它是 CA 证书")
    if usage is not None and not usage.digital_signature:
        raise breach("its key usage lacks digitalSignature", "密钥用法缺少 digitalSignature")
    if purposes is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise breach("its extended key usage lacks clientAuth", "扩展密钥用法缺少 clientAuth")
    return extensions


def extension_of(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    """The value of an extension, None if there is none."""
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def breach(english: str, chinese: str) -> UnauthenticatedError:
    """The refusal of a certificate that does not say, or says wrongly, what its profile wants."""
    return UnauthenticatedError(
        "certificate-profile",
        problem=f"The certificate breaks the profile of the mesh: {english}.",
        problem_zh=f"证书不符合平台的证书规范：{chinese}。",
    )
