"""Which certificates a CRL is about (RFC 5280 sections 4.2.1.13, 5.2.5 and 6.3.3 (b) and (d)). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from ca_auth.validation.crl import RevocationList
from ca_auth.validation.distinguished_names import CanonicalName, canonical_name, canonical_rdn
from ca_auth.validation.path_certificate import PathCertificate

ALL_REASONS: Final = frozenset(x509.ReasonFlags) - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}


@dataclass(frozen=True, slots=True)
class Point:
    """A place where a CA publishes lists about a certificate (section 4.2.1.13)."""

    names: frozenset[tuple[str, object]]
    issuers: tuple[CanonicalName, ...]
    is_indirect: bool
    reasons: frozenset[x509.ReasonFlags]


def distribution_points(certificate: PathCertificate) -> list[Point]:
    """The points a certificate names, and last the one every certificate has: its issuer."""
    points = []
    found = certificate.get(x509.CRLDistributionPoints)
    for each in found if found is not None else ():
        others = tuple(
            canonical_name(name.value) for name in each.crl_issuer or () if isinstance(name, x509.DirectoryName)
        )
        issuers = others or (certificate.issuer,)
        names = _names(each.full_name, each.relative_name, issuers[0])
        if not names and each.crl_issuer:
            names = _names(each.crl_issuer, None, issuers[0])
        if each.crl_issuer and not others:
            continue  # the issuer of the lists is named in a way that cannot be compared
        points.append(Point(names, issuers, bool(each.crl_issuer), (each.reasons or ALL_REASONS) & ALL_REASONS))
    points.append(Point(frozenset({("directory", certificate.issuer)}), (certificate.issuer,), False, ALL_REASONS))
    return points


def _names(
    full: Sequence[x509.GeneralName] | None, relative: x509.RelativeDistinguishedName | None, base: CanonicalName
) -> frozenset[tuple[str, object]]:
    if relative is not None:
        return frozenset({("directory", (*base, canonical_rdn(relative)))})
    return frozenset(
        ("directory", canonical_name(name.value))
        if isinstance(name, x509.DirectoryName)
        else (type(name).__name__, name.value)
        for name in full or ()
    )


def covered_reasons(each: RevocationList, point: Point, certificate: PathCertificate) -> frozenset[x509.ReasonFlags]:
    """For which reasons a list covers a certificate by way of a distribution point (section 6.3.3 (b), (d))."""
    scope = each.distribution
    if each.issuer not in point.issuers or (point.is_indirect and not (scope is not None and scope.indirect_crl)):
        return frozenset()
    if scope is None:
        return point.reasons
    names = _names(scope.full_name, scope.relative_name, each.issuer)
    if (
        (names and names.isdisjoint(point.names))
        or (scope.only_contains_user_certs and certificate.is_ca)
        or (scope.only_contains_ca_certs and not certificate.is_ca)
        or scope.only_contains_attribute_certs
    ):
        return frozenset()
    return point.reasons & (scope.only_some_reasons or ALL_REASONS)
