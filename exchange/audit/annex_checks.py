"""Whether what stands beside the log's records and checkpoints is what it says it is. Pure.

Rules:
1. Columns must say what the signed bytes beside them say; a digest that is a key must be that of its bytes.
2. Cosignatures and stamps are verified with the keys that the reader trusts. Of a witness or authority that the reader does not
   know only the form is checked, and that is counted.
3. Nothing here is believed because it is there, so nothing that is missing is damage: a checkpoint whose cosignatures were taken
   away is not final any more, a certificate that is missing fails the receipts that need it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509 import ocsp

from exchange.audit.log_damage import DamagedLogError
from exchange.audit.rows import StoredCheckpoint, StoredCosignature, StoredStamp
from exchange.log.reader import StoredIntent, StoredRevocation
from exchange.messages.envelope import EnvelopeError, read_query_statement
from exchange.receipts.certificate_path import UNREADABLE
from exchange.timestamps.stamp import StampError
from exchange.timestamps.token import check_token, read_token
from exchange.transparency.checkpoint import NoteError, NoteVerifier, open_checkpoint, split_note
from exchange.transparency.cosignature import CosignatureVerifier

_SIZES = (8 + 64, 8 + 2420)
"""Bytes of a cosignature after its key id: time, and Ed25519 or ML-DSA-44."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """Whose word the reader of a log takes."""

    logs: Sequence[NoteVerifier]
    witnesses: Sequence[CosignatureVerifier] = ()
    anchors: Sequence[x509.Certificate] = ()
    """Of time-stamp authorities."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """What was found in order beside a checkpoint."""

    cosignatures: int = 0
    """Verified."""
    stamps: int = 0
    """Verified."""
    unverified: int = 0
    """Cosignatures and stamps of which only the form was checked: the reader does not know who made them."""

    def __add__(self, other: Vouched) -> Vouched:
        return Vouched(
            self.cosignatures + other.cosignatures, self.stamps + other.stamps, self.unverified + other.unverified
        )


def check_checkpoint(stored: StoredCheckpoint, trusted: Trusted) -> Vouched:
    """Return if a checkpoint is as the log signed it, and what others say of it is what they said.

    That its root is that of the entries is not checked here.

    Raises:
        DamagedLogError: It is not.
    """
    size, root, note = stored.signed
    where = f"checkpoint {size}"
    try:
        signed = open_checkpoint(note, trusted.logs)
    except (NoteError, TypeError, AttributeError) as error:  # SQLite may hold anything where the note belongs
        raise DamagedLogError(where, str(error), "签名无效或格式不正确") from error
    if (signed.size, signed.root) != (size, root):
        raise DamagedLogError(where, "its columns differ from the signed note", "字段与签名内容不符")
    vouched, text = Vouched(), signed.text
    for cosignature in stored.cosignatures:
        vouched += _check_cosignature(f"cosignature {size}/{cosignature.witness}", text, cosignature, trusted)
    for stamp in stored.stamps:
        vouched += _check_stamp(f"stamp {size}/{stamp.authority}", text, stamp, trusted)
    return vouched


def _check_cosignature(where: str, text: str, stored: StoredCosignature, trusted: Trusted) -> Vouched:
    try:
        _, signatures = split_note(f"{text}\n{stored.line}")
        ((name, key_id, signature),) = signatures
        known = [one for one in trusted.witnesses if (one.name, one.key_id) == (name, key_id)]
        at = int.from_bytes(signature[:8], "big")
        if len(signature) not in _SIZES or at <= 0:
            raise NoteError("the cosignature is malformed")
        for verifier in known:
            verifier.check(signature, text)
    except (ValueError, TypeError) as error:
        raise DamagedLogError(where, f"it is no good cosignature of the checkpoint: {error}", "联署无效") from error
    if (name, at * 1000) != (stored.witness, stored.at_ms):
        raise DamagedLogError(where, "its columns differ from the signed line", "字段与签名内容不符")
    return Vouched(cosignatures=1) if known else Vouched(unverified=1)


def _check_stamp(where: str, text: str, stored: StoredStamp, trusted: Trusted) -> Vouched:
    data = text.encode()
    try:
        stamp = check_token(stored.token, data, trusted.anchors) if trusted.anchors else read_token(stored.token)
        if stamp.imprint != hashlib.new(stamp.algorithm, data).digest():
            raise StampError("it was made of another text", "时间戳针对其他内容")
    except StampError as error:
        raise DamagedLogError(where, f"it is no good time stamp of the checkpoint: {error}", "时间戳无效") from error
    if stamp.gen_ms != stored.at_ms:
        raise DamagedLogError(where, "its columns differ from the token", "字段与令牌内容不符")
    return Vouched(stamps=1) if trusted.anchors else Vouched(unverified=1)


def check_certificate(fingerprint: str, der: bytes) -> None:
    """Return if a certificate has its fingerprint; raises DamagedLogError."""
    if hashlib.sha256(der).hexdigest() != fingerprint:
        raise DamagedLogError(
            f"certificate {fingerprint}", "its bytes do not have its fingerprint", "证书内容与指纹不符"
        )


def check_revocation(stored: StoredRevocation) -> None:
    """Return if the columns beside a CRL or an OCSP response say what it says; raises DamagedLogError."""
    where = f"revocation {stored.digest}"
    if hashlib.sha256(str(stored.about).encode() + stored.der).hexdigest() != stored.digest:
        raise DamagedLogError(where, "its bytes do not have its digest", "内容与摘要不符")
    beside = (stored.kind, stored.about, stored.this_update_ms, stored.next_update_ms)
    try:
        told = beside in _news_in(stored.der, stored.kind)
    except (ValueError, *UNREADABLE) as error:
        raise DamagedLogError(where, f"it is not a {stored.kind}: {error}", "不是有效的吊销信息") from error
    if not told:
        raise DamagedLogError(where, "its columns differ from what it says", "字段与内容不符")


def _news_in(der: bytes, kind: str) -> Iterator[tuple[str, str, int, int | None]]:
    """What stands beside it for each statement it makes."""
    if kind == "crl":
        crl = x509.load_der_x509_crl(der)
        about = hashlib.sha256(crl.issuer.public_bytes()).hexdigest()
        ends = crl.next_update_utc
        yield "crl", about, _ms(crl.last_update_utc.timestamp()), None if ends is None else _ms(ends.timestamp())
        return
    for one in ocsp.load_der_ocsp_response(der).responses:
        about = f"{one.issuer_name_hash.hex()}:{one.serial_number:x}"
        ends = one.next_update_utc
        yield "ocsp", about, _ms(one.this_update_utc.timestamp()), None if ends is None else _ms(ends.timestamp())


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def check_intent(stored: StoredIntent) -> None:
    """Return if an open intent is one of its exchange; raises DamagedLogError.

    Nothing signed says when and by which gateway it was stored: it ends as a record, or was never carried.
    """
    try:
        statement = read_query_statement(stored.record)
    except EnvelopeError as error:
        raise DamagedLogError(f"intent {stored.exchange_id}", str(error), "意向无法读取") from error
    if statement.id != stored.exchange_id:
        raise DamagedLogError(f"intent {stored.exchange_id}", "it speaks of another exchange", "意向指向其他交换")
