"""Groups, resources, cases and hidden services in decisions; and decisions explained without telling too much."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from exchange import MeshError, ServiceId, SubsystemId
from registry import (
    Access,
    Explanation,
    Grant,
    Group,
    Question,
    ResourceEntry,
    RoleGrant,
    Rows,
    Service,
    Snapshot,
    Subsystem,
    explain,
)
from registry.grants import refusals
from tests.registry.test_snapshot import CLIENT, NOON, NOW, OTHER, OWNER, SERVICE, check_texts, grant, snapshot

RESOURCE = "306001/000012"
EVERYBODY = Group(id="all", name="全部", subsystem_code="housing")


def to_group(identifier: str = "gg", **terms: Any) -> Grant:
    return grant(identifier, client=SubsystemId(""), group="all", **terms)


def of_resource(identifier: str = "gr", **terms: Any) -> Grant:
    return grant(identifier, service=ServiceId(""), resource=RESOURCE, **terms)


def entry(*accesses: Access, active: bool = True) -> ResourceEntry:
    return ResourceEntry(code=RESOURCE, accesses=accesses or (Access(service=SERVICE),), active=active)


def asked(registry: Snapshot, method: str = "GET", path: str = "/enterprises", **more: Any) -> Explanation:
    question = Question(**{"client": CLIENT, "service": SERVICE, "method": method, "path": path, "at": NOW, **more})
    found = explain(registry, question)
    if found.error is not None:
        check_texts(found.error)
    return found


def by(found: Explanation) -> str:
    """The permitting grant's identifier, or the rule that refused."""
    return found.grant.id if found.grant else found.rule


def test_what_a_group_holds_its_members_hold_while_they_are_in_it() -> None:
    registry = snapshot(to_group()).with_changes(Rows(version=2, groups=(EVERYBODY,)))
    assert by(asked(registry)) == "gg"
    assert by(asked(registry, client=OTHER)) == "grant"
    closed = registry.with_changes(Rows(version=3, groups=(replace(EVERYBODY, active=False),)))
    assert by(asked(closed)) == "grant"
    listed = closed.with_changes(Rows(version=4, groups=(Group(id="all", name="全部", members=(OTHER,)),)))
    assert (by(asked(listed)), by(asked(listed, client=OTHER))) == ("grant", "gg")
    assert registry.members_of_group("all")[0].id == CLIENT
    assert (registry.groups_of(CLIENT), registry.groups_of(OTHER)) == ({"all"}, frozenset())


def test_a_subsystem_and_its_group_may_hold_different_terms_and_the_better_one_counts() -> None:
    groups = Rows(version=2, groups=(EVERYBODY,))
    masked = to_group(masks={"name": "name"})
    assert by(asked(snapshot(masked, grant("own")).with_changes(groups))) == "own"
    assert by(asked(snapshot(to_group(), grant("own", quota_per_day=5)).with_changes(groups))) == "gg"
    assert by(asked(snapshot(masked, grant("own", path="/files/**")).with_changes(groups))) == "gg"


def test_a_resource_is_granted_wherever_it_is_to_be_had() -> None:
    bare = snapshot(of_resource(path="/enterprises/{uscc}"))
    assert by(asked(bare)) == "grant"
    registry = bare.with_changes(Rows(version=2, resources=(entry(Access(service=SERVICE, method="GET")),)))
    assert by(asked(registry, path="/enterprises/91")) == "gr"
    assert by(asked(registry)) == "grant-method-path"
    narrowed = entry(Access(service=SERVICE, method="GET", path="/files/**"))
    moved = registry.with_changes(Rows(version=3, resources=(narrowed,)))
    refused = asked(moved, path="/enterprises/91")
    assert by(refused) == "grant-method-path"
    assert "GET /enterprises/{uscc} within /files/**" in refused.detail_in("en")
    elsewhere = registry.with_changes(Rows(version=3, resources=(entry(Access(service=ServiceId(f"{OWNER}/b"))),)))
    assert by(asked(elsewhere, path="/enterprises/91")) == "grant"
    withdrawn = registry.with_changes(Rows(version=3, resources=(replace(registry.resource(RESOURCE), active=False),)))
    refused = asked(withdrawn, path="/enterprises/91")
    assert by(refused) == "resource-withdrawn"
    assert RESOURCE in refused.detail_in("zh")
    assert refused.nearest is not None
    assert refused.nearest.id == "gr"


