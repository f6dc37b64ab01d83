"""What RFC 5280 section 4 says a certificate looks like, whatever its place in a path. Pure.

In two parts, since much of what a CA MUST do was not always done: PKITS, which tests section 6, accepts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from cryptography import x509

from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.rejection import ChainRefusedError, refusal

_NEVER_CRITICAL: Final[tuple[type[x509.ExtensionType], ...]] = (
    x509.AuthorityKeyIdentifier,
    x509.SubjectKeyIdentifier,
    x509.AuthorityInformationAccess,
    x509.SubjectInformationAccess,
    x509.FreshestCRL,
)
_ALWAYS_CRITICAL: Final[tuple[type[x509.ExtensionType], ...]] = (x509.PolicyConstraints, x509.InhibitAnyPolicy)
_YEAR_OF_GENERALIZED_TIME: Final = 2050
_MAX_SERIAL_OCTETS: Final = 20
_VERSION: Final = 3


def check_rules(certificate: PathCertificate, rules: Sequence[FormRule]) -> None:
    """Check a certificate against rules; raises ChainRefusedError (`certificate-form`) for the first it breaks."""
    for holds, english, chinese in rules:
        if not holds(certificate):
            raise misformed(certificate, english, chinese)


def misformed(certificate: PathCertificate, english: str, chinese: str) -> ChainRefusedError:
    """The refusal of a certificate for its form."""
    return refusal(
        "certificate-form",
        certificate.label,
        f"It breaks RFC 5280 section 4: {english}.",
        f"它不符合 RFC 5280 第 4 节：{chinese}。",
    )


def _is_critical_only_where_it_may(certificate: PathCertificate) -> bool:
    return not any(certificate.is_critical(kind) for kind in _NEVER_CRITICAL)


def _is_critical_where_it_must(certificate: PathCertificate) -> bool:
    return all(
        certificate.is_critical(kind) for kind in _ALWAYS_CRITICAL if kind.oid.dotted_string in certificate.extensions
    )


def _has_what_cas_have(certificate: PathCertificate) -> bool:
    if not certificate.is_ca:
        return True
    return (
        certificate.is_critical(x509.BasicConstraints)
        and certificate.key_identifier is not None
        and certificate.get(x509.KeyUsage) is not None
    )


def _has_only_what_it_may(certificate: PathCertificate) -> bool:
    if certificate.is_ca:
        return True
    usage = certificate.get(x509.KeyUsage)
    return (usage is None or not usage.key_cert_sign) and certificate.get(x509.NameConstraints) is None


def _is_named(certificate: PathCertificate) -> bool:
    if not certificate.issuer:
        return False
    if certificate.subject:
        return True
    return not certificate.is_ca and certificate.is_critical(x509.SubjectAlternativeName)


def _writes_times_rightly(certificate: PathCertificate) -> bool:
    moments = zip(certificate.generalized_times, (certificate.begin, certificate.end), strict=True)
    return all(generalized == (moment.year >= _YEAR_OF_GENERALIZED_TIME) for generalized, moment in moments)


FormRule: TypeAlias = tuple[Callable[[PathCertificate], bool], str, str]

RFC5280_FORM: Final[tuple[FormRule, ...]] = (
    (
        lambda each: each.serial_octets <= _MAX_SERIAL_OCTETS,
        "its serial number is longer than 20 octets",
        "序列号超过 20 个八位组",
    ),
    (
        _is_critical_only_where_it_may,
        "an extension is critical that must not be",
        "某扩展项不得标为关键",
    ),
    (
        _has_only_what_it_may,
        "it has a key usage or name constraints that are for CAs only",
        "含有仅限 CA 使用的密钥用法或名称约束",
    ),
    (
        _is_named,
        "its issuer is empty, or its subject is and no critical alternative name takes its place",
        "签发者为空，或主体为空且没有关键的主体备用名称",
    ),
)
"""What makes a certificate unclear to read, so that no validator should guess."""

CAREFUL_FORM: Final[tuple[FormRule, ...]] = (
    (lambda each: each.version == _VERSION, "it is not of version 3", "证书版本不是 3"),
    (_is_critical_where_it_must, "policy constraints are not critical", "策略约束未标为关键"),
    (
        _has_what_cas_have,
        "a CA must have critical basic constraints, a subject key identifier and a key usage",
        "CA 证书必须含关键的基本约束、主体密钥标识符和密钥用法",
    ),
    (
        _writes_times_rightly,
        "times before 2050 must be UTCTime, later ones GeneralizedTime",
        "2050 年之前须用 UTCTime，之后须用 GeneralizedTime",
    ),
)
"""What else a CA MUST do. Old and lenient CAs do not, and PKITS accepts their certificates."""
