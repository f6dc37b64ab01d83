"""Whether a certificate is on a CRL that counts (RFC 5280 section 6.3.3). Pure; the rules are those of `revocation`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from ca_auth.validation.crl import RevocationList
from ca_auth.validation.crl_scope import ALL_REASONS, covered_reasons, distribution_points
from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.paths import Path
from ca_auth.validation.rejection import ChainRefusedError, refusal
from ca_auth.validation.revocation_data import Inquiry, Status, missing, revoked, shown_moment
from ca_auth.validation.signatures import SignatureKind, SignatureKindError

_MAX_OTHER_SIGNERS: Final = 10
"""A list may be large, and each attempt hashes all of it."""


class ListCheck:
    """Asks the CRLs at hand during one validation."""

    def __init__(self, inquiry: Inquiry) -> None:
        self._inquiry = inquiry

    def status(self, path: Path, index: int, problems: list[ChainRefusedError]) -> Status | None:
        """Return what the lists at hand say of a certificate, None if they do not cover it.

        Args:
            problems: Takes the reasons why lists could not be used.

        Raises:
            ChainRefusedError: It is revoked.
        """
        if not self._inquiry.data.lists:
            return None
        certificate = path[index]
        covered: frozenset[x509.ReasonFlags] = frozenset()
        ends: list[datetime] = []
        in_grace = False
        done = set()
        for each, reasons in self._lists_about(certificate, problems):
            if each.scope in done:
                continue
            try:
                signer = self._signer(each, path, index)
            except ChainRefusedError as error:
                problems.append(error)
                continue
            if self._begins_later(each):
                problems.append(_not_yet_valid(certificate, each))
                continue
            done.add(each.scope)  # older lists are not asked, even if this one has ended: numbers never go back
            if self._has_ended(each):
                problems.append(_stale(certificate, each))
                continue
            delta = self._delta(each, signer)
            reason = each.reason_for(certificate)
            if delta is not None and (newer := delta.reason_for(certificate)) is not None:
                reason = None if newer is x509.ReasonFlags.remove_from_crl else newer
            if reason is not None:
                raise revoked(certificate, reason, f"by {each.label}", each.label)
            covered |= reasons
            for used in (each, *([delta] if delta is not None else [])):
                late = self._inquiry.at > used.next_update
                ends.append(used.next_update + (self._inquiry.data.grace if late else timedelta(0)))
                in_grace = in_grace or late
        if covered != ALL_REASONS:
            if covered:
                problems.append(
                    _scope_problem(certificate, "the lists at hand do not cover all reasons", "现有 CRL 未覆盖全部原因")
                )
            elif not problems:
                problems.append(missing(certificate, by_ocsp=False))
            return None
        return Status("crl", min(ends), in_grace)

    def _lists_about(
        self, certificate: PathCertificate, problems: list[ChainRefusedError]
    ) -> list[tuple[RevocationList, frozenset[x509.ReasonFlags]]]:
        """The complete lists in whose scope a certificate is, the newest first, with the reasons they cover."""
        points = distribution_points(certificate)
        issuers = dict.fromkeys(issuer for point in points for issuer in point.issuers)
        found = []
        for each in (each for issuer in issuers for each in self._inquiry.data.lists_of(issuer)):
            if each.defect is not None:
                problems.append(_unusable(certificate, each))
            elif each.base_number is None:
                reasons = frozenset[x509.ReasonFlags]().union(
                    *(covered_reasons(each, point, certificate) for point in points)
                )
                if reasons:
                    found.append((each, reasons))
                else:
                    problems.append(
                        _scope_problem(
                            certificate, f"{each.label} is about other certificates", f"{each.label} 针对其他证书"
                        )
                    )
        problems += [
            _unusable(certificate, each) for each in self._inquiry.data.lists_of(()) if each.defect is not None
        ]
        return sorted(found, key=lambda pair: (pair[0].number, pair[0].this_update), reverse=True)

    def _begins_later(self, each: RevocationList) -> bool:
        return self._inquiry.at < each.this_update - self._inquiry.policy.clock_skew

    def _has_ended(self, each: RevocationList) -> bool:
        return self._inquiry.at > each.next_update + self._inquiry.data.grace

    def _delta(self, complete: RevocationList, signer: PathCertificate) -> RevocationList | None:
        """The newest delta list that may be combined with a complete one (section 5.2.4), or None."""
        for each in self._inquiry.data.lists_of(complete.issuer):
            if (
                each.defect is None
                and each.base_number is not None
                and each.base_number <= complete.number < each.number
                and each.raw_distribution == complete.raw_distribution
                and each.raw_authority == complete.raw_authority
                and not self._begins_later(each)
                and not self._has_ended(each)
                and self._inquiry.data.is_signed(each, signer, self._inquiry.effort)
            ):
                return each
        return None

    def _signer(self, each: RevocationList, path: Path, index: int) -> PathCertificate:
        """Return the certificate that signed a list and may have.

        Raises:
            ChainRefusedError: There is none (rule `crl-signature`), or its own path is not good.
        """
        certificate, above = path[index], path[index + 1 :]
        self._check_strength(each, certificate)
        problem: ChainRefusedError | None = None
        for signer in above:
            if signer.subject == each.issuer and self._inquiry.data.is_signed(each, signer, self._inquiry.effort):
                if _may_sign_lists(signer):
                    return signer
                problem = _not_for_lists(certificate, each, signer)
        for signer in self._other_signers(each, path[index:]):
            if not self._inquiry.data.is_signed(each, signer, self._inquiry.effort):
                continue
            if not _may_sign_lists(signer):
                problem = problem or _not_for_lists(certificate, each, signer)
                continue
            try:
                # One with the CA's name has its certificate from the CAs of this path; an indirect issuer from any.
                own = above[:-1] if each.issuer == certificate.issuer else None
                self._inquiry.find_path(signer, own, path[-1])
                return signer
            except ChainRefusedError as error:
                problem = refusal(
                    "crl-signature",
                    certificate.label,
                    f"The {each.label} was signed with {signer.label}, which is refused: {error.rejection.problem}",
                    f"{each.label} 的签名证书 {signer.label} 不被接受：{error.rejection.problem_zh}",
                )
        raise problem or refusal(
            "crl-signature",
            certificate.label,
            f"The {each.label} was not signed by the CA.",
            f"{each.label} 不是由该 CA 签名的。",
        )

    def _other_signers(self, each: RevocationList, path: Path) -> list[PathCertificate]:
        """Certificates with the name of a list's issuer outside the path, those with its key identifier first."""
        found = [
            signer
            for signer in self._inquiry.pool
            if not signer.defect and signer.subject == each.issuer and signer not in path
        ]
        return sorted(found, key=lambda signer: signer.key_identifier != each.authority_key)[:_MAX_OTHER_SIGNERS]

    def _check_strength(self, each: RevocationList, certificate: PathCertificate) -> None:
        if not self._inquiry.policy.key_rules or each.crl is None:
            return
        try:
            strong = SignatureKind.of(each.crl).is_strong
        except SignatureKindError:
            strong = False
        if not strong:
            raise refusal(
                "crl-signature",
                certificate.label,
                f"The {each.label} is signed with an algorithm that is not accepted.",
                f"{each.label} 的签名算法不被接受。",
            )