def test_the_next_step_names_the_resource_that_the_call_asks_for() -> None:
    """In every refusal that an application can end, and in no other."""
    places = Rows(version=2, resources=(entry(Access(service=SERVICE, method="GET", path="/enterprises/**")),))
    cases = {
        "grant": snapshot(),
        "grant-method-path": snapshot(grant(path="/files/**")),
        "grant-expired": snapshot(grant(valid_to=NOON)),
        "grant-revoked": snapshot(grant(active=False)),
        "purpose": snapshot(grant(purposes=("other",))),
    }
    for rule, registry in cases.items():
        refused = asked(registry.with_changes(places), path="/enterprises/9", purpose="housing")
        assert refused.rule == rule
        for language in ("en", "zh"):
            assert RESOURCE in refused.next_in(language)
            assert "POST /v1/applications" in refused.next_in(language)
        # A path that no resource stands for: ask the owner.
        refused = asked(registry.with_changes(places), path="/enterprises", purpose="housing")
        assert RESOURCE not in refused.next_in("en")
        assert "ask the owner" in refused.next_in("en").lower()
    upcoming = asked(snapshot(grant(valid_from=NOON + timedelta(days=1))).with_changes(places), path="/enterprises/9")
    assert RESOURCE not in upcoming.next_in("en")


def test_a_case_number_must_be_named_and_have_the_form_that_the_grant_demands() -> None:
    registry = snapshot(grant(case_pattern="沪民政〔####〕*号"))
    assert by(asked(registry, case="沪民政〔2026〕17号")) == "g1"
    missing, wrong = asked(registry), asked(registry, case="17号")
    assert (by(missing), by(wrong)) == ("case-required", "case-pattern")
    for refused in (missing, wrong):
        assert "沪民政〔####〕*号" in refused.detail_in("zh")
        assert refused.nearest is not None
    # One that demands none is enough, and the one that demands it counts when it is better.
    both = snapshot(grant("case", case_pattern="A*"), grant("plain", quota_per_day=9))
    assert by(asked(both)) == "plain"
    assert by(asked(both, case="A1")) == "case"
    # A purpose is implied by those that the case lets count, and by no others.
    purposes = snapshot(grant("case", case_pattern="A*", purposes=("audit",)), grant("plain"))
    assert asked(purposes).purpose == "housing"
    assert by(asked(purposes, case="A1")) == "purpose-required"
    assert by(asked(snapshot(grant(case_pattern="A*")), purpose="other")) == "purpose"


def hidden(*grants: Grant, listed: bool = False) -> Snapshot:
    return snapshot(*grants, service=Service(id=SERVICE, title_zh="企业", listed=listed, open=False, notice="secret"))


def refusal(registry: Snapshot, client: SubsystemId, service: ServiceId, **more: Any) -> tuple[Any, ...]:
    """All that a caller can tell of a refusal."""
    with pytest.raises(MeshError) as caught:
        registry.decide(client, service, "GET", ("enterprises",), None, NOW, **more)
    error = caught.value
    texts = [text.replace(service, "…") for text in map(error.detail_in, ("en", "zh"))]
    return (type(error), error.rule, error.status, *texts, error.next_in("en"), error.next_in("zh"), error.pointer)


def test_a_hidden_service_is_refused_like_one_that_does_not_exist() -> None:
    absent = ServiceId("CN/GOV/TAX/tax/nothing")
    suspended = Rows(version=2, subsystems=(Subsystem(id=CLIENT, name="系统", active=False),))
    catalogued = Rows(version=2, resources=(entry(),))
    for registry in (
        hidden(),
        hidden(grant(client=OTHER)),
        hidden().with_changes(suspended),
        hidden(to_group()).with_changes(Rows(version=2, groups=(replace(EVERYBODY, active=False),))),
        hidden().with_changes(catalogued),
    ):
        assert refusal(registry, CLIENT, SERVICE) == refusal(registry, CLIENT, absent)
        assert not registry.exists_for(CLIENT, SERVICE)


