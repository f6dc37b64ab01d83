"""What the registry knows, as frozen values. Pure; built once from rows or from checked input, never checked again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from exchange import MemberId, ServiceId, SubsystemId, owner_of, service_nats_subject

Role = Literal["operator", "owner", "integrator", "auditor"]
ROLES: tuple[Role, ...] = get_args(Role)
CertificateUse = Literal["adapter", "gateway", "client"]
CERTIFICATE_USES: tuple[CertificateUse, ...] = get_args(CertificateUse)

# What HTTP itself calls safe (RFC 9110 section 9.2.1): carried without an intent made durable first.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

DEFAULT_TIMEOUT = 5.0
DEFAULT_MAX_REQUEST_BYTES = 16 << 20
DEFAULT_MAX_ANSWER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An organisation."""

    id: MemberId
    name: str
    name_en: str = ""
    check_exception: str = ""
    """Why a member code that fails its check characters is accepted all the same; empty for one that passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subsystem:
    """A system of a member: what asks, what offers services, what holds roles."""

    id: SubsystemId
    name: str
    name_en: str = ""
    roles: tuple[Role, ...] = ()
    active: bool = True
    """A subsystem that is not active may ask for nothing, and its services are closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method on one path template of a service."""

    method: str
    path: str
    safe: bool = False

    @classmethod
    def of(cls, method: str, path: str, safe: bool | None = None) -> Operation:
        """An operation that is safe when said so, or when nothing is said and HTTP calls its method safe."""
        return cls(method=method, path=path, safe=method in SAFE_METHODS if safe is None else safe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Something a subsystem offers. Times are seconds, sizes bytes."""

    id: ServiceId
    title_zh: str
    title_en: str = ""
    operations: tuple[Operation, ...] = ()
    timeout: float = DEFAULT_TIMEOUT
    max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES
    max_answer_bytes: int = DEFAULT_MAX_ANSWER_BYTES
    open: bool = True
    notice: str = ""
    """What callers are told while the service is closed."""
    owner: SubsystemId = field(init=False)
    nats_subject: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "owner", owner_of(self.id))
        object.__setattr__(self, "nats_subject", service_nats_subject(self.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """That a subsystem may call operations of a service, for purposes, for a time: valid_from <= now < valid_to."""

    id: str
    """Empty in a grant not registered yet: the registry chooses one."""
    client: SubsystemId
    service: ServiceId
    purposes: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime
    reason: str
    decided_by: str
    method: str = "*"
    path: str = "**"
    signed_requests: bool = False
    """Whether the caller's own key must sign each request."""
    active: bool = True
    revoked_at: datetime | None = None
    revocation_reason: str = ""
    version: int = 0
    """Version of the registry that last changed this grant; records of exchanges name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate that speaks for a subsystem, by the lower-case hex SHA-256 of its DER bytes."""

    fingerprint: str
    subsystem: SubsystemId
    der: bytes
    use: CertificateUse
    active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of the registry: who, why, and what it was before and after, as plain JSON."""

    version: int
    at: datetime
    by: str
    why: str
    action: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEntry:
    """An operation as a row: one that was withdrawn stays."""

    service: ServiceId
    operation: Operation
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What changed in the registry after some version, up to `version`. Services come without operations."""

    version: int
    members: tuple[Member, ...] = ()
    subsystems: tuple[Subsystem, ...] = ()
    services: tuple[Service, ...] = ()
    operations: tuple[OperationEntry, ...] = ()
    grants: tuple[Grant, ...] = ()
    certificates: tuple[Certificate, ...] = ()
