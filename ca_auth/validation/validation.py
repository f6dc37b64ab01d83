"""From a certificate to a trust anchor: RFC 5280 section 6 with revocation, and the policy of the mesh. Pure.

Why not the verifier of `cryptography`: it knows no revocation, refuses Ed25519 CAs and self-issued rollover certificates,
compares names byte by byte, and passes over non-critical name constraints that it does not evaluate. What is taken from
it is what must not be written twice: parsing and signatures. The rules stand in modules of their own:

- `paths` finds paths and checks each step; `name_constraints` what a CA may issue for
- `key_policy` what each certificate must be; `policy_tree` certificate policies
- `revocation`, with `crl` and `ocsp`, whether one is revoked

Trust anchors are judged like other CA certificates (validity, constraints, form), except for who signed them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from cryptography import x509

from ca_auth.validation.key_policy import (
    PathPolicy,
    check_ca,
    check_form,
    check_leaf,
    check_rfc5280,
    check_sub_ca_purposes,
)
from ca_auth.validation.path_certificate import CertificateSource, PathCertificate, without_copies
from ca_auth.validation.paths import Effort, Path, PathSearch, pool_of
from ca_auth.validation.policy_tree import check_policies
from ca_auth.validation.rejection import ChainRefusedError, OutOfEffort, Rejection, refusal
from ca_auth.validation.revocation import Inquiry, RevocationCheck, RevocationData, Status

__all__ = ["ChainRefusedError", "PathPolicy", "PathValidator", "Rejection", "RevocationData", "ValidatedPath"]

MAX_UNTRUSTED: Final = 200
"""Certificates that come with a leaf; more are refused unseen."""
_MAX_SIGNERS: Final = 3
"""How far signers of CRLs may rest on CRLs that other signers signed."""
_AFTER_THE_PATH: Final = 1000
"""A refusal of a complete path says more than one on the way."""

RevocationOutcome: TypeAlias = Literal["crl", "ocsp", "grace", "unchecked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatedPath:
    """A path that holds. Made by `PathValidator.validate` only."""

    certificates: tuple[x509.Certificate, ...]
    """Leaf first, trust anchor last. A DSA key that has its parameters from its issuer's (never with the policy of the
    mesh) is not to be taken from here."""
    labels: tuple[str, ...]
    """Subject and serial number of each, for people."""
    until: float
    """Until when the verdict may be relied on (Unix seconds): the first `notAfter`, the earliest `nextUpdate`."""
    revocation: RevocationOutcome
    """How it was checked that the leaf is not revoked. `grace`: some list or answer of the path is past its
    `nextUpdate` and works because an operator said so. `unchecked`: no revocation data were given."""
    unchecked: tuple[str, ...] = ()
    """CA certificates nobody was asked about although the leaf was checked; only without the policy of the mesh."""


class PathValidator:
    """Decides whether certificates lead to its trust anchors. It does no I/O and keeps nothing of those it judges.

    Args:
        anchors: Accepted CAs. One that cannot be read or used is not an error: no path ends there.
        intermediates: CA certificates that callers need not send.
        revocation: None: revocation is not checked, and the result says so.
        policy: The rules beyond RFC 5280.
    """

    def __init__(
        self,
        anchors: Sequence[CertificateSource],
        *,
        intermediates: Sequence[CertificateSource] = (),
        revocation: RevocationData | None = None,
        policy: PathPolicy | None = None,
    ) -> None:
        self._anchors = without_copies(anchors)
        self._intermediates = without_copies(intermediates)
        self._revocation = revocation
        self._policy = policy if policy is not None else PathPolicy()

    def validate(self, leaf: CertificateSource, untrusted: Sequence[CertificateSource], at: datetime) -> ValidatedPath:
        """Return the first path that holds.

        Args:
            leaf: The certificate in question.
            untrusted: What came with it, in any order.
            at: When it is to be valid, aware.

        Raises:
            ChainRefusedError: No path holds; of the reasons, the one that came furthest.
        """
        leaf_certificate = PathCertificate.of(leaf)
        if len(untrusted) > MAX_UNTRUSTED:
            raise refusal(
                "certificate-chain-effort",
                leaf_certificate.label,
                f"More than {MAX_UNTRUSTED} certificates were sent along.",
                f"随附的证书超过 {MAX_UNTRUSTED} 个。",
            )
        pool = pool_of(self._anchors, self._intermediates, without_copies(untrusted))
        validation = _Validation(self._anchors, pool, self._revocation, self._policy, at)
        try:
            path, statuses = validation.of_leaf(leaf_certificate)
        except OutOfEffort as error:
            raise error.refused from error
        return _validated(path, statuses)


class _Validation:
    """One question to a validator, with what is remembered while it is answered."""

    def __init__(
        self,
        anchors: Sequence[PathCertificate],
        pool: Sequence[PathCertificate],
        revocation: RevocationData | None,
        policy: PathPolicy,
        at: datetime,
    ) -> None:
        self._anchors = anchors
        self._pool = pool
        self._policy = policy
        self._at = at
        self._effort = Effort()
        self._signers: list[PathCertificate] = []
        self._revocation = (
            RevocationCheck(Inquiry(revocation, policy, at, pool, self._effort, self._check_list_signer))
            if revocation is not None
            else None
        )

    def of_leaf(self, leaf: PathCertificate) -> tuple[Path, list[Status]]:
        self._check_any(leaf, anchor=False)
        if self._policy.key_rules and self._policy.client_auth:
            check_leaf(leaf)
        return self._first_good(leaf, self._anchors, self._pool)

    def _check_list_signer(
        self, signer: PathCertificate, between: Sequence[PathCertificate] | None, anchor: PathCertificate
    ) -> None:
        """See `FindPath`. A signer may not, by way of other lists, vouch for itself."""
        if signer in self._signers or len(self._signers) >= _MAX_SIGNERS:
            raise refusal(
                "crl-signature",
                signer.label,
                "That it is not revoked rests on a list it signed itself.",
                "其未被吊销的依据是它自己签发的 CRL。",
            )
        self._check_any(signer, anchor=False)
        working_keys = dict(self._effort.working_keys)
        self._signers.append(signer)
        try:
            self._first_good(signer, (anchor,), self._pool if between is None else between)
        finally:
            self._signers.pop()
            self._effort.working_keys.update(working_keys)

    def _first_good(
        self,
        leaf: PathCertificate,
        anchors: Sequence[PathCertificate],
        others: Sequence[PathCertificate],
    ) -> tuple[Path, list[Status]]:
        search = PathSearch(
            anchors,
            others,
            check_issuer=self._check_issuer,
            max_depth=self._policy.max_depth,
            at=self._at,
            effort=self._effort,
        )
        for path in search.paths(leaf):
            try:
                check_policies(path, self._policy.certificate_policies)
                return path, self._revocation.check(path) if self._revocation is not None else []
            except ChainRefusedError as error:
                search.note((_AFTER_THE_PATH, len(path)), error)
        refused = search.furthest
        assert refused is not None  # a search that finds nothing notes why
        raise refused

    def _check_any(self, certificate: PathCertificate, *, anchor: bool) -> None:
        check_rfc5280(certificate)
        self._check_time(certificate)
        if self._policy.key_rules:
            check_form(certificate, anchor=anchor)

    def _check_issuer(self, certificate: PathCertificate, anchor: bool) -> None:
        self._check_any(certificate, anchor=anchor)
        check_ca(certificate)
        if self._policy.key_rules and self._policy.client_auth and not anchor:
            check_sub_ca_purposes(certificate)

    def _check_time(self, certificate: PathCertificate) -> None:
        if self._at > certificate.end:
            moment = certificate.end.strftime("%Y-%m-%dT%H:%M:%SZ")
            raise refusal(
                "certificate-expired", certificate.label, f"It expired at {moment}.", f"证书已于 {moment} 过期。"
            )
        if self._at < certificate.begin:
            moment = certificate.begin.strftime("%Y-%m-%dT%H:%M:%SZ")
            raise refusal(
                "certificate-not-yet-valid",
                certificate.label,
                f"It is valid from {moment} on.",
                f"证书自 {moment} 起有效。",
            )


def _validated(path: Path, statuses: Sequence[Status]) -> ValidatedPath:
    ends = [certificate.end for certificate in path] + [each.until for each in statuses if each.until is not None]
    outcome: RevocationOutcome = "unchecked"
    if statuses:
        outcome = "grace" if any(each.in_grace for each in statuses) else statuses[0].how
    return ValidatedPath(
        certificates=tuple(certificate.certificate for certificate in path),
        labels=tuple(certificate.label for certificate in path),
        until=min(ends).timestamp(),
        revocation=outcome,
        unchecked=tuple(
            certificate.label
            for certificate, status in zip(path, statuses, strict=False)  # the anchor has no status
            if status.how == "unchecked"
        ),
    )
