"""The authenticator: from a certificate to a principal, asked again for every request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca_auth import (
    Authenticator,
    CertificateRequest,
    DemoCA,
    IssuedCertificate,
    Judge,
    Trust,
    Verdict,
    fingerprint_of,
)
from exchange import SubsystemId, UnauthenticatedError
from tests.ca_auth.edge_world import TAX, TAX_MEMBER, Pki

NOW = (datetime.now(UTC) + timedelta(hours=1)).timestamp()
"""Certificates are made later than this line is read, by minutes in a long run: a moment that is surely after that."""
DAY = timedelta(days=1)


def identify(authenticator: Authenticator, issued: IssuedCertificate, now: float = NOW) -> object:
    return authenticator.identify(issued.fingerprint, issued.der, now)


def rule_of(authenticator: Authenticator, fingerprint: str | None, der: bytes | None, now: float = NOW) -> str:
    with pytest.raises(UnauthenticatedError) as caught:
        authenticator.identify(fingerprint, der, now)
    assert caught.value.status == 401
    assert caught.value.detail_in("zh") != caught.value.detail_in("en")
    return caught.value.rule


def authenticator_of(trust_anchors: bytes, clock: Callable[[], float] = time.time) -> Authenticator:
    return Authenticator(Judge(Trust.from_bundle(trust_anchors)), clock)


class Counting:
    """A judge that says how often it was asked."""

    def __init__(self, trust_anchors: bytes, until: float = NOW + 3600) -> None:
        self.asked = 0
        self.until = until
        self._inner = Judge(Trust.from_bundle(trust_anchors))

    def check_pin(self, subsystem: SubsystemId, fingerprint: str) -> None: ...

    def examine(self, certificate: x509.Certificate, sent: Sequence[x509.Certificate], now: float) -> Verdict:
        self.asked += 1
        return replace(self._inner.examine(certificate, sent, now), until=self.until)


def test_a_principal_says_all_that_a_record_needs(pki: Pki) -> None:
    principal = authenticator_of(pki.ca.trust_anchors).identify(pki.tax.fingerprint, pki.tax.der)
    certificate = pki.tax.x509()
    assert (principal.member, principal.subsystem) == (TAX_MEMBER, TAX)
    assert principal.fingerprint == fingerprint_of(principal.der)
    assert int(principal.serial_number, 16) == certificate.serial_number
    assert principal.issuer == certificate.issuer.rfc4514_string()
    assert principal.not_before == certificate.not_valid_before_utc.timestamp()
    assert principal.not_after == certificate.not_valid_after_utc.timestamp()
    with pytest.raises(FrozenInstanceError):
        principal.member = TAX_MEMBER  # type: ignore[misc]


def test_no_certificate_names_nobody(pki: Pki) -> None:
    assert rule_of(authenticator_of(pki.ca.trust_anchors), None, None) == "client-certificate"


def test_time_is_looked_at_for_every_request(pki: Pki) -> None:
    authenticator = authenticator_of(pki.ca.trust_anchors)
    certificate = pki.tax.x509()
    first, last = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    for _ in range(2):  # before and after it is remembered
        assert rule_of(authenticator, pki.tax.fingerprint, pki.tax.der, last + 0.001) == "certificate-expired"
        assert rule_of(authenticator, pki.tax.fingerprint, pki.tax.der, first - 1) == "certificate-not-yet-valid"
        at_the_end = identify(authenticator, pki.tax, last)
        assert at_the_end.expires_soon  # and nothing else is different
        assert identify(authenticator, pki.tax, first) == replace(at_the_end, expires_soon=b"")


def test_without_a_moment_the_clock_is_asked(pki: Pki) -> None:
    moments = iter([NOW, NOW + 3660 * 86400])
    authenticator = authenticator_of(pki.ca.trust_anchors, lambda: next(moments))
    authenticator.identify(pki.tax.fingerprint, pki.tax.der)
    with pytest.raises(UnauthenticatedError) as caught:
        authenticator.identify(pki.tax.fingerprint, pki.tax.der)
    assert caught.value.rule == "certificate-expired"


def test_a_disabled_certificate_is_refused_from_the_next_request_on(pki: Pki) -> None:
    authenticator = authenticator_of(pki.ca.trust_anchors)
    identify(authenticator, pki.tax)
    authenticator.disable(pki.tax.fingerprint)
    assert rule_of(authenticator, pki.tax.fingerprint, pki.tax.der) == "certificate-disabled"
    identify(authenticator, pki.member)
    authenticator.enable(pki.tax.fingerprint)
    identify(authenticator, pki.tax)


def test_a_certificate_of_another_ca_is_refused_even_if_tls_let_it_in(pki: Pki) -> None:
    """Same names everywhere: only the signature differs."""
    authenticator = authenticator_of(pki.ca.trust_anchors)
    assert pki.stranger.x509().issuer == pki.tax.x509().issuer
    assert rule_of(authenticator, pki.stranger.fingerprint, pki.stranger.der) == "certificate-signature"
    both = authenticator_of(pki.ca.trust_anchors + pki.foreign.trust_anchors)
    assert identify(both, pki.stranger) != identify(both, pki.tax)


def test_a_changed_certificate_is_refused(pki: Pki) -> None:
    der = bytearray(pki.tax.der)
    der[-1] ^= 1
    authenticator = authenticator_of(pki.ca.trust_anchors)
    assert rule_of(authenticator, fingerprint_of(bytes(der)), bytes(der)) in (
        "certificate-signature",
        "certificate-malformed",
    )
    assert rule_of(authenticator, fingerprint_of(b"junk"), b"junk") == "certificate-malformed"


def test_a_fingerprint_of_something_else_is_a_programming_error_not_a_principal(pki: Pki) -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        authenticator_of(pki.ca.trust_anchors).identify(pki.tax.fingerprint, pki.member.der, NOW)


def test_a_certificate_does_not_outlive_its_anchor(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> None:
    ca = DemoCA.create(tmp_path_factory.mktemp("short"), days=1)
    leaf = ca.issue("leaf", CertificateRequest.for_subsystem(TAX), days=100)
    authenticator = authenticator_of(ca.trust_anchors)
    identify(authenticator, leaf)
    assert rule_of(authenticator, leaf.fingerprint, leaf.der, NOW + 2 * 86400) == "certificate-expired"


def test_a_verdict_is_remembered_no_longer_than_the_validator_vouches_for_it(pki: Pki) -> None:
    validator = Counting(pki.ca.trust_anchors, until=NOW + 60)
    authenticator = Authenticator(validator)
    for _ in range(5):
        identify(authenticator, pki.tax, NOW + 60)
    assert validator.asked == 1
    validator.until = NOW + 120
    identify(authenticator, pki.tax, NOW + 61)
    identify(authenticator, pki.tax, NOW + 62)
    assert validator.asked == 2


def test_another_judge_examines_everybody_again(pki: Pki) -> None:
    validator = Counting(pki.ca.trust_anchors)
    authenticator = Authenticator(validator)
    identify(authenticator, pki.tax)
    authenticator.use(validator)
    identify(authenticator, pki.tax)
    assert validator.asked == 2


def test_memory_is_bounded(pki: Pki) -> None:
    validator = Counting(pki.ca.trust_anchors)
    authenticator = Authenticator(validator, remember=2)
    every = [pki.ca.issue(f"caller-{number}", CertificateRequest.for_subsystem(TAX)) for number in range(3)]
    for issued in (*every, *reversed(every)):
        identify(authenticator, issued)
    assert validator.asked == 4  # the two youngest were still known, the first had gone


def test_a_refusal_is_not_remembered(pki: Pki) -> None:
    authenticator = authenticator_of(pki.ca.trust_anchors)
    request = CertificateRequest.for_subsystem(TAX)
    start = datetime.fromtimestamp(NOW, UTC)
    later = pki.ca.issue("later", request, not_before=start + DAY, not_after=start + 2 * DAY)
    assert rule_of(authenticator, later.fingerprint, later.der) == "certificate-not-yet-valid"
    identify(authenticator, later, NOW + 1.5 * 86400)


def test_without_anchors_there_is_no_authenticator(pki: Pki) -> None:
    with pytest.raises(ValueError, match=r"anchors|PEM"):
        Trust.from_bundle(b"")
    with pytest.raises(ValueError, match="not a CA"):
        Trust.from_bundle(pki.tax.x509().public_bytes(Encoding.PEM))


def test_a_verdict_that_has_run_out_is_no_longer_known(pki: Pki) -> None:
    """So that what may have changed is asked for before the certificate is refused."""
    validator = Counting(pki.ca.trust_anchors, until=NOW + 60)
    authenticator = Authenticator(validator)
    identify(authenticator, pki.tax)
    state = {"peer": pki.tax.fingerprint, "peer_via": None}
    assert authenticator.known(state, NOW + 60) is not None
    assert authenticator.known(state, NOW + 61) is None
    assert authenticator.known({"peer": None, "peer_via": None}, NOW) is None


def test_a_refusal_is_found_once_in_a_moment_whatever_comes_with_the_certificate(pki: Pki) -> None:
    judge = Counting(pki.ca.trust_anchors)
    authenticator = Authenticator(judge)
    stranger = pki.stranger
    for number in range(20):
        with pytest.raises(UnauthenticatedError) as caught:
            authenticator.identify(stranger.fingerprint, stranger.der, NOW, [b"%d" % number])
        assert caught.value.rule == "certificate-signature"
    assert judge.asked == 1
    assert rule_of(authenticator, stranger.fingerprint, stranger.der, NOW + 3) == "certificate-signature"
    assert judge.asked == 2
    authenticator.use(judge)
    assert rule_of(authenticator, stranger.fingerprint, stranger.der, NOW + 3) == "certificate-signature"
    assert judge.asked == 3
