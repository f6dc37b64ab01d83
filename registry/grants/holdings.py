"""Who holds which grants: by subject, by service and resource, through groups. Pure.

Rules:
1. Grants are kept by what they are for and by their subject, as they were given. What a client holds at a service follows
   from that, from the groups it is in and from where resources are to be had; it is put together when it is first asked
   for, and remembered.
2. Holdings never change. `with_changes` makes the next ones: they share what stayed the same, and what was remembered but
   of the pairs that the change may touch. A change of groups or members may touch all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from exchange import MemberId, ServiceId, SubsystemId, member_of
from registry.grants.groups import Groups
from registry.grants.pairings import NOTHING, Bundle, Pairing, Source
from registry.records import Access, Grant, Member, ResourceEntry, Rows

_K = TypeVar("_K", bound=str)
_Subject = str
"""A subsystem, or a group: only subsystems have slashes in their identifiers."""
_Bundles = Mapping[_Subject, Bundle]
_NONE: _Bundles = {}


class Holdings:
    """All grants, groups and accesses of resources."""

    __slots__ = (
        "_at_service",
        "_groups_of",
        "_members",
        "_of_resources",
        "_of_services",
        "_remembered",
        "_resources",
        "groups",
    )

    groups: Groups
    _members: Mapping[MemberId, Member]
    _of_services: Mapping[ServiceId, _Bundles]
    _of_resources: Mapping[str, _Bundles]
    _resources: Mapping[str, ResourceEntry]
    _at_service: Mapping[ServiceId, tuple[str, ...]]  # resources to be had there
    _groups_of: dict[SubsystemId, frozenset[str]]  # remembered
    _remembered: dict[ServiceId, dict[SubsystemId, Pairing]]

    @classmethod
    def none(cls) -> Holdings:
        """Nobody holds anything."""
        self = cls()
        self.groups, self._members = Groups.none(), {}
        self._of_services, self._of_resources, self._resources, self._at_service = {}, {}, {}, {}
        self._groups_of, self._remembered = {}, {}
        return self

    def with_changes(self, rows: Rows, members: Mapping[MemberId, Member]) -> Holdings:
        """The holdings after these changes.

        Args:
            members: All members, those of the rows included.
        """
        new = type(self)()
        new._members = members
        new.groups = self.groups.with_changes(rows.groups) if rows.groups else self.groups
        changed = {entry.code: entry for entry in rows.resources}
        new._resources = {**self._resources, **changed} if changed else self._resources
        touched = {service for code in changed for each in (self, new) for service in each._services_of(code)}
        if touched:
            placed = {service: set(self._at_service.get(service, ())) - changed.keys() for service in touched}
            for code in changed:
                for service in new._services_of(code):
                    placed[service].add(code)
            sorted_codes = {service: tuple(sorted(codes)) for service, codes in placed.items()}
            new._at_service = {**self._at_service, **sorted_codes}
        else:
            new._at_service = self._at_service
        of_services = [grant for grant in rows.grants if grant.service]
        of_resources = [grant for grant in rows.grants if grant.resource]
        new._of_services = _with_grants(self._of_services, ((grant.service, grant) for grant in of_services))
        new._of_resources = _with_grants(self._of_resources, ((grant.resource, grant) for grant in of_resources))
        if rows.groups or rows.members:
            new._groups_of, new._remembered = {}, {}
            return new
        touched.update(grant.service for grant in of_services if grant.group)
        touched.update(service for grant in of_resources for service in new._services_of(grant.resource))
        # Copied in one step: somebody may be deciding by the old ones, and remembering, at this moment.
        new._groups_of, new._remembered = self._groups_of.copy(), self._remembered.copy()
        for service in touched:
            new._remembered.pop(service, None)
        by_client: dict[ServiceId, set[SubsystemId]] = {}
        for grant in of_services:
            if grant.service in new._remembered:
                by_client.setdefault(grant.service, set()).add(grant.client)
        for service, clients in by_client.items():
            kept = new._remembered[service] = new._remembered[service].copy()
            for client in clients:
                kept.pop(client, None)
        return new

    def pairing(self, client: SubsystemId, service: ServiceId) -> Pairing | None:
        """What a client holds at a service, those grants included that ended; None if it never held any."""
        known = self._remembered.get(service)
        found = known.get(client) if known is not None else None
        if found is not None:
            return found
        sources = tuple(self._sources(client, service))
        if not sources:
            # Not remembered: there are as many of these as anybody cares to ask for.
            return None
        pairing = Pairing.of(sources)
        self._remembered.setdefault(service, {})[client] = pairing
        return pairing

    def groups_of(self, subsystem: SubsystemId) -> frozenset[str]:
        """The identifiers of the groups that hold a subsystem."""
        found = self._groups_of.get(subsystem)
        if found is None:
            found = self.groups.of(subsystem, self._members.get(member_of(subsystem)))
            self._groups_of[subsystem] = found
        return found

    def resource(self, code: str) -> ResourceEntry | None:
        """A resource of the catalogue, as far as decisions need to know it."""
        return self._resources.get(code)

    def resources_at(self, service: ServiceId) -> tuple[ResourceEntry, ...]:
        """The resources that are to be had at a service, by code."""
        found = (self._resources[code] for code in self._at_service.get(service, ()))
        return tuple(entry for entry in found if entry.active)

    def resources_for(self, service: ServiceId, asks: Callable[[Access], bool]) -> tuple[str, ...]:
        """The codes of the resources that a call of a service asks for."""
        return tuple(
            entry.code
            for entry in self.resources_at(service)
            if any(access.service == service and asks(access) for access in entry.accesses)
        )

    def _sources(self, client: SubsystemId, service: ServiceId) -> Iterator[Source]:
        groups = self.groups_of(client)
        for bundle in _held(self._of_services.get(service, _NONE), client, groups):
            yield Source(bundle)
        for code in self._at_service.get(service, ()):
            entry = self._resources[code]
            accesses = tuple(access for access in entry.accesses if access.service == service)
            for bundle in _held(self._of_resources.get(code, _NONE), client, groups):
                yield Source(bundle, accesses, entry.active)

    def _services_of(self, code: str) -> set[ServiceId]:
        entry = self._resources.get(code)
        return {access.service for access in entry.accesses} if entry else set()


def _held(bundles: _Bundles, client: SubsystemId, groups: frozenset[str]) -> Iterator[Bundle]:
    if client in bundles:
        yield bundles[client]
    # The smaller of the two is gone through: ten thousand groups elsewhere cost nothing.
    for group in sorted(bundles.keys() & groups):
        yield bundles[group]


def _with_grants(known: Mapping[_K, _Bundles], grants: Iterable[tuple[_K, Grant]]) -> Mapping[_K, _Bundles]:
    changed: dict[_K, dict[_Subject, list[Grant]]] = {}
    for what, grant in grants:
        changed.setdefault(what, {}).setdefault(grant.client or grant.group, []).append(grant)
    if not changed:
        return known
    result = dict(known)
    for what, by_subject in changed.items():
        bundles = known.get(what, _NONE)
        added = {subject: bundles.get(subject, NOTHING).with_changes(each) for subject, each in by_subject.items()}
        result[what] = {**bundles, **added}
    return result
