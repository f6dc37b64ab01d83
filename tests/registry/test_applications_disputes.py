"""Disputes in the registry: three levels, each with its clock, and what an outcome does to the application."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from exchange import ConflictError, MeshError, NotFoundError, RoleMissingError, UnprocessableError
from registry import Application, Dispute
from tests.registry.application_world import (
    APPLICANT,
    APPROVE,
    AUDITOR,
    CLERK,
    NOBODY,
    OWNER,
    PART,
    REFUSE,
    ROOT,
    WHO,
    World,
    china,
)
from tests.registry.example import TAX


async def disputed(world: World) -> Application:
    """A refusal that its applicant disputes, opened on 2025-01-24."""
    world.at("2025-01-24T09:00")
    refused = await world.refused()
    await world.applications.dispute(APPLICANT, refused.id, "refusal", "第七条已明确核查职责")
    return refused


async def the_dispute(world: World, identifier: str) -> Dispute:
    return (await world.show(identifier)).disputes[-1]


async def test_a_dispute_begins_between_the_parties_with_a_clock(world: World) -> None:
    refused = await disputed(world)
    dispute = await the_dispute(world, refused.id)
    assert (dispute.level, dispute.state, dispute.opened_by) == ("negotiating", "open", "applicant")
    assert dispute.running is not None
    assert (dispute.running.responsible, dispute.running.due_date) == ("parties", date(2025, 2, 13))
    with pytest.raises(ConflictError):
        await world.applications.dispute(APPLICANT, refused.id, "refusal", "再次提出")
    said = await world.applications.move(OWNER, refused.id, "say", "该条不涉及欠税")
    assert [(each.kind, each.party, each.text) for each in said.moves] == [
        ("open", "applicant", "第七条已明确核查职责"),
        ("say", "owner", "该条不涉及欠税"),
    ]
    assert (await world.events(refused.id))[-2:] == ["dispute.add", "dispute.say"]


async def test_an_owner_that_concedes_decides_anew_with_a_fresh_clock(world: World) -> None:
    refused = await disputed(world)
    world.at("2025-02-10T09:00")
    ended = await world.applications.move(OWNER, refused.id, "concede", "同意重新审核")
    assert (ended.state, ended.closed_at) == ("overturned", world.clock.now)
    reopened = (await world.show(refused.id)).application
    assert reopened.state == "in-review"
    assert reopened.answer is not None
    assert (reopened.answer.received, reopened.answer.due_date) == (world.clock.now, date(2025, 2, 24))
    world.at("2025-02-12T09:00")
    approved = await world.applications.decide(OWNER, refused.id, APPROVE)
    assert (approved.state, approved.decision and approved.decision.working_days) == ("approved", 2)


async def test_an_applicant_that_gives_up_leaves_the_refusal_as_it_is(world: World) -> None:
    refused = await disputed(world)
    ended = await world.applications.move(APPLICANT, refused.id, "give-up", "接受")
    assert ended.state == "upheld"
    assert (await world.show(refused.id)).application.state == "refused"
    with pytest.raises(ConflictError):
        await world.applications.move(APPLICANT, refused.id, "escalate", "反悔")
    # Another one may be opened: new facts may come up.
    await world.applications.dispute(APPLICANT, refused.id, "refusal", "新的依据")


async def test_it_goes_up_the_ladder_by_hand_and_is_ruled_on_by_document(world: World) -> None:
    refused = await disputed(world)
    with pytest.raises(ConflictError):
        await world.applications.move(ROOT, refused.id, "rule", "x", ruling="overturned", document="桂数〔2025〕1号")
    world.at("2025-02-05T09:00")
    raised = await world.applications.move(OWNER, refused.id, "escalate", "请主管部门协调")
    assert raised.running is not None
    assert (raised.level, raised.running.responsible, raised.running.due_date) == (
        "authority",
        "authority",
        date(2025, 3, 4),
    )
    for actor, document, error in (
        (APPLICANT, "桂数〔2025〕1号", RoleMissingError),
        (OWNER, "桂数〔2025〕1号", RoleMissingError),
        (ROOT, "", UnprocessableError),
    ):
        with pytest.raises(error):
            await world.applications.move(actor, refused.id, "rule", "x", ruling="overturned", document=document)
    ruled = await world.applications.move(ROOT, refused.id, "rule", "维持", ruling="upheld", document="桂数〔2025〕1号")
    assert (ruled.state, ruled.moves[-1].document) == ("upheld", "桂数〔2025〕1号")
    with pytest.raises(ConflictError):
        await world.applications.move(OWNER, refused.id, "escalate", "x")
    again = await world.applications.move(APPLICANT, refused.id, "escalate", "报请政府决定")
    assert (again.level, again.state) == ("government", "open")
    final = await world.applications.move(
        ROOT, refused.id, "rule", "应予提供", ruling="overturned", document="桂政〔2025〕9号"
    )
    assert final.state == "overturned"
    file = await world.show(refused.id)
    assert file.application.state == "in-review"
    assert file.misses == ()
    assert [each.duty for each in final.owed] == ["negotiating", "authority", "government"]


async def test_a_level_that_takes_too_long_passes_it_on_and_only_offices_get_into_the_ledger(world: World) -> None:
    refused = await disputed(world)
    world.at("2025-02-14T00:00")
    await world.applications.keep_time()
    dispute = await the_dispute(world, refused.id)
    assert (dispute.level, dispute.moves[-1].party) == ("authority", "clock")
    assert (await world.show(refused.id)).misses == ()
    assert dispute.running is not None
    assert dispute.running.due_at is not None
    world.clock.now = dispute.running.due_at
    await world.applications.keep_time()
    dispute = await the_dispute(world, refused.id)
    assert dispute.level == "government"
    (late,) = (await world.show(refused.id)).misses
    assert (late.duty, late.responsible, late.department, late.dispute) == ("authority", "authority", "", dispute.id)
    assert late.ended_at == world.clock.now
    assert dispute.running is not None
    assert dispute.running.due_at is not None
    world.clock.now = dispute.running.due_at
    await world.applications.keep_time()
    version = await world.registry.version()
    await world.applications.keep_time()
    assert await world.registry.version() == version
    (_, last) = (await world.show(refused.id)).misses
    assert (last.duty, last.ended_at) == ("government", None)
    world.clock.now += timedelta(days=1)
    await world.applications.move(ROOT, refused.id, "rule", "维持", ruling="upheld", document="桂政〔2025〕9号")
    (_, last) = (await world.show(refused.id)).misses
    assert last.ended_at == world.clock.now
    assert (await world.applications.league_table())[0].misses == 0


async def test_an_overturned_approval_in_part_keeps_its_grant_until_a_wider_one_replaces_it(world: World) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted()
    part = await world.applications.decide(OWNER, application.id, PART)
    first = await world.grant_of(part)
    await world.applications.dispute(APPLICANT, application.id, "partial-approval", "核查须知欠税")
    await world.applications.move(OWNER, application.id, "concede", "重新审核")
    reopened = (await world.show(application.id)).application
    assert (reopened.state, reopened.grants) == ("in-review", (first.id,))
    with pytest.raises(ConflictError) as caught:
        await world.applications.decide(OWNER, application.id, REFUSE)
    assert caught.value.rule == "reopened"
    with pytest.raises(UnprocessableError) as narrower:
        await world.applications.decide(OWNER, application.id, replace(PART, items=("uscc",)))
    assert narrower.value.rule == "reopened"
    whole = await world.applications.decide(OWNER, application.id, APPROVE)
    second = await world.grant_of(whole)
    assert second.id != first.id
    assert set(second.items) > set(first.items)
    ended = await world.registry.find_grant(first.id)
    assert ended is not None
    assert not ended.active


async def test_a_grant_revoked_meanwhile_does_not_stand_in_the_way(world: World) -> None:
    world.at("2025-01-24T09:00")
    part = await world.applications.decide(OWNER, (await world.submitted()).id, PART)
    await world.registry.revoke(part.grants[0], **WHO)
    await world.applications.dispute(APPLICANT, part.id, "partial-approval", "核查须知欠税")
    await world.applications.move(OWNER, part.id, "concede", "重新审核")
    assert (await world.applications.decide(OWNER, part.id, APPROVE)).state == "approved"


async def test_a_missed_deadline_is_disputed_by_either_party_and_set_aside_only_for_the_owner(world: World) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted()
    world.at("2025-02-14T09:00")
    await world.applications.keep_time()
    (miss,) = (await world.show(application.id)).misses
    with pytest.raises(UnprocessableError) as caught:
        await world.applications.dispute(OWNER, application.id, "miss", "系统故障", miss="m1")
    assert caught.value.pointer == "/miss"
    await world.applications.dispute(OWNER, application.id, "miss", "系统故障", miss=miss.id)
    with pytest.raises(RoleMissingError):
        await world.applications.move(OWNER, application.id, "concede", "x")
    await world.applications.move(APPLICANT, application.id, "concede", "情况属实")
    (aside,) = (await world.show(application.id)).misses
    assert "情况属实" in aside.set_aside
    assert aside.next_at is None
    with pytest.raises(ConflictError):
        await world.applications.dispute(APPLICANT, application.id, "miss", "x", miss=miss.id)
    assert (await world.show(application.id)).application.state == "submitted"
    assert (await world.applications.league_table())[0].misses == 0


async def test_an_applicant_s_dispute_about_a_missed_deadline_leaves_it_in_the_ledger(world: World) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted()
    world.at("2025-02-14T09:00")
    await world.applications.keep_time()
    (miss,) = (await world.show(application.id)).misses
    await world.applications.dispute(APPLICANT, application.id, "miss", "逾期未答复", miss=miss.id)
    await world.applications.move(OWNER, application.id, "concede", "立即办理")
    (still,) = (await world.show(application.id)).misses
    assert (still.set_aside, still.ended_at) == ("", None)


async def test_what_was_not_decided_against_somebody_cannot_be_disputed_nor_by_somebody_else(world: World) -> None:
    world.at("2025-01-24T09:00")
    submitted, refused = await world.submitted(), await world.refused()
    desk = world.applications
    version = await world.registry.version()
    expected: list[tuple[object, type[MeshError]]] = [
        (desk.dispute(APPLICANT, submitted.id, "refusal", "x"), ConflictError),
        (desk.dispute(APPLICANT, refused.id, "partial-approval", "x"), ConflictError),
        (desk.dispute(APPLICANT, refused.id, "refusal", ""), UnprocessableError),
        (desk.dispute(APPLICANT, refused.id, "miss", "x"), UnprocessableError),
        (desk.dispute(OWNER, refused.id, "refusal", "x"), RoleMissingError),
        (desk.dispute(CLERK, refused.id, "refusal", "x"), RoleMissingError),
        (desk.dispute(AUDITOR, refused.id, "refusal", "x"), RoleMissingError),
        (desk.dispute(NOBODY, refused.id, "refusal", "x"), NotFoundError),
        (desk.move(APPLICANT, refused.id, "say", "x"), NotFoundError),
    ]
    for step, error in expected:
        with pytest.raises(error):
            await step  # type: ignore[misc]
    assert await world.registry.version() == version


async def test_a_deadline_of_a_dispute_past_the_calendar_is_counted_again(world: World) -> None:
    last = world.applications.book.calendar.published_until
    world.clock.now = china(f"{last.year}-12-28T09:00")
    refused = await world.refused()
    dispute = await world.applications.dispute(APPLICANT, refused.id, "refusal", "x")
    assert dispute.running is not None
    assert dispute.running.provisional
    version = await world.registry.version()
    await world.applications.count_again()
    assert await world.registry.version() == version


async def test_in_a_county_with_other_days_the_dispute_follows_its_jurisdiction(world: World) -> None:
    await world.move_provider("140581")
    world.at("2025-01-24T09:00")
    refused = await world.refused()
    dispute = await world.applications.dispute(APPLICANT, refused.id, "refusal", "x")
    assert dispute.running is not None
    assert dispute.running.jurisdiction in {"CN", "CN-140581"}
    assert refused.provider == TAX
    reopened = await world.applications.move(OWNER, refused.id, "concede", "重新审核")
    assert reopened.state == "overturned"
    application = (await world.show(refused.id)).application
    # The form was checked once: what is owed again is the answer.
    assert application.answer is not None
    assert (application.answer.duty, application.answer.working_days) == ("answer", 5)


async def test_nobody_rules_on_a_dispute_or_decides_about_an_application_of_its_own(world: World) -> None:
    refused = await disputed(world)
    await world.applications.move(APPLICANT, refused.id, "escalate", "请协调")
    for party in (APPLICANT, OWNER):
        mighty = replace(party, roles=frozenset({"operator", "owner"}))
        with pytest.raises(RoleMissingError):
            await world.applications.move(
                mighty, refused.id, "rule", "x", ruling="overturned", document="自定〔2025〕1号"
            )
    application = await world.submitted()
    with pytest.raises(RoleMissingError):
        await world.applications.decide(replace(APPLICANT, roles=frozenset({"operator"})), application.id, APPROVE)