def _not_yet_valid(certificate: PathCertificate, each: RevocationList) -> ChainRefusedError:
    return refusal(
        "crl-not-yet-valid",
        certificate.label,
        f"The {each.label} begins in the future, at {shown_moment(each.this_update)}.",
        f"{each.label} 尚未生效，生效时间为 {shown_moment(each.this_update)}。",
    )


def _stale(certificate: PathCertificate, each: RevocationList) -> ChainRefusedError:
    return refusal(
        "crl-stale",
        certificate.label,
        f"The {each.label} ended at {shown_moment(each.next_update)}.",
        f"{each.label} 已于 {shown_moment(each.next_update)} 失效。",
    )


def _may_sign_lists(signer: PathCertificate) -> bool:
    usage = signer.get(x509.KeyUsage)
    return signer.is_ca if usage is None else usage.crl_sign


def _unusable(certificate: PathCertificate, each: RevocationList) -> ChainRefusedError:
    english, chinese = each.defect or ("", "")
    return refusal(
        "crl-form" if each.issuer else "crl-malformed",
        certificate.label,
        f"The {each.label} must not be used: {english}.",
        f"{each.label} 不可使用：{chinese}。",
    )


def _scope_problem(certificate: PathCertificate, english: str, chinese: str) -> ChainRefusedError:
    return refusal(
        "crl-scope",
        certificate.label,
        f"No CRL covers the certificate: {english}.",
        f"没有 CRL 覆盖该证书：{chinese}。",
    )


def _not_for_lists(certificate: PathCertificate, each: RevocationList, signer: PathCertificate) -> ChainRefusedError:
    return refusal(
        "crl-signature",
        certificate.label,
        f"The {each.label} was signed with {signer.label}, whose key usage lacks cRLSign.",
        f"{each.label} 的签名证书 {signer.label} 的密钥用法缺少 cRLSign。",
    )
