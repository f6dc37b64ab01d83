"""One question to an OCSP responder, and whether what came back answers it (RFC 6960, RFC 9654).

Rules:
1. The certificate is named by SHA-1 hashes (RFC 5019): every responder knows that form, and the hashes only identify. An
   answer that names it by other hashes is as good.
2. A nonce of 32 octets is sent. An answer with another nonce is refused. An answer without one is a prepared answer, which
   RFC 9654 permits; its dates then say whether it is fresh, and it must not be older than the one at hand.
3. An answer counts only if the validator, asked about this certificate and its issuer alone, would use it: signature,
   responder's right to answer, dates. So nobody on the way can put a made-up answer in the place of a good one.
4. An address from a certificate leads to public addresses only, unless the operator gave the address.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from ca_auth.revocation.public_addresses import IPAddress
from ca_auth.validation.key_policy import PathPolicy
from ca_auth.validation.ocsp import CertificateStatus, OcspAnswer, load_ocsp
from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.rejection import ChainRefusedError
from ca_auth.validation.revocation import RevocationData
from ca_auth.validation.validation import PathValidator

NONCE_OCTETS: Final = 32
LARGEST_ANSWER: Final = 1 << 16
_ANSWERS: Final = ("certificate-revoked", "ocsp-unknown")
"""Refusals that are answers: the responder may speak, and what it says is not good news."""


class NoAnswerError(Exception):
    """A responder gave no usable answer; why, English and Chinese."""

    def __init__(self, problem: str, problem_zh: str, *, reached: bool) -> None:
        self.problem = problem
        self.problem_zh = problem_zh
        self.reached = reached
        """Whether it is there at all: then others may get an answer."""
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Answered:
    """A usable answer about one certificate."""

    answer: OcspAnswer
    status: CertificateStatus
    until: datetime
    """When it ends, by what it says or, if it says nothing, by the policy."""


def address_in(certificate: PathCertificate) -> str | None:
    """Where a certificate says its OCSP responder is: the first http or https address."""
    access = certificate.get(x509.AuthorityInformationAccess)
    for each in access if access is not None else ():
        location = each.access_location
        if (
            each.access_method == AuthorityInformationAccessOID.OCSP
            and isinstance(location, x509.UniformResourceIdentifier)
            and location.value.lower().startswith(("http://", "https://"))
        ):
            return location.value
    return None


async def ask(
    url: str,
    certificate: PathCertificate,
    issuer: PathCertificate,
    *,
    tls: ssl.SSLContext,
    clock: Callable[[], float],
    seconds: float,
    allowed: Callable[[IPAddress], bool] | None,
) -> Answered:
    """Ask a responder about one certificate.

    Args:
        issuer: The CA that issued it.
        clock: Unix seconds.
        seconds: Longest that it may take.
        allowed: As in `bounded_http.exchange`.

    Raises:
        NoAnswerError: No usable answer came in time.
    """
    from ca_auth.revocation.bounded_http import FetchError, Limits, exchange

    nonce = secrets.token_bytes(NONCE_OCTETS)
    try:
        question = _question(certificate, issuer, nonce)
    except (ValueError, TypeError) as error:
        raise NoAnswerError("the certificate cannot be asked about", "无法就该证书提出查询", reached=True) from error
    try:
        reply = await exchange(
            "POST",
            url,
            tls=tls,
            limits=Limits(seconds=seconds, step_seconds=seconds, octets=LARGEST_ANSWER),
            headers={"content-type": "application/ocsp-request", "accept": "application/ocsp-response"},
            content=question,
            allowed=allowed,
        )
    except FetchError as error:
        raise NoAnswerError(error.problem, error.problem_zh, reached=False) from error
    if reply.status != 200:
        raise NoAnswerError(f"the answer is HTTP {reply.status}", f"应答为 HTTP {reply.status}", reached=False)
    return read_answer(reply.content, nonce, certificate, issuer, clock())


def read_answer(
    content: bytes, nonce: bytes, certificate: PathCertificate, issuer: PathCertificate, now: float
) -> Answered:
    """Return an answer if it is one to the question; see rules 2 and 3.

    Raises:
        NoAnswerError: It is not, or must not be used.
    """
    try:
        answer = load_ocsp(content)
    except ValueError as error:
        raise NoAnswerError("the reply is no OCSP answer", "应答不是 OCSP 应答", reached=False) from error
    if answer.defect is not None:
        english, chinese = answer.defect
        raise NoAnswerError(f"the answer cannot be used: {english}", f"应答不可用：{chinese}", reached=True)
    if answer.nonce is not None and answer.nonce not in (nonce, b"\x04\x20" + nonce):
        raise NoAnswerError("the answer carries another nonce", "应答中的随机数与请求不符", reached=True)
    about = [each for each in answer.statuses if each.is_about(certificate, issuer)]
    if not about:
        raise NoAnswerError("the answer is about another certificate", "应答针对的是另一证书", reached=True)
    policy = PathPolicy.rfc5280()
    at = datetime.fromtimestamp(now, UTC)
    try:
        # The issuer stands in as the anchor: whether it is one to rely on is asked later, with the whole path.
        data = RevocationData(answers=(answer,))
        PathValidator([issuer.certificate], revocation=data, policy=policy).validate(certificate.certificate, (), at)
    except ChainRefusedError as error:
        if error.rule not in _ANSWERS:
            refused = error.rejection
            raise NoAnswerError(refused.problem, refused.problem_zh, reached=True) from error
    status = max(about, key=lambda each: each.this_update)
    return Answered(answer, status, status.next_update or status.this_update + policy.ocsp_max_age)


def _question(certificate: PathCertificate, issuer: PathCertificate, nonce: bytes) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate.certificate, issuer.certificate, hashes.SHA1())
    return builder.add_extension(x509.OCSPNonce(nonce), critical=False).build().public_bytes(Encoding.DER)
