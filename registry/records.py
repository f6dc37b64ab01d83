"""What the registry knows, as frozen values. Pure; built once from rows or from checked input, never checked again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from exchange import MemberId, ServiceId, SubsystemId, owner_of, service_nats_subject

Level = Literal["", "national", "province", "city", "county", "township"]
LEVELS: tuple[Level, ...] = get_args(Level)
Role = Literal["operator", "owner", "integrator", "auditor"]
_NO_CLIENT, _NO_SERVICE = SubsystemId(""), ServiceId("")
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
    level: Level = ""
    """Level of administration; empty when not stated."""
    division: str = ""
    """GB/T 2260 code of where it acts, six digits; empty: the one in its member code."""

    @property
    def division_code(self) -> str:
        """Six digits of GB/T 2260, or empty when neither stated nor in the member code (GB 32100, positions 3 to 8)."""
        code = self.id.rpartition("/")[2]
        inner = code[2:8] if len(code) == 18 else ""
        return self.division or (inner if inner.isdecimal() and inner.isascii() else "")


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
class RoleGrant:
    """That a subsystem holds a role for a time: valid_from <= now < valid_to, beside the roles it was registered with."""

    id: str
    """Empty in one not registered yet: the registry chooses one."""
    subsystem: SubsystemId
    role: Role
    valid_from: datetime
    valid_to: datetime
    reason: str
    decided_by: str
    active: bool = True
    revoked_at: datetime | None = None
    revocation_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Subsystems that a grant may name together: those listed, and those that fit level, division and code.

    A division covers what lies in it: 450000 all of 45xxxx, 450100 all of 4501xx. Level, division and code narrow each
    other; a group with none of the three holds those listed and nobody else.
    """

    id: str
    name: str
    name_en: str = ""
    members: tuple[SubsystemId, ...] = ()
    level: Level = ""
    division: str = ""
    subsystem_code: str = ""
    """The last part of the subsystems' identifiers, such as `civil`."""
    active: bool = True


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
    listed: bool = True
    """A service that is not listed does not exist for those without a grant."""
    document: str = ""
    """SHA-256 of its OpenAPI document that counts, hex; empty if it has none. The registry says it (`registry.snapshot`)."""
    owner: SubsystemId = field(init=False)
    nats_subject: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "owner", owner_of(self.id))
        object.__setattr__(self, "nats_subject", service_nats_subject(self.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where a resource of the catalogue is to be had: operations of a service, by method and path pattern."""

    service: ServiceId
    method: str = "*"
    path: str = "**"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceEntry:
    """What decisions need to know of a resource of the catalogue."""

    code: str
    accesses: tuple[Access, ...]
    active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """That a subsystem, or a group of them, may call operations of a service, or a resource wherever it is to be had.

    For purposes and for a time: valid_from <= now < valid_to. Exactly one of `client` and `group` is named, and exactly
    one of `service` and `resource`; the others are empty.
    """

    id: str
    """Empty in a grant not registered yet: the registry chooses one."""
    client: SubsystemId = _NO_CLIENT
    group: str = ""
    service: ServiceId = _NO_SERVICE
    resource: str = ""
    purposes: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime
    reason: str
    decided_by: str
    method: str = "*"
    path: str = "**"
    signed_requests: bool = False
    """Whether the caller's own key must sign each request."""
    items: tuple[str, ...] = ()
    """Item paths that answers may hold (`exchange.release.bodies`); empty: all."""
    masks: Mapping[str, str] = field(default_factory=dict)
    """Item path -> name of the mask its values leave under."""
    quota_per_second: int = 0
    """Calls in any stretch of one second; 0: no limit."""
    quota_per_day: int = 0
    """Calls in a day of China's; 0: no limit."""
    case_pattern: str = ""
    """What X-Road-Issue must match: `*` at least one character, `?` one, `#` one digit; empty: no case need be named."""
    application: str = ""
    """The application it was decided on; empty when an operator or owner gave it by themselves."""
    active: bool = True
    revoked_at: datetime | None = None
    revocation_reason: str = ""
    version: int = 0
    """Version of the registry that last changed this grant; records of exchanges name it."""
    release: tuple[str, ...] = field(init=False)
    """What answers may hold, as it stands in the signed statement (`exchange.release.bodies`); empty: whatever there is."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "release", _release(self.items, self.masks))


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
    certificate: str = ""
    """SHA-256 fingerprint of the certificate whose holder made it, hex; empty for a change made at the machine itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEntry:
    """An operation as a row: one that was withdrawn stays."""

    service: ServiceId
    operation: Operation
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentEntry:
    """That a service has an OpenAPI document; of several, the one with the highest number counts."""

    service: ServiceId
    number: int
    sha256: str


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
    groups: tuple[Group, ...] = ()
    role_grants: tuple[RoleGrant, ...] = ()
    resources: tuple[ResourceEntry, ...] = ()
    documents: tuple[DocumentEntry, ...] = ()


def _release(items: tuple[str, ...], masks: Mapping[str, str]) -> tuple[str, ...]:
    if not items and not masks:
        return ()
    named = set(items or ("*",)) | masks.keys()
    return tuple(sorted(f"{path}={masks[path]}" if path in masks else path for path in named))
