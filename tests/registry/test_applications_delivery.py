"""Delivery: what can be called when it is approved is delivered with its approval; else the owner owes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exchange import ServiceId
from registry import Access, Application, Operation, Service
from tests.registry.application_world import (
    APPLICANT,
    APPROVE,
    ARREARS,
    NOTICES,
    OFF_PLATFORM,
    OWNER,
    PART,
    SECOND,
    WHO,
    World,
    china,
)
from tests.registry.example import ENTERPRISES, TAX

SEARCH = Access(service=ENTERPRISES, method="POST", path="/enterprises/search")
ONE = Access(service=ENTERPRISES, method="GET", path="/enterprises/{number}")
LIMITED = ServiceId(f"{TAX}/limited")
ITEMS = Access(service=LIMITED, method="GET", path="/items")
"""Declared once, and withdrawn."""


def is_delivered(application: Application) -> bool:
    """Whether it is delivered; what is owed says the same."""
    owed = [each.open for each in application.owed if each.duty == "delivery"]
    assert owed[-1] is (application.delivered_at is None)
    assert not any(owed[:-1])
    return application.delivered_at is not None


async def approved(world: World, code: str = ARREARS, **other: Any) -> Application:
    application = await world.submitted(code, **other)
    return await world.applications.decide(OWNER, application.id, APPROVE)


async def test_what_can_be_called_is_delivered_with_its_approval_and_the_record_says_by_what_rule(world: World) -> None:
    application = await approved(world)
    assert application.delivered_at == world.clock.now
    assert is_delivered(application)
    *_, grant, decision, delivery = (await world.show(application.id)).events
    assert [each.action for each in (grant, decision, delivery)] == [
        "grant.add",
        "application.approve",
        "application.deliver",
    ]
    assert (delivery.by, delivery.why, delivery.at) == (OWNER.by, "can be called at once", decision.at)
    assert (decision.why, application.version) == ("approved as applied for", delivery.version)


async def test_so_is_a_part_what_a_second_person_confirms_and_what_is_decided_anew_after_a_dispute(
    world: World,
) -> None:
    desk = world.applications
    application = await world.submitted()
    proposed = await desk.decide(OWNER, application.id, PART, two_persons=True)
    assert proposed.delivered_at is None
    world.at("2026-05-06T09:00")
    part = await desk.confirm(SECOND, application.id, agree=True)
    assert (part.state, part.delivered_at) == ("partly-approved", world.clock.now)
    assert is_delivered(part)
    await desk.dispute(APPLICANT, application.id, "partial-approval", "核查须知欠税")
    await desk.move(OWNER, application.id, "concede", "重新审核")
    assert (await world.show(application.id)).application.delivered_at is None
    world.at("2026-05-07T09:00")
    whole = await desk.decide(OWNER, application.id, APPROVE)
    assert (whole.state, whole.delivered_at) == ("approved", world.clock.now)
    assert is_delivered(whole)


async def test_so_is_what_a_grant_covers_from_a_later_day_on(world: World) -> None:
    """Until then nobody has anything left to do."""
    application = await approved(world, valid_from=china("2026-09-01T00:00"))
    assert (await world.grant_of(application)).valid_from == china("2026-09-01T00:00")
    assert is_delivered(application)


async def test_what_is_nowhere_to_be_called_is_owed_until_its_owner_says_that_it_can_be_had(world: World) -> None:
    application = await approved(world, OFF_PLATFORM)
    assert not is_delivered(application)
    assert is_delivered(await world.applications.deliver(OWNER, application.id, "已交付光盘"))


async def test_a_closed_service_delivers_nothing_nor_gives_it_its_owner_more_days_to_answer(world: World) -> None:
    await world.registry.set_service_state(ENTERPRISES, is_open=False, notice="停用", **WHO)
    await world.applications.stand(OWNER, NOTICES, "随申随批")
    submitted = await world.submitted()
    assert submitted.answer is not None
    assert submitted.answer.duty == "answer"
    closed = await world.applications.decide(OWNER, submitted.id, APPROVE)
    by_rule = await world.submitted(NOTICES)
    assert [(each.state, is_delivered(each)) for each in (closed, by_rule)] == [("approved", False)] * 2
    await world.registry.set_service_state(ENTERPRISES, is_open=True, **WHO)
    assert is_delivered(await world.applications.deliver(OWNER, closed.id, "接口已恢复"))
    assert is_delivered(await approved(world, purposes=("another",)))


async def test_a_service_of_a_suspended_system_delivers_nothing(world: World) -> None:
    await world.registry.set_subsystem_state(TAX, active=False, **WHO)
    assert not is_delivered(await approved(world))


@pytest.mark.parametrize(
    ("accesses", "delivered"),
    [
        ((ONE,), True),
        ((SEARCH,), True),
        ((replace(ONE, method="*"),), True),
        ((replace(ONE, path="/enterprises/**"),), True),
        ((replace(ONE, method="DELETE"),), False),
        ((replace(ONE, path="/taxpayers/{number}"),), False),
        ((replace(SEARCH, method="GET", path="/enterprises/{uscc}/certificates"),), False),
        ((ITEMS,), False),
        ((ITEMS, ONE), True),
    ],
)
async def test_an_access_counts_if_its_service_declares_an_operation_that_it_covers(
    world: World, accesses: tuple[Access, ...], delivered: bool
) -> None:
    both = (Operation.of("GET", "/items"), Operation.of("GET", "/more"))
    limited = Service(id=LIMITED, title_zh="部分开放", operations=both)
    await world.registry.add_service(limited, **WHO)
    # An operation that was withdrawn is as good as none.
    await world.registry.add_service(replace(limited, operations=both[1:]), replace=True, **WHO)
    await world.publish(ARREARS, accesses=accesses)
    assert is_delivered(await approved(world)) is delivered
