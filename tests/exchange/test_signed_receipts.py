"""A receipt of a signed request proves, without the gateway's word, who asked what."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca_auth import IssuedCertificate, sign_request
from exchange import RequestParts, SignatureComponent, SignatureParameters, evidence_bytes, evidence_digest
from exchange.messages.envelope import request_digest
from exchange.receipts.receipt import SentRequest, build_receipt, verify_receipt
from exchange.signatures.signature_algorithms import sign
from exchange.signatures.signature_base import fields_of, signature_base
from tests.exchange.log_kit import Attempt, Place
from tests.exchange.test_receipt import CLIENT, OWNER, SALT, Parties, canonical, exchange, failed, parties  # noqa: F401

SERVICE = f"{OWNER}/enterprises"
HEADERS = [
    (b"host", b"gateway.example"),
    (b"x-road-client", CLIENT.encode()),
    (b"x-road-issue", "沪房〔2026〕1号".encode()),
    (b"x-road-id", b"m-1"),
    (b"datong-purpose", b"housing"),
    (b"content-type", b"application/json"),
]
BODY = b'{"q":1}'
TARGET = b"/enterprises/9199?x=1"


def evidence_of(by: IssuedCertificate, *, created: int | None = None, path: str = "") -> tuple[bytes, bytes]:
    """What a caller signs, as evidence, and its Content-Digest."""
    key: Any = load_pem_private_key(by.key.read_bytes(), None)
    made = dict(
        sign_request(
            key,
            by.fingerprint,
            method="POST",
            path=(path or f"/r1/{SERVICE}/enterprises/9199").encode(),
            query=b"x=1",
            headers=HEADERS,
            body=BODY,
            created=created or int(time.time()),
        )
    )
    digest = made["Content-Digest"].encode()
    text = made["Signature-Input"].removeprefix("datong=")
    # The base again, from the headers as any reader has them.
    names = text[1 : text.index(")")].split(" ")
    components = tuple(SignatureComponent(name.removesuffix(";bs").strip('"'), name.endswith(";bs")) for name in names)
    values: dict[str, int | str] = {}
    for pair in text[text.index(")") + 2 :].split(";"):
        name, _, value = pair.partition("=")
        values[name] = value.strip('"') if value.startswith('"') else int(value)
    parts = RequestParts(
        method="POST",
        authority=b"gateway.example",
        path=(path or f"/r1/{SERVICE}/enterprises/9199").encode(),
        query=b"x=1",
        fields=fields_of([*HEADERS, (b"content-digest", digest)]),
    )
    base = signature_base(parts, SignatureParameters(components=components, values=values))
    return evidence_bytes(base, sign(key, base)), digest


def sent(digest: bytes) -> SentRequest:
    """The request as a gateway forwards it."""
    forwarded = [pair for pair in HEADERS if pair[0] != b"host"]
    return SentRequest("POST", TARGET, [*forwarded, (b"content-digest", digest)], BODY)


def signed_exchange(parties: Parties, evidence: bytes, request: SentRequest, **lies: Any) -> Attempt:  # noqa: F811
    query: dict[str, Any] = {
        "method": "POST",
        "case": "沪房〔2026〕1号",
        "purpose": "housing",
        "channel": "",
        "user": "",
        "message_id": "m-1",
        "request_digest": request_digest(SALT, request.method, request.target, list(request.headers), request.body),
        "signature_digest": evidence_digest(SALT, evidence),
    }
    return exchange(parties, query={**query, **lies})


async def receipt_of(place: Place, parties: Parties, one: Attempt, evidence: bytes | None) -> bytes:  # noqa: F811
    place.signer = parties.signer
    place.log_key.write_text(parties.signer.skey)
    await place.fill(5, [], extra=[one], certificates=[each.der for each in parties.certificates])
    async with place.reader() as reader:
        entry = await reader.entry(one.exchange_id)
        newest = await reader.latest_checkpoint()
        assert entry is not None
        assert newest is not None
        return await build_receipt(reader, entry, newest.note, evidence=evidence)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)


async def test_a_receipt_shows_that_the_caller_signed_exactly_this(place: Place, parties: Parties) -> None:  # noqa: F811
    evidence, digest = evidence_of(parties.caller)
    receipt = await receipt_of(place, parties, signed_exchange(parties, evidence, sent(digest)), evidence)
    checks = {check.name: check for check in verify_receipt(receipt, parties.keys(), request=sent(digest))}
    assert not failed(list(checks.values()))
    assert "signed the request" in checks["signature"].en
    for change in ({"body": b"{}"}, {"target": b"/enterprises/9198?x=1"}):
        other = dataclasses.replace(sent(digest), **change)
        assert failed(verify_receipt(receipt, parties.keys(), request=other)) == {"signature", "request"}


async def test_a_signed_receipt_with_any_byte_of_the_signature_changed_is_refused(
    place: Place,
    parties: Parties,  # noqa: F811
) -> None:
    evidence, digest = evidence_of(parties.caller)
    receipt = await receipt_of(place, parties, signed_exchange(parties, evidence, sent(digest)), evidence)
    start = receipt.index(b'"evidence":') + 13
    for at in range(start, start + len(evidence), 7):
        changed = receipt[:at] + bytes([receipt[at] ^ 1]) + receipt[at + 1 :]
        assert failed(verify_receipt(changed, parties.keys())), at


@pytest.mark.parametrize(
    "lie",
    [
        {"method": "PUT"},
        {"purpose": "tax-audit"},
        {"case": ""},
        {"user": "somebody"},
        {"represented": "somebody"},
        {"channel": "web"},
        {"message_id": "m-2"},
        {"service": f"{OWNER}/arrears"},
        {"signature_digest": "0" * 64},
        {"asked_at": "2026-01-01T00:00:00.000Z"},
    ],
    ids=lambda lie: next(iter(lie)),
)
async def test_a_gateway_that_states_something_else_than_was_signed_is_found_out(
    place: Place,
    parties: Parties,  # noqa: F811
    lie: dict[str, Any],
) -> None:
    """Its seal is right, the record is in the log: only the caller's own signature shows it."""
    evidence, digest = evidence_of(parties.caller)
    receipt = await receipt_of(place, parties, signed_exchange(parties, evidence, sent(digest), **lie), evidence)
    assert "signature" in failed(verify_receipt(receipt, parties.keys()))


