"""One record as it is shown, and whom it concerns. Pure.

Rules:
1. A record concerns whose certificate made the attempt, whom it names as caller unless that was the very lie it was refused
   for, and the owner of the service once something was carried to it.
2. A change of the registry concerns operators and the subsystem that made it; an act on the log, the subsystem that did it.
3. A damaged record concerns nobody, for nobody can tell.
"""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel, Field

from exchange import StoredEntry, SubsystemId, is_change, is_event
from gateway.api.callers import Caller

_decode = msgspec.json.decode


class Exchange(BaseModel):
    """One record and where it stands in the log."""

    seq: int = Field(description="Number of the entry in the log, from 0.")
    leaf_hash: str = Field(description="RFC 9162 leaf hash of the record's stored bytes, hex.")
    record: dict[str, Any] | None = Field(
        description="The record itself; its canonical JSON (RFC 8785) is the leaf. Null if the stored bytes are damaged. "
        'That of a change of the registry has `kind` "change", that of an act on the log "access" or "retention".'
    )
    receipt: str = Field(description="Where its receipt is.")


class ExchangePage(BaseModel):
    """Records, newest first."""

    exchanges: list[Exchange]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null at the end.")


def exchange_view(entry: StoredEntry, public_url: str) -> dict[str, Any]:
    """An `Exchange` as plain JSON."""
    return {
        "seq": entry.seq,
        "leaf_hash": entry.leaf_hash.hex(),
        "record": record_of(entry),
        "receipt": f"{public_url}/v1/exchanges/{entry.exchange_id}/receipt",
    }


def concerns(entry: StoredEntry, caller: Caller) -> bool:
    """Whether the record is the caller's own business."""
    record = record_of(entry)
    if record is None:
        return False
    if is_change(entry.leaf):
        return caller.has_role("operator") or made_by(record["by"], caller.subsystem)
    if is_event(entry.leaf):
        return bool(record["by"] == caller.subsystem)
    query = record["query"]
    if query.get("certificate") == caller.principal.fingerprint:
        return True
    if query.get("client") == caller.subsystem:
        return bool(record["rule"] != "client-of-certificate")
    # A refused attempt never reached the owner. One whose end is unknown may have.
    carried = "query_seal" in record or record["outcome"] == "unknown"
    return bool(carried and query.get("service", "").rpartition("/")[0] == caller.subsystem)


def made_by(by: str, subsystem: SubsystemId) -> bool:
    """Whether `by` of a change names the subsystem (`registry.Actor.by`)."""
    return by == subsystem or by.startswith(f"{subsystem} (")


def record_of(entry: StoredEntry) -> dict[str, Any] | None:
    """What the leaf says; None if it is no record: a damaged one must not hide the others from an auditor."""
    try:
        record = _decode(entry.leaf, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if is_change(entry.leaf) or is_event(entry.leaf):
        return record if isinstance(record.get("by"), str) else None
    return record if isinstance(record.get("query"), dict) and {"outcome", "rule"} <= record.keys() else None
