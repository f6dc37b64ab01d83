"""Enrolment and renewal over real TLS: what is sent to whom, what is taken from whom, and what a crash leaves behind."""

from __future__ import annotations

import json
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca_auth import (
    CertificateRequest,
    DemoCA,
    EnrolmentError,
    HeldCertificate,
    IssuingCA,
    client_context,
    enrol,
    identity_of,
    load_crls,
    renew,
)
from ca_auth.issuing.enrolment_client import ENROLMENTS_PATH
from tests.ca_auth.enrolment_server import CaServer, ca_server, impostor
from tests.ca_auth.issuing_world import POLICE, REQUEST, TAX, Clock, csr_for, make_ca, new_key, pem
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[IssuingCA, CaServer]]:
    """A CA, its books open here as well, and its server."""
    folder = tmp_path_factory.mktemp("issuing")

    make_ca(folder / "ca", Clock()).close()
    ca = IssuingCA.open(folder / "ca", clock=time.time)
    with ca_server(folder / "ca", folder) as server:
        yield ca, server
    ca.close()


@pytest.fixture
def ca(world: tuple[IssuingCA, CaServer]) -> IssuingCA:
    return world[0]


@pytest.fixture
def server(world: tuple[IssuingCA, CaServer]) -> CaServer:
    return world[1]


@pytest.fixture
def root_file(ca: IssuingCA, tmp_path: Path) -> Path:
    file = tmp_path / "root.pem"
    file.write_bytes(pem(ca.root))
    return file


def get_code(ca: IssuingCA, request: CertificateRequest = REQUEST) -> str:
    return ca.new_code(request, by="test")[0]


def enrolled(ca: IssuingCA, server: CaServer, folder: Path) -> HeldCertificate:
    return enrol(server.url, get_code(ca), ca.root_fingerprint, folder).held


def ask(server: CaServer, trust: Path, method: str, path: str, **options: Any) -> httpx.Response:
    with httpx.Client(verify=client_context(trust), trust_env=False, timeout=30) as client:
        return client.request(method, f"{server.url}{path}", **options)


def consistent(held: HeldCertificate) -> bool:
    """Whether the key is the certificate's."""
    key = load_pem_private_key(held.key.read_bytes(), None)
    return key.public_key() == held.read().public_key()


# Enrolment


def test_a_department_gets_a_certificate_with_its_chain_for_a_key_made_there(
    ca: IssuingCA, server: CaServer, tmp_path: Path
) -> None:
    pinned = ":".join(ca.root_fingerprint[start : start + 2].upper() for start in range(0, 64, 2))
    got = enrol(server.url, get_code(ca), pinned, tmp_path / "tax", name="adapter")
    assert identity_of(got.certificate).subsystem == TAX
    assert consistent(got.held)
    assert stat.S_IMODE(got.held.key.stat().st_mode) == 0o600
    chain = x509.load_pem_x509_certificates(got.held.certificate.read_bytes())
    assert chain == [got.certificate, *ca.chain[:-1]]
    assert got.trust_anchors.read_bytes() == pem(ca.root)
    assert {each.name for each in (tmp_path / "tax").iterdir()} == {
        *("adapter.crt", "adapter.key", "ca.pem", ".adapter.key.lock")
    }
    client_context(got.trust_anchors, got.held.certificate, got.held.key)


def test_a_server_with_another_root_is_sent_nothing(tmp_path: Path, ca: IssuingCA) -> None:
    """It shows a root of its own; the code does not leave, nor a signing request."""
    other = DemoCA.create(tmp_path / "other")
    theirs = other.issue("server", CertificateRequest.for_server())
    code = get_code(ca)
    with impostor(theirs.certificate, theirs.key, other.trust_anchors) as pretender:
        with pytest.raises(EnrolmentError) as error:
            enrol(pretender.url, code, ca.root_fingerprint, tmp_path / "out")
        assert error.value.rule == "root-fingerprint"
        assert len(pretender.received) == 1
    (sent,) = pretender.received
    assert sent.startswith(b"GET /v1/certificates/ca HTTP/1.1\r\n")
    assert sent.endswith(b"\r\n\r\n"), "a head, and no body"
    assert code.encode() not in sent
    assert not (tmp_path / "out" / "ca.pem").exists()
    assert not list((tmp_path / "out").glob("*.key"))