def test_whoever_holds_or_held_something_of_a_hidden_service_knows_it() -> None:
    for registry, rule in (
        (hidden(grant(active=False)), "grant-revoked"),
        (hidden(grant(valid_to=NOON)), "grant-expired"),
        (hidden(grant(path="/other")), "grant-method-path"),
        (hidden(grant()), "service-open"),
        (hidden(to_group()).with_changes(Rows(version=2, groups=(EVERYBODY,))), "service-open"),
        (hidden(of_resource(active=False)).with_changes(Rows(version=2, resources=(entry(),))), "grant-revoked"),
        (hidden(listed=True), "grant"),
    ):
        assert asked(registry).rule == rule
        assert registry.exists_for(CLIENT, SERVICE)
    assert asked(hidden(), client=OWNER).rule == "grant"  # its own


def test_no_refusal_quotes_what_others_hold() -> None:
    others = [
        grant("secret-1", client=OTHER, purposes=("secret-purpose",), path="/enterprises/secret"),
        to_group("secret-2", purposes=("secret-purpose",), path="/secret/{x}"),
        grant("secret-3", client=OTHER, active=False, revocation_reason="secret-reason"),
        replace(of_resource("secret-4", purposes=("secret-purpose",)), client=OTHER),
    ]
    other_group = Rows(
        version=2, groups=(Group(id="all", name="secret-group", members=(OTHER,)),), resources=(entry(),)
    )
    for own in (
        (),
        (grant(path="/files/**"),),
        (grant(valid_to=NOON),),
        (grant(purposes=("a", "b")),),
        (grant(active=False),),
    ):
        registry = snapshot(*own, *others).with_changes(other_group)
        for path in ("/enterprises", "/enterprises/secret", "/secret/1", "/x"):
            found = asked(registry, path=path, purpose=None if own else "housing")
            assert found.error is not None
            told = [*map(found.detail_in, ("en", "zh")), *map(found.next_in, ("en", "zh"))]
            assert not any("secret" in text.replace(path, "") for text in told)
            assert found.nearest is None or found.nearest in own


def test_the_nearest_grant_explains() -> None:
    held = [
        grant("far", path="/files/**"),
        grant("near", path="/enterprises/{uscc}/arrears"),
        grant("past", path="/enterprises/{uscc}/owners", valid_to=NOON),
    ]
    refused = asked(snapshot(*held), path="/enterprises/9/owner")
    assert refused.nearest is not None
    assert refused.nearest.id == "near"
    assert "near, covers * /enterprises/{uscc}/arrears" in refused.detail_in("en")
    # A grant that ended for the purpose asked explains better than one that begins for another.
    ended, later = grant("ended", valid_to=NOON), grant("later", purposes=("other",), valid_from=NOON + timedelta(1))
    assert asked(snapshot(ended, later), purpose="housing").rule == "grant-expired"
    assert asked(snapshot(ended, later), purpose="other").rule == "grant-not-yet-valid"
    # Of grants that were revoked, the one revoked last.
    revoked = [grant(f"r{number}", active=False, version=number, revocation_reason=f"{number}") for number in (3, 9, 5)]
    refused = asked(snapshot(*revoked))
    assert refused.nearest is not None
    assert refused.nearest.id == "r9"


def test_a_permitted_call_is_told_with_what_else_must_hold() -> None:
    terms: dict[str, Any] = {
        "signed_requests": True,
        "case_pattern": "A*",
        "quota_per_second": 5,
        "quota_per_day": 500,
        "items": ("name", "phone"),
        "masks": {"phone": "phone"},
    }
    found = asked(snapshot(grant(**terms)), case="A1", path="/enterprises/9?full=1")
    assert found.permitted
    assert (found.rule, found.purpose, found.error, found.nearest) == ("", "housing", None, None)
    assert found.operation is not None
    assert found.operation.path == "/enterprises/{uscc}"
    assert found.conditions is not None
    assert {name: getattr(found.conditions, name) for name in terms} == terms
    assert "g1@1" in found.detail_in("en")
    assert "g1@1" in found.detail_in("zh")
    assert "own key" in found.next_in("en")
    assert asked(snapshot(grant())).next_in("en") == ""


