"""What one certificate must be, besides its place in a path. Pure.

`check_rfc5280` holds for every certificate that is used. `check_form` and `check_leaf` are the policy of the mesh, which
is stricter than RFC 5280 section 6 and takes section 4 at its word:

1. Keys are RSA of 2048 to 8192 bits (whole octets), P-256, P-384, P-521 or Ed25519.
2. Signatures are made with SHA-256, SHA-384 or SHA-512. An anchor's own signature does not count: it is trusted as it is.
3. What RFC 5280 section 4 says a CA MUST do, it has done. A CA that is careless there is not one to rely on, and other
   validators refuse the certificate anyway.
4. The leaf is no CA certificate and names clientAuth in its extended key usage; anyExtendedKeyUsage does not stand for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from ca_auth.validation.certificate_form import CAREFUL_FORM, RFC5280_FORM, check_rules, misformed
from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.policy_tree import PolicyInputs
from ca_auth.validation.rejection import ChainRefusedError, refusal
from ca_auth.validation.signatures import SignatureKind, SignatureKindError, is_signed_by

PROCESSED: Final = frozenset(
    oid.dotted_string
    for oid in (
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.INHIBIT_ANY_POLICY,
    )
)
"""Extensions that are acted on, so that they may be critical."""

_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_RSA_BITS: Final = (2048, 8192)
_DNS_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_VERSION: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPolicy:
    """What is asked of a chain. The defaults are the policy of the mesh; see also `rfc5280`."""

    key_rules: bool = True
    """Whether certificates must meet the rules of this module, beyond RFC 5280 section 6. With them, OCSP answers must
    cover CA certificates, too (or CRLs must), and a responder's certificate must be exempt from checking or checked."""
    client_auth: bool = True
    """Whether the leaf must be one for a TLS client; only with `key_rules`."""
    max_depth: int = 8
    """Intermediate CA certificates in a path, those not counted that a CA issued to itself."""
    certificate_policies: PolicyInputs = field(default_factory=PolicyInputs)
    ocsp_max_age: timedelta = timedelta(days=1)
    """How long an OCSP answer holds that does not say itself."""
    clock_skew: timedelta = timedelta(minutes=1)
    """How far in the future a CRL or OCSP answer may begin: it may have been made a moment ago by a faster clock."""

    @classmethod
    def rfc5280(cls, *, max_depth: int = 8) -> PathPolicy:
        """RFC 5280 and revocation alone."""
        return cls(key_rules=False, client_auth=False, max_depth=max_depth)


def check_rfc5280(certificate: PathCertificate) -> None:
    """Check that a certificate can be used at all, for any policy.

    Raises:
        ChainRefusedError: `certificate-malformed`, `certificate-key`, `certificate-critical-extension` or
            `certificate-form`.
    """
    if certificate.defect:
        raise refusal(
            "certificate-malformed",
            certificate.label,
            f"It cannot be read: {certificate.defect}.",
            f"证书无法解析：{certificate.defect}。",
        )
    if certificate.key is None and not certificate.inherits_parameters:
        raise refusal(
            "certificate-key",
            certificate.label,
            "Its key is of a kind that is not supported.",
            "其密钥类型不受支持。",
        )
    for oid, (critical, _) in certificate.extensions.items():
        if critical and oid not in PROCESSED:
            raise refusal(
                "certificate-critical-extension",
                certificate.label,
                f"It has a critical extension that is not known here: {oid}.",
                f"它含有无法识别的关键扩展项：{oid}。",
            )
    check_rules(certificate, RFC5280_FORM)


def check_ca(certificate: PathCertificate) -> None:
    """Check that a certificate may issue others (RFC 5280 section 6.1.4 (k) and (n)).

    Raises:
        ChainRefusedError: `certificate-issuer-not-ca`.
    """
    if certificate.version != _VERSION:
        raise _not_ca(certificate, f"it is of version {certificate.version}", f"证书版本为 {certificate.version}")
    if not certificate.is_ca:
        raise _not_ca(certificate, "its basic constraints do not make it a CA", "基本约束未标明为 CA")
    usage = certificate.get(x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise _not_ca(certificate, "its key usage lacks keyCertSign", "密钥用法缺少 keyCertSign")


def _not_ca(certificate: PathCertificate, english: str, chinese: str) -> ChainRefusedError:
    return refusal(
        "certificate-issuer-not-ca",
        certificate.label,
        f"It may not issue certificates: {english}.",
        f"它不得签发证书：{chinese}。",
    )


def check_key(certificate: PathCertificate) -> None:
    """Check the kind and size of a certificate's key against the policy of the mesh.

    Raises:
        ChainRefusedError: `certificate-key`.
    """
    key = certificate.key
    if isinstance(key, rsa.RSAPublicKey):
        good = _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1] and key.key_size % 8 == 0
        kind = f"RSA {key.key_size}"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        good, kind = isinstance(key.curve, _CURVES), key.curve.name
    else:
        good, kind = isinstance(key, ed25519.Ed25519PublicKey), type(key).__name__.replace("PublicKey", "")
    if not good:
        raise refusal(
            "certificate-key",
            certificate.label,
            f"Its key is not accepted: {kind}.",
            f"其密钥不被接受：{kind}。",
        )


