"""Openings: two persons, one record, one day; and every step is on record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from exchange import ConflictError, MeshError, NotFoundError, RoleMissingError, UnprocessableError
from registry import Actor, ChangeBook, Opening, OpeningFilter, Openings, Registry, Role
from registry.openings import OPEN_FOR
from tests.registry.conftest import AUDIT, HOUSING, TAX, Clock

EXCHANGE = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
OTHER = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c"
WHY = "投诉〔2026〕9号"


def actor(official: str = "张三", roles: Sequence[Role] = ("operator",), subsystem: str = HOUSING) -> Actor:
    return Actor(subsystem=subsystem, official=official, certificate="ab" * 32, roles=frozenset(roles))  # type: ignore[arg-type]


@pytest.fixture
def openings(registry: Registry) -> Openings:
    return Openings(registry)


async def refused(work: object, error: type[MeshError], rule: str) -> str:
    with pytest.raises(error) as caught:
        await work  # type: ignore[misc]
    assert caught.value.rule == rule
    return str(caught.value)


async def test_what_two_persons_agree_on_is_open_to_the_asker_for_a_day(
    registry: Registry, openings: Openings, clock: Clock
) -> None:
    asked, _ = await openings.ask(actor(), EXCHANGE, WHY)
    assert (asked.state, asked.official, asked.asked_by, asked.why) == ("asked", "张三", HOUSING, WHY)
    assert await openings.opened_to(actor(), EXCHANGE) is None, "asking opens nothing"
    approved = await openings.decide(actor("李四"), asked.id, approve=True, why="属实")
    assert approved.valid_until == clock.now + OPEN_FOR == clock.now + timedelta(hours=24)
    assert (approved.second_official, approved.decision_why) == ("李四", "属实")
    assert await openings.opened_to(actor(" 张　三 "), EXCHANGE) == approved
    for other in (
        actor("李四"),
        actor("王五"),
        actor(""),
        actor(subsystem=TAX),
        actor(roles=("owner", "integrator")),
        replace(actor(), subsystem=None),
    ):
        assert await openings.opened_to(other, EXCHANGE) is None
    assert await openings.opened_to(actor(), OTHER) is None
    clock.now += OPEN_FOR - timedelta(microseconds=1)
    assert await openings.opened_to(actor(), EXCHANGE) is not None
    clock.now += timedelta(microseconds=1)
    assert await openings.opened_to(actor(), EXCHANGE) is None
    changes = await registry.changes(target=asked.id)
    assert [(each.action, each.why) for each in changes] == [("opening.ask", WHY), ("opening.approve", "属实")]
    assert [each.by for each in changes] == [f"{HOUSING} (张三)", f"{HOUSING} (李四)"]
    assert {each.certificate for each in changes} == {"ab" * 32}
    assert changes[0].after["exchange"] == EXCHANGE
    assert (await ChangeBook(registry).find(approved.version)) == changes[1]


async def test_nobody_is_two_persons(openings: Openings) -> None:
    """Not by another spelling of the name either, nor for another subsystem."""
    for asker, names in (("张三", ("张三", "张 三")), ("Zhang San", ("zhang san", "ZHANGSAN", "Ｚｈａｎｇ Ｓａｎ"))):
        asked, _ = await openings.ask(actor(asker), EXCHANGE, WHY)
        for name in names:
            for subsystem in (HOUSING, AUDIT):
                decided = openings.decide(actor(name, ("auditor",), subsystem), asked.id, approve=True, why="同意")
                await refused(decided, UnprocessableError, "two-persons")
        nobody = openings.decide(actor(""), asked.id, approve=True, why="同意")
        await refused(nobody, UnprocessableError, "two-persons")
        assert (await openings.find(actor(), asked.id)).state == "asked"


async def test_only_operators_and_auditors_ask_decide_and_read(openings: Openings) -> None:
    asked, _ = await openings.ask(actor(roles=("auditor",)), EXCHANGE, WHY)
    outsider = actor("李四", ("owner", "integrator"))
    for work in (
        openings.ask(outsider, EXCHANGE, WHY),
        openings.decide(outsider, asked.id, approve=True, why="同意"),
        openings.decide(outsider, "o0", approve=True, why="同意"),
        openings.find(outsider, asked.id),
        openings.page(outsider, OpeningFilter()),
    ):
        await refused(work, RoleMissingError, "role")
    await refused(openings.ask(actor(""), EXCHANGE, WHY), UnprocessableError, "two-persons")
    await refused(openings.ask(Actor.operator("root"), EXCHANGE, WHY), UnprocessableError, "opening-subsystem")
    await refused(openings.ask(actor(), EXCHANGE, " "), UnprocessableError, "why")
    await refused(openings.decide(actor("李四"), asked.id, approve=True, why=""), UnprocessableError, "why")
    await refused(openings.decide(actor("李四"), "o0", approve=True, why="同意"), NotFoundError, "exists")
    await refused(openings.find(actor(), "o0"), NotFoundError, "exists")


async def test_a_decision_is_made_once(registry: Registry, openings: Openings, clock: Clock) -> None:
    first, _ = await openings.ask(actor(), EXCHANGE, WHY)
    assert await openings.ask(actor("张 三"), EXCHANGE, "再次") == (first, False), "asking twice is asking once"
    refusal = await openings.decide(actor("李四"), first.id, approve=False, why="理由不充分")
    assert (refusal.state, refusal.valid_until) == ("refused", None)
    assert await openings.opened_to(actor(), EXCHANGE) is None
    assert await openings.decide(actor("李四"), first.id, approve=False, why="再次") == refusal
    said = await refused(
        openings.decide(actor("王五"), first.id, approve=True, why="同意"), ConflictError, "opening-state"
    )
    assert "refused it already" in said
    again, _ = await openings.ask(actor(), EXCHANGE, "补充材料")
    assert again.id != first.id
    approved = await openings.decide(actor("王五"), again.id, approve=True, why="同意")
    assert await openings.ask(actor(), EXCHANGE, "仍在有效期") == (approved, False)
    clock.now += OPEN_FOR
    assert (await openings.ask(actor(), EXCHANGE, "已过期"))[1]
    await registry.snapshot()  # what a mirror reads stands other kinds of changes


async def test_of_two_decisions_at_once_one_counts(openings: Openings) -> None:
    asked, _ = await openings.ask(actor(), EXCHANGE, WHY)
    decisions = await asyncio.gather(
        openings.decide(actor("李四"), asked.id, approve=True, why="同意"),
        openings.decide(actor("王五"), asked.id, approve=False, why="不同意"),
        return_exceptions=True,
    )
    (made,) = [each for each in decisions if isinstance(each, Opening)]
    (late,) = [each for each in decisions if isinstance(each, ConflictError)]
    assert late.rule == "opening-state"
    assert await openings.find(actor(), asked.id) == made


async def test_openings_are_listed_page_by_page(openings: Openings) -> None:
    made = [
        (await openings.ask(actor(f"张{number}"), EXCHANGE if number % 2 else OTHER, WHY))[0] for number in range(5)
    ]
    await openings.decide(actor("李四"), made[3].id, approve=True, why="同意")
    shown: list[str] = []
    before = None
    while True:
        page, before = await openings.page(actor(), OpeningFilter(), before=before, limit=2)
        shown += [each.id for each in page]
        if before is None:
            break
    assert shown == [each.id for each in reversed(made)]

    async def found(**wanted: str) -> list[str]:
        return [each.id for each in (await openings.page(actor(), OpeningFilter(**wanted)))[0]]  # type: ignore[arg-type]

    assert await found(exchange=EXCHANGE) == [made[3].id, made[1].id]
    assert await found(state="approved") == [made[3].id]
    assert await found(asked_by=TAX) == []