@pytest.mark.parametrize(
    ("path", "rule"),
    [("/files/../x", "path-dot-segment"), ("/a%2Fb", "path-character"), ("/a//b", "path-empty-segment")],
)
def test_a_path_that_the_gateway_would_refuse_is_refused_here(path: str, rule: str) -> None:
    assert asked(snapshot(grant()), path=path).rule == rule


def test_a_path_may_be_asked_for_as_people_write_it() -> None:
    for path in ("/files/张 三", "files/%E5%BC%A0%20%E4%B8%89", "/files/a{b}c"):
        assert asked(snapshot(grant()), path=path).permitted
    for path in ("", "/"):
        assert asked(snapshot(grant()), path=path).rule == "operation"


def test_a_client_that_is_not_registered_is_refused_as_at_the_exchange_face() -> None:
    found = asked(snapshot(grant()), client=SubsystemId("CN/GOV/NOBODY/x"))
    assert (found.rule, found.permitted) == ("client-registered", False)
    assert found.error is not None
    assert found.error.code == "client-mismatch"


def test_a_role_counts_while_it_is_granted_and_beside_those_of_the_registration() -> None:
    def role(identifier: str, name: Any, **terms: Any) -> RoleGrant:
        base = RoleGrant(
            id=identifier,
            subsystem=CLIENT,
            role=name,
            valid_from=NOON,
            valid_to=NOON + timedelta(days=1),
            reason="test",
            decided_by="test",
        )
        return replace(base, **terms)

    registered = tuple(Subsystem(id=each, name="系统", roles=("owner",)) for each in (CLIENT, OWNER))
    registry = snapshot(subsystems=registered).with_changes(
        Rows(version=2, role_grants=(role("r1", "auditor"), role("r2", "integrator", active=False)))
    )
    assert registry.roles_of(CLIENT, NOW) == {"owner", "auditor"}
    assert registry.roles_of(CLIENT, NOW - 1) == registry.roles_of(CLIENT, NOW + 86400) == {"owner"}
    assert registry.roles_of(OWNER, NOW) == {"owner"}
    assert registry.has_role(CLIENT, "auditor", NOW)
    assert not registry.has_role(CLIENT, "integrator", NOW)
    assert [each.id for each in registry.role_grants_of(CLIENT)] == ["r1", "r2"]
    revoked = registry.with_changes(Rows(version=3, role_grants=(role("r1", "auditor", active=False),)))
    assert revoked.roles_of(CLIENT, NOW) == {"owner"}
    suspended = registry.with_changes(Rows(version=3, subsystems=(replace(registered[0], active=False),)))
    assert suspended.roles_of(CLIENT, NOW) == frozenset()


@pytest.mark.parametrize("document", ["grants.md", "errors.md"])
def test_every_rule_that_refuses_is_explained(document: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / document).read_text(encoding="utf-8")
    rules = re.findall(r"_refused\(\s+\"([a-z-]+)\"", inspect.getsource(refusals))
    assert len(rules) >= 12
    assert [rule for rule in rules if f"`{rule}`" not in text] == []


def test_a_client_with_thousands_of_grants_for_one_service_is_told_a_few() -> None:
    many = [grant(f"m{number}", purposes=(f"p{number}",), path=f"/enterprises/{number}") for number in range(3000)]
    refused = asked(snapshot(*many), path="/enterprises", purpose="p1")
    assert refused.rule == "grant-method-path"
    assert len(refused.detail_in("en")) < 500
    same_path = [grant(f"m{number}", purposes=(f"p{number}",)) for number in range(3000)]
    refused = asked(snapshot(*same_path), purpose="other")
    assert refused.rule == "purpose"
    assert len(refused.detail_in("zh")) < 500
    assert asked(snapshot(*same_path), purpose="p2999").permitted
