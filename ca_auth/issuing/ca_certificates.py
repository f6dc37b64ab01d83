"""What a CA says about itself and about others: root and issuing certificates, and CRLs (RFC 5280). Pure.

The root may have issuing CAs below it, those may have none (path length 1 and 0). CA keys are on P-256 or P-384: Ed25519 is
left to leaves, since too much software refuses it in a CA.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ca_auth.issuing.issuance import authority_key_identifier, signature_hash

BACKDATED: Final = timedelta(minutes=5)
"""How far validity reaches back: the clocks of those who check differ a little."""

Reason = Literal[
    "unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation", "privilegeWithdrawn"
]
"""Why a certificate was revoked, for good (RFC 5280 section 5.3.1). There is no certificateHold: it invites second thoughts."""
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedEntry:
    """One line of a CRL."""

    serial_number: int
    at: datetime
    reason: Reason


def distinguished_name(common_name: str, organization: str = "") -> x509.Name:
    """The subject of a CA; raises ValueError if a text is empty or longer than X.509 has room for."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def root_ca(subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: float) -> x509.Certificate:
    """A self-signed root for `days`, which may have one level of issuing CAs below it."""
    return (
        _ca(subject, subject, key.public_key(), now, now + timedelta(days=days), path_length=1)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, signature_hash(key))
    )


def ca_request(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    """What an issuing CA sends to the root above it."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, signature_hash(key))
    )


def issuing_ca(
    request: x509.CertificateSigningRequest,
    now: datetime,
    days: float,
    *,
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    permit_dns: Sequence[str] = (),
    crl_url: str = "",
) -> x509.Certificate:
    """The certificate of an issuing CA under `root`, no longer valid than the root itself.

    Subject and key are those of the request: the caller has looked at them. Its extensions are not.

    Args:
        permit_dns: Server names the CA is limited to, with everything below them; none: no limit.
        crl_url: Where the root's CRL can be fetched.

    Raises:
        ValueError: The request's key is not on P-256 or P-384, or its signature does not verify.
    """
    key = request.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        raise ValueError("the key of an issuing CA is on P-256 or P-384")
    if not request.is_signature_valid:
        raise ValueError("the request was not signed with its own key")
    end = min(now + timedelta(days=days), root.not_valid_after_utc)
    builder = (
        _ca(request.subject, root.subject, key, now, end, path_length=0)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(authority_key_identifier(root), critical=False)
    )
    if permit_dns:
        limits = x509.NameConstraints([x509.DNSName(name) for name in permit_dns], None)
        builder = builder.add_extension(limits, critical=True)
    if crl_url:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    return builder.sign(root_key, signature_hash(root_key))


def crl(
    entries: Iterable[RevokedEntry],
    *,
    number: int,
    now: datetime,
    next_update: datetime,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateRevocationList:
    """A full CRL of `issuer`: no delta, no distribution point, one issuer, so that the simplest reader understands it."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - BACKDATED)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(authority_key_identifier(issuer), critical=False)
    )
    for entry in entries:
        revoked = x509.RevokedCertificateBuilder().serial_number(entry.serial_number).revocation_date(entry.at)
        if entry.reason != "unspecified":  # which is said by saying nothing
            revoked = revoked.add_extension(x509.CRLReason(x509.ReasonFlags[_FLAGS[entry.reason]]), critical=False)
        builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(issuer_key, signature_hash(issuer_key))


def next_crl_number(last: int | None, now: datetime) -> int:
    """A CRL number above `last` and above all that a CA restored from an old copy has forgotten: milliseconds since 1970.

    That holds while the clock is right and fewer than a thousand CRLs are made a second.
    """
    return max((last or 0) + 1, int(now.timestamp() * 1000))


def number_of(revoked: x509.CertificateRevocationList) -> int:
    """The CRL's number; raises ValueError if it has none."""
    try:
        return revoked.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound as error:
        raise ValueError("the CRL has no number") from error


def entries_of(revoked: x509.CertificateRevocationList) -> list[RevokedEntry]:
    """The lines of a CRL; a reason that is not ours becomes `unspecified`."""
    names = {flag: reason for reason, flag in _FLAGS.items()}
    entries = []
    for each in revoked:
        try:
            reason = names.get(each.extensions.get_extension_for_class(x509.CRLReason).value.reason.name, "unspecified")
        except x509.ExtensionNotFound:
            reason = "unspecified"
        entries.append(RevokedEntry(serial_number=each.serial_number, at=each.revocation_date_utc, reason=reason))
    return entries


def load_crls(bundle: bytes) -> list[x509.CertificateRevocationList]:
    """The CRLs in a PEM bundle or a DER file; raises ValueError if what is there is none."""
    if bundle and b"-----BEGIN" not in bundle:
        return [x509.load_der_x509_crl(bundle)]
    end = b"-----END X509 CRL-----"
    return [x509.load_pem_x509_crl(part + end) for part in bundle.split(end) if b"-----BEGIN X509 CRL-----" in part]


def whole_seconds(unix: float) -> datetime:
    """An instant as certificates can say it."""
    return datetime.fromtimestamp(int(unix), UTC)


_FLAGS: Final[dict[Reason, str]] = {
    "keyCompromise": "key_compromise",
    "affiliationChanged": "affiliation_changed",
    "superseded": "superseded",
    "cessationOfOperation": "cessation_of_operation",
    "privilegeWithdrawn": "privilege_withdrawn",
}


def _ca(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    end: datetime,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=False,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
    )