def test_a_server_that_shows_the_right_root_but_is_not_under_it_is_sent_nothing_either(
    tmp_path: Path, ca: IssuingCA
) -> None:
    """The root is public, so anybody can show it: TLS has to be under it before the code is sent."""
    other = DemoCA.create(tmp_path / "other")
    theirs = other.issue("server", CertificateRequest.for_server())
    with impostor(theirs.certificate, theirs.key, pem(ca.root)) as pretender:
        with pytest.raises(EnrolmentError) as error:
            enrol(pretender.url, get_code(ca), ca.root_fingerprint, tmp_path / "out")
        assert error.value.rule == "server-certificate"
    assert all(sent.startswith(b"GET ") or not sent for sent in pretender.received)


def test_a_server_under_the_root_for_another_name_is_sent_nothing(ca: IssuingCA, tmp_path: Path) -> None:
    key = new_key()
    held = HeldCertificate(tmp_path / "elsewhere.crt", tmp_path / "elsewhere.key")
    elsewhere = CertificateRequest(common_name="elsewhere", server_names=("elsewhere.example",))
    held.install(key, ca.issue(elsewhere, key.public_key(), by="test").pem())
    with impostor(held.certificate, held.key, pem(ca.root)) as pretender:
        with pytest.raises(EnrolmentError) as error:
            enrol(pretender.url, get_code(ca), ca.root_fingerprint, tmp_path / "out")
        assert error.value.rule == "server-certificate"
    assert all(sent.startswith(b"GET ") or not sent for sent in pretender.received)


@pytest.mark.parametrize(
    ("url", "fingerprint", "rule"),
    [
        ("http://localhost:1", "0" * 64, "url"),
        ("ca.example", "0" * 64, "url"),
        ("https://localhost:1", "0" * 63, "root-fingerprint"),
        ("https://localhost:1", "x" * 64, "root-fingerprint"),
        ("https://localhost:1", "0" * 64, "unreachable"),
    ],
)
def test_what_cannot_be_enrolled_with_is_said(tmp_path: Path, url: str, fingerprint: str, rule: str) -> None:
    with pytest.raises(EnrolmentError) as error:
        enrol(url, "code", fingerprint, tmp_path)
    assert error.value.rule == rule
    assert error.value.texts.keys() == {"en", "zh"}


def test_refusals_come_in_the_language_asked_for(ca: IssuingCA, server: CaServer, tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError) as error:
        enrol(server.url, "nonsense", ca.root_fingerprint, tmp_path, language="zh")
    assert error.value.rule == "enrolment-code"
    assert "注册码无效" in error.value.texts["zh"]


def test_after_a_refusal_the_right_code_works_in_the_same_folder(
    ca: IssuingCA, server: CaServer, tmp_path: Path
) -> None:
    with pytest.raises(EnrolmentError):
        enrol(server.url, "nonsense", ca.root_fingerprint, tmp_path)
    assert consistent(enrolled(ca, server, tmp_path))
    with pytest.raises(EnrolmentError) as error:
        enrolled(ca, server, tmp_path)
    assert error.value.rule == "already-enrolled"


def test_an_answer_lost_by_a_kill_of_the_server_is_given_again(tmp_path: Path) -> None:
    """The certificate is on disk, its answer never left: the server is killed with the request in its hands."""

    make_ca(tmp_path / "ca", Clock()).close()
    with ca_server(tmp_path / "ca", tmp_path) as server:
        ca = IssuingCA.open(tmp_path / "ca", clock=time.time)
        folder = tmp_path / "dept"
        folder.mkdir()
        held = HeldCertificate(folder / "client.crt", folder / "client.key")
        root = tmp_path / "root.pem"
        root.write_bytes(pem(ca.root))
        code = get_code(ca)
        body = json.dumps({"code": code, "csr": csr_for(held.next_key()).decode()}).encode()
        head = f"POST {ENROLMENTS_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        with raw, client_context(root).wrap_socket(raw, server_hostname="localhost") as connection:
            connection.sendall(head + body)
            wait_until(lambda: ca.store.certificates(holder=TAX))
            server.kill()
        (first,) = ca.store.certificates(holder=TAX)
        server.start()
        got = enrol(server.url, code, ca.root_fingerprint, folder)
        assert f"{got.certificate.serial_number:x}" == first.serial
        assert len(ca.store.certificates(holder=TAX)) == 1
        with pytest.raises(EnrolmentError) as error:
            enrol(server.url, code, ca.root_fingerprint, tmp_path / "thief")
        assert error.value.rule == "enrolment-code-used"
        assert "ca.code.reused" in server.log
        ca.close()


