"""Certificates at a real TLS server: what reaches the application, and that no session outlives its certificate."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from ca_auth import CertificateRequest, DemoCA, client_context, load_certificate, server_context
from tests.ca_auth.edge_world import TAX, TAX_MEMBER, TIMEOUT, Answer, Edge, Pki, running_edge


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def edge(pki: Pki, request: pytest.FixtureRequest) -> Iterator[Edge]:
    with running_edge(pki, loop=request.param) as edge:
        yield edge


@pytest.fixture(autouse=True)
def real_time(edge: Edge) -> Iterator[None]:
    yield
    edge.now = None
    edge.authenticator.enable(edge.pki.tax.fingerprint)


def limited_to(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.maximum_version = version
    return context


def resumed(edge: Edge, context: ssl.SSLContext) -> ssl.SSLSession:
    """A session of the tax bureau that can be resumed."""
    with edge.connect(None, context=context) as caller:
        assert caller.get().status == 200  # TLS 1.3 sends the ticket after the handshake
        session = caller.tls.session
    assert session is not None
    return session


def test_the_certificate_says_who_is_calling(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        said = caller.get().json()
        assert (said["member"], said["subsystem"], said["fingerprint"]) == (TAX_MEMBER, TAX, edge.pki.tax.fingerprint)
        assert caller.get().json() == said
    with edge.connect(edge.pki.member) as caller:
        said = caller.get().json()
        assert (said["member"], said["subsystem"]) == (TAX_MEMBER, None)


def test_no_certificate_is_a_401_with_words_not_a_reset(edge: Edge) -> None:
    with edge.connect(None) as caller:
        answer = caller.get()
    assert (answer.status, answer.json()["rule"]) == (401, "client-certificate")
    assert answer.json()["tls"]["client_cert_chain"] == []
    assert answer.json()["tls"]["client_cert_name"] is None


@pytest.mark.parametrize(
    ("version", "number", "suite"),
    [
        (ssl.TLSVersion.TLSv1_3, 0x0304, 0x1302),  # TLS_AES_256_GCM_SHA384
        (ssl.TLSVersion.TLSv1_2, 0x0303, 0xC02C),  # TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    ],
)
def test_the_scope_carries_the_asgi_tls_extension(edge: Edge, version: ssl.TLSVersion, number: int, suite: int) -> None:
    pki = edge.pki
    with edge.connect(None, context=limited_to(pki.context_of(pki.tax), version)) as caller:
        tls = caller.get().json()["tls"]
    assert set(tls) == {
        "server_cert",
        "client_cert_chain",
        "client_cert_name",
        "client_cert_error",
        "tls_version",
        "cipher_suite",
    }
    assert tls["server_cert"] == pki.server.certificate.read_text()
    assert tls["client_cert_chain"] == [pki.tax.certificate.read_text()]
    assert tls["client_cert_name"] == pki.tax.x509().subject.rfc4514_string()
    assert tls["client_cert_error"] is None
    assert (tls["tls_version"], tls["cipher_suite"]) == (number, suite)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
def test_a_resumed_session_still_delivers_the_certificate(edge: Edge, version: ssl.TLSVersion) -> None:
    context = limited_to(edge.pki.context_of(edge.pki.tax), version)
    session = resumed(edge, context)
    with edge.connect(None, context=context, session=session) as caller:
        assert caller.tls.session_reused
        assert caller.tls.version() == version.name.replace("v1_", "v1.")
        answer = caller.get()
    assert answer.status == 200
    assert answer.json()["fingerprint"] == edge.pki.tax.fingerprint


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
@pytest.mark.parametrize("end", ["expired", "disabled"])
def test_no_session_outlives_its_certificate(edge: Edge, version: ssl.TLSVersion, end: str) -> None:
    """An open connection, a session resumed before and one resumed after: all end with the certificate."""
    context = limited_to(edge.pki.context_of(edge.pki.tax), version)
    session = resumed(edge, context)
    with (
        edge.connect(edge.pki.tax) as kept_open,
        edge.connect(None, context=context, session=session) as resumed_before,
    ):
        assert resumed_before.tls.session_reused
        assert kept_open.get().status == 200
        assert resumed_before.get().status == 200
        if end == "expired":
            edge.now = edge.pki.tax.x509().not_valid_after_utc.timestamp() + 1
        else:
            edge.authenticator.disable(edge.pki.tax.fingerprint)
        for caller in (kept_open, resumed_before):
            refused(caller.get(), f"certificate-{end}")
            assert caller.is_closed()
    with edge.connect(None, context=context, session=session) as resumed_after:
        assert resumed_after.tls.session_reused  # TLS itself still lets it in
        refused(resumed_after.get(), f"certificate-{end}")


def test_the_last_second_of_a_certificate_still_counts(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        edge.now = edge.pki.tax.x509().not_valid_after_utc.timestamp()
        assert caller.get().status == 200


def test_a_clock_before_the_certificate_refuses_it(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        assert caller.get().status == 200
        edge.now = edge.pki.tax.x509().not_valid_before_utc.timestamp() - 1
        refused(caller.get(), "certificate-not-yet-valid")


def test_a_handshake_with_a_bad_certificate_is_refused_with_the_reason_on_the_record(edge: Edge) -> None:
    ca, now = edge.pki.ca, datetime.now(UTC)
    request, day = CertificateRequest.for_subsystem(TAX), timedelta(days=1)
    cases = [
        (edge.pki.stranger, "certificate-chain", 20),
        (ca.issue("expired", request, not_before=now - 2 * day, not_after=now - day), "certificate-expired", 10),
        (ca.issue("early", request, not_before=now + day, not_after=now + 2 * day), "certificate-not-yet-valid", 9),
        (edge.pki.server, "certificate-profile", 26),  # a server's certificate in a caller's hand
    ]
    for caller_certificate, rule, code in cases:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = limited_to(edge.pki.context_of(caller_certificate), version)
            with (  # TLS 1.2 fails in the handshake, TLS 1.3 at the first read
                pytest.raises((ssl.SSLError, ConnectionError, EOFError)),
                edge.connect(None, context=context) as caller,
            ):
                caller.get()
            refusal = edge.handshakes.get(timeout=TIMEOUT)
            assert (refusal.rule, refusal.verify_code) == (rule, code)
            assert refusal.reason
    assert edge.handshakes.empty()


def test_a_caller_that_distrusts_the_server_is_told_apart(edge: Edge) -> None:
    with (
        pytest.raises(ssl.SSLCertVerificationError),
        edge.connect(None, context=client_context(edge.pki.foreign.bundle)),
    ):
        pass
    refusal = edge.handshakes.get(timeout=TIMEOUT)
    assert (refusal.rule, refusal.verify_code) == ("client-alert", None)


def test_old_tls_is_refused(edge: Edge) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(edge.pki.ca.bundle)
    context.set_ciphers("ECDHE+AES:@SECLEVEL=1")  # CBC suites only exist up to TLS 1.2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES256-SHA384")
    with pytest.raises((ssl.SSLError, ConnectionError)), edge.connect(None, context=context):
        pass
    assert edge.handshakes.get(timeout=TIMEOUT).rule == "tls-handshake"


def test_plain_http_at_the_tls_port_is_refused_with_the_reason_on_the_record(edge: Edge) -> None:
    with socket.create_connection(("127.0.0.1", edge.port), timeout=TIMEOUT) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while plain.recv(1024):
            pass
    refusal = edge.handshakes.get(timeout=TIMEOUT)
    assert (refusal.rule, refusal.reason) == ("tls-handshake", "http request")


def test_a_new_server_certificate_is_used_without_a_restart(pki: Pki) -> None:
    context = server_context(pki.server.certificate, pki.server.key, pki.ca.bundle, on_handshake_refused=print)
    assert context.verify_mode == ssl.CERT_OPTIONAL
    assert context.num_tickets == 1
    renewed = pki.ca.issue("renewed", CertificateRequest.for_server("gateway.example"))
    load_certificate(context, renewed.certificate, renewed.key)
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(here, there, server_side=True)
    caller = client_context(pki.ca.bundle).wrap_bio(there, here, server_hostname="gateway.example")
    for end in (caller, server, caller, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert caller.getpeercert(binary_form=True) == renewed.der
    assert vars(type(server))["server_certificate"] == renewed.certificate.read_text()


def test_a_context_does_not_start_without_its_files(pki: Pki) -> None:
    missing = pki.ca.bundle.with_name("missing.pem")
    with pytest.raises(OSError, match="No such file"):
        server_context(pki.server.certificate, pki.server.key, missing, on_handshake_refused=print)
    with pytest.raises(ssl.SSLError):
        server_context(pki.server.certificate, pki.tax.key, pki.ca.bundle, on_handshake_refused=print)


def test_the_demo_ca_makes_certificates_a_strict_client_accepts(pki: Pki, edge: Edge) -> None:
    context = client_context(pki.ca.bundle)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with edge.connect(None, context=context) as caller:
        assert caller.get().status == 401
    leaf = x509.verification.PolicyBuilder().store(x509.verification.Store([root_of(pki.ca)]))
    leaf.build_client_verifier().verify(pki.tax.x509(), [])
    leaf.build_server_verifier(x509.DNSName("localhost")).verify(pki.server.x509(), [])


def root_of(ca: DemoCA) -> x509.Certificate:
    return x509.load_pem_x509_certificate(ca.trust_anchors)


def refused(answer: Answer, rule: str) -> None:
    assert (answer.status, answer.json()["rule"]) == (401, rule)
