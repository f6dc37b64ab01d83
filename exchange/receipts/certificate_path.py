"""Whether a certificate led to a trust anchor at some moment, for verifying receipts with nothing but `cryptography`.

Who is let in at the door is decided elsewhere (`ca_auth`), with revocation and everything else that is known at that
moment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import unquote

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

_URI_SCHEME = "datong:"
_MAX_DEPTH = 8
_SHORTEST_CODE = 9
"""Characters; a shorter one could stand anywhere by chance."""
UNREADABLE = (
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
    TypeError,  # a name with a value of a kind that its attribute cannot have
)
"""What `cryptography` raises, beside ValueError, on certificates that only a forger or another world makes."""


class CertificateError(ValueError):
    """The certificate does not lead to a trust anchor, or not at that moment."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.zh = zh


def check_path(
    certificate: x509.Certificate,
    others: Sequence[x509.Certificate],
    trust_anchors: Sequence[x509.Certificate],
    at: datetime,
) -> list[x509.Certificate]:
    """Return the path from the certificate to a trust anchor that was valid at the moment `at`, with both ends.

    Raises:
        CertificateError: There is none.
    """
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise CertificateError(f"the certificate was not valid at {at.isoformat()}", f"证书在 {at.isoformat()} 无效")
    if not trust_anchors:
        raise CertificateError("the key list has no trust anchors", "密钥列表中没有信任锚")
    builder = PolicyBuilder().store(Store(list(trust_anchors))).time(at).max_chain_depth(_MAX_DEPTH)
    # What a leaf must say (its identity) is compared by the caller; that it may sign is not a matter of TLS purposes.
    builder = builder.extension_policies(
        ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all()
    )
    try:
        verified = builder.build_client_verifier().verify(certificate, list(others))
    except VerificationError as error:
        raise CertificateError(f"no path to a trust anchor: {error}", "无法追溯到信任锚") from error
    return list(verified.chain)


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether it says that it is a CA's."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError, *UNREADABLE):
        return False


def holds_code_of(certificate: x509.Certificate, identifier: str) -> bool:
    """Whether a certificate without a name of the mesh holds the code of a subsystem's member.

    CAs of others put the code where they will (organizationIdentifier, an extension); which of its fields counts, and which
    subsystem it speaks for, the trust file of the gateway says, whose seal is on the query.
    """
    try:
        uris = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        named = any(uri.startswith(_URI_SCHEME) for uri in uris.get_values_for_type(x509.UniformResourceIdentifier))
    except x509.ExtensionNotFound:
        named = False
    except (ValueError, *UNREADABLE):
        return False
    parts = identifier.split("/")
    if named or len(parts) != 4 or len(parts[2]) < _SHORTEST_CODE:
        return False
    code = re.escape(parts[2].encode())
    return re.search(rb"(?<![0-9A-Za-z])" + code + rb"(?![0-9A-Za-z])", _names_of(certificate)) is not None


def _names_of(certificate: x509.Certificate) -> bytes:
    """The subject and the extensions that are not of RFC 5280's own, as bytes."""
    values = [certificate.subject.public_bytes()]
    values += [
        each.value.value for each in certificate.extensions if isinstance(each.value, x509.UnrecognizedExtension)
    ]
    return b" ".join(values)


def names(certificate: x509.Certificate, identifier: str) -> bool:
    """Whether the certificate is that of a member or subsystem, or of the member that a subsystem belongs to."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError, *UNREADABLE):
        return False
    ours = [unquote(uri[len(_URI_SCHEME) :]) for uri in uris if uri.startswith(_URI_SCHEME)]
    if len(ours) != 1 or not identifier:
        return False
    return identifier == ours[0] or (ours[0].count("/") == 2 and identifier.startswith(ours[0] + "/"))
