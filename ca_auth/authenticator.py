"""From the certificate of a connection to a principal, for every request anew.

Rules:
1. A connection proves nothing about now: expiry, start of validity and a disabled certificate are looked at for every
   request, so neither an open connection nor a resumed TLS session outlives its certificate.
2. What does not change with time (path, profile) is examined once per certificate and remembered, up to a bound, no
   longer than the judge vouches for it, and not beyond a change of anchors or of news about revocations.
3. A resumed session brings the certificate and none of the intermediates that came with it. Those of accepted paths are
   remembered: there are few CAs.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from ca_auth.edge.client_cert_header import Connection
from ca_auth.issuing.expiry import expiry_alarms_begin
from ca_auth.judge import CertificateJudge, Verdict
from ca_auth.principal import Principal
from ca_auth.profiles.identity import UNREADABLE
from ca_auth.profiles.shown_names import shown_name
from ca_auth.validation.rejection import refusal
from exchange import CallerFacts, SubsystemId, UnauthenticatedError

Prepare = Callable[[x509.Certificate, Sequence[x509.Certificate], str], Awaitable[None]]

_MAX_CAS = 100
_REFUSED_SECONDS = 2.0
_MAX_SENT = 20
"""Certificates of one connection that are looked at; more do not stand between a leaf and its anchor."""


class Authenticator:
    """Says who is calling. Belongs to one event loop.

    Args:
        judge: How a certificate leads to an anchor, and whom it names.
        clock: Unix seconds.
        remember: Most certificates remembered at once.
        on_cas: Told of CA certificates below the anchors when a path with new ones was accepted.
        prepare: What may be awaited for a certificate before it is examined: it takes the certificate, what came with it
            and its fingerprint, and returns in time whatever happens.
    """

    def __init__(
        self,
        judge: CertificateJudge,
        clock: Callable[[], float] = time.time,
        *,
        remember: int = 10_000,
        on_cas: Callable[[Sequence[x509.Certificate]], None] = lambda cas: None,
        prepare: Prepare | None = None,
    ) -> None:
        self._judge = judge
        self._clock = clock
        self._remember = remember
        self._on_cas = on_cas
        self._prepare = prepare
        self._known: dict[str, tuple[float, float, Principal]] = {}
        self._refused: dict[str, tuple[float, UnauthenticatedError]] = {}
        self._disabled: set[str] = set()
        self._cas: dict[x509.Certificate, None] = {}

    def identify(
        self, fingerprint: str | None, der: bytes | None, now: float | None = None, sent: Sequence[bytes] = ()
    ) -> Principal:
        """Return whom the certificate of a connection names, if it is good at `now` (default: the clock).

        Args:
            fingerprint: Of `der`, as `PeerCertificateProtocol` puts it into the state; None without a certificate.
            der: The certificate that TLS verified when the session began; None without one.
            now: Unix seconds.
            sent: What came with it, DER.

        Raises:
            UnauthenticatedError: With rule `client-certificate` (none was sent), `certificate-expired`,
                `certificate-not-yet-valid`, `certificate-disabled`, or one of the judge's.
        """
        if now is None:
            now = self._clock()
        return self._verdict(fingerprint, now) or self._examine(fingerprint, der, now, sent)

    def check_pin(self, subsystem: SubsystemId, fingerprint: str) -> None:
        """Return if a certificate may act as `subsystem`; raises UnauthenticatedError if others are pinned to it."""
        self._judge.check_pin(subsystem, fingerprint)

    def known(self, state: Mapping[str, Any], now: float) -> Principal | None:
        """Who calls, if there is a verdict that holds at `now`; if not, `caller` finds out.

        Args:
            state: Of the request, as `PeerCertificateProtocol` leaves it.
        """
        via: Connection | None = state["peer_via"]
        if via is not None and self._verdict(via.peer, now) is None:
            return None
        return self._verdict(state["peer"], now)

    async def caller(self, state: Mapping[str, Any], now: float) -> Principal:
        """Who calls, having asked for what can only be asked over a network: OCSP answers.

        Raises:
            UnauthenticatedError: As `identify`, also for the certificate of the TLS terminator that the request came through;
                or the terminator sent no proper certificate, rule `client-cert-header`.
        """
        via: Connection | None = state["peer_via"]
        if via is not None:
            await self._ask_about(via.peer, via.leaf, via.chain)
            self.identify(via.peer, via.leaf, now, via.chain)
        if state["peer_refusal"] is not None:
            raise state["peer_refusal"]
        await self._ask_about(state["peer"], state["peer_der"], state["peer_sent"])
        return self.identify(state["peer"], state["peer_der"], now, state["peer_sent"])

    def _verdict(self, fingerprint: str | None, now: float) -> Principal | None:
        known = self._known.get(fingerprint)  # type: ignore[arg-type]  # None is never a key
        return known[2] if known is not None and known[0] <= now <= known[1] else None

    async def _ask_about(self, fingerprint: str | None, der: bytes | None, sent: Sequence[bytes]) -> None:
        if self._prepare is None or fingerprint is None or der is None:
            return
        for certificate in _readable((der,)):
            await self._prepare(certificate, [*_readable(sent[:_MAX_SENT]), *self._cas], fingerprint)

    def disable(self, fingerprint: str) -> None:
        """Refuse a certificate from its next request on, in this process."""
        self._disabled.add(fingerprint)
        self._known.pop(fingerprint, None)

    def enable(self, fingerprint: str) -> None:
        """Take back `disable`."""
        self._disabled.discard(fingerprint)

    def use(self, judge: CertificateJudge) -> None:
        """Judge by other anchors or newer news: the next request of each certificate is examined in full."""
        self._judge = judge
        self._known.clear()
        self._refused.clear()

    def _examine(self, fingerprint: str | None, der: bytes | None, now: float, sent: Sequence[bytes]) -> Principal:
        self._known.pop(fingerprint, None)  # type: ignore[arg-type]  # a verdict that no longer holds
        if fingerprint is None or der is None:
            raise UnauthenticatedError(
                "client-certificate",
                problem="The connection carries no client certificate.",
                problem_zh="连接没有出示客户端证书。",
            )
        if fingerprint in self._disabled:
            raise UnauthenticatedError(
                "certificate-disabled",
                problem="The certificate has been disabled.",
                problem_zh="证书已被停用。",
            )
        if hashlib.sha256(der).hexdigest() != fingerprint:
            raise ValueError("the fingerprint is not that of the certificate")
        try:
            certificate = x509.load_der_x509_certificate(der)
            begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
            issuer = shown_name(certificate.issuer)
        except UNREADABLE as error:
            raise refusal("certificate-malformed", "", "The certificate cannot be read.", "证书无法解析。") from error
        _check_validity(begin, end, now)
        verdict = self._judged(certificate, fingerprint, now, sent)
        self._learn(verdict.cas)
        warned_from = expiry_alarms_begin(begin, end)
        expires_soon = _moment(end).encode() if now >= warned_from else b""
        principal = _principal(certificate, verdict, fingerprint, issuer, begin, end, der, expires_soon)
        if len(self._known) >= self._remember:
            # The oldest goes: a certificate in use is examined again in a millisecond.
            self._known.pop(next(iter(self._known)))
        # Looked at again when the warning begins: until then it costs nothing.
        first, last = (warned_from, end) if expires_soon else (begin, min(end, warned_from))
        self._known[fingerprint] = (first, min(last, verdict.until), principal)
        return principal

    def _judged(self, certificate: x509.Certificate, fingerprint: str, now: float, sent: Sequence[bytes]) -> Verdict:
        # Refusals are remembered for a moment: with ever other certificates sent along, each could cost a tenth of a second.
        since, error = self._refused.get(fingerprint, (float("inf"), None))
        if error is not None and since <= now < since + _REFUSED_SECONDS:
            raise error.with_traceback(None)
        try:
            return self._judge.examine(certificate, [*_readable(sent[:_MAX_SENT]), *self._cas], now)
        except UnauthenticatedError as refused:
            if len(self._refused) >= self._remember:
                self._refused.pop(next(iter(self._refused)))
            self._refused[fingerprint] = (now, refused)
            raise

    def _learn(self, cas: Sequence[x509.Certificate]) -> None:
        new = [each for each in cas[:-1] if each not in self._cas]
        if not new:
            return
        for each in new:
            if len(self._cas) >= _MAX_CAS:
                self._cas.pop(next(iter(self._cas)))
            self._cas[each] = None
        self._on_cas(new)


def _readable(certificates: Sequence[bytes]) -> list[x509.Certificate]:
    found = []
    for der in certificates:
        try:
            found.append(x509.load_der_x509_certificate(der))
        except UNREADABLE:
            continue  # it cannot stand in a path
    return found


def _principal(
    certificate: x509.Certificate,
    verdict: Verdict,
    fingerprint: str,
    issuer: str,
    begin: float,
    end: float,
    der: bytes,
    expires_soon: bytes,
) -> Principal:
    identity = verdict.identity
    serial_number = f"{certificate.serial_number:x}"
    notes = (*identity.warnings, *(("revocation-grace",) if verdict.revocation == "grace" else ()))
    return Principal(
        member=identity.member,
        subsystem=identity.subsystem,
        kind=identity.kind,
        person=identity.person,
        profile=identity.profile,
        fingerprint=fingerprint,
        serial_number=serial_number,
        issuer=issuer,
        facts=CallerFacts(serial_number, ",".join(notes)),
        not_before=begin,
        not_after=end,
        expires_soon=expires_soon,
        der=der,
    )


def _check_validity(begin: float, end: float, now: float) -> None:
    if now > end:
        at = _moment(end)
        raise UnauthenticatedError(
            "certificate-expired",
            problem=f"The certificate expired at {at}.",
            problem_zh=f"证书已于 {at} 过期。",
        )
    if now < begin:
        at = _moment(begin)
        raise UnauthenticatedError(
            "certificate-not-yet-valid",
            problem=f"The certificate is valid from {at} on.",
            problem_zh=f"证书自 {at} 起有效。",
        )


def _moment(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
