"""Receipts verify offline, alone, and never after a change."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from msgspec import UNSET, Raw

from ca_auth import CertificateRequest, DemoCA, IssuedCertificate
from exchange.identifiers import SubsystemId, member_id, subsystem_id
from exchange.log.record import Record, record_bytes, seal_text
from exchange.messages.envelope import AnswerStatement, content_digest, request_digest, statement_bytes
from exchange.receipts.receipt import Check, ReceiptError, SentRequest, build_receipt, verify_receipt
from exchange.signatures.seal import ANSWER_CONTEXT, QUERY_CONTEXT, PrivateKey, seal_all
from exchange.transparency.checkpoint import NoteSigner
from tests.exchange.log_kit import Attempt, Place, attempt, new_id, now_ms, query_statement

CLIENT = subsystem_id("CN/GOV/HOUSING/housing")
OWNER = subsystem_id("CN/GOV/TAX/tax")
SALT = b"0123456789abcdef"
BODY = '{"名称":"某企业"}'.encode()
REQUEST = SentRequest("GET", b"/enterprises/9199?x=1", [(b"accept", b"application/json")], b"")


@dataclasses.dataclass(frozen=True)
class Parties:
    """Whoever signs and is named in a record."""

    ca: DemoCA
    caller: IssuedCertificate
    gateway: IssuedCertificate
    adapter: IssuedCertificate
    signer: NoteSigner

    def keys(self, **changes: Any) -> bytes:
        content = {
            "format": "datong-keys/1",
            "logs": [self.signer.verifier.vkey],
            "trust_anchors": [self.ca.bundle.read_text()],
        }
        return json.dumps({**content, **changes}).encode()

    @property
    def certificates(self) -> list[IssuedCertificate]:
        return [self.caller, self.gateway, self.adapter]


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    ca = DemoCA.create(tmp_path_factory.mktemp("ca"))

    def issue(name: str, subsystem: SubsystemId) -> IssuedCertificate:
        return ca.issue(name, CertificateRequest.for_subsystem(subsystem))

    return Parties(
        ca,
        issue("caller", CLIENT),
        issue("gateway", subsystem_id("CN/GOV/OPERATOR/gateway")),
        issue("adapter", OWNER),
        NoteSigner.generate("log.example/receipts"),
    )


def key_of(issued: IssuedCertificate) -> PrivateKey:
    key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
    assert isinstance(key, PrivateKey)
    return key


def exchange(
    parties: Parties,
    *,
    query: dict[str, Any] | None = None,
    answer: dict[str, Any] | None = None,
    record: dict[str, Any] | None = None,
    query_signer: IssuedCertificate | None = None,
    answer_signer: IssuedCertificate | None = None,
) -> Attempt:
    """The record of an answered exchange, sealed by the parties; the arguments make it lie."""
    exchange_id, at_ms = new_id(), now_ms()
    fields = {
        "certificate": parties.caller.fingerprint,
        "gateway": parties.gateway.fingerprint,
        "client": CLIENT,
        "service": f"{OWNER}/enterprises",
        "request_digest": request_digest(SALT, REQUEST.method, REQUEST.target, list(REQUEST.headers), REQUEST.body),
    }
    asked = query_statement(exchange_id, 0, at_ms, **{**fields, **(query or {})})
    asked_bytes = statement_bytes(asked)
    said_fields: dict[str, Any] = {
        "adapter": parties.adapter.fingerprint,
        "answered_at": asked.asked_at,
        "body_digest": content_digest(SALT, BODY),
        "body_size": len(BODY),
        "error": "",
        "headers_digest": content_digest(SALT, b""),
        "id": exchange_id,
        "query_digest": hashlib.sha256(asked_bytes).hexdigest(),
        "status": 200,
    }
    said = statement_bytes(AnswerStatement(**{**said_fields, **(answer or {})}))
    # Sealed among others of the same turn, as under load.
    query_seal = seal_all(key_of(query_signer or parties.gateway), QUERY_CONTEXT, [b"other", asked_bytes, b"third"])[1]
    answer_seal = seal_all(key_of(answer_signer or parties.adapter), ANSWER_CONTEXT, [said])[0]
    record_fields: dict[str, Any] = {
        "answer": Raw(said),
        "answer_seal": seal_text(answer_seal),
        "certificate_serial": f"{parties.caller.x509().serial_number:x}",
        "duration_us": 1,
        "ended_at": asked.asked_at,
        "id": exchange_id,
        "outcome": "answered",
        "query": Raw(asked_bytes),
        "query_seal": seal_text(query_seal),
        "status": 200,
    }
    made = Record(**{**record_fields, **(record or {})})
    return Attempt(record_bytes(made), exchange_id, at_ms, asked.client, asked.service, made.outcome, made.rule, SALT)


async def receipt_of(place: Place, parties: Parties, one: Attempt, *, beside: int = 20) -> bytes:
    """The receipt of a record that stands among others in a log."""
    place.signer = parties.signer
    place.log_key.write_text(parties.signer.skey)
    await place.fill(beside, [], extra=[one], certificates=[each.der for each in parties.certificates])
    async with place.reader() as reader:
        entry = await reader.entry(one.exchange_id)
        newest = await reader.latest_checkpoint()
        assert entry is not None
        assert newest is not None
        return await build_receipt(reader, entry, newest.note)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)


@pytest.fixture
async def receipt(place: Place, parties: Parties) -> bytes:
    return await receipt_of(place, parties, exchange(parties))


def failed(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if not check.ok}


def test_a_receipt_passes_every_check(receipt: bytes, parties: Parties) -> None:
    checks = verify_receipt(receipt, parties.keys(), request=REQUEST, answer_body=BODY)
    assert failed(checks) == set(), [check for check in checks if not check.ok]
    assert [check.name for check in checks] == [
        *(
            "form",
            "checkpoint",
            "inclusion",
            "witnessed",
            "stamped",
            "record",
            "caller",
            "signature",
            "gateway",
            "adapter",
            "binding",
            "revocation",
            "certificates",
        ),
        *("request", "answer"),
    ]
    assert all(check.en and check.zh for check in checks)
    assert CLIENT in checks[5].en
    absent = {check.name for check in checks if check.state == "absent"}
    assert absent == {"witnessed", "stamped", "signature", "revocation"}


def telling_places(receipt: bytes) -> list[int]:
    """Every byte of a receipt, but of long base64 (certificates, lists of revocations) one in nine."""
    in_one_line = receipt.replace(rb"\n", b"++")
    inside = {at for found in re.finditer(rb"[A-Za-z0-9+/=]{200,}", in_one_line) for at in range(*found.span())}
    return [at for at in range(len(receipt)) if at not in inside or at % 9 == 0]


def test_a_receipt_with_any_byte_changed_is_refused(receipt: bytes, parties: Parties) -> None:
    keys = parties.keys()
    places = telling_places(receipt)
    assert len(receipt) / 9 < len(places) < len(receipt)
    for position in places:
        changed = receipt[:position] + bytes([receipt[position] ^ (1 << position % 8)]) + receipt[position + 1 :]
        assert failed(verify_receipt(changed, keys, answer_body=BODY)), f"byte {position}"


def test_a_receipt_with_anything_cut_or_added_is_refused(receipt: bytes, parties: Parties) -> None:
    keys = parties.keys()
    assert not failed(verify_receipt(receipt + b"\n", keys))
    for changed in (
        receipt + b"\n\n",
        receipt + b" ",
        b" " + receipt,
        receipt[:-1],
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 99_999,
    ):
        assert failed(verify_receipt(changed, keys)) == {"form"}
    pretty = json.dumps(json.loads(receipt), indent=1).encode()
    assert failed(verify_receipt(pretty, keys)) == {"form"}
    double = receipt.replace(b'"format":', b'"format":"datong-receipt/1","format":', 1)
    assert failed(verify_receipt(double, keys)) == {"form"}


def every_field(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [found for key in value for found in every_field(value[key], (*path, key))]
    if isinstance(value, list):
        return [found for number, each in enumerate(value) for found in every_field(each, (*path, number))]
    return [path]


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def test_a_record_with_any_field_changed_is_refused(receipt: bytes, parties: Parties) -> None:
    keys = parties.keys()
    outer = json.loads(receipt)
    paths = every_field(json.loads(outer["record"]))
    assert len(paths) > 40
    for path in paths:
        for change in ("changed", "removed"):
            record = json.loads(outer["record"])
            holder = record
            for step in path[:-1]:
                holder = holder[step]
            if change == "removed":
                del holder[path[-1]]
            else:
                old = holder[path[-1]]
                holder[path[-1]] = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else old + "x"
            changed = canonical({**outer, "record": canonical(record)}).encode()
            assert "inclusion" in failed(verify_receipt(changed, keys)), path


@pytest.mark.parametrize(
    ("lie", "found"),
    [
        ({"query": {"client": "CN/GOV/OTHER/housing"}}, {"caller"}),
        ({"query": {"certificate": ""}}, {"caller"}),
        ({"query": {"certificate": "00" * 32}}, {"caller"}),
        ({"query": {"gateway": "00" * 32}}, {"gateway"}),
        ({"query": {"service": "CN/GOV/OTHER/tax/enterprises"}}, {"adapter"}),
        ({"query": {"id": "another"}}, {"record", "binding"}),
        ({"query": {"asked_at": "2019-01-01T00:00:00.000Z"}}, {"caller", "gateway", "adapter", "certificates"}),
        ({"query": {"asked_at": "yesterday"}}, {"caller", "gateway", "adapter", "certificates"}),
        ({"query": {"asked_at": "2026-11-23T00:00:00.000"}}, {"caller", "gateway", "adapter", "certificates"}),
        ({"query": {"request_digest": ""}}, {"request"}),
        ({"answer": {"adapter": "00" * 32}}, {"adapter"}),
        ({"answer": {"id": "another"}}, {"binding"}),
        ({"answer": {"query_digest": ""}}, {"binding"}),
        ({"answer": {"status": 404}}, {"record"}),
        ({"answer": {"error": "backend-failed"}}, {"record"}),
        ({"answer": {"answered_at": "2050-01-01T00:00:00.000Z"}}, {"adapter", "certificates"}),
        ({"answer": {"body_digest": ""}}, {"answer"}),
        ({"answer": {"body_size": 1}}, {"answer"}),
        ({"record": {"certificate_serial": "1f"}}, {"caller", "certificates"}),
        ({"record": {"certificate_serial": ""}}, {"caller", "certificates"}),
        ({"record": {"outcome": "refused"}}, {"record"}),
        ({"record": {"outcome": "lost"}}, {"record"}),
        ({"record": {"code": "backend-failed"}}, {"record"}),
        ({"record": {"answer_seal": UNSET}}, {"record", "adapter"}),
        ({"record": {"v": 2}}, {"record"}),
    ],
)
async def test_a_record_that_lies_is_refused_even_if_it_is_in_the_log(
    place: Place, parties: Parties, lie: dict[str, Any], found: set[str]
) -> None:
    """The log proves that something was written, not that it is true: that takes the signatures of both sides."""
    receipt = await receipt_of(place, parties, exchange(parties, **lie))
    checks = verify_receipt(receipt, parties.keys(), request=REQUEST, answer_body=BODY)
    assert failed(checks) == found


async def test_a_receipt_shows_what_was_released_and_withheld(place: Place, parties: Parties) -> None:
    terms = ("address", "name=name")
    one = exchange(parties, query={"release": terms}, answer={"masked": ("name",), "withheld": ("id_number", "born")})
    checks = verify_receipt(await receipt_of(place, parties, one), parties.keys(), answer_body=BODY)
    assert failed(checks) == set()
    (line,) = [check for check in checks if check.name == "release"]
    assert line.en == "released: address, name=name; withheld: id_number, born; masked: name"
    assert line.zh == "释放：address, name=name；未释放：id_number、born；已脱敏：name"


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ({}, {"withheld": ("id_number",)}),
        ({}, {"masked": ("name",)}),
        ({"release": ()}, {}),
        ({"release": ("name=sound",)}, {}),
        ({"release": ("name", "address")}, {}),
        ({"release": ("name=name",)}, {"masked": ("id_number",)}),
        ({"release": ("name",)}, {"masked": ("name",)}),
    ],
)
async def test_what_is_told_of_released_items_must_fit_the_terms(
    place: Place, parties: Parties, query: dict[str, Any], answer: dict[str, Any]
) -> None:
    receipt = await receipt_of(place, parties, exchange(parties, query=query, answer=answer))
    assert failed(verify_receipt(receipt, parties.keys())) == {"release"}


async def test_a_seal_of_somebody_else_is_refused(place: Place, parties: Parties) -> None:
    receipt = await receipt_of(place, parties, exchange(parties, query_signer=parties.adapter))
    assert "gateway" in failed(verify_receipt(receipt, parties.keys()))


async def test_a_gateway_cannot_answer_for_a_department(place: Place, parties: Parties) -> None:
    lie = exchange(parties, answer={"adapter": parties.gateway.fingerprint}, answer_signer=parties.gateway)
    assert "adapter" in failed(verify_receipt(await receipt_of(place, parties, lie), parties.keys()))


async def test_a_certificate_of_the_member_speaks_for_its_subsystems(place: Place, parties: Parties) -> None:
    of_member = parties.ca.issue("member", CertificateRequest.for_member(member_id("CN/GOV/HOUSING")))
    with_member = dataclasses.replace(parties, caller=of_member)
    receipt = await receipt_of(place, with_member, exchange(with_member))
    assert not failed(verify_receipt(receipt, parties.keys()))


async def test_a_certificate_that_had_expired_when_it_was_used_is_refused(place: Place, parties: Parties) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    expired = parties.ca.issue(
        "expired",
        CertificateRequest.for_subsystem(CLIENT),
        not_before=yesterday - timedelta(days=1),
        not_after=yesterday,
    )
    with_expired = dataclasses.replace(parties, caller=expired)
    receipt = await receipt_of(place, with_expired, exchange(with_expired))
    assert "caller" in failed(verify_receipt(receipt, parties.keys()))


async def test_the_right_keys_are_needed(receipt: bytes, parties: Parties, tmp_path: Path) -> None:
    other_ca = DemoCA.create(tmp_path / "other")
    other_log = NoteSigner.generate(parties.signer.verifier.name).verifier.vkey
    both = [other_ca.bundle.read_text(), parties.ca.bundle.read_text()]
    assert not failed(verify_receipt(receipt, parties.keys(trust_anchors=both)))
    foreign = verify_receipt(receipt, parties.keys(trust_anchors=both[:1]))
    assert failed(foreign) == {"caller", "gateway", "adapter", "certificates"}
    assert failed(verify_receipt(receipt, parties.keys(logs=[other_log]))) == {"checkpoint", "inclusion"}
    assert failed(verify_receipt(receipt, parties.keys(logs=[], trust_anchors=[]))) >= {"checkpoint", "caller"}


@pytest.mark.parametrize(
    "keys", [b"", b"[]", b"{}", b'{"format":"datong-keys/2","logs":[],"trust_anchors":[]}', b"\xff"]
)
def test_what_is_not_a_key_list_is_an_error(receipt: bytes, keys: bytes) -> None:
    with pytest.raises(ReceiptError):
        verify_receipt(receipt, keys)


def test_a_broken_key_on_the_list_is_an_error(receipt: bytes, parties: Parties) -> None:
    for changes in ({"logs": ["x"]}, {"trust_anchors": ["x"]}, {"logs": 5}, {"trust_anchors": [5]}):
        with pytest.raises(ReceiptError):
            verify_receipt(receipt, parties.keys(**changes))


def test_other_contents_than_those_exchanged_are_refused(receipt: bytes, parties: Parties) -> None:
    keys = parties.keys()
    assert failed(verify_receipt(receipt, keys, answer_body=BODY + b" ")) == {"answer"}
    for change in ({"method": "POST"}, {"target": b"/"}, {"headers": []}, {"body": b"x"}):
        sent = dataclasses.replace(REQUEST, **change)
        assert failed(verify_receipt(receipt, keys, request=sent)) == {"request"}


def test_once_the_salt_is_erased_contents_cannot_be_compared_and_all_else_holds(
    receipt: bytes, parties: Parties
) -> None:
    erased = canonical({**json.loads(receipt), "salt": ""}).encode()
    assert not failed(verify_receipt(erased, parties.keys()))
    assert failed(verify_receipt(erased, parties.keys(), answer_body=BODY)) == {"answer"}


def test_a_certificate_that_no_check_needs_is_refused(receipt: bytes, parties: Parties, tmp_path: Path) -> None:
    outer = json.loads(receipt)
    for extra in (DemoCA.create(tmp_path / "other").bundle.read_text(), outer["certificates"][0]):
        changed = canonical({**outer, "certificates": [*outer["certificates"], extra]}).encode()
        assert failed(verify_receipt(changed, parties.keys())) == {"certificates"}


async def test_the_certificates_between_a_party_and_a_trust_anchor_are_in_the_receipt(
    place: Place, parties: Parties
) -> None:
    """Here the authority itself is taken along; its certificate is used, as it would be below another one."""
    await receipt_of(place, parties, one := exchange(parties))
    async with place.reader() as reader:
        entry, newest = await reader.entry(one.exchange_id), await reader.latest_checkpoint()
        assert entry is not None
        assert newest is not None
        authority = x509.load_pem_x509_certificate(parties.ca.bundle.read_bytes())
        receipt = await build_receipt(reader, entry, newest.note, intermediates=[authority])
    assert len(json.loads(receipt)["certificates"]) == 4
    assert not failed(verify_receipt(receipt, parties.keys()))


async def test_a_refusal_verifies_as_far_as_it_goes(place: Place, parties: Parties) -> None:
    refused = exchange(
        parties,
        record={
            **dict.fromkeys(("answer", "answer_seal", "query_seal"), UNSET),
            "outcome": "refused",
            "rule": "grant",
            "code": "access-denied",
            "status": 403,
        },
    )
    receipt = await receipt_of(place, parties, refused)
    checks = verify_receipt(receipt, parties.keys())
    assert not failed(checks)
    assert any("no seal is on record" in check.en for check in checks)
    assert "answer" in failed(verify_receipt(receipt, parties.keys(), answer_body=BODY))


async def test_a_refusal_of_nobody_verifies(place: Place, parties: Parties) -> None:
    receipt = await receipt_of(place, parties, attempt(outcome="refused", rule="client-certificate"))
    assert not failed(verify_receipt(receipt, parties.keys()))


def test_a_verifier_needs_nothing_but_cryptography(receipt: bytes, parties: Parties, tmp_path: Path) -> None:
    """Run alone: the doorway is replaced by an empty package, and everything else that is installed is refused."""
    (tmp_path / "receipt.json").write_bytes(receipt)
    (tmp_path / "keys.json").write_bytes(parties.keys())
    program = """
import sys, types
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("exchange", "cryptography", "cffi", "_cffi_backend"):
            raise ImportError(f"{name} is not to be needed")

sys.meta_path.insert(0, Refuse())
package = types.ModuleType("exchange")
package.__path__ = [sys.argv[1]]
sys.modules["exchange"] = package
from exchange.verify import main

folder = Path(sys.argv[2])
sys.exit(main([str(folder / "receipt.json"), "--keys", str(folder / "keys.json")]))
"""
    room = Path(__file__).parents[2] / "exchange"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(room), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("The receipt holds.\n")


def test_certificates_in_a_receipt_are_those_of_the_record(receipt: bytes, parties: Parties) -> None:
    pems = json.loads(receipt)["certificates"]
    held = [x509.load_pem_x509_certificate(pem.encode()) for pem in pems]
    assert held == [each.x509() for each in parties.certificates]
