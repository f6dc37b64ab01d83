"""The decision compared with the rules written out the slow way, on registries that grow change by change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from exchange import MemberId, MeshError, ServiceId, SubsystemId, member_of
from registry import Access, Grant, Group, Member, Operation, ResourceEntry, Rows, Service, Snapshot, Subsystem
from registry.grants.groups import covering_part
from registry.patterns import compile_pattern, path_of
from registry.records import OperationEntry

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
NOW = NOON.timestamp()
OWNER = SubsystemId("CN/GOV/TAX/tax")
SERVICES = [ServiceId(f"{OWNER}/{code}") for code in ("one", "two")]
CLIENTS = [SubsystemId("CN/GOV/A/civil"), SubsystemId("CN/GOV/B/civil"), SubsystemId("CN/GOV/B/other")]
BEFORE, AFTER = NOON - timedelta(days=1), NOON + timedelta(days=1)


@dataclass(frozen=True)
class Call:
    client: SubsystemId
    service: ServiceId
    method: str
    segments: tuple[str, ...]
    purpose: str | None
    case: str


def whole(members: dict[str, Member], services: dict[str, Service]) -> Rows:
    return Rows(
        version=1,
        members=tuple(members.values()),
        subsystems=tuple(Subsystem(id=each, name="系统") for each in (OWNER, *CLIENTS)),
        services=tuple(services.values()),
        operations=tuple(
            OperationEntry(service=service, operation=Operation.of(method, "/**"), active=True)
            for service in SERVICES
            for method in ("GET", "POST")
        ),
    )


MEMBERS = {code: Member(id=MemberId(f"CN/GOV/{code}"), name=code) for code in ("A", "B", "TAX")}

_grants = st.builds(
    Grant,
    id=st.sampled_from([f"x{number}" for number in range(99)]),
    client=st.sampled_from([CLIENTS[0], CLIENTS[1], SubsystemId(""), SubsystemId("")]),
    group=st.sampled_from(["listed", "fitting"]),
    service=st.sampled_from([*SERVICES, ServiceId(""), ServiceId(""), ServiceId("")]),
    resource=st.sampled_from(["r/1", "r/2"]),
    purposes=st.sampled_from([("p",), ("q",), ("p", "q")]),
    valid_from=st.sampled_from([BEFORE, BEFORE, BEFORE, BEFORE, AFTER]),
    valid_to=st.sampled_from([AFTER, AFTER, AFTER, AFTER, NOON]),
    method=st.sampled_from(["*", "GET", "POST"]),
    path=st.sampled_from(["**", "/a", "/a/{x}", "/{x}/b", "/a/**", "/*"]),
    reason=st.just("test"),
    decided_by=st.just("test"),
    signed_requests=st.booleans(),
    items=st.sampled_from([(), ("name",)]),
    quota_per_second=st.sampled_from([0, 3]),
    case_pattern=st.sampled_from(["", "", "A#", "*"]),
    active=st.sampled_from([True, True, True, True, False]),
).map(
    lambda each: replace(
        each,
        group="" if each.client else each.group,
        resource="" if each.service else each.resource,
        revoked_at=None if each.active else NOON,
    )
)
_groups = st.one_of(
    st.builds(
        Group,
        id=st.just("listed"),
        name=st.just("列"),
        members=st.sets(st.sampled_from(CLIENTS)).map(lambda found: tuple(sorted(found))),
        active=st.booleans(),
    ),
    st.builds(
        Group,
        id=st.just("fitting"),
        name=st.just("合"),
        level=st.sampled_from(["", "county"]),
        division=st.sampled_from(["450000", "450100", "110000"]),
        subsystem_code=st.sampled_from(["", "civil"]),
        active=st.booleans(),
    ),
)
_members = st.builds(
    replace,
    st.sampled_from([MEMBERS["A"], MEMBERS["B"]]),
    level=st.sampled_from(["", "county"]),
    division=st.sampled_from(["", "450102", "110101"]),
)
_accesses = st.builds(
    Access,
    service=st.sampled_from(SERVICES),
    method=st.sampled_from(["*", "GET"]),
    path=st.sampled_from(["**", "/a/**", "/{x}/b"]),
)
_resources = st.builds(
    ResourceEntry,
    code=st.sampled_from(["r/1", "r/2"]),
    accesses=st.lists(_accesses, max_size=3).map(tuple),
    active=st.sampled_from([True, True, False]),
)
_services = st.builds(
    Service,
    id=st.sampled_from(SERVICES),
    title_zh=st.just("服务"),
    listed=st.booleans(),
    open=st.sampled_from([True, True, True, False]),
)
_changes = st.one_of(_grants, _grants, _grants, _groups, _members, _resources, _resources, _services)
_calls = st.builds(
    Call,
    client=st.sampled_from(CLIENTS),
    service=st.sampled_from(SERVICES),
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    segments=st.sampled_from([("a",), ("a", "b"), ("c", "b"), ("c",), ()]),
    purpose=st.sampled_from([None, "p", "q", "r"]),
    case=st.sampled_from(["", "A1", "B"]),
)
_Change = Grant | Group | Member | ResourceEntry | Service


def rows_of(change: _Change, version: int) -> Rows:
    names = {Grant: "grants", Group: "groups", Member: "members", ResourceEntry: "resources", Service: "services"}
    if isinstance(change, Grant):
        change = replace(change, version=version)
    return Rows(**{"version": version, names[type(change)]: (change,)})


class Reference:
    """The registry as plain dictionaries, and the rules of docs/grants.md gone through one by one."""

    def __init__(self) -> None:
        self.grants: dict[str, Grant] = {}
        self.groups: dict[str, Group] = {}
        self.members = dict(MEMBERS)
        self.resources: dict[str, ResourceEntry] = {}
        self.services = {str(each): Service(id=each, title_zh="服务") for each in SERVICES}

    def possible(self, change: _Change) -> _Change:
        """A grant is not edited: what is given again is revoked."""
        known = self.grants.get(change.id) if isinstance(change, Grant) else None
        return replace(known, active=False, revoked_at=NOON) if known else change

    def take(self, change: _Change, version: int) -> None:
        if isinstance(change, Grant):
            self.grants[change.id] = replace(change, version=version)
        elif isinstance(change, Group):
            self.groups[change.id] = change
        elif isinstance(change, Member):
            self.members[change.id.split("/")[2]] = change
        elif isinstance(change, ResourceEntry):
            self.resources[change.code] = change
        else:
            self.services[change.id] = change

    def decide(self, call: Call) -> str:
        """`grant purpose`, or the rule that refuses."""
        service = self.services[call.service]
        theirs = [each for each in self.grants.values() if self._is_theirs(each, call)]
        if not service.listed and not theirs:
            return "service-registered"
        covering = [each for each in theirs if self._covers(each, call)]
        fitting = [each for each in covering if _meets_case(each, call.case)]
        if call.purpose is not None:
            fitting = [each for each in fitting if call.purpose in each.purposes]
        purposes = {call.purpose} if call.purpose else {purpose for each in fitting for purpose in each.purposes}
        if not fitting or len(purposes) != 1:
            return "refused"
        if not service.open:
            return "service-open"
        if call.method == "DELETE":
            return "operation"
        best = min(
            fitting,
            key=lambda each: (
                each.signed_requests,
                bool(each.items),
                bool(each.quota_per_second),
                -each.version,
            ),
        )
        return f"{best.id} {purposes.pop()}"

    def _is_theirs(self, grant: Grant, call: Call) -> bool:
        subject = grant.client == call.client or (grant.group != "" and self._holds(grant.group, call.client))
        return subject and any(True for _ in self._extents(grant, call.service, ended=True))

    def _holds(self, name: str, client: SubsystemId) -> bool:
        group = self.groups.get(name)
        member = self.members[member_of(client).split("/")[2]]
        if group is None or not group.active:
            return False
        stated = bool(group.level or group.division or group.subsystem_code)
        fits = (
            stated
            and group.level in ("", member.level)
            and member.division_code.startswith(covering_part(group.division))
            and (member.division_code != "" or not group.division)
            and group.subsystem_code in ("", client.rpartition("/")[2])
        )
        return client in group.members or fits

    def _extents(self, grant: Grant, service: ServiceId, *, ended: bool = False) -> Iterator[tuple[str, str]]:
        """Methods and paths that must match besides the grant's own."""
        if grant.service:
            if grant.service == service:
                yield "*", "**"
            return
        resource = self.resources.get(grant.resource)
        if resource is not None and (resource.active or ended):
            yield from ((each.method, each.path) for each in resource.accesses if each.service == service)

    def _covers(self, grant: Grant, call: Call) -> bool:
        path = path_of(call.segments)
        assert path is not None

        def fits(method: str, pattern: str) -> bool:
            return method in ("*", call.method) and compile_pattern(pattern).matches(call.segments, path)

        return (
            grant.active
            and grant.valid_from <= NOON < grant.valid_to
            and fits(grant.method, grant.path)
            and any(fits(*extent) for extent in self._extents(grant, call.service))
        )