async def test_somebody_else_s_signature_is_not_the_caller_s(place: Place, parties: Parties) -> None:  # noqa: F811
    evidence, digest = evidence_of(parties.gateway)
    receipt = await receipt_of(place, parties, signed_exchange(parties, evidence, sent(digest)), evidence)
    assert failed(verify_receipt(receipt, parties.keys())) == {"signature"}


async def test_a_receipt_without_the_signature_says_so_and_one_too_many_is_refused(
    place: Place,
    parties: Parties,  # noqa: F811
) -> None:
    """Whom the record does not concern gets it without: the signature holds the path."""
    evidence, digest = evidence_of(parties.caller)
    one = signed_exchange(parties, evidence, sent(digest))
    receipt = await receipt_of(place, parties, one, None)
    assert b"enterprises/9199" not in receipt
    checks = {check.name: check for check in verify_receipt(receipt, parties.keys())}
    assert checks["signature"].ok
    assert "does not show" in checks["signature"].en
    unsigned = exchange(parties)
    (place.folder / "other").mkdir()
    other = Place(f"sqlite:///{place.folder / 'other' / 'log.db'}", place.folder / "other")
    added = json.loads(await receipt_of(other, parties, unsigned, None))
    more = canonical({**added, "evidence": evidence.decode()}).encode()
    assert failed(verify_receipt(more, parties.keys())) == {"signature"}
