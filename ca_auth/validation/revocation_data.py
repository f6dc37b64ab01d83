"""What is known of revocation (CRLs and OCSP answers as they were given), and how one asks about it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from cryptography import x509

from ca_auth.validation.crl import RevocationList, load_crls
from ca_auth.validation.distinguished_names import CanonicalName
from ca_auth.validation.key_policy import PathPolicy
from ca_auth.validation.ocsp import OcspAnswer, load_ocsp
from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.paths import Effort
from ca_auth.validation.rejection import ChainRefusedError, refusal
from ca_auth.validation.signatures import SignatureKind, SignatureKindError, is_signed_by

How: TypeAlias = Literal["crl", "ocsp", "unchecked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationData:
    """CRLs and OCSP answers, as they were given. Made by `of`, or from parts that were loaded before."""

    lists: tuple[RevocationList, ...] = ()
    answers: tuple[OcspAnswer, ...] = ()
    grace: timedelta = timedelta(0)
    """How long lists and answers work after their `nextUpdate`: zero, unless an operator decided otherwise."""
    _by_issuer: dict[CanonicalName, list[RevocationList]] = field(init=False, repr=False, compare=False)
    _signatures: dict[tuple[RevocationList, bytes], bool] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        by_issuer: dict[CanonicalName, list[RevocationList]] = {}
        for each in sorted(self.lists, key=lambda each: (each.number, each.this_update), reverse=True):
            by_issuer.setdefault(each.issuer, []).append(each)
        object.__setattr__(self, "_by_issuer", by_issuer)

    @classmethod
    def of(
        cls,
        crls: Iterable[bytes] = (),
        ocsp: Iterable[bytes] = (),
        *,
        grace: timedelta = timedelta(0),
        nonce: bytes | None = None,
    ) -> RevocationData:
        """Take files apart.

        Args:
            crls: Each PEM or DER, with one CRL or several.
            ocsp: Each one answer, DER or base64.
            grace: See the field.
            nonce: What was sent in the question; then each answer must carry it.

        Raises:
            ValueError: One of them is neither.
        """
        lists = tuple(each for data in crls for each in load_crls(data))
        return cls(lists=lists, answers=tuple(load_ocsp(data, nonce=nonce) for data in ocsp), grace=grace)

    def lists_of(self, issuer: CanonicalName) -> Sequence[RevocationList]:
        """The lists of an issuer, the newest first."""
        return self._by_issuer.get(issuer, ())

    def is_signed(self, revocation_list: RevocationList, signer: PathCertificate, effort: Effort) -> bool:
        """Whether a certificate's key signed a list. Remembered, since lists are large and certificates many."""
        key = effort.key_of(signer)
        crl = revocation_list.crl
        known = (revocation_list, signer.key_info)
        if known not in self._signatures or signer.inherits_parameters:
            effort.count_signature(signer)
            try:
                good = (
                    key is not None
                    and crl is not None
                    and is_signed_by(key, SignatureKind.of(crl), crl.signature, crl.tbs_certlist_bytes)
                )
            except SignatureKindError:
                good = False
            if not good:
                return False  # not remembered: a caller can send any number of certificates that did not sign it
            self._signatures[known] = True
        return True


@dataclass(frozen=True, slots=True)
class Status:
    """That a certificate is not revoked, as far as was asked."""

    how: How
    until: datetime | None
    """Until when that holds, the grace period not counted unless it is used; None for `unchecked`."""
    in_grace: bool = False


FindPath: TypeAlias = Callable[[PathCertificate, Sequence[PathCertificate] | None, PathCertificate], object]
"""Make sure that a CRL's signer has a good path: the signer, which CAs may stand between (None: any), the anchor.
Raises ChainRefusedError."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What the checks of one validation share."""

    data: RevocationData
    policy: PathPolicy
    at: datetime
    pool: Sequence[PathCertificate]
    """Every certificate at hand, in which signers of lists and answers are looked for."""
    effort: Effort
    find_path: FindPath


def missing(certificate: PathCertificate, *, by_ocsp: bool) -> ChainRefusedError:
    """The refusal for want of a list or an answer."""
    if by_ocsp:
        return refusal(
            "ocsp-missing",
            certificate.label,
            "There is no OCSP answer about the certificate.",
            "没有关于该证书的 OCSP 应答。",
        )
    return refusal(
        "crl-missing",
        certificate.label,
        "There is no CRL of the CA that issued the certificate.",
        "没有该证书签发 CA 的 CRL。",
    )


def revoked(certificate: PathCertificate, reason: x509.ReasonFlags, source: str, source_zh: str) -> ChainRefusedError:
    """The refusal of a revoked certificate; where that is known from, English and Chinese."""
    return refusal(
        "certificate-revoked",
        certificate.label,
        f"It is revoked ({reason.value}), {source}.",
        f"证书已被吊销（{reason.value}），依据：{source_zh}。",
    )


def shown_moment(moment: datetime) -> str:
    """A moment as it is told, UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
