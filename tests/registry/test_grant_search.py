"""Who is shown which grants, page by page, on each kind of database; and what else of the registry an actor may know."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest

from exchange import NotFoundError, RoleMissingError, ServiceId, SubsystemId, member_of
from registry import (
    Actor,
    Grant,
    GrantFilter,
    Group,
    Operation,
    Registry,
    Service,
    Subsystem,
    china_day,
    find_grant,
    register_service,
    revoke_certificate,
    search_as_of,
    search_grants,
    sees_service,
    state_of,
)
from tests.registry.conftest import AUDIT, ENTERPRISES, HOUSING, NOON, TAX, Clock

WHO: dict[str, Any] = {"by": "test", "why": "test"}
OPERATOR = Actor.operator("test")
AUDITOR = Actor(subsystem=AUDIT, roles=frozenset({"auditor"}))
OWNER = Actor(subsystem=TAX, roles=frozenset({"owner"}))
CLIENT = Actor(subsystem=HOUSING)
STRANGER = Actor(subsystem=SubsystemId(f"{member_of(HOUSING)}/stranger"))
FAR = NOON + timedelta(days=1000)


@pytest.fixture
async def granted(registry: Registry) -> Registry:
    """A registry with a grant to a subsystem, one to a group, one upcoming, one expired, one revoked."""
    async with registry.change(**WHO) as change:
        await change.add_subsystem(Subsystem(id=STRANGER.subsystem or HOUSING, name="test"))
        await change.add_group(Group(id="group", name="test", members=(HOUSING,)))
    more: dict[str, Any] = {"service": ENTERPRISES, "valid_to": FAR, **WHO}
    await registry.grant(client=HOUSING, purposes=["one"], grant_id="one", **more)
    await registry.grant(group="group", purposes=["two"], grant_id="two", **more)
    await registry.grant(client=HOUSING, purposes=["s"], grant_id="soon", valid_from=NOON + timedelta(days=1), **more)
    past: dict[str, Any] = {**more, "valid_to": NOON - timedelta(days=1), "valid_from": NOON - timedelta(days=2)}
    await registry.grant(client=HOUSING, purposes=["old"], grant_id="old", backdated=True, **past)
    await registry.grant(client=HOUSING, purposes=["over"], grant_id="over", **more)
    await registry.revoke("over", **WHO)
    return registry


async def found(registry: Registry, actor: Actor, groups: Collection[str] = (), **wanted: Any) -> set[str]:
    grants, more = await search_grants(registry, actor, groups, GrantFilter(**wanted), limit=500)
    assert not more
    return {each.id for each in grants}


async def test_each_is_shown_its_own_and_who_watches_is_shown_all(granted: Registry) -> None:
    everything = await found(granted, OPERATOR)
    assert everything >= {"one", "two", "soon", "old", "over"}
    assert await found(granted, AUDITOR) == everything
    assert await found(granted, OWNER) == await found(granted, OPERATOR, owner=TAX)
    assert {"one", "two"} <= await found(granted, OWNER)
    assert "two" not in await found(granted, CLIENT)
    assert {"one", "two"} <= await found(granted, CLIENT, {"group"})
    assert await found(granted, STRANGER) == set()
    assert await found(granted, STRANGER, {"group"}) == {"two"}
    assert await found(granted, Actor(subsystem=None)) == set()


async def test_one_is_found_by_who_would_see_it_in_the_list(granted: Registry) -> None:
    for actor, groups, sees in (
        (OPERATOR, (), True),
        (OWNER, (), True),
        (CLIENT, (), False),
        (CLIENT, ("group",), True),
    ):
        assert (await find_grant(granted, actor, groups, "two") is not None) == sees
    assert await find_grant(granted, OPERATOR, (), "none") is None


async def test_filters_narrow_each_other(granted: Registry) -> None:
    for state, expected in (("valid", "one"), ("upcoming", "soon"), ("expired", "old"), ("revoked", "over")):
        grants = await found(granted, OPERATOR, state=state)
        assert grants & {"one", "soon", "old", "over"} == {expected}
        assert await found(granted, OPERATOR, state=state, client=AUDIT) == set()
    assert await found(granted, OPERATOR, group="group") == {"two"}
    assert await found(granted, OPERATOR, service=f"{TAX}/none") == set()
    assert await found(granted, OPERATOR, resource="R1") == set()
    assert await found(granted, OPERATOR, application="a1") == set()
    assert await found(granted, OPERATOR, owner=HOUSING) == set()


@pytest.mark.parametrize("limit", [1, 2, 500])
async def test_pages_hold_each_once_also_while_grants_are_revoked_and_given(granted: Registry, limit: int) -> None:
    before = await found(granted, OPERATOR)
    seen: list[str] = []
    more, after = True, ""
    while more:
        page, more = await search_grants(granted, OPERATOR, (), GrantFilter(), after=after, limit=limit)
        seen += [each.id for each in page]
        after = seen[-1]
        await granted.revoke("two", **WHO)
    assert len(seen) == len(set(seen))
    assert set(seen) == before


async def test_a_day_is_answered_for_page_by_page(granted: Registry, clock: Clock) -> None:
    snapshot = await granted.snapshot()
    day = china_day(clock.now)
    how: dict[str, Any] = {"known_at": None, "client": None, "service": None}

    async def whole(actor: Actor) -> set[str]:
        grants, more = await search_as_of(granted, actor, snapshot, day, **how, limit=500)
        assert not more
        return {each.grant.id for each in grants}

    everything = await whole(OPERATOR)
    assert everything & {"one", "two", "soon", "old"} == {"one", "two"}
    assert {"one", "two"} <= await whole(CLIENT) <= everything
    assert {"one", "two"} <= await whole(OWNER) <= everything
    assert await whole(STRANGER) == set()
    for actor in (OPERATOR, CLIENT, OWNER):
        seen: list[str] = []
        more, after = True, 0
        while more:
            page, more = await search_as_of(granted, actor, snapshot, day, **how, after=after, limit=1)
            seen += [each.grant.id for each in page]
            after = page[-1].grant.version
        assert len(seen) == len(set(seen))
        assert set(seen) == await whole(actor)


def test_what_holds_for_a_time_is_in_one_state() -> None:
    day = timedelta(days=1)
    assert state_of(True, NOON, NOON + day, NOON) == "valid"
    assert state_of(True, NOON, NOON + day, NOON - day) == "upcoming"
    assert state_of(True, NOON, NOON + day, NOON + day) == "expired"
    assert state_of(False, NOON, NOON + day, NOON) == "revoked"


async def test_an_unlisted_service_is_known_to_whom_it_concerns(registry: Registry) -> None:
    hidden = Service(
        id=ServiceId(f"{TAX}/hidden"), title_zh="test", operations=(Operation.of("GET", "/a"),), listed=False
    )
    integrator = Actor(subsystem=SubsystemId(f"{member_of(TAX)}/other"), roles=frozenset({"integrator"}))
    async with registry.change(**WHO) as change:
        await register_service(change, integrator, hidden)
    snapshot = await registry.snapshot()
    seeing = [sees_service(snapshot, actor, hidden) for actor in (OPERATOR, AUDITOR, OWNER, integrator, CLIENT)]
    assert seeing == [True, True, True, True, False]
    async with registry.change(**WHO) as change:
        terms: dict[str, Any] = {"valid_from": NOON, "valid_to": FAR, "reason": "test", "decided_by": "test"}
        await change.add_grant(Grant(id="", client=HOUSING, service=hidden.id, purposes=("p",), **terms))
    assert sees_service(await registry.snapshot(), CLIENT, hidden)


async def test_a_certificate_that_is_somebody_elses_is_not_there_to_be_revoked(registry: Registry) -> None:
    with pytest.raises(NotFoundError):
        async with registry.change(**WHO) as change:
            await revoke_certificate(change, CLIENT, "0f" * 32)
    with pytest.raises(RoleMissingError):
        async with registry.change(**WHO) as change:
            await register_service(
                change, CLIENT, Service(id=ENTERPRISES, title_zh="x", operations=(Operation.of("GET", "/a"),))
            )
