"""Chains to order: CAs, leaves, CRLs and OCSP answers with real keys, right in everything but what a test changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca_auth import ChainRefusedError, PathPolicy, PathValidator, RevocationData, ValidatedPath
from ca_auth.validation import der

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
KEY_IDENTIFIERS = ("subjectKeyIdentifier", "authorityKeyIdentifier")


def name(common_name: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def usage(*bits: str) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{bit: bit in bits for bit in every.split()})


CA_USAGE = usage("key_cert_sign", "crl_sign")
LEAF_USAGE = usage("digital_signature")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be different in a certificate."""

    begin: datetime = NOW - 30 * DAY
    end: datetime = NOW + 300 * DAY
    key: Any = None
    """A private key; None: a new one on P-256."""
    public_key: Any = None
    """Another public key than that of `key`."""
    subject: x509.Name | None = None
    issuer_name: x509.Name | None = None
    """What stands in the certificate as the issuer, if not the issuer's name."""
    ca: bool = False
    path_length: int | None = None
    usage: x509.KeyUsage | None = None
    no_usage: bool = False
    purposes: Sequence[x509.ObjectIdentifier] | None = CLIENT
    names: Sequence[x509.GeneralName] = ()
    more: Sequence[tuple[x509.ExtensionType, bool]] = ()
    leave_out: Sequence[str] = ()
    """Of `KEY_IDENTIFIERS`."""
    serial_number: int | None = None
    digest: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)


@dataclass(frozen=True, slots=True)
class Holder:
    """A certificate and its key; with a CA's, more can be issued."""

    certificate: x509.Certificate
    key: Any

    @property
    def subject(self) -> x509.Name:
        return self.certificate.subject

    def sub_ca(self, common_name: str, **wishes: Any) -> Holder:
        return _issue(name(common_name), Wish(**{"ca": True, "purposes": None, **wishes}), self)

    def leaf(self, common_name: str = "leaf", **wishes: Any) -> Holder:
        return _issue(name(common_name), Wish(**wishes), self)

    def responder(self, common_name: str = "responder", *, no_check: bool = True, **wishes: Any) -> Holder:
        more = [(x509.OCSPNoCheck(), False)] if no_check else []
        return self.leaf(common_name, **{"purposes": (ExtendedKeyUsageOID.OCSP_SIGNING,), "more": more, **wishes})

    def crl(
        self,
        revoked: Iterable[Holder | x509.RevokedCertificate] = (),
        *,
        issuer: x509.Name | None = None,
        number: int | None = 1,
        begin: datetime = NOW - DAY,
        end: datetime = NOW + DAY,
        reason: x509.ReasonFlags = x509.ReasonFlags.key_compromise,
        more: Sequence[tuple[x509.ExtensionType, bool]] = (),
        digest: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        builder = x509.CertificateRevocationListBuilder().issuer_name(issuer or self.subject)
        builder = builder.last_update(begin).next_update(end)
        for each in revoked:
            builder = builder.add_revoked_certificate(
                each if isinstance(each, x509.RevokedCertificate) else entry(each, reason)
            )
        if number is not None:
            builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(authority, critical=False)
        for extension, critical in more:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, digest or _digest(self.key)).public_bytes(serialization.Encoding.DER)

    def ocsp(
        self,
        about: Holder,
        issuer: Holder,
        *,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        begin: datetime = NOW - timedelta(hours=1),
        end: datetime | None = NOW + DAY,
        by_name: bool = False,
        send: bool = True,
        nonce: bytes | None = None,
        digest: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        """An answer about a certificate, given by this holder."""
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        encoding = ocsp.OCSPResponderEncoding.NAME if by_name else ocsp.OCSPResponderEncoding.HASH
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                about.certificate,
                issuer.certificate,
                hashes.SHA256(),
                status,
                begin,
                end,
                begin if revoked else None,
                x509.ReasonFlags.key_compromise if revoked else None,
            )
            .responder_id(encoding, self.certificate)
        )
        if send and self.certificate != issuer.certificate:
            builder = builder.certificates([self.certificate])
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        return builder.sign(self.key, digest or _digest(self.key)).public_bytes(serialization.Encoding.DER)


def root(common_name: str = "root", **wishes: Any) -> Holder:
    return _issue(name(common_name), Wish(**{"ca": True, "purposes": None, **wishes}), None)


