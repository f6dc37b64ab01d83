"""What the demo CA puts into certificates: the profile of the mesh (`ca_auth.profile`), seen from the issuer. Pure.

P-256 and SHA-256; the identity as a URI in the subject alternative name; organizationIdentifier `NTRCN-<code>`
(ETSI EN 319 412-1) in the subject, for people who read it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca_auth.profile import identity_uri
from exchange import MemberId, SubsystemId


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """What a certificate is to say. Made by `for_subsystem`, `for_member` or `for_server`."""

    common_name: str
    identity: MemberId | SubsystemId | None = None
    organization: str | None = None
    server_names: tuple[str, ...] = ()
    """DNS names and IP addresses; with any, the certificate may serve TLS."""

    @classmethod
    def for_subsystem(cls, subsystem: SubsystemId, organization: str | None = None) -> Self:
        """A client certificate that speaks for one subsystem (also a gateway's identity)."""
        return cls(common_name=subsystem.rpartition("/")[2], identity=subsystem, organization=organization)

    @classmethod
    def for_member(cls, member: MemberId, organization: str | None = None) -> Self:
        """A client certificate that speaks for every subsystem of a member."""
        return cls(common_name=member.rpartition("/")[2], identity=member, organization=organization)

    @classmethod
    def for_server(cls, *names: str) -> Self:
        """A server certificate for this machine's loopback names and for `names` (DNS names or IP addresses)."""
        every = tuple(dict.fromkeys(("localhost", "127.0.0.1", "::1", *names)))
        return cls(common_name=names[0] if names else "localhost", server_names=every)


def root_certificate(name: str, key: ec.EllipticCurvePrivateKey, begin: datetime, end: datetime) -> x509.Certificate:
    """A self-signed root that may issue leaf certificates, and no further CAs."""
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Datong demo"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    return (
        _builder(subject, subject, key.public_key(), begin, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def leaf_certificate(
    request: CertificateRequest,
    key: ec.EllipticCurvePublicKey,
    begin: datetime,
    end: datetime,
    *,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    """A certificate for `key` that says what the request says."""
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        _builder(_subject(request), issuer.subject, key, begin, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_purposes(request)), critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(request)), critical=False)
        .add_extension(authority, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def says(certificate: x509.Certificate, request: CertificateRequest) -> bool:
    """Whether a certificate names exactly what the request names."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return certificate.subject == _subject(request) and list(names) == _alternative_names(request)


def _subject(request: CertificateRequest) -> x509.Name:
    attributes = []
    if request.organization is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, request.organization))
    if request.identity is not None:
        code = request.identity.split("/")[2]
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, f"NTRCN-{code}"))
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, request.common_name))
    return x509.Name(attributes)


def _alternative_names(request: CertificateRequest) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    if request.identity is not None:
        names.append(x509.UniformResourceIdentifier(identity_uri(request.identity)))
    for name in request.server_names:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            names.append(x509.DNSName(name))
    return names


def _purposes(request: CertificateRequest) -> list[x509.ObjectIdentifier]:
    purposes = []
    if request.identity is not None:
        purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    if request.server_names:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    return purposes


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
