"""The whole registry in memory, immutable: who may ask for what, decided without I/O. Pure.

Rules:
1. What is not granted is refused. There is no wildcard for clients or services.
2. A call passes when one active grant of the client, or of a group it is in, covers method, path, time, purpose and case at
   the service, the service is open, and one of its declared operations matches.
3. A service that is not listed does not exist for a client that holds nothing there, not even something that ended.
4. Cost: a few dictionary look-ups and the few grants that the call may meet, however many there are in all.
5. A snapshot never changes. `with_changes` makes the next one and shares what stayed the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from exchange import MemberId, ServiceId, SubsystemId, member_of, owner_of
from registry.grants import refusals
from registry.grants.coverings import Covering
from registry.grants.holdings import Holdings
from registry.grants.nearest import Call, refusal_of
from registry.grants.roles import Roles
from registry.operations import OperationIndex
from registry.patterns import compile_pattern, path_of
from registry.records import (
    Access,
    Certificate,
    DocumentEntry,
    Grant,
    Group,
    Member,
    Operation,
    OperationEntry,
    ResourceEntry,
    Role,
    RoleGrant,
    Rows,
    Service,
    Subsystem,
)


class Decision(msgspec.Struct, frozen=True):
    """What permits a call. `purpose` is the named one, or the only one granted."""

    service: Service
    grant: Grant
    operation: Operation
    purpose: str


class Snapshot:
    """The registry as of `version`. Made by `Snapshot.empty().with_changes(rows)`."""

    __slots__ = (
        "_certificates",
        "_documents",
        "_holdings",
        "_members",
        "_operation_entries",
        "_operations",
        "_roles",
        "_services",
        "_services_by_nats_subject",
        "_stated_services",
        "_subsystems",
        "_suspended",
        "version",
    )

    version: int
    _members: Mapping[MemberId, Member]
    _subsystems: Mapping[SubsystemId, Subsystem]
    _suspended: frozenset[SubsystemId]
    _stated_services: Mapping[ServiceId, Service]  # as their rows say
    _operation_entries: Mapping[tuple[ServiceId, str, str], OperationEntry]
    _documents: Mapping[ServiceId, DocumentEntry]  # the newest of each
    _services: Mapping[ServiceId, Service]  # with operations and document, and closed when the owner is suspended
    _services_by_nats_subject: Mapping[str, Service]
    _operations: Mapping[ServiceId, OperationIndex]
    _holdings: Holdings
    _roles: Roles
    _certificates: Mapping[str, Certificate]

    @classmethod
    def empty(cls) -> Snapshot:
        """The registry before its first change."""
        self = cls()
        self.version = 0
        self._members, self._subsystems, self._suspended = {}, {}, frozenset()
        self._stated_services, self._operation_entries, self._documents = {}, {}, {}
        self._services, self._services_by_nats_subject, self._operations = {}, {}, {}
        self._holdings, self._roles, self._certificates = Holdings.none(), Roles.none(), {}
        return self

    def with_changes(self, rows: Rows) -> Snapshot:
        """The snapshot that follows when `rows` are what changed after this one."""
        new = type(self)()
        new.version = rows.version
        new._members, new._certificates = self._members, self._certificates
        if rows.members:
            new._members = {**self._members, **{member.id: member for member in rows.members}}
        if rows.certificates:
            new._certificates = {**self._certificates, **{each.fingerprint: each for each in rows.certificates}}
        new._holdings = self._holdings.with_changes(rows, new._members)
        new._roles = self._roles.with_changes(rows.role_grants) if rows.role_grants else self._roles
        if not (rows.subsystems or rows.services or rows.operations or rows.documents):
            new._subsystems, new._suspended = self._subsystems, self._suspended
            new._stated_services, new._operation_entries = self._stated_services, self._operation_entries
            new._services, new._operations, new._documents = self._services, self._operations, self._documents
            new._services_by_nats_subject = self._services_by_nats_subject
            return new
        new._subsystems = {**self._subsystems, **{subsystem.id: subsystem for subsystem in rows.subsystems}}
        new._suspended = frozenset(each.id for each in new._subsystems.values() if not each.active)
        new._stated_services = {**self._stated_services, **{service.id: service for service in rows.services}}
        new._operation_entries = {
            **self._operation_entries,
            **{(each.service, each.operation.method, each.operation.path): each for each in rows.operations},
        }
        newest = sorted(rows.documents, key=lambda each: each.number)
        new._documents = {**self._documents, **{each.service: each for each in newest}}
        new._services = _assembled(new._stated_services, new._operation_entries, new._documents, new._suspended)
        new._services_by_nats_subject = {service.nats_subject: service for service in new._services.values()}
        new._operations = {service.id: OperationIndex.of(service.operations) for service in new._services.values()}
        return new

    def decide(
        self,
        client: SubsystemId,
        service: ServiceId,
        method: str,
        segments: tuple[str, ...],
        purpose: str | None,
        now: float,
        case: str = "",
    ) -> Decision:
        """Return what permits the call, or raise why nothing does.

        Args:
            client: The subsystem the caller proved to act as.
            segments: Decoded segments of the path after the service code; empty for no path. `/a/` is ("a", "").
            purpose: As the caller named it; None when it named none.
            now: Unix seconds.
            case: The case number that the caller named, if it named one.

        Raises:
            UnknownMemberError: The owner of the service is not registered.
            UnknownServiceError: The owner offers no such service, as far as the client may know.
            AccessDeniedError: No grant covers the call; `rule` says which condition failed.
            ServiceDisabledError: The call is granted and the service closed.
        """
        found = self._services.get(service)
        pairing = self._holdings.pairing(client, service)
        if found is None or (pairing is None and not found.listed and found.owner != client):
            owner = owner_of(service)
            raise refusals.unknown_service(service) if owner in self._subsystems else refusals.unknown_provider(owner)
        if client in self._suspended:
            raise refusals.client_suspended(client)
        if segments == ("",):
            segments = ()  # "/" after the service code and nothing at all are one path
        path = path_of(segments)
        permitted = pairing.permit(method, segments, path, purpose, now, case) if pairing and path is not None else None
        if permitted is None:
            resources = self._resources_for(service, method, segments, path)
            if pairing is None:
                raise refusals.no_grant(client, service, resources)
            raise refusal_of(pairing, Call(client, service, method, segments, path, purpose, case, now), resources)
        if not found.open:
            raise refusals.closed(found)
        assert path is not None  # or nothing would have been permitted
        operations = self._operations[service]
        operation = operations.find(method, segments, path)
        if operation is None:
            raise refusals.no_operation(service, method, path, operations.methods(segments, path))
        grant, purpose = permitted
        return Decision(found, grant, operation, purpose)

    def _resources_for(
        self, service: ServiceId, method: str, segments: tuple[str, ...], path: str | None
    ) -> tuple[str, ...]:
        """Codes of the resources of the catalogue that a call asks for."""

        def asks(access: Access) -> bool:
            return access.method in ("*", method) and compile_pattern(access.path).matches(segments, path or "")

        return () if path is None else self._holdings.resources_for(service, asks)

    def member(self, identifier: MemberId) -> Member | None:
        return self._members.get(identifier)

    def members(self) -> tuple[Member, ...]:
        """All members, by identifier."""
        return tuple(self._members[key] for key in sorted(self._members))

    def member_of_code(self, code: str) -> MemberId | None:
        """The one member with a code of 18 characters, or with one that holds the organisation code of nine; else None."""
        found = [member for member in self._members if code in (member.split("/")[2], member.split("/")[2][8:17])]
        return found[0] if len(found) == 1 else None

    def subsystem(self, identifier: SubsystemId) -> Subsystem | None:
        return self._subsystems.get(identifier)

    def subsystems(self) -> tuple[Subsystem, ...]:
        """All subsystems, by identifier."""
        return tuple(self._subsystems[key] for key in sorted(self._subsystems))

    def subsystems_of(self, member: MemberId) -> tuple[Subsystem, ...]:
        return tuple(each for each in self.subsystems() if member_of(each.id) == member)

    def has_role(self, subsystem: SubsystemId, role: Role, now: float) -> bool:
        """Whether an active subsystem holds a role at `now` (Unix seconds)."""
        return role in self.roles_of(subsystem, now)

    def roles_of(self, subsystem: SubsystemId, now: float) -> frozenset[Role]:
        """The roles that an active subsystem holds at `now` (Unix seconds): those it was registered with, and granted ones."""
        found = self._subsystems.get(subsystem)
        if found is None or not found.active:
            return frozenset()
        return self._roles.of(subsystem, now).union(found.roles)

    def role_grants_of(self, subsystem: SubsystemId) -> tuple[RoleGrant, ...]:
        """Every role granted to a subsystem, those that ended too."""
        return self._roles.grants_of(subsystem)

    def service(self, identifier: ServiceId) -> Service | None:
        return self._services.get(identifier)

    def services(self) -> tuple[Service, ...]:
        """All services, by identifier."""
        return tuple(self._services[key] for key in sorted(self._services))

    def services_of(self, subsystem: SubsystemId) -> tuple[Service, ...]:
        """What one subsystem offers, by identifier."""
        return tuple(service for service in self.services() if service.owner == subsystem)

    @property
    def services_by_nats_subject(self) -> Mapping[str, Service]:
        return self._services_by_nats_subject

    def exists_for(self, client: SubsystemId, service: ServiceId) -> bool:
        """Whether a client may know that a service is offered: it is listed, its own, or something of it was granted."""
        found = self._services.get(service)
        if found is None:
            return False
        return found.listed or found.owner == client or self._holdings.pairing(client, service) is not None

    def grants(self, client: SubsystemId, service: ServiceId) -> tuple[Grant, ...]:
        """What a client holds at a service by itself, through groups and for resources; what ended, too. The oldest first."""
        pairing = self._holdings.pairing(client, service)
        return pairing.grants() if pairing else ()

    def coverings(self, client: SubsystemId, service: ServiceId) -> tuple[Covering, ...]:
        """What a client holds at a service that is not revoked, over or still to come, in the order it is chosen in."""
        pairing = self._holdings.pairing(client, service)
        return tuple(pairing.coverings()) if pairing else ()

    def group(self, identifier: str) -> Group | None:
        """A group, closed or not."""
        return self._holdings.groups.group(identifier)

    def groups(self) -> tuple[Group, ...]:
        """All groups, closed ones too, by identifier."""
        return self._holdings.groups.all()

    def groups_of(self, subsystem: SubsystemId) -> frozenset[str]:
        """The identifiers of the groups that hold a subsystem."""
        return self._holdings.groups_of(subsystem)

    def members_of_group(self, identifier: str) -> tuple[Subsystem, ...]:
        """The registered subsystems that a group holds, by identifier."""
        return tuple(each for each in self.subsystems() if identifier in self._holdings.groups_of(each.id))

    def resource(self, code: str) -> ResourceEntry | None:
        """What decisions know of a resource of the catalogue."""
        return self._holdings.resource(code)

    def resources_at(self, service: ServiceId) -> tuple[ResourceEntry, ...]:
        """The resources that are to be had at a service, by code."""
        return self._holdings.resources_at(service)

    def certificate(self, fingerprint: str) -> Certificate | None:
        """A registered certificate, revoked ones too."""
        return self._certificates.get(fingerprint)

    def certificates(self) -> tuple[Certificate, ...]:
        """All registered certificates, revoked ones too, by fingerprint."""
        return tuple(self._certificates[key] for key in sorted(self._certificates))

    def adapter_certificate(self, fingerprint: str) -> tuple[SubsystemId, bytes] | None:
        """Whose answers a certificate may sign, and its DER; None when it is unknown, revoked or for another use.

        Checks neither its chain nor its dates.
        """
        found = self._certificates.get(fingerprint)
        if found is None or not found.active or found.use != "adapter" or found.subsystem in self._suspended:
            return None
        return found.subsystem, found.der


def _assembled(
    stated: Mapping[ServiceId, Service],
    entries: Mapping[tuple[ServiceId, str, str], OperationEntry],
    documents: Mapping[ServiceId, DocumentEntry],
    suspended: frozenset[SubsystemId],
) -> Mapping[ServiceId, Service]:
    operations: dict[ServiceId, list[Operation]] = {identifier: [] for identifier in stated}
    for key in sorted(entries, key=lambda key: (key[0], key[2], key[1])):
        if entries[key].active:
            operations[key[0]].append(entries[key].operation)
    return {
        identifier: replace(
            service,
            operations=tuple(operations[identifier]),
            open=service.open and service.owner not in suspended,
            document=documents[identifier].sha256 if identifier in documents else "",
        )
        for identifier, service in stated.items()
    }
