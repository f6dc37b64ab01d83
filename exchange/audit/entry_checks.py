"""Whether the row of an entry says what its record says. Pure.

Rules:
1. The record's bytes have its hash, are the record of something known, and have one reading: RFC 8785 JSON.
2. What stands beside a record for searching must say what the record says: changed, it would hide a record from a search.
3. A salt beside it is the one whose digest is in the record, and the caller's signature, too, as long as there is a salt.
   Whoever erases the salt erases the signature, and breaks no proof.
4. The record of a change has the id that its content makes; whether the registry still says the same is for
   `datong audit check` to compare.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from exchange.audit.log_damage import DamagedLogError
from exchange.log.change_record import is_change
from exchange.log.columns import columns_of
from exchange.log.log_event import is_event
from exchange.log.reader import StoredEntry
from exchange.log.record import salt_digest
from exchange.moments import parse_rfc3339
from exchange.signatures.recorded_signatures import evidence_digest
from exchange.transparency.merkle import hash_leaf

_Problem = tuple[str, str]
"""What is wrong, English and Chinese."""

_COLUMNS_DIFFER: Final = "what is stored for searching differs from the record", "检索字段与记录内容不符"
_SALT_DIFFERS: Final = "the salt beside it is another one", "旁存的盐值与记录不符"
_SIGNATURE_DIFFERS: Final = (
    "the caller's signature beside it, or its salt, is missing or was changed",
    "旁存的调用方签名或盐值缺失或被改动",
)
_NOT_SIGNED: Final = "a signature stands beside it that the record knows nothing of", "旁存有记录中没有的签名"

_Scalar = str | bool | Annotated[int, msgspec.Meta(gt=-(2**53), lt=2**53)]
_Content = dict[str, _Scalar | dict[str, _Scalar | list[str]]]
_decode = msgspec.json.Decoder(_Content).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def check_entry(entry: StoredEntry, evidence: bytes | None) -> None:
    """Return if a row says what its record says.

    Args:
        evidence: The signature of its caller that is stored beside it.

    Raises:
        DamagedLogError: It does not.
    """
    leaf = entry.leaf
    if hash_leaf(leaf) != entry.leaf_hash:
        problem: _Problem | None = "its bytes do not have its hash: it was changed", "内容与哈希不符：记录被改动"
    elif is_change(leaf) or is_event(leaf):
        problem = _fault_of_act(entry)
        if problem is None and entry.salt is not None:
            problem = _SALT_DIFFERS
        if problem is None and evidence is not None:
            problem = _NOT_SIGNED
    else:
        problem = _fault_of_exchange(entry, evidence)
    if problem:
        raise DamagedLogError(f"entry {entry.seq}", *problem, _text(entry.exchange_id))


def _fault_of_exchange(entry: StoredEntry, evidence: bytes | None) -> _Problem | None:
    try:
        record = _decode(entry.leaf)
    except msgspec.MsgspecError:
        return "it is not a record", "不是有效的记录"
    if _encode(record) != entry.leaf:
        return "it is not in canonical form", "不是规范格式"
    query, ended_at = record.get("query"), record.get("ended_at")
    if not isinstance(query, dict) or not isinstance(ended_at, str):
        return _COLUMNS_DIFFER
    try:
        at_ms = parse_rfc3339(ended_at)
    except ValueError:
        return _COLUMNS_DIFFER
    beside = (entry.exchange_id, entry.outcome, entry.rule, entry.at_ms, entry.client, entry.service)
    outcome, rule = record.get("outcome"), record.get("rule")
    if beside != (record.get("id"), outcome, rule, at_ms, query.get("client", ""), query.get("service", "")):
        return _COLUMNS_DIFFER
    salt = entry.salt
    if salt is not None and record.get("salt_digest") not in (None, salt_digest(salt)):
        return _SALT_DIFFERS
    digest = query.get("signature_digest")
    if digest is None or salt is None:
        return None if evidence is None else _NOT_SIGNED
    return None if evidence is not None and evidence_digest(salt, evidence) == digest else _SIGNATURE_DIFFERS


def _fault_of_act(entry: StoredEntry) -> _Problem | None:
    """Of the record of a change of the registry, or of an act on the log."""
    try:
        says = columns_of(entry.leaf)
    except ValueError as error:
        return f"it is not a record: {error}", "不是有效的记录"
    beside = (entry.exchange_id, entry.at_ms, entry.client, entry.service, entry.outcome, entry.rule)
    return None if beside == says else _COLUMNS_DIFFER


def _text(value: object) -> str:
    # SQLite lets anyone store bytes where a text belongs.
    return value if isinstance(value, str) else repr(value)
