"""Signatures at the department: time, nonces and certificates by the adapter's own clock and its own list of CAs.

What a lying gateway changes in a question is tried on a whole mesh in `tests/gateway/test_signed_requests.py`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca_auth import CallerKey, CertificateRequest, DemoCA, IssuedCertificate, sign_request, verify_request
from department_adapters.contract import read_contract
from department_adapters.section import ContractError
from department_adapters.signed_questions import SignatureDesk, UnsignedQuestionError
from exchange import QueryHead, QueryStatement, evidence_digest, member_of, subsystem_id
from tests.department_adapters.adapter_kit import ENTERPRISES, make_statement

CLIENT = subsystem_id("CN/GOV/11990000000000001X/housing")
OWN = [(b"x-road-client", CLIENT.encode()), (b"datong-purpose", b"test")]
NOW = int(time.time()) - 1000
"""Not now: what is compared with the clock of the machine shows."""


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> DemoCA:
    return DemoCA.create(tmp_path_factory.mktemp("ca"), clock=lambda: datetime.fromtimestamp(NOW, UTC))


@pytest.fixture(scope="module")
def caller(ca: DemoCA) -> IssuedCertificate:
    return ca.issue("caller", CertificateRequest.for_subsystem(CLIENT))


def anchors(ca: DemoCA) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(ca.bundle.read_bytes())


def question(
    by: IssuedCertificate, *, created: int = NOW, nonce: str = "", body: bytes = b"", parts: int = 0
) -> tuple[QueryStatement, QueryHead]:
    """A signed question as an honest gateway makes it."""
    key: Any = load_pem_private_key(by.key.read_bytes(), None)
    request: dict[str, Any] = {
        "method": "POST" if body else "GET",
        "path": f"/r1/{ENTERPRISES}/x".encode(),
        "query": b"",
        "body": body,
    }
    headers = [(b"host", b"gateway"), *OWN]
    made = sign_request(key, by.fingerprint, **request, headers=headers, created=created, nonce=nonce)
    headers += [(name.lower().encode(), value.encode()) for name, value in made]
    evidence = verify_request(**request, headers=headers, caller=CallerKey.of(by.der), now=created).evidence
    statement, salt = make_statement("g", request["method"], b"/x", headers[1:], body, safe=None, timeout=5)
    message_id = f"CN-{statement.id}"
    forwarded = [*headers[1:], (b"x-road-id", message_id.encode()), (b"x-road-request-id", statement.id.encode())]
    statement = msgspec.structs.replace(
        statement,
        client=CLIENT,
        certificate=by.fingerprint,
        message_id=message_id,
        signature_digest=evidence_digest(salt, evidence),
    )
    return statement, QueryHead(b"", b"", salt, b"/x", forwarded, 5000, parts, evidence, by.der)


def accept(desk: SignatureDesk, asked: tuple[QueryStatement, QueryHead], body: bytes = b"") -> None:
    bound = desk.check(ENTERPRISES, *asked, body)
    assert bound is not None
    desk.spend(bound)


def refuse(desk: SignatureDesk, asked: tuple[QueryStatement, QueryHead], why: str, body: bytes | None = b"") -> None:
    with pytest.raises(UnsignedQuestionError, match=why):
        desk.check(ENTERPRISES, *asked, body)


def test_a_signed_question_counts_and_an_unsigned_one_where_none_is_demanded(
    ca: DemoCA, caller: IssuedCertificate
) -> None:
    desk = SignatureDesk(anchors(ca), clock=lambda: NOW)
    accept(desk, question(caller))
    accept(desk, question(caller, body=b"{}"), b"{}")
    statement, head = question(caller)
    unsigned = msgspec.structs.replace(statement, signature_digest=msgspec.UNSET)
    assert desk.check(ENTERPRISES, unsigned, head, b"") is None
    refuse(SignatureDesk(anchors(ca), [ENTERPRISES]), (unsigned, head), "signed questions only")


@pytest.mark.parametrize(("seconds", "counts"), [(-120, True), (-121, False), (120, True), (121, False)])
def test_a_signature_counts_for_two_minutes_by_the_adapter_s_clock(
    ca: DemoCA, caller: IssuedCertificate, seconds: int, counts: bool
) -> None:
    desk = SignatureDesk(anchors(ca), clock=lambda: NOW + seconds)
    if counts:
        accept(desk, question(caller))
    else:
        refuse(desk, question(caller), "s ago")


def test_a_nonce_counts_once_as_long_as_its_signature_would_count(ca: DemoCA, caller: IssuedCertificate) -> None:
    now = [float(NOW)]
    desk = SignatureDesk(anchors(ca), clock=lambda: now[0])
    accept(desk, question(caller, nonce="0123456789abcdef"))
    for later in (0, 1, 59, 119, 120):
        now[0] = NOW + later
        accept(desk, question(caller, created=NOW + later))  # others come and go meanwhile
        refuse(desk, question(caller, nonce="0123456789abcdef"), "used before")
    now[0] = NOW + 1000
    accept(desk, question(caller, created=NOW + 1000))
    assert len(desk._used) == 1, "what is too old is forgotten"


def test_a_body_in_parts_may_take_longer_than_the_signature_lives(ca: DemoCA, caller: IssuedCertificate) -> None:
    now = [float(NOW)]
    desk = SignatureDesk(anchors(ca), clock=lambda: now[0])
    body = b"x" * 1000
    asked = question(caller, body=body, parts=3)
    twin = question(caller, body=body, parts=3, nonce="0123456789abcdef")
    again = question(caller, body=body, parts=3, nonce="0123456789abcdef")
    for each in (asked, twin, again):
        assert desk.check(ENTERPRISES, *each, None) is not None
    now[0] = NOW + 200
    accept(desk, asked, body)
    accept(desk, twin, body)
    refuse(desk, again, "used before", body)
    refuse(desk, question(caller, body=body, parts=3), "s ago", None)
    refuse(desk, question(caller, body=body, parts=3), "digest", b"y" * 1000)


def test_the_certificate_is_judged_by_the_department_s_own_list(ca: DemoCA, tmp_path: Path) -> None:
    now = datetime.fromtimestamp(NOW, UTC)
    subsystem = CertificateRequest.for_subsystem(CLIENT)
    desk = SignatureDesk(anchors(ca), clock=lambda: NOW)
    accept(desk, question(ca.issue("member", CertificateRequest.for_member(member_of(CLIENT)))))
    foreign = DemoCA.create(tmp_path / "foreign", clock=lambda: datetime.fromtimestamp(NOW, UTC))
    refuse(desk, question(foreign.issue("caller", subsystem)), "no path to a trust anchor")
    refuse(desk, question(ca.issue("old", subsystem, not_after=now - timedelta(hours=1))), "not valid at")
    other = subsystem_id("CN/GOV/11990000000000002X/other")
    refuse(desk, question(ca.issue("other", CertificateRequest.for_subsystem(other))), "may not speak")
    refuse(SignatureDesk(clock=lambda: NOW), question(ca.issue("caller2", subsystem)), "no trust anchors")


def test_a_certificate_that_ends_while_it_is_known_counts_no_longer(ca: DemoCA) -> None:
    now = [float(NOW)]
    ends = datetime.fromtimestamp(NOW + 30, UTC)
    caller = ca.issue("short", CertificateRequest.for_subsystem(CLIENT), not_after=ends)
    desk = SignatureDesk(anchors(ca), clock=lambda: now[0])
    accept(desk, question(caller))
    now[0] = NOW + 31
    refuse(desk, question(caller), "not valid at")


CONTRACT = """
[adapter]
name = "tax"
subsystem = "CN/GOV/11990000000001011Q/tax"
[bus]
url = "tls://127.0.0.1:4222"
certificate = "tax.crt"
key = "tax.key"
trust_anchors = "ca.pem"
gateways = "gateways.pem"
{callers}
[services.enterprises]
source = "http"
base_url = "http://127.0.0.1:9"
allow_addresses = ["127.0.0.1"]
signed_requests = {demanded}
"""


def test_the_contract_demands_signatures_and_names_the_cas(tmp_path: Path) -> None:
    path = tmp_path / "adapter.toml"
    path.write_text(CONTRACT.format(callers="", demanded="true"))
    contract = read_contract(path)
    assert contract.bus.callers == tmp_path / "ca.pem"
    assert contract.services["enterprises"].signed_requests
    path.write_text(CONTRACT.format(callers='callers = "callers.pem"', demanded="false"))
    contract = read_contract(path)
    assert contract.bus.callers == tmp_path / "callers.pem"
    assert not contract.services["enterprises"].signed_requests
    path.write_text(CONTRACT.format(callers="", demanded='"yes"'))
    with pytest.raises(ContractError, match=r"services\.enterprises\.signed_requests"):
        read_contract(path)
