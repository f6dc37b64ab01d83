"""The decision: default deny, what permits, and how a refusal is explained."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import (
    AccessDeniedError,
    MemberId,
    MeshError,
    ServiceDisabledError,
    ServiceId,
    SubsystemId,
    UnknownMemberError,
    UnknownServiceError,
    service_nats_subject,
)
from registry import Certificate, CertificateUse, Grant, Member, Operation, Rows, Service, Snapshot, Subsystem
from registry.records import OperationEntry

CLIENT = SubsystemId("CN/GOV/HOUSING/housing")
OTHER = SubsystemId("CN/GOV/OTHER/other")
OWNER = SubsystemId("CN/GOV/TAX/tax")
SERVICE = ServiceId("CN/GOV/TAX/tax/enterprises")
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
NOW = NOON.timestamp()
OPERATIONS = (
    Operation.of("GET", "/enterprises"),
    Operation.of("GET", "/enterprises/{uscc}"),
    Operation.of("GET", "/enterprises/search"),
    Operation.of("POST", "/enterprises/{uscc}/certificates"),
    Operation.of("GET", "/files/**"),
)


def grant(identifier: str = "g1", **terms: Any) -> Grant:
    """A grant for everything, valid around NOON, for one purpose."""
    base = Grant(
        id=identifier,
        client=CLIENT,
        service=SERVICE,
        purposes=("housing",),
        valid_from=NOON - timedelta(days=1),
        valid_to=NOON + timedelta(days=1),
        reason="test",
        decided_by="test",
        version=1,
    )
    if not terms.get("active", True):
        terms = {"revoked_at": NOON, "revocation_reason": "ended", **terms}
    return replace(base, **terms)


def snapshot(*grants: Grant, service: Service | None = None, subsystems: tuple[Subsystem, ...] = ()) -> Snapshot:
    return Snapshot.empty().with_changes(
        Rows(
            version=1,
            members=tuple(Member(id=MemberId(f"CN/GOV/{code}"), name=code) for code in ("HOUSING", "OTHER", "TAX")),
            subsystems=subsystems or tuple(Subsystem(id=each, name="系统") for each in (CLIENT, OTHER, OWNER)),
            services=(service or Service(id=SERVICE, title_zh="企业"),),
            operations=tuple(OperationEntry(service=SERVICE, operation=each, active=True) for each in OPERATIONS),
            grants=grants,
        )
    )


def check_texts(error: MeshError) -> None:
    """A refusal says what is wrong and what to do, in both languages."""
    for text in (error.detail_in("en"), error.detail_in("zh"), error.next_in("en"), error.next_in("zh")):
        assert text
        assert "?" not in text  # a template without its fact


def decide(registry: Snapshot, method: str, path: str, purpose: str | None = "housing", now: float = NOW) -> str:
    """`grant:operation:purpose` of the decision, or the rule that refused."""
    segments = tuple(path[1:].split("/")) if path not in ("", "/") else ()
    try:
        decision = registry.decide(CLIENT, SERVICE, method, segments, purpose, now)
    except MeshError as error:
        check_texts(error)
        return error.rule
    return f"{decision.grant.id}:{decision.operation.method} {decision.operation.path}:{decision.purpose}"


def test_a_grant_permits_and_the_decision_carries_what_the_exchange_needs() -> None:
    decision = snapshot(grant()).decide(CLIENT, SERVICE, "GET", ("enterprises", "9111"), None, NOW)
    assert (decision.grant.id, decision.grant.version, decision.purpose) == ("g1", 1, "housing")
    assert decision.operation == Operation(method="GET", path="/enterprises/{uscc}", safe=True)
    assert decision.service.owner == OWNER
    assert decision.service.nats_subject == service_nats_subject(SERVICE)
    assert decision.service.timeout == 5.0


@pytest.mark.parametrize(
    ("terms", "method", "path", "purpose", "rule"),
    [
        ({"method": "POST"}, "GET", "/enterprises/1", "housing", "grant-method-path"),
        ({"path": "/enterprises"}, "GET", "/enterprises/1", "housing", "grant-method-path"),
        ({"valid_from": NOON + timedelta(seconds=1)}, "GET", "/enterprises", "housing", "grant-not-yet-valid"),
        ({"valid_to": NOON}, "GET", "/enterprises", "housing", "grant-expired"),
        ({"active": False}, "GET", "/enterprises", "housing", "grant-revoked"),
        ({"active": False, "path": "/x"}, "GET", "/enterprises", "housing", "grant"),
        ({}, "GET", "/enterprises", "marketing", "purpose"),
        ({}, "GET", "/enterprises", "", "purpose"),
        ({"purposes": ("a", "b")}, "GET", "/enterprises", None, "purpose-required"),
        ({}, "DELETE", "/enterprises", "housing", "operation"),
        ({}, "GET", "/nothing", "housing", "operation"),
        ({}, "get", "/enterprises", "housing", "operation"),
        ({}, "GET", "", "housing", "operation"),
    ],
)
def test_each_missing_condition_has_its_rule(
    terms: dict[str, Any], method: str, path: str, purpose: str | None, rule: str
) -> None:
    assert decide(snapshot(grant(**terms)), method, path, purpose) == rule


def test_without_any_grant_nothing_is_told_but_that() -> None:
    """Not whether the service is closed, nor what it offers."""
    registry = snapshot(grant(client=OTHER), service=Service(id=SERVICE, title_zh="企业", open=False, notice="secret"))
    with pytest.raises(AccessDeniedError) as caught:
        registry.decide(CLIENT, SERVICE, "GET", ("nothing",), None, NOW)
    assert caught.value.rule == "grant"
    assert "secret" not in str(caught.value)


def test_a_closed_service_tells_its_notice_to_those_with_a_grant() -> None:
    registry = snapshot(grant(), service=Service(id=SERVICE, title_zh="企业", open=False, notice="周一恢复"))
    with pytest.raises(ServiceDisabledError, match="周一恢复"):
        registry.decide(CLIENT, SERVICE, "GET", ("enterprises",), None, NOW)


def test_unknown_providers_and_services_are_told_apart() -> None:
    registry = snapshot(grant())
    with pytest.raises(UnknownMemberError):
        registry.decide(CLIENT, ServiceId("CN/GOV/NOBODY/x/y"), "GET", (), None, NOW)
    with pytest.raises(UnknownMemberError):
        registry.decide(CLIENT, ServiceId("CN/GOV/TAX/nothing/y"), "GET", (), None, NOW)
    with pytest.raises(UnknownServiceError):
        registry.decide(CLIENT, ServiceId("CN/GOV/TAX/tax/y"), "GET", (), None, NOW)


def test_a_suspended_subsystem_neither_asks_nor_serves_nor_holds_roles() -> None:
    active = [Subsystem(id=each, name="系统", roles=("owner",)) for each in (CLIENT, OWNER)]
    asking = snapshot(grant(), subsystems=(replace(active[0], active=False), active[1]))
    assert decide(asking, "GET", "/enterprises") == "client-active"
    assert not asking.has_role(CLIENT, "owner", NOW)
    assert asking.has_role(OWNER, "owner", NOW)
    serving = snapshot(grant(), subsystems=(active[0], replace(active[1], active=False)))
    assert decide(serving, "GET", "/enterprises") == "service-open"


def test_any_valid_grant_among_several_suffices() -> None:
    expired = grant("old", valid_to=NOON)
    other_path = grant("path", path="/other")
    revoked = grant("gone", active=False)
    good = grant("good", method="GET", path="/enterprises/*")
    assert decide(snapshot(expired, other_path, revoked, good), "GET", "/enterprises/1", None) == (
        "good:GET /enterprises/{uscc}:housing"
    )
    assert decide(snapshot(expired, other_path, revoked), "GET", "/enterprises/1") == "grant-expired"


def test_a_purpose_is_implied_only_when_all_covering_grants_name_the_same_one() -> None:
    housing, talent = grant("a"), grant("b", purposes=("talent",))
    assert decide(snapshot(housing, grant("c")), "GET", "/enterprises", None).endswith(":housing")
    assert decide(snapshot(housing, talent), "GET", "/enterprises", None) == "purpose-required"
    assert decide(snapshot(housing, talent), "GET", "/enterprises", "talent") == "b:GET /enterprises:talent"
    elsewhere = replace(talent, path="/elsewhere")
    assert decide(snapshot(housing, elsewhere), "GET", "/enterprises", None).endswith(":housing")


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("GET", "/enterprises", "GET /enterprises"),
        ("GET", "/enterprises/9111", "GET /enterprises/{uscc}"),
        ("GET", "/enterprises/search", "GET /enterprises/search"),
        ("POST", "/enterprises/9111/certificates", "POST /enterprises/{uscc}/certificates"),
        ("GET", "/files/a/b/c", "GET /files/**"),
        ("GET", "/files/", "GET /files/**"),
    ],
)
def test_the_most_specific_operation_is_the_one(method: str, path: str, operation: str) -> None:
    assert decide(snapshot(grant()), method, path) == f"g1:{operation}:housing"


@pytest.mark.parametrize("segments", [("..",), ("files", "..", "x"), ("files", "."), ("files", "a/b"), ("/",)])
def test_segments_that_should_have_been_refused_earlier_match_not_even_everything(segments: tuple[str, ...]) -> None:
    with pytest.raises(AccessDeniedError) as caught:
        snapshot(grant()).decide(CLIENT, SERVICE, "GET", segments, None, NOW)
    assert caught.value.rule == "grant-method-path"


def test_a_slash_after_the_service_and_nothing_are_one_path() -> None:
    operation = OperationEntry(service=SERVICE, operation=Operation.of("GET", "/"), active=True)
    registry = snapshot(grant()).with_changes(Rows(version=2, operations=(operation,)))
    for segments in ((), ("",)):
        assert registry.decide(CLIENT, SERVICE, "GET", segments, None, NOW).operation.path == "/"


_GRANTS = st.lists(
    st.builds(
        grant,
        st.uuids().map(str),
        client=st.sampled_from([CLIENT, OTHER]),
        method=st.sampled_from(["*", "GET", "POST"]),
        path=st.sampled_from(["**", "/enterprises", "/enterprises/{uscc}", "/enterprises/*/certificates"]),
        purposes=st.sampled_from([("housing",), ("talent",), ("housing", "talent")]),
        valid_from=st.sampled_from([NOON - timedelta(days=1), NOON + timedelta(days=1)]),
        valid_to=st.sampled_from([NOON, NOON + timedelta(days=2)]),
        active=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda each: each.id,
)
_CALLS = st.tuples(
    st.sampled_from(["GET", "POST", "DELETE"]),
    st.sampled_from(["/enterprises", "/enterprises/9", "/enterprises/9/certificates", "/files/a", "/x"]),
    st.sampled_from([None, "housing", "talent", "other"]),
)


@given(_GRANTS, _CALLS)
def test_what_is_permitted_is_exactly_what_some_grant_states(grants: list[Grant], call: tuple[str, str, str]) -> None:
    """Default deny: the decision is compared with the rules written out the slow way."""
    method, path, purpose = call

    def states(each: Grant) -> bool:
        covered = {
            "**": True,
            "/enterprises": path == "/enterprises",
            "/enterprises/{uscc}": path == "/enterprises/9",
            "/enterprises/*/certificates": path == "/enterprises/9/certificates",
        }[each.path]
        timely = each.valid_from <= NOON < each.valid_to
        return each.client == CLIENT and each.active and timely and covered and each.method in ("*", method)

    stating = [each for each in grants if states(each)]
    named = {purpose for each in stating for purpose in each.purposes}
    expected = purpose in named if purpose else len(named) == 1
    declared = any(
        (each.method, each.path) in {("GET", path), ("POST", path)} and each.method == method for each in OPERATIONS
    ) or (method, path) in {
        ("GET", "/enterprises/9"),
        ("POST", "/enterprises/9/certificates"),
        ("GET", "/files/a"),
    }
    outcome = decide(snapshot(*grants), method, path, purpose)
    permitted = ":" in outcome
    assert permitted == (expected and declared)
    if permitted:
        assert any(outcome.startswith(each.id) and outcome.rsplit(":", 1)[1] in each.purposes for each in stating)


@given(_GRANTS, st.permutations(range(6)), _CALLS)
def test_a_snapshot_grown_change_by_change_decides_as_one_loaded_whole(
    grants: list[Grant], order: list[int], call: tuple[str, str, str]
) -> None:
    grown = snapshot()
    for version, position in enumerate(order, start=2):
        if position < len(grants):
            # First as active, then as it ended: the newer row takes the place of the older.
            grown = grown.with_changes(Rows(version=version, grants=(replace(grants[position], active=True),)))
            grown = grown.with_changes(Rows(version=version, grants=(grants[position],)))
    whole, gradual = decide(snapshot(*grants), *call), decide(grown, *call)
    # Which of several grants explains or permits depends on their order; whether the call is permitted does not.
    assert (":" in whole) == (":" in gradual)


def test_a_snapshot_does_not_change_when_the_next_one_is_made() -> None:
    before = snapshot(grant())
    after = before.with_changes(Rows(version=2, grants=(grant(active=False),)))
    assert decide(before, "GET", "/enterprises").startswith("g1:")
    assert decide(after, "GET", "/enterprises") == "grant-revoked"
    assert (before.version, after.version) == (1, 2)


def test_a_hundred_thousand_grants_decide() -> None:
    others = tuple(
        grant(
            f"x{number}",
            client=SubsystemId(f"CN/GOV/M{number % 1000}/s"),
            service=ServiceId(f"CN/GOV/TAX/tax/s{number // 1000}"),
            path=f"/enterprises/{number}/**",
        )
        for number in range(100_000)
    )
    registry = snapshot(grant("mine", path="/enterprises/*"), *others)
    assert decide(registry, "GET", "/enterprises/5") == "mine:GET /enterprises/{uscc}:housing"
    assert decide(registry, "GET", "/enterprises") == "grant-method-path"


def test_look_ups_answer_from_the_snapshot() -> None:
    uses: tuple[tuple[str, CertificateUse], ...] = (
        ("adapter", "adapter"),
        ("revoked", "adapter"),
        ("gateway", "gateway"),
    )
    certificates = tuple(
        Certificate(fingerprint=name, subsystem=OWNER, der=name.encode(), use=use, active=name != "revoked")
        for name, use in uses
    )
    registry = snapshot(grant()).with_changes(Rows(version=2, certificates=certificates))
    assert registry.adapter_certificate("adapter") == (OWNER, b"adapter")
    assert registry.adapter_certificate("revoked") is None
    assert registry.adapter_certificate("gateway") is None
    assert registry.adapter_certificate("unknown") is None
    assert [each.id for each in registry.services_of(OWNER)] == [SERVICE]
    assert registry.services_of(CLIENT) == ()
    assert registry.services_by_nats_subject[service_nats_subject(SERVICE)].id == SERVICE
    assert [each.id for each in registry.subsystems()] == [CLIENT, OTHER, OWNER]
    assert registry.subsystem(SubsystemId("CN/GOV/NOBODY/x")) is None
    assert [each.id for each in registry.grants(CLIENT, SERVICE)] == ["g1"]


def test_a_grant_that_demands_signatures_permits_only_what_no_other_permits_without() -> None:
    """The decision names the grant that demands less, so that an unsigned request passes if any grant lets it."""
    signed, plain = grant("g1", signed_requests=True), grant("g2")
    for purpose in ("housing", None):
        assert decide(snapshot(signed), "GET", "/enterprises", purpose) == "g1:GET /enterprises:housing"
        for order in ((signed, plain), (plain, signed)):
            assert decide(snapshot(*order), "GET", "/enterprises", purpose) == "g2:GET /enterprises:housing"
    other = replace(plain, path="/files/**")
    assert decide(snapshot(signed, other), "GET", "/enterprises") == "g1:GET /enterprises:housing"
    assert decide(snapshot(signed), "GET", "/enterprises", "marketing") == "purpose"
