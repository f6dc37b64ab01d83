"""RFC 9440: a terminator may say who is calling; nobody else may."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ca_auth.edge.client_cert_header import (
    Connection,
    PresentedCertificate,
    RefusedHeaderError,
    TerminatorTrust,
    parse_client_cert,
    strip_client_cert,
)

RFC: dict[str, Any] = json.loads((Path(__file__).parent / "rfc9440.json").read_text(encoding="utf-8"))
LEAF, *CHAIN = (x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER) for pem in RFC["certificates"])
CLIENT_CERT = (b"client-cert", RFC["client_cert"].encode())
CLIENT_CERT_CHAIN = (b"client-cert-chain", RFC["client_cert_chain"].encode())
PINNED = hashlib.sha256(b"the terminator").hexdigest()
SOCKET = "/run/datong/terminator.sock"
TRUST = TerminatorTrust(unix_sockets=[SOCKET], fingerprints=[PINNED])
BY_SOCKET = Connection(unix_socket=SOCKET)
BY_TLS = Connection(peer=PINNED, leaf=b"the terminator")
CALLER = Connection(peer="0" * 64, leaf=b"the caller", chain=(b"its CA",))
NOBODY = Connection()


def field(*ders: bytes) -> bytes:
    return b", ".join([b":%b:" % base64.b64encode(der) for der in ders])


def refused(*headers: tuple[bytes, bytes]) -> str:
    with pytest.raises(RefusedHeaderError) as caught:
        TRUST.certificate_of(BY_SOCKET, headers)
    error = caught.value
    assert (error.status, error.code, error.rule) == (401, "unauthenticated", "client-cert-header")
    assert error.detail_in("zh") != error.detail_in("en")
    assert "9440" in error.next_in("zh")
    return str(error)


@pytest.mark.parametrize("connection", [BY_SOCKET, BY_TLS], ids=["unix socket", "pinned certificate"])
def test_the_examples_of_rfc_9440_name_the_certificates_it_prints(connection: Connection) -> None:
    headers = [(b"host", b"a"), CLIENT_CERT, CLIENT_CERT_CHAIN]
    assert TRUST.certificate_of(connection, headers) == PresentedCertificate(LEAF, tuple(CHAIN))
    assert TRUST.certificate_of(connection, [CLIENT_CERT]) == (LEAF, ())


def test_a_chain_may_come_in_several_lines() -> None:
    lines = [(b"client-cert-chain", field(der)) for der in CHAIN]
    assert parse_client_cert([lines[0], CLIENT_CERT, lines[1]]) == (LEAF, tuple(CHAIN))


@pytest.mark.parametrize("connection", [BY_SOCKET, BY_TLS], ids=["unix socket", "pinned certificate"])
def test_a_terminator_without_the_header_has_no_client_certificate(connection: Connection) -> None:
    """Least of all its own: it would speak for every caller that came without one."""
    assert TRUST.certificate_of(connection, [(b"host", b"a"), (b"client_cert", field(LEAF))]) is None


@pytest.mark.parametrize(
    "connection",
    [
        CALLER,
        Connection(unix_socket="/run/datong/other.sock", leaf=b"the caller", chain=(b"its CA",)),
        Connection(peer=PINNED.upper(), leaf=b"the caller", chain=(b"its CA",)),
    ],
)
def test_nobody_else_is_believed_or_refused_for_trying(connection: Connection) -> None:
    for headers in ([CLIENT_CERT, CLIENT_CERT_CHAIN], [(b"client-cert", b"nonsense")], []):
        assert TRUST.certificate_of(connection, headers) == (b"the caller", (b"its CA",))
        assert TRUST.certificate_of(NOBODY, headers) is None
        assert TerminatorTrust().certificate_of(BY_TLS, headers) == (b"the terminator", ())
        assert TerminatorTrust().certificate_of(BY_SOCKET, headers) is None


def test_a_pin_or_socket_that_could_match_anything_is_refused_at_once() -> None:
    for fingerprints in ([""], [PINNED.upper()], [PINNED[:-1]], ["AB:CD"]):
        with pytest.raises(ValueError, match="64 lower-case hex digits"):
            TerminatorTrust(fingerprints=fingerprints)
    with pytest.raises(ValueError, match="path"):
        TerminatorTrust(unix_sockets=[""])


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"::",
        b":",
        b"MIIB",
        b'"MIIB"',
        b":MIIB",
        b":MI IB:",
        b":MI-_:",
        b":MIIB:, :MIIB:",
        b"(:MIIB:)",
        b":MIIB: x",
        b"1",
        b"%3A-----BEGIN%20CERTIFICATE",
        b"-----BEGIN CERTIFICATE-----",
        b"Hash=ab;Cert=cd",
        b"\xff",
        field(b"x" * 8193),
        b":" + b"A" * 200_000 + b":",
    ],
)
def test_a_leaf_of_another_form_is_refused(value: bytes) -> None:
    refused((b"client-cert", value))


@pytest.mark.parametrize(
    "value",
    [b"", b"()", b"1", b":MIIB:,", b":MIIB: :MIIB:", b":MIIB:, x", b"::", field(*[b"x"] * 9), field(b"x" * 8193)],
)
def test_a_chain_of_another_form_is_refused(value: bytes) -> None:
    refused(CLIENT_CERT, (b"client-cert-chain", value))


def test_two_leaves_and_a_chain_without_leaf_are_refused() -> None:
    assert "more than once" in refused(CLIENT_CERT, CLIENT_CERT)
    assert "without Client-Cert" in refused(CLIENT_CERT_CHAIN)


SPELLINGS = [
    *("client-cert", "Client-Cert", "CLIENT_CERT", "client_cert", "client-cert-chain", "Client_Cert-Chain", "Client.Cert"),
    *("X-Client-Cert", "X_CLIENT_CERT", "X-Client-Certificate", "X-Forwarded-Client-Cert", "X-ARR-ClientCert"),
    *("X-SSL-Client-Cert", "X-SSL-CERT", "SSL_CLIENT_CERT", "ssl-client-cert", "ssl-client-verify", "SSL-Client-Subject-DN"),
    *("X-SSL-Client-CN", "X-SSL-Client-Verify", "X-SSL-Issuer", "SSL_CLIENT_S_DN", "X-Forwarded-Tls-Client-Cert"),
    *("X-Forwarded-Tls-Client-Cert-Info", "X-Amzn-Mtls-Clientcert", "X-Amzn-Mtls-Clientcert-Leaf"),
    "X-Amzn-Mtls-Clientcert-Subject",
    *("Cf-Client-Cert-Der-Base64", "X-Client-Cert-Chain-Verified", "WL-Proxy-Client-Cert", "CERT_CHAIN_0", "$WSCC", "xfcc"),
]  # fmt: skip
INNOCENT = [
    *(
        "host",
        "accept",
        "authorization",
        "content-type",
        "content-digest",
        "signature",
        "signature-input",
        "x-road-client",
    ),
    *(
        "x-road-userid",
        "datong-purpose",
        "traceparent",
        "x-certificate-number",
        "client-id",
        "x-client",
        "cookie",
        "etag",
    ),
]


@pytest.mark.parametrize("name", SPELLINGS)
def test_whatever_looks_like_a_client_certificate_is_stripped(name: str) -> None:
    kept = [(b"host", b"a"), (b"accept", b"*/*")]
    for spelling in {name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("_", "-")}:
        assert strip_client_cert([kept[0], (spelling.encode(), b":MIIB:"), kept[1]]) == kept


def test_other_headers_stay_as_they_are_in_their_order() -> None:
    headers = [(name.encode(), b"x") for name in INNOCENT]
    assert strip_client_cert(headers) == headers


@given(st.lists(st.tuples(st.sampled_from([b"client-cert", b"client-cert-chain"]), st.binary(max_size=200)
                          | st.text(alphabet=":ABC=(), ;\"%", max_size=40).map(str.encode)), max_size=4))  # fmt: skip
def test_whatever_a_terminator_sends_is_read_or_refused(headers: list[tuple[bytes, bytes]]) -> None:
    try:
        presented = parse_client_cert(headers)
    except RefusedHeaderError:
        return
    assert (presented is None) == (not headers)


@given(st.binary(max_size=60))
def test_whatever_a_name_holds_is_kept_or_stripped(name: bytes) -> None:
    assert strip_client_cert([(name, b"")]) in ([], [(name, b"")])
