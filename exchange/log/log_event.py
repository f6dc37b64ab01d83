"""Records of what was done with the log itself: who looked at it, what was archived, removed or erased.

Rules:
1. RFC 8785 JSON with `kind` "access" or "retention", under the same tree as the exchanges they speak of. Nothing is looked up,
   exported or removed without one.
2. `details` hold the terms of a search or the bounds of a removal, never the number of a person: a subject stands there by its
   keyed hash.
3. The id is a UUIDv7: looking twice is two records.
4. Nothing is imported but the standard library: receipts are verified with this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from exchange.canonical_json import canonical, parse_canonical
from exchange.moments import parse_rfc3339

EventKind = Literal["access", "retention"]
KINDS: Final = frozenset({"access", "retention"})
"""The `kind` of these records, and what stands for their outcome beside them."""
MOST_BYTES: Final = 16384
"""Of the details, in canonical JSON."""

_BEGINS = b'{"act":'
_TEXTS = ("act", "at", "by", "certificate", "id", "kind", "user", "why")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One act on the log."""

    id: str
    """UUIDv7."""
    kind: EventKind
    act: str
    """What was done, as `exchanges.list` or `segment.pruned`; beside the record it stands for the rule."""
    at: str
    """RFC 3339, milliseconds."""
    by: str
    """The subsystem that did it, or the name of the command at the machine itself."""
    certificate: str = ""
    """SHA-256 fingerprint of the certificate whose holder did it, hex; empty at the machine itself."""
    user: str = ""
    """The acting official, X-Road-UserId."""
    why: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Texts, integers below 2^53, booleans, and lists and objects of them; no nulls."""

    @property
    def leaf(self) -> bytes:
        """The canonical bytes: what is stored, and what the leaf hash is of; raises ValueError if the details are too long."""
        if len(canonical(dict(self.details))) > MOST_BYTES:
            raise ValueError(f"the details of a record are {MOST_BYTES} bytes at most")
        return canonical({**{name: getattr(self, name) for name in _TEXTS}, "details": dict(self.details), "v": 1})


def is_event(leaf: bytes) -> bool:
    """Whether a leaf of the log is the record of an act on the log, if it is any record: by its first member."""
    return leaf.startswith(_BEGINS)


def read_event(leaf: bytes) -> LogEvent:
    """The act that a leaf records; raises ValueError if it records none."""
    content = parse_canonical(leaf)
    if content.keys() != {*_TEXTS, "details", "v"} or content["kind"] not in KINDS or content["v"] != 1:
        raise ValueError("it is not the record of an act on the log of a kind known here")
    if not all(isinstance(content[name], str) for name in _TEXTS) or not isinstance(content["details"], dict):
        raise ValueError("its members are of other kinds")
    parse_rfc3339(content["at"])
    return LogEvent(**{name: content[name] for name in (*_TEXTS, "details")})
