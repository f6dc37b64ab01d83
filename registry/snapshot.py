"""The whole registry in memory, immutable: who may ask for what, decided without I/O. Pure.

Rules:
1. What is not granted is refused. There is no wildcard for clients or services.
2. A call passes when one active grant of the client for the service covers method, path, time and purpose, the service
   is open, and one of its declared operations matches.
3. Cost: two dictionary look-ups and the few grants between one client and one service, however many there are in all.
4. A snapshot never changes. `with_changes` makes the next one and shares what stayed the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from exchange import MemberId, ServiceId, SubsystemId, member_of, owner_of
from registry import refusals
from registry.operations import OperationIndex
from registry.pairings import Pair, Pairing, with_grants
from registry.patterns import path_of
from registry.records import Certificate, Grant, Member, Operation, OperationEntry, Role, Rows, Service, Subsystem


@dataclass(frozen=True, slots=True)
class Decision:
    """What permits a call. `purpose` is the named one, or the only one granted."""

    service: Service
    grant: Grant
    operation: Operation
    purpose: str


class Snapshot:
    """The registry as of `version`. Made by `Snapshot.empty().with_changes(rows)`."""

    __slots__ = (
        "_certificates",
        "_members",
        "_operation_entries",
        "_operations",
        "_pairings",
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
    _services: Mapping[ServiceId, Service]  # with operations, and closed when the owner is suspended
    _services_by_nats_subject: Mapping[str, Service]
    _operations: Mapping[ServiceId, OperationIndex]
    _pairings: Mapping[Pair, Pairing]
    _certificates: Mapping[str, Certificate]

    @classmethod
    def empty(cls) -> Snapshot:
        """The registry before its first change."""
        self = cls()
        self.version = 0
        self._members, self._subsystems, self._suspended = {}, {}, frozenset()
        self._stated_services, self._operation_entries = {}, {}
        self._services, self._services_by_nats_subject, self._operations = {}, {}, {}
        self._pairings, self._certificates = {}, {}
        return self

    def with_changes(self, rows: Rows) -> Snapshot:
        """The snapshot that follows when `rows` are what changed after this one."""
        new = type(self)()
        new.version = rows.version
        new._members = {**self._members, **{member.id: member for member in rows.members}}
        new._certificates = {**self._certificates, **{each.fingerprint: each for each in rows.certificates}}
        new._pairings = with_grants(self._pairings, rows.grants)
        if not (rows.subsystems or rows.services or rows.operations):
            new._subsystems, new._suspended = self._subsystems, self._suspended
            new._stated_services, new._operation_entries = self._stated_services, self._operation_entries
            new._services, new._operations = self._services, self._operations
            new._services_by_nats_subject = self._services_by_nats_subject
            return new
        new._subsystems = {**self._subsystems, **{subsystem.id: subsystem for subsystem in rows.subsystems}}
        new._suspended = frozenset(each.id for each in new._subsystems.values() if not each.active)
        new._stated_services = {**self._stated_services, **{service.id: service for service in rows.services}}
        new._operation_entries = {
            **self._operation_entries,
            **{(each.service, each.operation.method, each.operation.path): each for each in rows.operations},
        }
        new._services = _assembled(new._stated_services, new._operation_entries, new._suspended)
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
    ) -> Decision:
        """Return what permits the call, or raise why nothing does.

        Args:
            client: The subsystem the caller proved to act as.
            segments: Decoded segments of the path after the service code; empty for no path. `/a/` is ("a", "").
            purpose: As the caller named it; None when it named none.
            now: Unix seconds.

        Raises:
            UnknownMemberError: The owner of the service is not registered.
            UnknownServiceError: The owner offers no such service.
            AccessDeniedError: No grant covers the call; `rule` says which condition failed.
            ServiceDisabledError: The call is granted and the service closed.
        """
        found = self._services.get(service)
        if found is None:
            owner = owner_of(service)
            raise refusals.unknown_service(service) if owner in self._subsystems else refusals.unknown_provider(owner)
        if client in self._suspended:
            raise refusals.client_suspended(client)
        pairing = self._pairings.get((client, service))
        if pairing is None:
            raise refusals.no_grant(client, service)
        if segments == ("",):
            segments = ()  # "/" after the service code and nothing at all are one path
        path = path_of(segments)
        if path is None:
            raise pairing.not_covered(method, None)
        grant, purpose = pairing.permit(method, segments, path, purpose, now)
        if not found.open:
            raise refusals.closed(found)
        operations = self._operations[service]
        operation = operations.find(method, segments, path)
        if operation is None:
            raise refusals.no_operation(service, method, path, operations.methods(segments, path))
        return Decision(found, grant, operation, purpose)

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

    def has_role(self, subsystem: SubsystemId, role: Role) -> bool:
        """Whether an active subsystem holds a role."""
        found = self._subsystems.get(subsystem)
        return found is not None and found.active and role in found.roles

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

    def grants(self, client: SubsystemId, service: ServiceId) -> tuple[Grant, ...]:
        """All grants of a client for a service, revoked and expired ones too, in the order they were given."""
        pairing = self._pairings.get((client, service))
        return tuple(pairing.grants.values()) if pairing else ()

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
        )
        for identifier, service in stated.items()
    }
