"""An export as JSON Lines: for programs, and with every record's own bytes.

Rules:
1. The first line tells of the export (`Heading.plain`), the last is `{"count": N}`; one that was cut off has no such line.
2. Between them a line for each record. `record` is its leaf byte by byte, so SHA-256 of a zero byte and these bytes is `leaf_hash`
   (RFC 9162); null if it is damaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from exchange import StoredEntry
from gateway.exports.heading import Heading

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class JsonLinesWriter:
    """See `gateway.exports.writers`."""

    media_type = "application/jsonl"

    def begin(self, heading: Heading) -> bytes:
        return _encode(heading.plain) + b"\n"

    def rows(self, entries: Sequence[StoredEntry]) -> bytes:
        return b"".join([_line(entry) for entry in entries])

    def end(self, count: int) -> bytes:
        return _encode({"count": count}) + b"\n"

    def close(self) -> None:
        """Nothing is held."""


def _line(entry: StoredEntry) -> bytes:
    return _encode({"seq": entry.seq, "leaf_hash": entry.leaf_hash.hex(), "record": _record(entry.leaf)}) + b"\n"


def _record(leaf: bytes) -> msgspec.Raw | None:
    try:
        if b"\n" in leaf or not isinstance(_decode(leaf), dict):
            return None  # a record has no line breaks, and what has would be two lines here
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return msgspec.Raw(leaf)
