"""Grants, groups and roles as they are given, refused and taken back; the same on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from exchange import (
    ConflictError,
    MemberId,
    MeshError,
    NotFoundError,
    NotRegisteredError,
    RoleMissingError,
    ServiceId,
    SubsystemId,
    UnprocessableError,
)
from registry import (
    Actor,
    Catalogue,
    Grant,
    Group,
    Member,
    Operation,
    Registry,
    RoleGrant,
    Service,
    add_group,
    close_group,
    give_grant,
    grant_role,
    revoke_grant,
    revoke_role,
    revoke_standing_role,
)
from registry.changes import Changes
from tests.registry.catalogue_kit import publish
from tests.registry.conftest import AUDIT, ENTERPRISES, HOUSING, NOON, TAX, Clock

WHO: dict[str, Any] = {"by": "tester", "why": "a test"}
TERMS: dict[str, Any] = {
    "client": HOUSING,
    "service": ENTERPRISES,
    "purposes": ["inspection"],
    "method": "GET",
    "path": "/enterprises",
    "valid_to": NOON + timedelta(days=30),
}
OPERATOR = Actor.operator("admin")
OWNER = Actor(subsystem=TAX, official="张三", certificate="ab" * 32, roles=frozenset({"owner"}))
STRANGER = Actor(subsystem=HOUSING, roles=frozenset({"owner"}))
AUDITOR = Actor(subsystem=AUDIT, roles=frozenset({"auditor"}))
NOBODY = Actor(subsystem=HOUSING)


async def untouched(registry: Registry, version: int) -> None:
    assert await registry.version() == version
    assert await registry.changes(after=version) == ()


@pytest.mark.parametrize(
    ("terms", "rule", "pointer"),
    [
        ({"group": "g"}, "client", "/client"),
        ({"client": None}, "client", "/client"),
        ({"resource": "306001/1"}, "service", "/service"),
        ({"service": None}, "service", "/service"),
        ({"client": "CN/GOV/x"}, "client", "/client"),
        ({"service": "CN/GOV/x/y"}, "service", "/service"),
        ({"grant_id": "g7"}, "grant-id", "/id"),
        ({"grant_id": "r7"}, "grant-id", "/id"),
        ({"method": "get"}, "method", "/method"),
        ({"path": "enterprises"}, "path", "/path"),
        ({"purposes": []}, "purposes", "/purposes"),
        ({"purposes": ["a", "公租房"]}, "purposes", "/purposes/1"),
        ({"purposes": [f"p{number}" for number in range(101)]}, "purposes", "/purposes"),
        ({"items": ["name", "a..b"]}, "items", "/items/1"),
        ({"items": ["*"]}, "items", "/items/0"),
        ({"items": ["a=phone"]}, "items", "/items/0"),
        ({"items": [f"i{number}" for number in range(201)]}, "items", "/items"),
        ({"masks": {"phone": "rot13"}}, "masks", "/masks/phone"),
        ({"masks": {"a/b~c": "rot13"}}, "masks", "/masks/a~1b~0c"),
        ({"masks": {".": "phone"}}, "masks", "/masks/."),
        ({"items": ["name"], "masks": {"phone": "phone"}}, "masks", "/masks/phone"),
        ({"items": ["owner.name"], "masks": {"owner": "name"}}, "masks", "/masks/owner"),
        ({"quota_per_second": -1}, "quota_per_second", "/quota_per_second"),
        ({"quota_per_second": 1_000_001}, "quota_per_second", "/quota_per_second"),
        ({"quota_per_day": 10**12 + 1}, "quota_per_day", "/quota_per_day"),
        ({"case_pattern": "x" * 201}, "case_pattern", "/case_pattern"),
        ({"case_pattern": " A*"}, "case_pattern", "/case_pattern"),
        ({"valid_from": datetime(2026, 6, 1)}, "validity", "/valid_from"),  # noqa: DTZ001
        ({"valid_to": NOON}, "validity", "/valid_to"),
        ({"valid_from": datetime(2026, 5, 3, 15, 59, tzinfo=UTC)}, "grant-backdated", "/valid_from"),
        ({"why": "two\nlines"}, "why", "/why"),
        ({"decided_by": " x"}, "decided_by", "/decided_by"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_terms_that_break_a_rule_are_refused_with_a_pointer_to_them(
    shared_registry: Registry, terms: dict[str, Any], rule: str, pointer: str
) -> None:
    version = await shared_registry.version()
    with pytest.raises(UnprocessableError) as caught:
        await shared_registry.grant(**{**TERMS, **WHO, **terms})
    assert (caught.value.rule, caught.value.pointer) == (rule, pointer)
    assert caught.value.detail_in("zh") != caught.value.detail_in("en")
    await untouched(shared_registry, version)


@pytest.mark.parametrize(
    ("terms", "pointer"),
    [
        ({"client": SubsystemId("CN/GOV/NOBODY/x")}, "/client"),
        ({"client": None, "group": "nobody"}, "/group"),
        ({"service": ServiceId(f"{TAX}/nothing")}, "/service"),
        ({"service": None, "resource": "306001/404"}, "/resource"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_grant_names_must_be_registered(
    shared_registry: Registry, terms: dict[str, Any], pointer: str
) -> None:
    version = await shared_registry.version()
    with pytest.raises(NotRegisteredError) as caught:
        await shared_registry.grant(**{**TERMS, **WHO, **terms})
    assert caught.value.pointer == pointer
    await untouched(shared_registry, version)


async def test_all_terms_are_kept_and_decide(registry: Registry, clock: Clock) -> None:
    given = await registry.grant(
        **{**TERMS, **WHO},
        items=["owner", "name"],
        masks={"owner.phone": "phone", "name": "name"},
        quota_per_second=5,
        quota_per_day=500,
        case_pattern="A-####",
        signed_requests=True,
        application="a1",
    )
    assert await registry.find_grant(given.id) == given
    assert given.items == ("name", "owner")
    assert given.release == ("name=name", "owner", "owner.phone=phone")
    decision = (await registry.snapshot()).decide(
        HOUSING, ENTERPRISES, "GET", ("enterprises",), None, NOON.timestamp(), "A-2026"
    )
    assert decision.grant == given
    assert await registry.grants(application="a1") == (given,)
    assert await registry.grants(application="a2") == ()


async def test_a_grant_may_begin_at_the_start_of_today_in_china_and_no_earlier(
    registry: Registry, clock: Clock
) -> None:
    clock.now = datetime(2026, 5, 4, 16, 30, tzinfo=UTC)  # the 5th there already
    midnight = datetime(2026, 5, 4, 16, tzinfo=UTC)
    with pytest.raises(UnprocessableError) as caught:
        await registry.grant(**TERMS, **WHO, valid_from=midnight - timedelta(microseconds=1))
    assert caught.value.rule == "grant-backdated"
    assert "2026-05-05" in str(caught.value)
    assert (await registry.grant(**TERMS, **WHO, valid_from=midnight)).valid_from == midnight
    old = await registry.grant(
        **{**TERMS, "purposes": ["import"]}, **WHO, valid_from=NOON - timedelta(days=900), backdated=True
    )
    assert old.valid_from == NOON - timedelta(days=900)


async def test_a_grant_that_overlaps_another_is_refused_and_the_other_named(registry: Registry) -> None:
    first = await registry.grant(**{**TERMS, **WHO, "path": "/enterprises/{uscc}/owners"})
    version = await registry.version()
    for terms in (
        {"path": "/enterprises/*/owners"},
        {"path": "**", "method": "*"},
        {"path": "/enterprises/**", "purposes": ["audit", "inspection"], "items": ["name"], "quota_per_day": 3},
        {"path": "/{a}/{b}/{c}", "valid_from": NOON + timedelta(days=29), "valid_to": NOON + timedelta(days=99)},
        {"path": "/enterprises/{uscc}/owners", "signed_requests": True, "case_pattern": "X*"},
    ):
        with pytest.raises(ConflictError) as caught:
            await registry.grant(**{**TERMS, **WHO, **terms})
        assert (caught.value.rule, caught.value.status) == ("grant-overlap", 409)
        assert caught.value.pointer == f"/purposes/{len(terms.get('purposes', 'x')) - 1}"  # the shared one
        for language in ("en", "zh"):
            assert first.id in caught.value.detail_in(language)
            assert "/enterprises/" in caught.value.detail_in(language)
    await untouched(registry, version)


async def test_grants_that_differ_in_one_thing_stand_beside_each_other(registry: Registry, clock: Clock) -> None:
    await registry.add_group(Group(id="everybody", name="全部", subsystem_code="housing"), **WHO)
    first = await registry.grant(**TERMS, **WHO)
    for terms in (
        {"purposes": ["audit"]},
        {"path": "/enterprises/search"},
        {"method": "POST"},
        {"client": AUDIT},
        {"client": None, "group": "everybody"},  # what a group holds does not hinder its members, nor they it
        {"valid_from": first.valid_to, "valid_to": first.valid_to + timedelta(days=1)},
    ):
        await registry.grant(**{**TERMS, **WHO, **terms})
    await registry.revoke(first.id, **WHO)
    again = await registry.grant(**TERMS, **WHO)
    assert again.id != first.id


async def test_a_renewal_begins_where_the_old_grant_ends(registry: Registry, clock: Clock) -> None:
    first = await registry.grant(**TERMS, **WHO)
    clock.now = first.valid_to
    renewed = await registry.grant(**{**TERMS, "valid_to": first.valid_to + timedelta(days=30)}, **WHO)
    decide = (await registry.snapshot()).decide
    for moment, expected in ((first.valid_to - timedelta(seconds=1), first), (first.valid_to, renewed)):
        decision = decide(HOUSING, ENTERPRISES, "GET", ("enterprises",), "inspection", moment.timestamp())
        assert decision.grant == expected


async def test_the_same_grant_twice_is_one(registry: Registry) -> None:
    given = await registry.grant(**TERMS, **WHO, grant_id="mine")
    async with registry.change(**WHO) as change:
        assert await change.add_grant(given) is None
    with pytest.raises(ConflictError) as caught:
        await registry.grant(**{**TERMS, "path": "/other"}, **WHO, grant_id="mine")
    assert caught.value.pointer == "/id"


# ---- groups


async def test_a_group_grant_follows_members_that_come_and_go(registry: Registry) -> None:
    county = Member(
        id=MemberId("CN/GOV/1199000000000102XG"), name="示例市住房保障局", level="county", division="450102"
    )
    await registry.add_member(county, replace=True, **WHO)
    await registry.add_group(Group(id="guangxi", name="广西各县", level="county", division="450000"), **WHO)
    given = await registry.grant(**{**TERMS, **WHO, "client": None, "group": "guangxi"})

    async def rule() -> str:
        try:
            call = HOUSING, ENTERPRISES, "GET", ("enterprises",), "inspection", NOON.timestamp()
            return (await registry.snapshot()).decide(*call).grant.id
        except MeshError as error:
            return error.rule

    assert await rule() == given.id
    await registry.add_member(replace(county, division="110101"), replace=True, **WHO)
    assert await rule() == "grant-method-path"  # what it holds by itself is for other paths
    await registry.add_group(Group(id="guangxi", name="广西各县", members=(HOUSING,)), replace=True, **WHO)
    assert await rule() == given.id
    closed = await registry.close_group("guangxi", **WHO)
    assert closed is not None
    assert closed.action == "group.close"
    assert await registry.close_group("guangxi", **WHO) is None
    assert await rule() == "grant-method-path"
    with pytest.raises(ConflictError) as caught:
        await registry.grant(**{**TERMS, **WHO, "client": None, "group": "guangxi", "purposes": ["new"]})
    assert caught.value.pointer == "/group"
    with pytest.raises(ConflictError):
        await registry.add_group(Group(id="guangxi", name="再开", members=(HOUSING,)), replace=True, **WHO)


@pytest.mark.parametrize(
    ("group", "rule", "pointer"),
    [
        (Group(id="G", name="x", members=(HOUSING,)), "group-id", "/id"),
        (Group(id="", name="x", members=(HOUSING,)), "group-id", "/id"),
        (Group(id="a", name="", members=(HOUSING,)), "name", "/name"),
        (Group(id="a", name="x"), "members", "/members"),
        (Group(id="a", name="x", members=(HOUSING, SubsystemId("CN/GOV/x"))), "members", "/members/1"),
        (Group(id="a", name="x", level="village"), "level", "/level"),  # type: ignore[arg-type]
        (Group(id="a", name="x", division="45"), "division", "/division"),
        (Group(id="a", name="x", division="45010a"), "division", "/division"),
        (Group(id="a", name="x", subsystem_code="a/b"), "subsystem_code", "/subsystem_code"),
    ],
)
async def test_a_group_that_breaks_a_rule_is_refused(registry: Registry, group: Group, rule: str, pointer: str) -> None:
    version = await registry.version()
    with pytest.raises(UnprocessableError) as caught:
        await registry.add_group(group, **WHO)
    assert (caught.value.rule, caught.value.pointer) == (rule, pointer)
    await untouched(registry, version)


async def test_a_group_lists_registered_subsystems_only(registry: Registry) -> None:
    group = Group(id="a", name="x", members=(HOUSING, SubsystemId("CN/GOV/NOBODY/x")))
    with pytest.raises(NotRegisteredError) as caught:
        await registry.add_group(group, **WHO)
    assert caught.value.pointer == "/members/1"
    with pytest.raises(NotFoundError):
        await registry.close_group("nothing", **WHO)


# ---- roles


def role(**terms: Any) -> RoleGrant:
    base = RoleGrant(
        id="",
        subsystem=HOUSING,
        role="auditor",
        valid_from=NOON,
        valid_to=NOON + timedelta(days=1),
        reason="审计",
        decided_by="审计局",
    )
    return replace(base, **terms)


async def changed(registry: Registry, work: Any) -> Any:
    async with registry.change(**WHO) as change:
        return await work(change)


async def test_a_role_is_granted_held_and_revoked(registry: Registry, clock: Clock) -> None:
    granted = await changed(registry, lambda change: grant_role(change, OPERATOR, role()))
    assert granted.id == f"r{await registry.version()}"
    snapshot = await registry.snapshot()
    assert snapshot.has_role(HOUSING, "auditor", NOON.timestamp())
    assert not snapshot.has_role(HOUSING, "auditor", (NOON + timedelta(days=1)).timestamp())
    clock.now = NOON + timedelta(hours=1)
    revoked = await changed(registry, lambda change: revoke_role(change, OPERATOR, granted.id))
    assert (revoked.action, revoked.target) == ("role.revoke", granted.id)
    assert not (await registry.snapshot()).has_role(HOUSING, "auditor", clock.now.timestamp())
    assert await changed(registry, lambda change: revoke_role(change, OPERATOR, granted.id)) is None
    found = await changed(registry, lambda change: change.find_role_grant(granted.id))
    assert (found.active, found.revoked_at, found.revocation_reason) == (False, clock.now, "a test")


async def test_a_role_of_the_registration_is_taken_away(registry: Registry) -> None:
    now = NOON.timestamp()
    assert (await registry.snapshot()).has_role(TAX, "owner", now)
    change = await changed(registry, lambda change: revoke_standing_role(change, OPERATOR, TAX, "owner"))
    assert (change.action, change.target, change.after["roles"]) == ("role.revoke", TAX, [])
    assert not (await registry.snapshot()).has_role(TAX, "owner", now)
    assert await changed(registry, lambda change: revoke_standing_role(change, OPERATOR, TAX, "owner")) is None
    again = await changed(registry, lambda change: grant_role(change, OPERATOR, role(subsystem=TAX, role="owner")))
    assert (await registry.snapshot()).has_role(TAX, "owner", again.valid_from.timestamp())


@pytest.mark.parametrize(
    ("grant", "error", "rule", "pointer"),
    [
        (role(role="king"), UnprocessableError, "role", "/role"),
        (role(subsystem="CN/GOV"), UnprocessableError, "subsystem", "/subsystem"),
        (role(subsystem="CN/GOV/NOBODY/x"), NotRegisteredError, "registered", "/subsystem"),
        (role(valid_to=NOON), UnprocessableError, "validity", "/valid_to"),
        (role(valid_from=NOON - timedelta(days=1)), UnprocessableError, "grant-backdated", "/valid_from"),
        (role(id="r1"), UnprocessableError, "role-grant-id", "/id"),
        (role(subsystem=TAX, role="owner"), ConflictError, "role-overlap", "/role"),
        (role(reason=""), UnprocessableError, "reason", "/reason"),
    ],
)
async def test_a_role_grant_that_breaks_a_rule_is_refused(
    registry: Registry, grant: RoleGrant, error: type[MeshError], rule: str, pointer: str
) -> None:
    version = await registry.version()
    with pytest.raises(error) as caught:
        await changed(registry, lambda change: change.grant_role(grant))
    assert (caught.value.rule, caught.value.pointer) == (rule, pointer)
    await untouched(registry, version)


async def test_a_role_is_not_granted_twice_for_the_same_time(registry: Registry) -> None:
    first = await changed(registry, lambda change: grant_role(change, OPERATOR, role(id="mine")))
    assert await changed(registry, lambda change: grant_role(change, OPERATOR, role(id="mine"))) == first
    with pytest.raises(ConflictError) as caught:
        await changed(registry, lambda change: grant_role(change, OPERATOR, role(valid_to=NOON + timedelta(days=9))))
    assert (caught.value.rule, "mine" in str(caught.value)) == ("role-overlap", True)
    later = role(valid_from=first.valid_to, valid_to=first.valid_to + timedelta(days=1))
    assert (await changed(registry, lambda change: grant_role(change, OPERATOR, later))).id.startswith("r")


# ---- who may


def wanted(**terms: Any) -> Grant:
    base = Grant(
        id="",
        client=HOUSING,
        service=ENTERPRISES,
        purposes=("inspection",),
        path="/enterprises",
        valid_from=NOON,
        valid_to=NOON + timedelta(days=30),
        reason="a test",
        decided_by="tester",
    )
    return replace(base, **terms)


async def give(registry: Registry, actor: Actor, **terms: Any) -> Grant:
    async with registry.change(by=actor.by or "x", why="a test", certificate=actor.certificate) as change:
        return await give_grant(change, actor, wanted(**terms))


async def test_an_owner_gives_and_revokes_what_its_own_subsystem_offers(registry: Registry) -> None:
    catalogue = Catalogue(registry)
    code = await publish(catalogue)
    given = await give(registry, OWNER)
    of_resource = await give(registry, OWNER, service=ServiceId(""), resource=code, path="**")
    (change,) = await registry.changes(target=given.id)
    assert (change.by, change.certificate) == (f"{TAX} (张三)", OWNER.certificate)
    for each in (given, of_resource):
        ended = await changed(registry, lambda change, each=each: revoke_grant(change, OWNER, each.id))
        assert ended.action == "grant.revoke"


async def test_nobody_gives_what_is_not_theirs(registry: Registry) -> None:
    code = await publish(Catalogue(registry))
    version = await registry.version()
    for actor in (STRANGER, AUDITOR, NOBODY, Actor(subsystem=TAX, roles=frozenset({"integrator"}))):
        for terms in ({}, {"service": ServiceId(""), "resource": code}, {"client": SubsystemId("CN/GOV/NOBODY/x")}):
            with pytest.raises(RoleMissingError):
                await give(registry, actor, **terms)
    # An operator may; what is missing is told only then.
    with pytest.raises(NotRegisteredError):
        await give(registry, OPERATOR, client=SubsystemId("CN/GOV/NOBODY/x"))
    await untouched(registry, version)


async def test_a_grant_between_others_does_not_exist_for_who_would_revoke_it(registry: Registry) -> None:
    other = ServiceId(f"{AUDIT}/files")
    await registry.add_service(Service(id=other, title_zh="档案", operations=(Operation.of("GET", "/"),)), **WHO)
    theirs = await give(registry, OPERATOR, client=TAX, service=other)
    ours = await give(registry, OPERATOR)
    for actor, grant, error in (
        (STRANGER, theirs.id, NotFoundError),
        (STRANGER, "g999", NotFoundError),
        (STRANGER, ours.id, RoleMissingError),  # it knows of its own
        (AUDITOR, theirs.id, RoleMissingError),
        (OWNER, theirs.id, RoleMissingError),
        (OPERATOR, "g999", NotFoundError),
    ):
        with pytest.raises(error):
            await changed(registry, lambda change, actor=actor, grant=grant: revoke_grant(change, actor, grant))


async def test_groups_and_roles_are_the_operators(registry: Registry) -> None:
    version = await registry.version()
    group = Group(id="a", name="甲", members=(HOUSING,))

    async def every(change: Changes, actor: Actor) -> list[str]:
        refused = []
        for attempt in (
            lambda: add_group(change, actor, group),
            lambda: close_group(change, actor, "nothing"),
            lambda: grant_role(change, actor, role()),
            lambda: revoke_role(change, actor, "r999"),
            lambda: revoke_standing_role(change, actor, TAX, "owner"),
        ):
            try:
                await attempt()
            except RoleMissingError as error:
                refused.append(error.rule)
        return refused

    for actor in (OWNER, AUDITOR, NOBODY):
        assert await changed(registry, lambda change, actor=actor: every(change, actor)) == ["role"] * 5
    await untouched(registry, version)
    assert (await changed(registry, lambda change: add_group(change, OPERATOR, group))).action == "group.add"


async def test_a_withdrawn_resource_takes_no_new_grants(registry: Registry) -> None:
    catalogue = Catalogue(registry)
    code = await publish(catalogue)
    terms: dict[str, Any] = {"service": ServiceId(""), "resource": code, "path": "**"}
    given = await give(registry, OPERATOR, **terms)
    call = HOUSING, ENTERPRISES, "GET", ("enterprises", "9"), "inspection", NOON.timestamp()
    assert (await registry.snapshot()).decide(*call).grant == given
    await catalogue.withdraw(OPERATOR, code, why="停用")
    with pytest.raises(ConflictError) as caught:
        await give(registry, OPERATOR, **{**terms, "purposes": ("audit",)})
    assert caught.value.pointer == "/resource"
    with pytest.raises(MeshError) as refused:
        (await registry.snapshot()).decide(*call)
    assert refused.value.rule == "resource-withdrawn"