def _meets_case(grant: Grant, case: str) -> bool:
    return {"": True, "*": case != "", "A#": re.fullmatch("A[0-9]", case) is not None}[grant.case_pattern]


def outcome(snapshot: Snapshot, call: Call) -> tuple[str, str]:
    """`grant purpose` or the rule, and the text of a refusal."""
    try:
        found = snapshot.decide(call.client, call.service, call.method, call.segments, call.purpose, NOW, call.case)
    except MeshError as error:
        return error.rule, error.detail_in("en") + error.next_in("zh")
    return f"{found.grant.id} {found.purpose}", ""


@settings(deadline=None, max_examples=200)
@given(st.lists(_changes, min_size=20, max_size=40), st.lists(_calls, min_size=4, max_size=6))
def test_what_is_decided_is_what_the_rules_say_after_every_change(changes: list[_Change], calls: list[Call]) -> None:
    """Deciding in between fills what a snapshot remembers; what a change touches must be forgotten."""
    reference = Reference()
    grown = Snapshot.empty().with_changes(whole(reference.members, reference.services))
    for version, drawn in enumerate(changes, start=2):
        change = reference.possible(drawn)
        grown = grown.with_changes(rows_of(change, version))
        reference.take(change, version)
        for call in calls:
            expected = reference.decide(call)
            rule, _ = outcome(grown, call)
            assert rule == expected or (expected == "refused" and " " not in rule and rule != "service-registered")
    loaded = Snapshot.empty().with_changes(
        replace(
            whole(reference.members, reference.services),
            grants=tuple(sorted(reference.grants.values(), key=lambda each: each.version)),
            groups=tuple(reference.groups.values()),
            resources=tuple(reference.resources.values()),
        )
    )
    for call in calls:
        assert outcome(loaded, call) == outcome(grown, call)  # to the letter of the refusal
