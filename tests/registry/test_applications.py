"""The life of an application in the registry, on each kind of database: who sees it, what each step does and records."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from exchange import ConflictError, MeshError, NotFoundError, RoleMissingError, UnprocessableError
from registry import Actor, ApplicationFilter, Applications, Verdict
from registry.applications.rows import application_of_row, application_row
from tests.registry.application_world import (
    APPLICANT,
    APPROVE,
    ARREARS,
    AUDITOR,
    CLERK,
    NOBODY,
    NOTICES,
    OFF_PLATFORM,
    OWNER,
    PART,
    REFUSE,
    ROOT,
    SECOND,
    SECRET,
    WHO,
    World,
    ask,
    china,
    resource,
)
from tests.registry.example import HOUSING, TAX


async def test_an_application_goes_from_draft_to_delivery_and_all_of_it_is_on_record(world: World) -> None:
    desk = world.applications
    draft = await desk.draft(APPLICANT, ask(OFF_PLATFORM, purposes=()))
    assert (draft.state, draft.sharing_class, draft.provider) == ("draft", "conditional", TAX)
    edited = await desk.edit(APPLICANT, draft.id, ask(OFF_PLATFORM))
    submitted = await desk.submit(APPLICANT, edited.id)
    assert (submitted.state, submitted.submitted_at) == ("submitted", world.clock.now)
    await desk.review(OWNER, draft.id)
    await desk.ask(OWNER, draft.id, "请说明核查的具体环节\n并附依据")
    await desk.supplement(APPLICANT, draft.id, "受理环节", {"scenario": "公租房资格核查：受理", "calls_per_day": None})
    approved = await desk.decide(OWNER, draft.id, APPROVE)
    assert approved.state == "approved"
    assert approved.ask.scenario == "公租房资格核查：受理"
    delivered = await desk.deliver(OWNER, draft.id, "接口已开通")
    assert delivered.delivered_at == world.clock.now
    file = await world.show(draft.id)
    assert [each.action for each in file.events] == [
        "application.add",
        "application.edit",
        "application.submit",
        "application.review",
        "application.ask",
        "application.supplement",
        "grant.add",
        "application.approve",
        "application.deliver",
    ]
    assert file.application == delivered
    assert [each.by for each in file.events][2:5] == [APPLICANT.by, OWNER.by, OWNER.by]
    assert file.events[4].why == "请说明核查的具体环节 并附依据"
    (question,) = delivered.questions
    assert (question.text, question.reply) == ("请说明核查的具体环节\n并附依据", "受理环节")
    assert [(each.duty, each.end) for each in delivered.owed] == [
        ("draft", "done"),
        ("answer-unpublished", "done"),
        ("supplement", "done"),
        ("delivery", "done"),
    ]


async def test_the_newest_row_on_record_is_the_whole_application(world: World) -> None:
    """So the registry can be rebuilt as of any moment from its changes alone."""
    decided = await world.applications.decide(OWNER, (await world.submitted()).id, PART)
    newest = [each for each in (await world.show(decided.id)).events if each.target == decided.id][-1]
    row = application_row(decided)
    assert newest.after == json.loads(json.dumps(row, default=datetime.isoformat))
    assert application_of_row({**row, "version": newest.version}) == decided


async def test_approval_makes_a_grant_with_the_masks_of_the_catalogue_in_the_same_transaction(world: World) -> None:
    application = await world.submitted(case_rule="桂房〔####〕*号")
    before = await world.registry.version()
    verdict = Verdict(approve=True, quota_per_second=5, quota_per_day=2000, signed_requests=True)
    approved = await world.applications.decide(OWNER, application.id, verdict)
    grant = await world.grant_of(approved)
    assert (grant.client, grant.resource, grant.service, grant.application) == (HOUSING, ARREARS, "", approved.id)
    assert grant.items == ("arrears", "name", "owner.phone", "uscc")
    assert grant.masks == {"owner.phone": "phone"}
    assert (grant.purposes, grant.valid_from) == (("public-rental-housing",), world.clock.now)
    assert grant.valid_to == application.ask.valid_to
    assert (grant.quota_per_second, grant.quota_per_day, grant.signed_requests) == (5, 2000, True)
    assert (grant.case_pattern, grant.decided_by) == ("桂房〔####〕*号", OWNER.by)
    changes = await world.changes_after(before)
    assert [each.action for each in changes] == ["grant.add", "application.approve", "application.deliver"]


async def test_a_part_is_a_part_whatever_is_said_and_reaches_the_grant(world: World) -> None:
    application = await world.submitted(purposes=("rent", "sale"))
    part = replace(PART, purposes=("rent",), masks={"uscc": "number"}, valid_to=china("2027-01-01T00:00"))
    decided = await world.applications.decide(OWNER, application.id, part)
    assert decided.state == "partly-approved"
    assert decided.decision is not None
    assert (decided.decision.reason_code, decided.decision.basis) == (PART.reason_code, PART.basis)
    grant = await world.grant_of(decided)
    assert (grant.items, grant.purposes, grant.masks) == (("name", "uscc"), ("rent",), {"uscc": "number"})
    assert grant.valid_to == china("2027-01-01T00:00")


async def test_a_refusal_makes_no_grant_and_keeps_its_grounds(world: World) -> None:
    refused = await world.refused()
    assert (refused.state, refused.grants) == ("refused", ())
    assert refused.decision is not None
    assert (refused.decision.reason_code, refused.decision.text) == (REFUSE.reason_code, REFUSE.text)
    assert await world.registry.grants(client=HOUSING, service="") == ()


async def test_a_step_that_is_refused_changes_nothing(world: World) -> None:
    application = await world.submitted()
    version = await world.registry.version()
    desk = world.applications
    for step, error in (
        (desk.decide(OWNER, application.id, replace(REFUSE, basis="")), UnprocessableError),
        (desk.decide(OWNER, application.id, replace(APPROVE, items=("uscc", "case"))), UnprocessableError),
        (desk.decide(OWNER, application.id, replace(APPROVE, quota_per_second=10**7)), UnprocessableError),
        (desk.decide(CLERK, application.id, APPROVE), RoleMissingError),
        (desk.decide(APPLICANT, application.id, APPROVE), RoleMissingError),
        (desk.decide(AUDITOR, application.id, APPROVE), RoleMissingError),
        (desk.withdraw(OWNER, application.id, "x"), RoleMissingError),
        (desk.withdraw(APPLICANT, application.id, ""), UnprocessableError),
        (desk.confirm(OWNER, application.id, agree=True), ConflictError),
        (desk.supplement(APPLICANT, application.id, "x"), ConflictError),
        (desk.deliver(OWNER, application.id), ConflictError),
        (desk.ask(OWNER, application.id, " "), UnprocessableError),
        (desk.submit(APPLICANT, application.id), ConflictError),
        (desk.edit(APPLICANT, application.id, ask()), ConflictError),
    ):
        with pytest.raises(MeshError) as caught:
            await step
        assert type(caught.value) is error
    assert await world.registry.version() == version
    assert (await world.show(application.id)).application == application


async def test_overlapping_grants_are_a_conflict_that_undoes_the_decision(world: World) -> None:
    first = await world.applications.decide(OWNER, (await world.submitted()).id, APPROVE)
    second = await world.submitted()
    version = await world.registry.version()
    with pytest.raises(ConflictError) as caught:
        await world.applications.decide(OWNER, second.id, APPROVE)
    assert (caught.value.rule, caught.value.pointer) == ("grant-overlap", "/purposes/0")
    assert first.grants[0] in caught.value.detail_in("en")
    assert await world.registry.version() == version
    assert (await world.show(second.id)).application.state == "submitted"
    await world.registry.revoke(first.grants[0], **WHO)
    assert (await world.applications.decide(OWNER, second.id, APPROVE)).state == "approved"


async def test_who_may_not_see_an_application_is_told_that_there_is_none(world: World) -> None:
    desk = world.applications
    draft, submitted = await desk.draft(APPLICANT, ask()), await world.submitted()
    for actor, sees in (
        (APPLICANT, {draft.id, submitted.id}),
        (OWNER, {submitted.id}),
        (CLERK, {submitted.id}),
        (AUDITOR, {draft.id, submitted.id}),
        (ROOT, {draft.id, submitted.id}),
        (NOBODY, set[str]()),
    ):
        found, _ = await desk.page(actor, ApplicationFilter())
        assert {each.id for each in found} == sees
        for application in (draft, submitted):
            if application.id in sees:
                assert (await desk.find(actor, application.id)).application == application
                continue
            for hidden in (application.id, "a999999"):
                with pytest.raises(NotFoundError) as read:
                    await desk.find(actor, hidden)
                with pytest.raises(NotFoundError) as acted:
                    await desk.decide(actor, hidden, APPROVE)
                assert (
                    read.value.detail_in("en")
                    == acted.value.detail_in("en")
                    == f"There is no application {hidden} here."
                )


async def test_what_does_not_exist_is_one_s_own_or_not_in_force_cannot_be_applied_for(world: World) -> None:
    desk = world.applications
    await world.withdraw_resource(OFF_PLATFORM)
    for actor, wanted, rule in (
        (APPLICANT, ask("306001/99"), "resource"),
        (APPLICANT, ask(OFF_PLATFORM), "resource"),
        (OWNER, ask(), "own-resource"),
    ):
        with pytest.raises(UnprocessableError) as caught:
            await desk.draft(actor, wanted)
        assert (caught.value.rule, caught.value.pointer) == (rule, "/resource")
    with pytest.raises(UnprocessableError) as caught:
        await desk.draft(ROOT, ask())
    assert caught.value.rule == "applicant"
    as_housing = Actor(subsystem=HOUSING, official="root", roles=frozenset({"operator"}))
    assert (await desk.draft(as_housing, ask())).applicant == HOUSING
    draft = await desk.draft(APPLICANT, ask())
    with pytest.raises(UnprocessableError) as caught:
        await desk.edit(APPLICANT, draft.id, ask(NOTICES))
    assert caught.value.pointer == "/resource"


async def test_an_incomplete_draft_is_not_handed_in_and_drafting_and_submitting_at_once_leaves_no_draft(
    world: World,
) -> None:
    desk = world.applications
    draft = await desk.draft(APPLICANT, ask(purposes=()))
    with pytest.raises(UnprocessableError) as caught:
        await desk.submit(APPLICANT, draft.id)
    assert caught.value.pointer == "/purposes"
    version = await world.registry.version()
    with pytest.raises(UnprocessableError):
        await world.submitted(legal_basis="")
    assert await world.registry.version() == version


async def test_what_is_not_shared_needs_a_basis_that_overrides_and_has_the_clock_of_conditional_sharing(
    world: World,
) -> None:
    with pytest.raises(UnprocessableError) as caught:
        await world.submitted(SECRET)
    assert caught.value.pointer == "/overriding_basis"
    application = await world.submitted(SECRET, overriding_basis="监察法第十八条")
    assert application.sharing_class == "not-shared"
    assert application.answer is not None
    assert application.answer.working_days == 10


async def test_a_withdrawn_application_owes_nothing_and_cannot_be_decided(world: World) -> None:
    application = await world.submitted()
    withdrawn = await world.applications.withdraw(APPLICANT, application.id, "不再需要")
    assert (withdrawn.state, withdrawn.answer) == ("withdrawn", None)
    assert withdrawn.owed[-1].end == "void"
    with pytest.raises(ConflictError) as caught:
        await world.applications.decide(OWNER, application.id, APPROVE)
    assert "Nothing more can be done" in caught.value.detail_in("en")


async def test_a_resource_withdrawn_since_can_only_be_refused(world: World) -> None:
    application = await world.submitted()
    await world.withdraw_resource(ARREARS)
    with pytest.raises(ConflictError) as caught:
        await world.applications.decide(OWNER, application.id, APPROVE)
    assert caught.value.rule == "resource-in-force"
    refused = await world.applications.decide(OWNER, application.id, replace(REFUSE, reason_code="not-held"))
    assert refused.state == "refused"


async def test_delivery_is_said_once(world: World) -> None:
    desk = world.applications
    owed = await desk.decide(OWNER, (await world.submitted(OFF_PLATFORM)).id, APPROVE)
    await desk.deliver(ROOT, owed.id)
    at_once = await desk.decide(OWNER, (await world.submitted()).id, APPROVE)
    for application in (owed, at_once):
        with pytest.raises(ConflictError) as caught:
            await desk.deliver(OWNER, application.id)
        assert "delivered" in caught.value.detail_in("en")
        with pytest.raises(ConflictError) as caught:
            await desk.review(OWNER, application.id)
        assert caught.value.detail_in("en").endswith("Nothing more can be done with it.")


async def test_two_persons_decide_where_the_resource_the_configuration_or_the_first_of_them_demands_it(
    world: World,
) -> None:
    strict = Applications(world.registry, replace(world.applications.book, two_persons=True))
    await world.publish(OFF_PLATFORM, accesses=(), two_persons=True)
    for desk, code, demanded in (
        (world.applications, OFF_PLATFORM, False),
        (strict, ARREARS, False),
        (world.applications, ARREARS, True),
    ):
        application = await world.submitted(code)
        proposed = await desk.decide(OWNER, application.id, PART, two_persons=demanded)
        assert (proposed.state, proposed.grants, proposed.decision) == ("in-review", (), None)
        assert proposed.proposal is not None
        assert proposed.proposal.outcome == "partly-approved"
        with pytest.raises(ConflictError) as waits:
            await desk.decide(SECOND, application.id, REFUSE)
        assert waits.value.rule == "proposal-waits"
        for person in (OWNER, replace(OWNER, official=" 王 五"), replace(ROOT, official="王五")):
            with pytest.raises(UnprocessableError) as same:
                await desk.confirm(person, application.id, agree=True)
            assert same.value.rule == "two-persons"
        with pytest.raises(UnprocessableError) as unnamed:
            await desk.confirm(replace(SECOND, official=""), application.id, agree=True)
        assert unnamed.value.rule == "two-persons"
        with pytest.raises(RoleMissingError):
            await desk.confirm(CLERK, application.id, agree=True)
        decided = await desk.confirm(SECOND, application.id, agree=True)
        assert decided.state == "partly-approved"
        assert decided.decision is not None
        assert (decided.decision.decided_by, decided.decision.confirmed_by) == (OWNER.by, SECOND.by)
        grant = await world.grant_of(decided)
        assert grant.decided_by == f"{OWNER.by} + {SECOND.by}"
        await world.registry.revoke(grant.id, **WHO)
        assert "application.propose" in await world.events(application.id, OWNER)
        assert "application.propose" not in await world.events(application.id, APPLICANT)


async def test_a_proposal_needs_a_named_person_and_may_be_rejected_with_a_reason(world: World) -> None:
    application = await world.submitted()
    desk = world.applications
    with pytest.raises(UnprocessableError):
        await desk.decide(replace(OWNER, official=""), application.id, REFUSE, two_persons=True)
    await desk.decide(OWNER, application.id, REFUSE, two_persons=True)
    with pytest.raises(UnprocessableError):
        await desk.confirm(SECOND, application.id, agree=False)
    rejected = await desk.confirm(SECOND, application.id, agree=False, text="依据充分，不应拒绝")
    assert (rejected.state, rejected.proposal) == ("in-review", None)
    assert (await desk.decide(SECOND, application.id, APPROVE)).state == "approved"


async def test_a_proposal_is_worked_out_again_when_it_is_confirmed(world: World) -> None:
    application = await world.submitted(valid_to=china("2026-05-06T00:00"))
    await world.applications.decide(OWNER, application.id, APPROVE, two_persons=True)
    world.clock.now += timedelta(days=3)
    with pytest.raises(UnprocessableError) as caught:
        await world.applications.confirm(SECOND, application.id, agree=True)
    assert caught.value.pointer == "/valid_to"


@pytest.mark.parametrize("first", [0, 1])
async def test_of_decisions_made_at_once_one_wins(world: World, first: int) -> None:
    application = await world.submitted()
    verdicts = [APPROVE, REFUSE][:: 1 if first == 0 else -1]
    outcomes = await asyncio.gather(
        *(world.applications.decide(OWNER, application.id, each) for each in verdicts * 3), return_exceptions=True
    )
    won = [each for each in outcomes if not isinstance(each, BaseException)]
    assert len(won) == 1
    assert {type(each) for each in outcomes if isinstance(each, BaseException)} == {ConflictError}
    stored = (await world.show(application.id)).application
    assert stored == won[0]
    grants = await world.registry.grants(client=HOUSING)
    assert sum(each.application == application.id for each in grants) == len(stored.grants)


async def test_two_confirmations_at_once_make_one_decision(world: World) -> None:
    application = await world.submitted()
    await world.applications.decide(OWNER, application.id, APPROVE, two_persons=True)
    outcomes = await asyncio.gather(
        *(world.applications.confirm(SECOND, application.id, agree=True) for _ in range(4)), return_exceptions=True
    )
    assert sum(not isinstance(each, BaseException) for each in outcomes) == 1
    assert len((await world.show(application.id)).application.grants) == 1


async def test_what_the_owner_approved_beforehand_is_approved_and_delivered_at_once(world: World) -> None:
    desk = world.applications
    standing = await desk.stand(OWNER, NOTICES, "欠税公告依法公开，随申随批")
    assert await desk.standing() == (standing,)
    application = await world.submitted(NOTICES)
    assert (application.state, application.delivered_at) == ("approved", world.clock.now)
    assert application.decision is not None
    assert (application.decision.decided_by, application.decision.working_days) == (OWNER.by, 0)
    grant = await world.grant_of(application)
    assert (grant.items, grant.resource, grant.decided_by) == (("name", "uscc"), NOTICES, OWNER.by)
    approved = [each for each in (await world.show(application.id)).events if each.action == "application.approve"]
    assert approved[0].by == f"{OWNER.by} (standing approval)"
    assert all(not each.open for each in application.owed)
    await world.registry.revoke(grant.id, **WHO)
    ended = await desk.stand(OWNER, NOTICES, "改为逐件审核", active=False)
    assert (ended.active, await desk.standing()) == (False, ())
    assert (await world.submitted(NOTICES)).state == "submitted"


async def test_only_the_owner_stands_for_what_is_shared_unconditionally(world: World) -> None:
    desk = world.applications
    for actor, code, error in (
        (CLERK, NOTICES, RoleMissingError),
        (APPLICANT, NOTICES, RoleMissingError),
        (OWNER, ARREARS, UnprocessableError),
        (OWNER, "306001/99", UnprocessableError),
    ):
        with pytest.raises(error):
            await desk.stand(actor, code, "x")
    with pytest.raises(NotFoundError):
        await desk.stand(OWNER, NOTICES, "x", active=False)


async def test_stricter_than_it_was_a_resource_is_no_longer_approved_by_itself(world: World) -> None:
    await world.applications.stand(OWNER, NOTICES, "随申随批")
    await world.publish(NOTICES, items=resource(NOTICES).items[:2])  # conditional from now on
    assert (await world.submitted(NOTICES)).state == "submitted"


async def test_lists_are_filtered_and_paged_newest_first(world: World) -> None:
    desk = world.applications
    made = [await world.submitted() for _ in range(3)]
    made.append(await desk.draft(APPLICANT, ask(NOTICES)))
    made.append(await desk.draft(NOBODY, ask()))
    await desk.decide(OWNER, made[0].id, REFUSE)

    async def listed(**wanted: Any) -> list[str]:
        found, _ = await desk.page(ROOT, ApplicationFilter(**wanted))
        return [each.id for each in found]

    newest_first = [each.id for each in made[::-1]]
    assert await listed() == newest_first
    assert await listed(state="refused") == [made[0].id]
    assert await listed(resource=NOTICES) == [made[3].id]
    assert await listed(applicant=NOBODY.subsystem) == [made[4].id]
    assert await listed(provider=TAX) == newest_first
    assert await listed(provider=HOUSING) == []
    due = made[1].answer
    assert due is not None
    assert due.due_at is not None
    assert await listed(due_before=due.due_at) == []
    assert await listed(due_before=due.due_at + timedelta(seconds=1)) == [made[2].id, made[1].id]
    seen, before = list[str](), None
    while True:
        page, before = await desk.page(ROOT, ApplicationFilter(), before=before, limit=2)
        seen += [each.id for each in page]
        if before is None:
            break
    assert seen == newest_first


async def test_the_clock_that_counts_is_the_registrys(world: World) -> None:
    world.clock.now = datetime(2030, 1, 1, tzinfo=UTC)
    with pytest.raises(UnprocessableError) as caught:
        await world.submitted()
    assert caught.value.pointer == "/valid_to"