# The pair of files


@pytest.mark.parametrize("done", ["nothing", "key", "both"])
def test_an_interrupted_replacement_is_completed(ca: IssuingCA, tmp_path: Path, done: str) -> None:
    """Whatever the crash left undone of journal, key, certificate."""
    old_key, new = new_key(), new_key()
    held = HeldCertificate(tmp_path / "client.crt", tmp_path / "client.key")
    held.install(old_key, ca.issue(REQUEST, old_key.public_key(), by="test").pem())
    old = held.key.read_bytes(), held.certificate.read_bytes()
    issued = ca.issue(REQUEST, new.public_key(), by="test")
    held.install(new, issued.pem())
    (tmp_path / ".client.key.renewed").write_bytes(held.key.read_bytes() + held.certificate.read_bytes())
    if done != "both":
        held.certificate.write_bytes(old[1])
    if done == "nothing":
        held.key.write_bytes(old[0])
    held.recover()
    assert held.read() == issued.certificate
    assert consistent(held)
    assert not held.finish()


# Renewal


def test_a_renewal_replaces_key_and_certificate_and_keeps_the_names(
    ca: IssuingCA, server: CaServer, tmp_path: Path
) -> None:
    held = enrolled(ca, server, tmp_path)
    old, old_key = held.read(), held.key.read_bytes()
    new = renew(server.url, held, tmp_path / "ca.pem")
    assert held.read() == new
    assert consistent(held)
    assert held.key.read_bytes() != old_key
    assert stat.S_IMODE(held.key.stat().st_mode) == 0o600
    assert new.subject == old.subject
    assert new.serial_number != old.serial_number
    assert ca.store.certificate(f"{old.serial_number:x}")
    renew(server.url, held, tmp_path / "ca.pem")


def test_a_server_certificate_renews_itself(ca: IssuingCA, server: CaServer, tmp_path: Path) -> None:
    request = CertificateRequest(common_name="gw", server_names=("gw.example.cn",), self_renewing=True)
    got = enrol(server.url, get_code(ca, request), ca.root_fingerprint, tmp_path, name="server")
    assert renew(server.url, got.held, got.trust_anchors).subject == got.certificate.subject


def test_two_processes_that_renew_one_certificate_get_one(ca: IssuingCA, server: CaServer, tmp_path: Path) -> None:
    held = enrolled(ca, server, tmp_path)
    old = ca.store.certificate(f"{held.read().serial_number:x}")
    assert old is not None
    got: list[x509.Certificate] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        got.append(renew(server.url, held, tmp_path / "ca.pem", replacing=old.fingerprint))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert len(set(got)) == 1
    assert consistent(held)


def test_a_revoked_certificate_is_not_renewed_and_stays_where_it_is(
    ca: IssuingCA, server: CaServer, tmp_path: Path
) -> None:
    held = enrolled(ca, server, tmp_path)
    before = held.key.read_bytes(), held.certificate.read_bytes()
    row = ca.store.certificate(f"{held.read().serial_number:x}")
    assert row is not None
    ca.revocations.revoke([row], "cessationOfOperation", by="test")
    with pytest.raises(EnrolmentError) as error:
        renew(server.url, held, tmp_path / "ca.pem")
    assert error.value.rule == "certificate-revoked"
    assert (held.key.read_bytes(), held.certificate.read_bytes()) == before


def test_a_renewal_without_a_certificate_is_401(server: CaServer, root_file: Path) -> None:
    reply = ask(server, root_file, "POST", "/v1/certificates/renewals", json={"csr": csr_for(new_key()).decode()})
    assert (reply.status_code, reply.json()["rule"]) == (401, "client-certificate")


def test_a_certificate_of_another_ca_ends_in_the_handshake(server: CaServer, ca: IssuingCA, tmp_path: Path) -> None:
    stranger = DemoCA.create(tmp_path / "other").issue("tax", CertificateRequest.for_subsystem(TAX))
    (tmp_path / "ca.pem").write_bytes(pem(ca.root))
    held = HeldCertificate(stranger.certificate, stranger.key)
    with pytest.raises((EnrolmentError, ssl.SSLError)):
        renew(server.url, held, tmp_path / "ca.pem")


# The HTTP side