def entry(
    about: Holder | int, reason: x509.ReasonFlags | None = None, *more: tuple[x509.ExtensionType, bool]
) -> x509.RevokedCertificate:
    """A line of a CRL."""
    serial_number = about if isinstance(about, int) else about.certificate.serial_number
    builder = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(NOW - DAY)
    if reason is not None:
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    for extension, critical in more:
        builder = builder.add_extension(extension, critical)
    return builder.build()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _digest(key: Any) -> Any:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _issue(subject: x509.Name, wish: Wish, issuer: Holder | None) -> Holder:
    key = wish.key or new_key()
    signer = issuer.key if issuer is not None else key
    subject = wish.subject if wish.subject is not None else subject
    issuer_name = wish.issuer_name or (issuer.subject if issuer is not None else subject)
    public_key = wish.public_key or key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(public_key)
        .serial_number(wish.serial_number or x509.random_serial_number())
        .not_valid_before(wish.begin)
        .not_valid_after(wish.end)
        .add_extension(x509.BasicConstraints(ca=wish.ca, path_length=wish.path_length), critical=True)
    )
    if not wish.no_usage:
        builder = builder.add_extension(wish.usage or (CA_USAGE if wish.ca else LEAF_USAGE), critical=True)
    if "subjectKeyIdentifier" not in wish.leave_out:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    if issuer is not None and "authorityKeyIdentifier" not in wish.leave_out:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(authority, critical=False)
    if wish.purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(wish.purposes), critical=False)
    if wish.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(wish.names), critical=False)
    for extension, critical in wish.more:
        builder = builder.add_extension(extension, critical)
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else wish.digest
    return Holder(builder.sign(signer, digest), key)


def validate(
    anchors: Holder | Sequence[Holder],
    leaf: Holder,
    *between: Holder | bytes,
    crls: Sequence[bytes] = (),
    answers: Sequence[bytes] = (),
    data: RevocationData | None = None,
    policy: PathPolicy | None = None,
    at: datetime = NOW,
) -> ValidatedPath:
    """Validate a leaf with what comes along."""
    accepted = [anchors] if isinstance(anchors, Holder) else anchors
    if data is None and (crls or answers):
        data = RevocationData.of(crls, answers)
    validator = PathValidator([each.certificate for each in accepted], revocation=data, policy=policy)
    return validator.validate(
        leaf.certificate, [each if isinstance(each, bytes) else each.certificate for each in between], at
    )


def refused_by(*arguments: Any, **options: Any) -> str:
    """The rule that refuses; nothing if the chain is accepted. Arguments as for `validate`."""
    try:
        validate(*arguments, **options)
    except ChainRefusedError as error:
        return error.rule
    return ""


def signed_with_sha1(certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> x509.Certificate:
    """The same certificate, signed as no library signs any more."""

    def change(fields: list[bytes]) -> bytes:
        fields[2] = algorithm = bytes.fromhex("300d06092a864886f70d0101050500")
        return algorithm

    changed = _rebuilt(certificate, change, lambda signed: key.sign(signed, padding.PKCS1v15(), hashes.SHA1()))
    return x509.load_der_x509_certificate(changed)


def without_dsa_parameters(certificate: x509.Certificate, key: dsa.DSAPrivateKey) -> bytes:
    """The same certificate with nothing but y in its key, signed anew, DER."""

    def change(fields: list[bytes]) -> bytes:
        algorithm, bits = der.sequence(fields[6])
        only_the_name = der.encode(der.SEQUENCE, der.elements(algorithm.content)[0].whole)
        fields[6] = der.encode(der.SEQUENCE, only_the_name + bits.whole)
        return fields[2]

    return _rebuilt(certificate, change, lambda signed: key.sign(signed, hashes.SHA256()))


def _rebuilt(
    certificate: x509.Certificate, change: Callable[[list[bytes]], bytes], sign: Callable[[bytes], bytes]
) -> bytes:
    """A certificate with other fields; `change` alters them in place and returns the signature's algorithm."""
    fields = [field.whole for field in der.sequence(certificate.tbs_certificate_bytes)]
    algorithm = change(fields)
    signed = der.encode(der.SEQUENCE, b"".join(fields))
    return der.encode(der.SEQUENCE, signed + algorithm + der.encode(der.BIT_STRING, b"\x00" + sign(signed)))
