"""A small log that holds a row of everything: what tests of its check change, one thing at a time."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from msgspec import Raw

from exchange.audit.log_check import LogSummary, check_log
from exchange.log.frames import Annex, Evidence, Frame, Intent
from exchange.log.log_event import LogEvent
from exchange.log.reader import LogReader
from exchange.log.record import read_record, record_bytes
from exchange.log.store import Batch, Removal
from exchange.log.stores import log_store
from exchange.log.writer import LastSigned, LogWriter
from exchange.messages.envelope import QueryStatement, read_query_statement, statement_bytes
from exchange.moments import Rfc3339
from exchange.signatures.recorded_signatures import evidence_digest
from exchange.storage.database import database_url
from exchange.timestamps.token import read_token
from exchange.transparency.checkpoint import Checkpoint
from exchange.transparency.cosignature import Cosigner
from exchange.transparency.trust_policy import TrustPolicy
from tests.exchange.log_kit import (
    Attempt,
    Place,
    attempt,
    change_attempt,
    change_record,
    new_id,
    now_ms,
    query_statement,
)
from tests.exchange.tsa_kit import Issuer, make_tsa

SIZE = 600
UNWITNESSED, WITNESSED, LAST = SIGNED = (100, 300, 560)
"""Checkpoints. Two witnesses and an authority have seen that of WITNESSED, one witness that of LAST."""
SIGNED_ENTRY, CHANGE, ACCESS, RETENTION = 33, 40, 41, 550
REMOVED = [(10, 20), (260, 270)]
SEGMENT = hashlib.sha256(b"segment").hexdigest()
EVIDENCE = b'"@path": /r1/x\n"@signature-params": ()\n"@signature": :AAAA:'

_WITNESSES = [Cosigner.generate(f"witness.example/{name}") for name in ("audit", "civil")]
_ISSUER = Issuer.root()
_TSA = make_tsa(_ISSUER)
_POLICY = "".join(f"witness w{n} {one.verifier.vkey}\n" for n, one in enumerate(_WITNESSES)) + "quorum w0\n"
POLICY = TrustPolicy.from_text(_POLICY)
ANCHORS = [_ISSUER.certificate]


async def check(place: Place, reader: LogReader) -> LogSummary:
    """Derive all that is stored again; raises DamagedLogError."""
    return await check_log(reader, place.verifiers, policy=POLICY, anchors=ANCHORS)


async def fill(place: Place) -> None:
    """Write the log; its tables are there."""
    one = _signed(attempt(SIGNED_ENTRY))
    special = {
        SIGNED_ENTRY: one,
        CHANGE: change_attempt(change_record()),
        ACCESS: _event("access", "exchanges.list", {"count": 3}),
    }
    entries = [special.get(number) or attempt(number) for number in range(SIZE)]
    store = log_store(database_url(place.database))
    writer = LogWriter(store, place.signer, LastSigned(place.log_key), "gateway-1", "boot")
    first = 0
    try:
        for end in (*SIGNED[:2], RETENTION):
            rows = [each.row for each in entries[first:end]]
            signed: list[Evidence] = [] if first else [(one.exchange_id, EVIDENCE)]
            await writer.write([Frame(entries=rows, evidence=signed)])
            if end in SIGNED:
                note = await writer.checkpoint()
                if end == WITNESSED:
                    await writer.write([Frame(annexes=_word_of_others(end, note))])
            first = end
        ranges = [[low, high] for low, high in REMOVED]
        gone = _event("retention", "segment.pruned", {"ranges": ranges, "segment": SEGMENT})
        removals = [Removal(low, high, SEGMENT) for low, high in REMOVED]
        await store.append(
            await store.load(), Batch("gateway-1", "boot", [gone.row], removals=removals, at_ms=now_ms())
        )
        await writer.write([Frame(entries=[each.row for each in entries[RETENTION + 1 : LAST]])])
        note = await writer.checkpoint()
        annexes = [_cosignature(LAST, note, _WITNESSES[0]), *_revocations()]
        ders = [each.certificate.public_bytes(Encoding.DER) for each in (_ISSUER, _TSA)]
        await writer.write(
            [
                Frame(
                    entries=[each.row for each in entries[LAST:]],
                    intents=[_intent(number) for number in (1, 2)],
                    certificates=[(hashlib.sha256(der).hexdigest(), der) for der in ders],
                    annexes=annexes,
                )
            ]
        )
    finally:
        await store.close()


def _signed(made: Attempt) -> Attempt:
    """The record of a request that its caller signed."""
    record = read_record(made.record)
    query: QueryStatement = read_query_statement(bytes(record.query))
    query = msgspec.structs.replace(query, signature_digest=evidence_digest(made.salt, EVIDENCE))
    record = msgspec.structs.replace(record, query=Raw(statement_bytes(query)))
    return replace(made, record=record_bytes(record))


def _event(kind: str, act: str, details: dict[str, object]) -> Attempt:
    at_ms = now_ms()
    event = LogEvent(
        id=new_id(at_ms),
        kind=kind,  # type: ignore[arg-type]
        act=act,
        at=Rfc3339()(at_ms),
        by="CN/GOV/AUDIT/office",
        details=details,
    )
    return Attempt(event.leaf, event.id, at_ms, event.by, "", event.kind, event.act, b"")


def _intent(number: int) -> Intent:
    exchange_id = new_id()
    return exchange_id, now_ms(), now_ms(), b"salt of an intent", statement_bytes(query_statement(exchange_id, number))


def _text_of(note: str) -> str:
    origin, size, root = note.split("\n")[:3]
    return Checkpoint(origin, int(size), b64decode(root)).text


def _word_of_others(size: int, note: str) -> list[Annex]:
    token = _TSA.token(hashlib.sha256(_text_of(note).encode()).digest())
    return [
        *[_cosignature(size, note, witness) for witness in _WITNESSES],
        ("stamp", [size, "national-time", read_token(token).gen_ms, token]),
    ]


def _cosignature(size: int, note: str, witness: Cosigner) -> Annex:
    at = now_ms() // 1000
    return "cosignature", [size, witness.verifier.name, at * 1000, witness.cosign(_text_of(note), at)]


def _revocations() -> list[Annex]:
    """A CRL and an OCSP response of the issuer."""
    now = datetime.now(UTC).replace(microsecond=0)
    until = now + timedelta(days=1)
    key = _ISSUER.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(_ISSUER.certificate.subject)
        .last_update(now)
        .next_update(until)
        .sign(key, hashes.SHA256())
    )
    answer = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=_TSA.certificate,
            issuer=_ISSUER.certificate,
            algorithm=hashes.SHA1(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=now,
            next_update=until,
            revocation_time=None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, _ISSUER.certificate)
        .sign(key, hashes.SHA256())
    )
    name = _ISSUER.certificate.subject.public_bytes()
    hashed = hashlib.sha1(name, usedforsecurity=False).hexdigest()
    times = [int(moment.timestamp() * 1000) for moment in (now, until)]
    found: list[Annex] = []
    for kind, about, der in (
        ("crl", hashlib.sha256(name).hexdigest(), crl.public_bytes(Encoding.DER)),
        ("ocsp", f"{hashed}:{_TSA.certificate.serial_number:x}", answer.public_bytes(Encoding.DER)),
    ):
        digest = hashlib.sha256(about.encode() + der).hexdigest()
        found.append(("revocation", [digest, kind, about, *times, now_ms(), der]))
    return found