def check_form(certificate: PathCertificate, *, anchor: bool) -> None:
    """Check what a certificate of a careful CA looks like, whatever its place in the path.

    Raises:
        ChainRefusedError: `certificate-key`, `certificate-algorithm` or `certificate-form`.
    """
    check_key(certificate)
    if not anchor:
        _check_algorithm(certificate)
        if certificate.serial_number <= 0:
            raise misformed(certificate, "its serial number is not positive", "序列号不是正数")
    check_rules(certificate, CAREFUL_FORM)
    if not _authority_is_named(certificate, anchor=anchor):
        raise misformed(
            certificate,
            "its authority key identifier is missing or does not fit",
            "颁发机构密钥标识符缺失或不符",
        )


def check_leaf(certificate: PathCertificate) -> None:
    """Check that a certificate is one for a TLS client.

    Raises:
        ChainRefusedError: `certificate-purpose` or `certificate-form`.
    """
    if certificate.is_ca:
        raise _no_purpose(certificate, "it is a CA certificate", "它是 CA 证书")
    usage = certificate.get(x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise _no_purpose(certificate, "its key usage lacks digitalSignature", "密钥用法缺少 digitalSignature")
    purposes = certificate.get(x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise _no_purpose(certificate, "its extended key usage lacks clientAuth", "扩展密钥用法缺少 clientAuth")
    names = certificate.get(x509.SubjectAlternativeName)
    for name in names.get_values_for_type(x509.DNSName) if names is not None else ():
        if not _is_preferred_syntax(name):
            raise misformed(certificate, "a DNS name in it is not one", "其 DNS 名称不合规范")


def check_sub_ca_purposes(certificate: PathCertificate) -> None:
    """Check that an intermediate CA whose extended key usages are limited may issue for TLS clients.

    Raises:
        ChainRefusedError: `certificate-purpose`.
    """
    purposes = certificate.get(x509.ExtendedKeyUsage)
    enough = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if purposes is not None and enough.isdisjoint(purposes):
        raise _no_purpose(
            certificate, "the CA is limited to purposes other than clientAuth", "该 CA 被限定的用途不含 clientAuth"
        )


def _check_algorithm(certificate: PathCertificate) -> None:
    try:
        strong = SignatureKind.of(certificate.certificate).is_strong
    except SignatureKindError:
        strong = False
    if not strong:
        raise refusal(
            "certificate-algorithm",
            certificate.label,
            "It is signed with an algorithm that is not accepted (SHA-1, MD5, DSA or an unknown one).",
            "其签名算法不被接受（SHA-1、MD5、DSA 或未知算法）。",
        )


def _no_purpose(certificate: PathCertificate, english: str, chinese: str) -> ChainRefusedError:
    return refusal(
        "certificate-purpose",
        certificate.label,
        f"It is not for a TLS client: {english}.",
        f"它不能用于 TLS 客户端：{chinese}。",
    )


def _authority_is_named(certificate: PathCertificate, *, anchor: bool) -> bool:
    authority = certificate.get(x509.AuthorityKeyIdentifier)
    if not anchor:
        return certificate.authority_key_identifier is not None
    if authority is None:
        # Only a certificate that its own key signed may do without; an anchor may have been issued by another CA.
        return certificate.is_self_issued or _is_self_signed(certificate)
    if not certificate.is_self_issued:
        return authority.key_identifier is not None
    # For roots the CA/Browser Forum says what RFC 5280 leaves open: the key identifier alone, and it is the root's own.
    alone = authority.authority_cert_issuer is None and authority.authority_cert_serial_number is None
    return alone and authority.key_identifier is not None and authority.key_identifier == certificate.key_identifier


def _is_self_signed(certificate: PathCertificate) -> bool:
    parsed = certificate.certificate
    try:
        kind = SignatureKind.of(parsed)
        return certificate.key is not None and is_signed_by(certificate.key, kind, parsed.signature, certificate.signed)
    except SignatureKindError:
        return False


def _is_preferred_syntax(name: str) -> bool:
    labels = name.removeprefix("*.").split(".")
    return len(name) <= 253 and all(map(_DNS_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
