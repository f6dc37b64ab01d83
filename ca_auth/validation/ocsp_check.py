"""Whether an OCSP answer counts, and what it says (RFC 6960 section 3.2). Pure; the rules are those of `revocation`."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.x509.ocsp import OCSPCertStatus
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca_auth.validation.crl_check import ListCheck
from ca_auth.validation.key_policy import check_key, check_rfc5280
from ca_auth.validation.ocsp import NO_CHECK, CertificateStatus, OcspAnswer, nonce_matches
from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.paths import Path
from ca_auth.validation.rejection import ChainRefusedError, refusal
from ca_auth.validation.revocation_data import Inquiry, Status, missing, revoked, shown_moment
from ca_auth.validation.signatures import SignatureKind, SignatureKindError, is_signed_by


class AnswerCheck:
    """Asks the OCSP answers at hand during one validation.

    Args:
        lists: For responders whose certificates are not exempt from checking.
    """

    def __init__(self, inquiry: Inquiry, lists: ListCheck) -> None:
        self._inquiry = inquiry
        self._lists = lists

    def status(self, path: Path, index: int, problems: list[ChainRefusedError]) -> Status | None:
        """Return what the answers at hand say of a certificate, None if none is about it and holds.

        Args:
            problems: Takes the reasons why answers could not be used.

        Raises:
            ChainRefusedError: It is revoked.
        """
        certificate = path[index]
        found: Status | None = None
        for answer in self._inquiry.data.answers:
            if answer.defect is not None:
                if index == 0:  # whom it was about cannot be told; it was asked for the leaf, most likely
                    problems.append(
                        refusal(
                            "ocsp-malformed",
                            certificate.label,
                            f"The OCSP answer cannot be used: {answer.defect[0]}.",
                            f"OCSP 应答不可用：{answer.defect[1]}。",
                        )
                    )
                continue
            for single in answer.statuses:
                if single.serial_number != certificate.serial_number:
                    continue
                try:
                    found = self._answered(answer, single, path, index) or found
                except ChainRefusedError as error:
                    if error.rule == "certificate-revoked":
                        raise
                    problems.append(error)
        if found is None and index == 0 and self._inquiry.data.answers and not problems:
            problems.append(missing(certificate, by_ocsp=True))
        return found

    def _answered(self, answer: OcspAnswer, single: CertificateStatus, path: Path, index: int) -> Status:
        certificate, issuer = path[index], path[index + 1]
        if not single.is_about(certificate, issuer):
            raise refusal(
                "ocsp-mismatch",
                certificate.label,
                "The OCSP answer is about a certificate of another issuer.",
                "OCSP 应答针对的是另一签发者的证书。",
            )
        self._check_responder(answer, path, index)
        if not nonce_matches(answer):
            raise refusal(
                "ocsp-nonce",
                certificate.label,
                "The OCSP answer does not carry the nonce that was asked for: it may be an old one.",
                "OCSP 应答未包含请求中的随机数，可能是旧应答。",
            )
        if self._inquiry.at < single.this_update - self._inquiry.policy.clock_skew:
            raise refusal(
                "ocsp-not-yet-valid",
                certificate.label,
                f"The OCSP answer begins in the future, at {shown_moment(single.this_update)}.",
                f"OCSP 应答尚未生效，生效时间为 {shown_moment(single.this_update)}。",
            )
        end = single.next_update or single.this_update + self._inquiry.policy.ocsp_max_age
        if self._inquiry.at > end + self._inquiry.data.grace:
            raise refusal(
                "ocsp-stale",
                certificate.label,
                f"The OCSP answer ended at {shown_moment(end)}.",
                f"OCSP 应答已于 {shown_moment(end)} 失效。",
            )
        if single.status is OCSPCertStatus.REVOKED:
            raise revoked(
                certificate, single.reason or x509.ReasonFlags.unspecified, "says the OCSP responder", "OCSP 应答"
            )
        if single.status is not OCSPCertStatus.GOOD:
            raise refusal(
                "ocsp-unknown",
                certificate.label,
                "The OCSP responder does not know the certificate.",
                "OCSP 服务不认识该证书。",
            )
        late = self._inquiry.at > end
        return Status("ocsp", end + (self._inquiry.data.grace if late else timedelta(0)), late)

    def _check_responder(self, answer: OcspAnswer, path: Path, index: int) -> None:
        """Check who signed an answer; raises rule `ocsp-responder` or `ocsp-signature`."""
        certificate, issuer = path[index], path[index + 1]
        problem: ChainRefusedError | None = None
        for responder in (issuer, *answer.certificates, *self._inquiry.pool):
            if responder.defect or not answer.is_of(responder):
                continue
            try:
                if responder.encoded != issuer.encoded:
                    self._check_delegate(responder, path, index)
                self._check_answer_signature(answer, responder, certificate)
                return
            except ChainRefusedError as error:
                problem = problem or error
        raise problem or refusal(
            "ocsp-responder",
            certificate.label,
            "The OCSP answer was given by neither the CA nor a responder whose certificate is at hand.",
            "OCSP 应答既非该 CA 亦非持有其证书的 OCSP 服务所出具。",
        )

    def _check_delegate(self, responder: PathCertificate, path: Path, index: int) -> None:
        certificate, issuer = path[index], path[index + 1]

        def unfit(english: str, chinese: str) -> ChainRefusedError:
            return refusal(
                "ocsp-responder",
                certificate.label,
                f"The OCSP responder {responder.label} may not answer for the CA: {english}.",
                f"OCSP 服务 {responder.label} 不得代该 CA 应答：{chinese}。",
            )

        if responder.issuer != issuer.subject:
            raise unfit("the CA did not issue its certificate", "其证书不是由该 CA 签发的")
        purposes = responder.get(x509.ExtendedKeyUsage)
        if purposes is None or ExtendedKeyUsageOID.OCSP_SIGNING not in purposes:
            raise unfit("its extended key usage lacks OCSPSigning", "扩展密钥用法缺少 OCSPSigning")
        usage = responder.get(x509.KeyUsage)
        if usage is not None and not usage.digital_signature:
            raise unfit("its key usage lacks digitalSignature", "密钥用法缺少 digitalSignature")
        if not responder.begin <= self._inquiry.at <= responder.end:
            raise unfit("its certificate is not valid now", "其证书不在有效期内")
        try:
            check_rfc5280(responder)
            if self._inquiry.policy.key_rules:
                check_key(responder)
            self._inquiry.effort.check_signature(responder, issuer)
        except ChainRefusedError as error:
            raise unfit(error.rejection.problem.rstrip("."), error.rejection.problem_zh.rstrip("。")) from error
        if self._inquiry.policy.key_rules and not _is_strong(responder.certificate):
            raise unfit("its certificate is signed with a weak algorithm", "其证书的签名算法过弱")
        if NO_CHECK in responder.extensions or not (self._inquiry.data.lists or self._inquiry.policy.key_rules):
            return
        try:
            status = self._lists.status((responder, *path[index + 1 :]), 0, [])
        except ChainRefusedError as error:
            raise unfit("its certificate is revoked", "其证书已被吊销") from error
        if status is None:
            raise unfit("nobody says that its certificate is not revoked", "无法确认其证书未被吊销")

    def _check_answer_signature(
        self, answer: OcspAnswer, responder: PathCertificate, certificate: PathCertificate
    ) -> None:
        key, response = self._inquiry.effort.key_of(responder), answer.response
        good = False
        if key is not None and response is not None:
            self._inquiry.effort.count_signature(responder)
            try:
                kind = SignatureKind.named(response)
                good = is_signed_by(key, kind, response.signature, response.tbs_response_bytes)
                good = good and (kind.is_strong or not self._inquiry.policy.key_rules)
            except SignatureKindError:
                good = False
        if not good:
            raise refusal(
                "ocsp-signature",
                certificate.label,
                f"The OCSP answer was not signed by {responder.label}, or with an algorithm that is not accepted.",
                f"OCSP 应答不是由 {responder.label} 签名的，或签名算法不被接受。",
            )


def _is_strong(certificate: x509.Certificate) -> bool:
    try:
        return SignatureKind.of(certificate).is_strong
    except SignatureKindError:
        return False
