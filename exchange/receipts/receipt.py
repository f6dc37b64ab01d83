"""A receipt: one record, the certificates it names, and the proof that it is in the log. Verified offline, alone.

Rules:
1. One file, canonical JSON (RFC 8785): no byte of it is without meaning, so that a changed receipt never verifies.
2. The verifier needs the receipt and a list of keys: no network, no database, and of other people's code only
   `cryptography`. Nothing here may import more.
3. Every check is made and reported, also after one failed; only what cannot be read ends the list.
4. A record of a refusal carries less: what was never sealed is not checked, and the check says so.
5. The record of a change of the registry, or of an act on the log, has a receipt of the same form, and checks of its own.
6. Whoever asks for the receipt of an entry once its checkpoint is final gets the same bytes, caller, owner and auditor; only the
   caller's own signature is for those whom the exchange concerns.

The key list is trusted input: who takes it from the party that issued the receipt has verified nothing.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from exchange.canonical_json import canonical
from exchange.log.change_record import is_change
from exchange.log.log_event import is_event
from exchange.moments import parse_rfc3339
from exchange.receipts.change_checks import ChangeVerification
from exchange.receipts.event_checks import EventVerification
from exchange.receipts.receipt_checks import (
    FORMAT,
    Check,
    Keys,
    ParsedReceipt,
    ReceiptError,
    SentRequest,
    Verdict,
    Verification,
    outcome_of_check,
    verdict,
)
from exchange.receipts.revocation_evidence import names_of, speaks_of
from exchange.transparency.checkpoint import TlogProof

__all__ = ["Check", "Keys", "ReceiptError", "SentRequest", "Verdict", "build_receipt", "verdict", "verify_receipt"]

_MOST_NEWS: Final = 32
"""So much news is looked at for one receipt: an issuer may have lists for people and for CAs, and publish them often."""


class RecordedEntry(Protocol):
    """What a receipt needs of an entry."""

    @property
    def seq(self) -> int: ...
    @property
    def salt(self) -> bytes | None: ...
    @property
    def leaf(self) -> bytes: ...


class RecordedNews(Protocol):
    """What a receipt needs of a CRL or an OCSP response."""

    @property
    def digest(self) -> str: ...
    @property
    def about(self) -> str: ...
    @property
    def der(self) -> bytes: ...


class ReceiptSource(Protocol):
    """Where receipts are made from: a log (`LogReader`), or a segment of its archive."""

    async def inclusion(self, seq: int, size: int, /) -> list[bytes]:
        """The inclusion proof of an entry in the tree of the first `size` entries; raises ProofError."""

    async def certificates_of(self, fingerprints: Sequence[str], /) -> dict[str, bytes]:
        """Fingerprint -> DER of those that are kept."""

    async def stamps(self, size: int, /) -> dict[str, bytes]:
        """Name of an authority -> its token over the checkpoint of a size."""

    async def revocations(self, about: Sequence[str], /, *, at_ms: int, limit: int) -> Sequence[RecordedNews]:
        """News about issuers and certificates that held at an instant, the newest first."""


async def build_receipt(
    reader: ReceiptSource,
    entry: RecordedEntry,
    note: str,
    *,
    intermediates: Sequence[x509.Certificate] = (),
    evidence: bytes | None = None,
) -> bytes:
    """The receipt of an entry.

    Args:
        note: Signed checkpoint that covers the entry, with the cosignatures of witnesses that are to be in the receipt.
        intermediates: CA certificates that may stand between the certificates of the record and a trust anchor.
        evidence: The caller's own signature (`LogReader.evidence`), if it is to be in the receipt: it shows the path.

    Raises:
        ProofError: The checkpoint does not cover the entry.
    """
    size = int(note.split("\n", 2)[1])
    proof = TlogProof(entry.seq, tuple(await reader.inclusion(entry.seq, size)), note)
    record = json.loads(entry.leaf)
    if is_change(entry.leaf) or is_event(entry.leaf):
        with_path, fingerprints, at = True, [record["certificate"]], record["at"]
    else:
        at = record["query"].get("asked_at", record["ended_at"])
        with_path = "query_seal" in record
        fingerprints = [
            record["query"].get("certificate", ""),
            record["query"].get("gateway", "") if with_path else "",
            record.get("answer", {}).get("adapter", ""),
        ]
    kept = await reader.certificates_of(fingerprints)
    chosen = [x509.load_der_x509_certificate(kept[one]) for one in dict.fromkeys(fingerprints) if one in kept]
    if with_path:
        for certificate in chosen:  # grows as issuers are found
            chosen += [one for one in intermediates if one.subject == certificate.issuer and one not in chosen]
    stamps = sorted((await reader.stamps(size)).items())
    others: dict[str, Any] = {
        "evidence": None if evidence is None else evidence.decode("ascii"),
        "revocations": await _news_about(reader, chosen, at) if with_path else [],
        "stamps": [b64encode(token).decode() for _, token in stamps],
    }
    receipt = {
        "format": FORMAT,
        "record": entry.leaf.decode(),
        "salt": b64encode(entry.salt or b"").decode(),
        "certificates": [certificate.public_bytes(Encoding.PEM).decode() for certificate in chosen],
        "tlog_proof": proof.text,
    }
    return canonical({**receipt, **{name: value for name, value in others.items() if value}})


async def _news_about(reader: ReceiptSource, certificates: Sequence[x509.Certificate], at: str) -> list[str]:
    """For each certificate the newest CRL or OCSP response that held at an instant, base64; of none that has none."""
    try:
        at_ms = parse_rfc3339(at)
    except ValueError:
        return []  # a record that lies about its time: the checks say so
    wanted = {one: names_of(one) for one in certificates if one.subject != one.issuer}
    about = sorted({name for names in wanted.values() for name in names})
    kept = await reader.revocations(about, at_ms=at_ms, limit=_MOST_NEWS)
    found: dict[str, bytes] = {}
    for certificate, names in wanted.items():
        # Names of OCSP responses come first: one is smaller than a list, and says as much.
        fitting = (one for name in names for one in kept if one.about == name and speaks_of(one.der, certificate))
        if news := next(fitting, None):
            found[news.digest] = news.der
    return [b64encode(der).decode() for der in found.values()]


def verify_receipt(
    receipt: bytes, keys: bytes, *, request: SentRequest | None = None, answer_body: bytes | None = None
) -> list[Check]:
    """Every check of a receipt; it is good if all are ok.

    Args:
        keys: The key list.
        request: What was asked, if the holder has it.
        answer_body: The body of the answer, if the holder has it.

    Raises:
        ReceiptError: The key list cannot be used.
    """
    trusted = Keys.from_json(keys)
    try:
        parsed = ParsedReceipt.parse(receipt)
    except ReceiptError as error:
        return [Check("form", False, f"not a receipt: {error}", f"不是有效的回执：{error}")]
    checks = [Check("form", True, "canonical, one reading", "规范格式，含义唯一")]
    kind = (
        EventVerification if is_event(parsed.leaf) else ChangeVerification if is_change(parsed.leaf) else Verification
    )
    verification = kind(parsed, trusted)
    checks += [outcome_of_check(name, step) for name, step in verification.steps(request).items()]
    if request is not None:
        checks.append(outcome_of_check("request", lambda: verification.request(request)))
    if answer_body is not None:
        checks.append(outcome_of_check("answer", lambda: verification.answer(answer_body)))
    return checks
