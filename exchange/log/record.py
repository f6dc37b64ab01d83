"""The record of one attempt: the leaf of the log, whatever became of the attempt.

Rules:
1. Exactly one record per attempt: answered (by the department under its seal, or by the gateway itself), refused (we said no
   before anything was carried), failed (carried, and no usable answer came) or unknown (whether the department acted cannot
   be known from here).
2. The statements stand in it byte for byte as they were sealed, so a seal is checked against the record itself.
3. RFC 8785 JSON: fields in alphabetical order, strings and integers below 2^53. Never a body, a path or a number of a person.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

Outcome = Literal["answered", "refused", "failed", "unknown"]


class CallerFacts(msgspec.Struct, frozen=True, gc=False):
    """What the record says of the caller beside its statement."""

    certificate_serial: str = ""
    """Serial number of the caller's certificate, hex."""
    notes: str = ""
    """What there is to say about the certificate, comma-separated: `revocation-grace`, faults that do not refuse."""
    person: str = ""
    """Keyed hash of the natural person whose certificate it is."""


NOBODY = CallerFacts()
"""When it is not known who called."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One terminal record. `query` and `answer` are the statements' canonical bytes."""

    answer: Raw | UnsetType = UNSET
    answer_seal: str | UnsetType = UNSET
    certificate_notes: str | UnsetType = UNSET
    certificate_serial: str = ""
    code: str = ""
    """Code of the error given to the caller; empty if answered."""
    duration_us: int
    """From the end of the request head to the writing of this record."""
    ended_at: str
    id: str
    outcome: Outcome
    passed_on: int | UnsetType = UNSET
    """Bytes of a streamed answer that the caller was given before it broke off; absent if it did not, or none was."""
    person: str | UnsetType = UNSET
    query: Raw
    query_seal: str | UnsetType = UNSET
    """Absent if nothing was carried."""
    rule: str = ""
    """The rule that refused; empty if answered."""
    salt_digest: str | UnsetType = UNSET
    """SHA-256 of the salt that stands beside the record, hex; absent if nothing was carried. It says whether that is still the
    same salt, and of 16 random bytes it tells nothing."""
    source: str = ""
    """Where an error arose: gateway, bus, adapter, backend. Also gateway where it answered by itself."""
    status: int
    """HTTP status given to the caller; 0 if nobody waited any more."""
    v: int = 1


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


def record_bytes(record: Record) -> bytes:
    """The canonical bytes: what is stored, and what the leaf hash is of."""
    return _encode(record)


def read_record(data: bytes) -> Record:
    """Parse a record; raises ValueError if it is none."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not a record") from error


def salt_digest(salt: bytes) -> str:
    """hex SHA-256( salt ): what the record holds of it."""
    return hashlib.sha256(salt).hexdigest()


def seal_text(seal: bytes) -> str:
    """A seal as it stands in a record: base64."""
    return b2a_base64(seal, newline=False).decode()
