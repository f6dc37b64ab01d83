"""Questions that a caller signed: tried here against what the department itself trusts, whatever the gateway says.

Rules:
1. A question that states a signature counts only if that signature is right; for a service whose contract demands
   signatures no other question counts. So a gateway cannot make one up, change one, or leave the signature out.
2. The signing certificate names the client, and was issued by a CA of the department's own list. Revocation is looked at
   by the gateway.
3. A signature is at most a minute old, plus what two clocks may differ, and its nonce counts once. What is remembered is lost
   when the process ends, as with exchanges; and each instance of an adapter remembers for itself.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

import msgspec
from cryptography import x509

from exchange import (
    Body,
    CertificateError,
    InvalidRequestError,
    QueryHead,
    QueryStatement,
    ServiceId,
    SignatureBaseError,
    SignedQuestionError,
    SignedRequest,
    carriage_seconds,
    certificate_holds_code_of,
    certificate_names,
    check_certificate_path,
    check_content_digest,
    check_evidence,
    check_forwarded,
    check_statement,
    evidence_digest,
)

WINDOW = 60
"""Seconds: how old a signature may be when it is used."""
CLOCK_SKEW = 60
"""Seconds by which the caller's clock and ours may differ."""
UPLOAD = 120
"""Seconds in which the body of a question may arrive in parts, and so much longer as a large one takes, at the gateway and here."""
_MINUTE = 60
_MOST_CERTIFICATES = 4096


class UnsignedQuestionError(Exception):
    """The question is not proven to be the caller's; the message is for our own log."""


class SignatureDesk:
    """Tries signatures of questions, and remembers their nonces.

    Args:
        callers: CAs whose certificates sign requests.
        demanded: Services that take signed questions only.
        clock: Unix seconds.
    """

    def __init__(
        self,
        callers: Sequence[x509.Certificate] = (),
        demanded: Collection[ServiceId] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._callers = callers
        self.demand(demanded)
        self._clock = clock
        # Fingerprint and client that were found to belong together -> the certificate's last second.
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()
        # Minute of signing -> nonces with their certificates; forgotten as a whole when such a signature is too old.
        self._used: dict[int, set[tuple[str, str]]] = {}
        self._longest = 0.0
        """Seconds that the largest body so far was given: a copy of its question would be given as many."""

    def demand(self, services: Collection[ServiceId]) -> None:
        """These services take signed questions only, from now on, and no others."""
        self._demanded = frozenset(services)

    def check(
        self, service: ServiceId, statement: QueryStatement, head: QueryHead, body: Body | None
    ) -> SignedRequest | None:
        """Return what a question's caller signed; None if it is unsigned and may be.

        Args:
            body: None while it is still to come, in parts.

        Raises:
            UnsignedQuestionError: The signature is missing or is not one for this question.
        """
        digest = statement.signature_digest
        if not isinstance(digest, str):
            if service in self._demanded:
                raise UnsignedQuestionError(f"{service} takes signed questions only")
            return None
        if evidence_digest(head.salt, head.evidence) != digest:
            raise UnsignedQuestionError("the signature is not the one that the gateway sealed")
        if hashlib.sha256(head.certificate).hexdigest() != statement.certificate:
            raise UnsignedQuestionError("the certificate is not the one that the gateway sealed")
        try:
            self._check_certificate(statement, head.certificate)
            bound = check_evidence(head.evidence, head.certificate)
            question = msgspec.structs.asdict(statement)
            check_statement(bound, question)
            check_forwarded(bound, question, head.target, head.headers)
            if body is not None and (body or bound.content_digest):
                check_content_digest([bound.content_digest.encode()], body)
        except (CertificateError, SignatureBaseError, SignedQuestionError, InvalidRequestError) as error:
            raise UnsignedQuestionError(f"the caller's signature: {error}") from error
        now = self._clock()
        # What was signed before a large body left takes as long as the body: to the gateway, and from there to us.
        oldest = WINDOW + CLOCK_SKEW + 2 * carriage_seconds(statement.request_size)
        self._longest = max(self._longest, 2 * carriage_seconds(statement.request_size))
        if head.parts and body is not None:
            oldest += UPLOAD
        if not -(WINDOW + CLOCK_SKEW) <= now - bound.created <= oldest:
            raise UnsignedQuestionError(f"the caller signed it {now - bound.created:.0f} s ago")
        if (bound.keyid, bound.nonce) in self._used.get(bound.created // _MINUTE, ()):
            raise UnsignedQuestionError("the nonce of the caller's signature was used before")
        return bound

    def spend(self, bound: SignedRequest) -> None:
        """Take the nonce of a signature for used."""
        minute = bound.created // _MINUTE
        used = self._used.get(minute)
        if used is None:
            over = self._clock() - WINDOW - CLOCK_SKEW - UPLOAD - self._longest
            self._used = {each: nonces for each, nonces in self._used.items() if (each + 1) * _MINUTE > over}
            used = self._used[minute] = set()
        used.add((bound.keyid, bound.nonce))

    def _check_certificate(self, statement: QueryStatement, der: bytes) -> None:
        """Return if a CA of ours says that the certificate is the client's, now; raises CertificateError."""
        key = (statement.certificate, statement.client)
        now = self._clock()
        if self._known.get(key, 0.0) >= now:
            self._known.move_to_end(key)
            return
        try:
            certificate = x509.load_der_x509_certificate(der)
        except ValueError as error:
            raise CertificateError("it is no certificate", "不是证书") from error
        check_certificate_path(certificate, (), self._callers, datetime.fromtimestamp(now, UTC))
        if not certificate_names(certificate, statement.client) and not certificate_holds_code_of(
            certificate, statement.client
        ):
            raise CertificateError("it may not speak for the client", "证书不能代表该调用方")
        self._known[key] = certificate.not_valid_after_utc.timestamp()
        if len(self._known) > _MOST_CERTIFICATES:
            self._known.popitem(last=False)
