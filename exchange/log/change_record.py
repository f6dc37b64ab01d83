"""The record of a change of the registry: a leaf of the log like that of an exchange, of another kind.

Rules:
1. RFC 8785 JSON with `kind` "change"; the record of an exchange has no `kind`. Who, by which certificate, why, when, what,
   and the row before and after. Rows of the registry name offices, officials and rules, never a person asked about.
2. It is bounded. Of a row that is too long, the largest members give way to their SHA-256 and size, as do members that
   canonical JSON cannot carry; a member that is null is left out. So each row has one form here, and is compared by it.
3. The id is a UUIDv8 made of the content: whoever records a change again, after a crash or beside another gateway, records
   it under the same id, which the log refuses. Another content under the same version, as after an old copy of the
   registry was put back, is another record.
4. When it was recorded is not part of that content. It is the time of the entry: a change may wait for the log.
5. Nothing is imported but the standard library: receipts are verified with this.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from exchange.canonical_json import LARGEST, canonical, parse_canonical
from exchange.moments import parse_rfc3339

CHANGE: Final = "change"
"""The `kind` of these records, and what stands for their outcome beside them."""
MOST_BYTES = 8192
"""Of a row, in canonical JSON; a longer one is told in part."""

_BEGINS = b'{"action":'
_CONTEXT = b"datong-change/1\n"
_TEXTS = ("action", "at", "by", "certificate", "id", "kind", "recorded_at", "registry", "target", "why")
_ALWAYS = {*_TEXTS, "after", "v", "version"}
_MAY_HAVE = {"after_digests", "before", "before_digests"}

Digests = Mapping[str, Mapping[str, Any]]
"""Member of a row -> {"sha256", "size"}: of the text's UTF-8 bytes, or of the value's JSON with sorted names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRecord:
    """One change of one registry, as it is told; `of` makes one from a row of the registry."""

    registry: str
    """Identity of the registry, a UUID."""
    version: int
    at: str
    """RFC 3339."""
    by: str
    certificate: str
    """SHA-256 fingerprint of the certificate whose holder made it, hex; empty for a change made at the machine itself."""
    why: str
    action: str
    target: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    before_digests: Digests
    after_digests: Digests

    @classmethod
    def of(
        cls,
        *,
        registry: str,
        version: int,
        at: datetime,
        by: str,
        certificate: str,
        why: str,
        action: str,
        target: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any],
    ) -> ChangeRecord:
        """The record of a change whose rows are plain JSON; there is one for whatever they hold."""
        told_before, before_digests = _told(before or {})
        told_after, after_digests = _told(after)
        return cls(
            registry=registry,
            version=version,
            at=at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            by=by,
            certificate=certificate,
            why=why,
            action=action,
            target=target,
            before=None if before is None else told_before,
            after=told_after,
            before_digests=before_digests,
            after_digests=after_digests,
        )

    @property
    def id(self) -> str:
        """The UUIDv8 (RFC 9562) under which it is recorded, made of all that it says."""
        return _id_of(self._content())

    def entry(self, recorded_at: str) -> tuple[str, bytes]:
        """The id, and the canonical bytes: what is stored, and what the leaf hash is of.

        Args:
            recorded_at: Now, RFC 3339 in milliseconds.
        """
        content = self._content()
        identifier = _id_of(content)
        return identifier, canonical({**content, "id": identifier, "recorded_at": recorded_at})

    def _content(self) -> dict[str, Any]:
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        optional = [name for name in _MAY_HAVE if content[name] is None or (name != "before" and not content[name])]
        return {
            **{name: value for name, value in content.items() if name not in optional},
            "kind": CHANGE,
            "v": 1,
        }


def _id_of(content: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(_CONTEXT + canonical(content)).digest()
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76
    return str(uuid.UUID(int=number & ~(0x3 << 62) | 0x2 << 62))


def is_change(leaf: bytes) -> bool:
    """Whether a leaf of the log is the record of a change, if it is any record: by its first member."""
    return leaf.startswith(_BEGINS)


def read_change(leaf: bytes) -> tuple[ChangeRecord, str]:
    """The change that a leaf records, and when it was recorded (RFC 3339).

    Raises:
        ValueError: It is no record of a change, or its id is not that of its content.
    """
    content = parse_canonical(leaf)
    if not _ALWAYS <= content.keys() <= _ALWAYS | _MAY_HAVE or (content["kind"], content["v"]) != (CHANGE, 1):
        raise ValueError("it is not a record of a change of a kind known here")
    if not all(isinstance(content[name], str) for name in _TEXTS):
        raise ValueError("its members are not texts")
    if type(content["version"]) is not int or not 0 < content["version"] <= LARGEST:
        raise ValueError("its version is not a number of a change")
    if not all(isinstance(content[name], dict) for name in ("after", *_MAY_HAVE) if name in content):
        raise ValueError("its rows are not objects")
    for instant in ("at", "recorded_at"):
        parse_rfc3339(content[instant])
    told = {name: content[name] for name in ChangeRecord.__dataclass_fields__ if name in content}
    change = ChangeRecord(**{"before": None, "before_digests": {}, "after_digests": {}, **told})
    if change.id != content["id"]:
        raise ValueError("its id is not that of its content")
    return change, content["recorded_at"]


def _told(row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What is told of a row, and the digests of members that are not told."""
    told: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    digests: dict[str, dict[str, Any]] = {}
    for name, value in row.items():
        if value is None:
            continue
        try:
            plain = _without_nulls(value)
            sizes[name] = len(canonical({name: plain}))
            told[name] = plain
        except ValueError:
            digests[name] = _digest(value)
    while sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda name: (sizes[name], name))
        del sizes[largest], told[largest]
        digests[largest] = _digest(row[largest])
    return told, digests


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(each) for each in value]
    return value


def _digest(value: Any) -> dict[str, Any]:
    text = value
    if not isinstance(value, str):
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    data = text.encode("utf-8", "surrogatepass")
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
