"""A receipt: one record, the certificates it names, and the proof that it is in the log. Verified offline, alone.

Rules:
1. One file, canonical JSON (RFC 8785): no byte of it is without meaning, so that a changed receipt never verifies.
2. The verifier needs the receipt and a list of keys: no network, no database, and of other people's code only
   `cryptography`. Nothing here may import more.
3. Every check is made and reported, also after one failed; only what cannot be read ends the list.
4. A record of a refusal carries less: what was never sealed is not checked, and the check says so.
5. The record of a change of the registry has a receipt of the same form, and checks of its own.

The key list is trusted input: who takes it from the party that issued the receipt has verified nothing.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from exchange.canonical_json import canonical
from exchange.change_checks import ChangeVerification
from exchange.change_record import is_change
from exchange.checkpoint import TlogProof
from exchange.receipt_checks import (
    FORMAT,
    Check,
    Keys,
    ParsedReceipt,
    ReceiptError,
    SentRequest,
    Verification,
    outcome_of_check,
)

if TYPE_CHECKING:
    from exchange.log_reader import LogReader, StoredEntry

__all__ = ["Check", "Keys", "ReceiptError", "SentRequest", "build_receipt", "verify_receipt"]


async def build_receipt(
    reader: LogReader,
    entry: StoredEntry,
    note: str,
    *,
    intermediates: Sequence[x509.Certificate] = (),
    evidence: bytes | None = None,
) -> bytes:
    """The receipt of an entry.

    Args:
        note: Signed checkpoint that covers the entry.
        intermediates: CA certificates that may stand between the certificates of the record and a trust anchor.
        evidence: The caller's own signature (`LogReader.evidence`), if it is to be in the receipt: it shows the path.

    Raises:
        ProofError: The checkpoint does not cover the entry.
    """
    size = int(note.split("\n", 2)[1])
    proof = TlogProof(entry.seq, tuple(await reader.inclusion(entry.seq, size)), note)
    record = json.loads(entry.leaf)
    if is_change(entry.leaf):
        with_path, fingerprints = True, [record["certificate"]]
    else:
        with_path = "query_seal" in record
        fingerprints = [
            record["query"].get("certificate", ""),
            record["query"].get("gateway", "") if with_path else "",
            record.get("answer", {}).get("adapter", ""),
        ]
    found = [await reader.certificate(one) for one in dict.fromkeys(fingerprints) if one]
    chosen = [x509.load_der_x509_certificate(der) for der in found if der is not None]
    if with_path:
        for certificate in chosen:  # grows as issuers are found
            chosen += [one for one in intermediates if one.subject == certificate.issuer and one not in chosen]
    receipt = {
        "format": FORMAT,
        "record": entry.leaf.decode(),
        "salt": b64encode(entry.salt or b"").decode(),
        "certificates": [certificate.public_bytes(Encoding.PEM).decode() for certificate in chosen],
        "tlog_proof": proof.text,
    }
    return canonical(receipt if evidence is None else {**receipt, "evidence": evidence.decode("ascii")})


def verify_receipt(
    receipt: bytes, keys: bytes, *, request: SentRequest | None = None, answer_body: bytes | None = None
) -> list[Check]:
    """Every check of a receipt; it is good if all are ok.

    Not checked: whether a certificate was revoked at the time.

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
    kind = ChangeVerification if is_change(parsed.leaf) else Verification
    verification = kind(parsed, trusted)
    checks += [outcome_of_check(name, step) for name, step in verification.steps(request).items()]
    if request is not None:
        checks.append(outcome_of_check("request", lambda: verification.request(request)))
    if answer_body is not None:
        checks.append(outcome_of_check("answer", lambda: verification.answer(answer_body)))
    return checks
