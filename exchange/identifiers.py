"""Identifiers of the mesh: instance/class/member[/subsystem[/service]], as in X-Road's message protocol for REST.

Rules:
1. A part is 1 to 64 characters of `A-Z a-z 0-9 ' ( ) + , - . = ? _`; names in other scripts are metadata, not identifiers.
2. On the wire each part is percent-encoded UTF-8; here identifiers are decoded text, joined by `/`.
3. `.` and `..` are not parts.
4. A subject token stands for a service or subsystem on the bus: lower-case base32 of a hash, never text of a caller.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode
from typing import NewType
from urllib.parse import quote, unquote

MemberId = NewType("MemberId", str)
SubsystemId = NewType("SubsystemId", str)
ServiceId = NewType("ServiceId", str)

REPLY_VERB = "REPLY"
"""See `exchange.bus.transport`, rule 5."""

METASERVICES = frozenset(("listMethods", "allowedMethods", "getOpenAPI"))
"""Service codes that mean the same at every provider, and that the gateway answers by itself (X-Road's metaservices)."""

_PART = re.compile(r"[A-Za-z0-9'()+,\-.=?_]{1,64}")


def _parts(text: str, count: int, what: str) -> str:
    parts = text.split("/")
    if len(parts) != count or not all(_PART.fullmatch(part) and part not in (".", "..") for part in parts):
        raise ValueError(f"not {what}: {text[:200]!r}")
    return text


def member_id(text: str) -> MemberId:
    """Return `instance/class/member`, or raise ValueError."""
    return MemberId(_parts(text, 3, "a member identifier (instance/class/member)"))


def subsystem_id(text: str) -> SubsystemId:
    """Return `instance/class/member/subsystem`, or raise ValueError."""
    return SubsystemId(_parts(text, 4, "a subsystem identifier (instance/class/member/subsystem)"))


def service_id(text: str) -> ServiceId:
    """Return `instance/class/member/subsystem/service`, or raise ValueError."""
    return ServiceId(_parts(text, 5, "a service identifier (instance/class/member/subsystem/service)"))


def member_of(identifier: SubsystemId | ServiceId) -> MemberId:
    """The member that a subsystem or service belongs to."""
    return MemberId("/".join(identifier.split("/", 3)[:3]))


def owner_of(service: ServiceId) -> SubsystemId:
    """The subsystem that offers a service."""
    return SubsystemId(service.rsplit("/", 1)[0])


def from_wire(text: str) -> str:
    """Decode an identifier of percent-encoded parts; raises ValueError on a broken escape or a `/` hidden in a part."""
    parts = []
    for part in text.split("/"):
        if re.search(r"%(?![0-9A-Fa-f]{2})", part):
            raise ValueError("incomplete percent-encoding")
        decoded = unquote(part, errors="strict")
        if "/" in decoded:
            raise ValueError("an identifier part holds a slash")
        parts.append(decoded)
    return "/".join(parts)


def to_wire(identifier: str) -> str:
    """Percent-encode each part of an identifier."""
    return "/".join(quote(part, safe="'()+,-.=_") for part in identifier.split("/"))


def subject_token(identifier: str) -> str:
    """The token that stands for `identifier` in NATS subjects: 20 characters of `a-z2-7`."""
    return b32encode(hashlib.sha256(identifier.encode()).digest()[:13]).decode().lower()[:20]


def service_nats_subject(service: ServiceId) -> str:
    """Where requests to a service travel: `dt.q.<subsystem token>.<service token>`."""
    return f"dt.q.{subject_token(owner_of(service))}.{subject_token(service)}"


def discovery_nats_subject(subsystem: SubsystemId, verb: str) -> str:
    """Where each adapter instance of a subsystem tells of itself, and nobody else can: `dt.i.<token>.srv.<verb>`.

    Args:
        verb: Of the NATS services protocol: PING, INFO or STATS; the answers are the same as on `$SRV.<verb>`, which every
            adapter hears and may answer as it likes. Or REPLY_VERB.
    """
    return f"dt.i.{subject_token(subsystem)}.srv.{verb}"


def instance_nats_subjects(subsystem: SubsystemId) -> str:
    """What one adapter instance of a subsystem listens on for the parts of large bodies: `dt.i.<token>.>`."""
    return f"dt.i.{subject_token(subsystem)}.>"
