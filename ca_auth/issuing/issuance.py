"""What our CAs put into certificates: the profile of the mesh (`ca_auth.profiles.profile`), seen from the issuer. Pure.

CA keys on P-256 (SHA-256) or a larger curve (SHA-384); the identity as a URI in the subject alternative name;
organizationIdentifier `NTRCN-<code>` (ETSI EN 319 412-1) in the subject, for people who read it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca_auth.profiles.profile import identity_uri
from exchange import MemberId, SubsystemId

LeafKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
"""Kinds of public keys that a certificate of the mesh may carry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """What a certificate is to say. Made by `for_subsystem`, `for_member`, `for_person` or `for_server`."""

    common_name: str
    identity: MemberId | SubsystemId | None = None
    organization: str | None = None
    server_names: tuple[str, ...] = ()
    """DNS names and IP addresses; with any, the certificate may serve TLS."""
    person_number: str | None = None
    """A natural person's number, `<scheme><country>-<number>` (ETSI EN 319 412-1 5.1.3), as the subject's serialNumber."""
    self_renewing: bool = False
    """Whether a certificate without identity may call as a client all the same: a server that asks its CA for the next."""
    use: Literal["", "adapter"] = ""
    """What the registry is told when a certificate was enrolled for; nothing of it stands in the certificate."""

    @classmethod
    def for_subsystem(cls, subsystem: SubsystemId, organization: str | None = None) -> Self:
        """A client certificate that speaks for one subsystem (also a gateway's identity)."""
        return cls(common_name=subsystem.rpartition("/")[2], identity=subsystem, organization=organization)

    @classmethod
    def for_member(cls, member: MemberId, organization: str | None = None) -> Self:
        """A client certificate that speaks for every subsystem of a member."""
        return cls(common_name=member.rpartition("/")[2], identity=member, organization=organization)

    @classmethod
    def for_person(cls, name: str, number: str, member: MemberId | SubsystemId | None = None) -> Self:
        """A client certificate of a natural person, of a member's staff if one is given.

        It holds no URI of the mesh, which would make the person the member itself to whoever reads that alone.
        """
        return cls(common_name=name, identity=member, person_number=number)

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
    key: LeafKey,
    begin: datetime,
    end: datetime,
    *,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    serial_number: int | None = None,
    crl_urls: Sequence[str] = (),
) -> x509.Certificate:
    """A certificate for `key` that says what the request says.

    Args:
        serial_number: Default: random.
        crl_urls: Where the issuer's CRL can be fetched (RFC 5280 section 4.2.1.13), all the same one.
    """
    builder = (
        _builder(_subject(request), issuer.subject, key, begin, end, serial_number)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_purposes(request)), critical=False)
        .add_extension(authority_key_identifier(issuer), critical=False)
    )
    if names := _alternative_names(request):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if crl_urls:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(url) for url in crl_urls], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    return builder.sign(issuer_key, signature_hash(issuer_key))


def authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """What certificates and CRLs of `issuer` point back with: its own key identifier, however it was made."""
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier(
            x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest, None, None
        )
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def signature_hash(key: ec.EllipticCurvePrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash that fits the strength of a CA's key (FIPS 186-5 section 6.1.1)."""
    return hashes.SHA256() if key.curve.key_size <= 256 else hashes.SHA384()


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
    if request.person_number is not None:
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, request.person_number))
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, request.common_name))
    return x509.Name(attributes)


def _alternative_names(request: CertificateRequest) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    if request.identity is not None and request.person_number is None:
        names.append(x509.UniformResourceIdentifier(identity_uri(request.identity)))
    for name in request.server_names:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            names.append(x509.DNSName(name))
    return names


def _purposes(request: CertificateRequest) -> list[x509.ObjectIdentifier]:
    purposes = []
    if request.identity is not None or request.person_number is not None or request.self_renewing:
        purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    if request.server_names:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    return purposes


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: LeafKey,
    begin: datetime,
    end: datetime,
    serial_number: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number() if serial_number is None else serial_number)
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