def test_what_the_ca_publishes_is_enough_to_check_its_certificates(
    ca: IssuingCA, server: CaServer, root_file: Path
) -> None:
    shown = ask(server, root_file, "GET", "/v1/certificates/ca")
    assert shown.headers["content-type"] == "application/pem-certificate-chain"
    assert x509.load_pem_x509_certificates(shown.content) == [ca.root, *ca.chain[:-1]]
    own = ask(server, root_file, "GET", "/v1/certificates/crl")
    assert own.headers["content-type"] == "application/pkix-crl"
    assert own.content == ca.revocations.current().der
    every = load_crls(ask(server, root_file, "GET", "/v1/certificates/crls").content)
    assert [each.issuer for each in every] == [ca.certificate.subject, ca.root.subject]


def test_a_revocation_by_the_command_is_served_at_once(ca: IssuingCA, server: CaServer, root_file: Path) -> None:
    row = ca.issue(REQUEST, new_key().public_key(), by="test").row
    ca.revocations.revoke([row], "superseded", by="test")
    served = x509.load_der_x509_crl(ask(server, root_file, "GET", "/v1/certificates/crl").content)
    assert served.get_revoked_certificate_by_serial_number(int(row.serial, 16)) is not None


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "rule"),
    [
        ("POST", "enrolments", {"content": b"not json"}, 400, "enrolment-form"),
        ("POST", "enrolments", {"json": {"code": "x"}}, 400, "enrolment-form"),
        ("POST", "enrolments", {"json": {"code": 1, "csr": "x"}}, 400, "enrolment-form"),
        ("POST", "enrolments", {"json": {"code": "x", "csr": "x", "identity": POLICE}}, 400, "enrolment-form"),
        ("POST", "enrolments", {"json": ["x"]}, 400, "enrolment-form"),
        ("POST", "enrolments", {"content": b"[" * 19_000}, 400, "enrolment-form"),
        ("POST", "enrolments", {"content": b"x" * 30_000}, 413, "body-limit"),
        ("POST", "enrolments?code=1", {"json": {}}, 400, "query-parameter"),
        ("GET", "crl?x=1", {}, 400, "query-parameter"),
        ("GET", "nothing", {}, 404, "exists"),
        ("DELETE", "ca", {}, 405, "method"),
    ],
)
def test_what_is_malformed_is_told_in_one_problem(
    server: CaServer, root_file: Path, method: str, path: str, options: dict[str, Any], status: int, rule: str
) -> None:
    reply = ask(server, root_file, method, f"/v1/certificates/{path}", **options)
    assert (reply.status_code, reply.json()["rule"]) == (status, rule)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["cache-control"] == "no-store"


def test_a_bad_signing_request_is_422_and_leaves_the_code_good(
    ca: IssuingCA, server: CaServer, root_file: Path
) -> None:
    code = get_code(ca)
    reply = ask(server, root_file, "POST", ENROLMENTS_PATH, json={"code": code, "csr": "rubbish"})
    assert (reply.status_code, reply.json()["rule"]) == (422, "csr-form")
    good = {"code": code, "csr": csr_for(new_key()).decode()}
    answers = [ask(server, root_file, "POST", ENROLMENTS_PATH, json=good) for _ in range(2)]
    assert [each.status_code for each in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


def test_an_address_that_guesses_codes_is_made_to_wait(tmp_path: Path) -> None:
    """Also for a right one: the answer must not depend on it."""

    make_ca(tmp_path / "ca", Clock()).close()
    ca = IssuingCA.open(tmp_path / "ca", clock=time.time)
    root = tmp_path / "root.pem"
    root.write_bytes(pem(ca.root))
    with ca_server(tmp_path / "ca", tmp_path) as server:
        csr = csr_for(new_key()).decode()
        for _ in range(10):
            reply = ask(server, root, "POST", ENROLMENTS_PATH, json={"code": "guess", "csr": csr})
            assert (reply.status_code, reply.json()["rule"]) == (403, "enrolment-code")
        for code in ("guess", get_code(ca)):
            reply = ask(server, root, "POST", ENROLMENTS_PATH, json={"code": code, "csr": csr})
            assert (reply.status_code, reply.json()["rule"]) == (429, "enrolment-rate")
            assert int(reply.headers["retry-after"]) > 0
        assert server.log.count("ca.enrolment.refused") == 10
        assert "guess" not in server.log, "a code does not go into logs, not even a wrong one"
        assert "Traceback" not in server.log
    ca.close()
