"""The statutory clock of applications: deadlines as facts, pauses, expiry, misses, escalation; over real Chinese working days."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta

import pytest

from exchange import ConflictError
from registry import Application, Applications, DeadlineKeeper, Miss, Owed, Registry
from registry.applications.desk import Rulebook
from registry.clock.working_days import Calendar, Notice
from tests.registry.application_world import (
    APPLICANT,
    APPROVE,
    NOTICES,
    OFF_PLATFORM,
    OWNER,
    REFUSE,
    ROOT,
    World,
    ask,
    china,
)
from tests.registry.example import TAX
from tests.waiting import until

MEMBER = TAX.rpartition("/")[0]


def owed(application: Application, duty: str) -> Owed:
    """The newest duty of that name."""
    return [each for each in application.owed if each.duty == duty][-1]


async def the_miss(world: World, identifier: str) -> Miss:
    (miss,) = (await world.show(identifier)).misses
    return miss


@pytest.mark.parametrize(
    ("received", "code", "duty", "due", "days"),
    [
        ("2025-01-24T09:00", "306001/1", "answer", "2025-02-13", 10),
        ("2025-01-24T23:59", "306001/1", "answer", "2025-02-13", 10),
        ("2025-01-25T00:01", "306001/1", "answer", "2025-02-13", 10),
        ("2025-01-24T09:00", NOTICES, "answer", "2025-01-26", 1),
        ("2026-02-12T09:00", "306001/1", "answer", "2026-03-04", 10),
        ("2025-09-26T09:00", OFF_PLATFORM, "answer-unpublished", "2025-10-16", 10),
    ],
)
async def test_an_answer_is_owed_within_working_days_as_the_state_council_moved_them(
    world: World, received: str, code: str, duty: str, due: str, days: int
) -> None:
    world.at(received)
    answer = owed(await world.submitted(code), duty)
    assert (answer.due_date, answer.working_days) == (date.fromisoformat(due), days)
    assert answer.due_at == china(f"{due}T00:00") + timedelta(days=1)
    assert (answer.responsible, answer.jurisdiction, answer.provisional) == (TAX, "CN", False)
    assert "809" in answer.basis["zh"]


async def test_after_an_approval_of_what_cannot_be_called_yet_delivery_is_owed(world: World) -> None:
    world.at("2025-01-20T09:00")
    application = await world.submitted(OFF_PLATFORM)
    world.at("2025-01-24T09:00")
    approved = await world.applications.decide(OWNER, application.id, APPROVE)
    assert approved.decision is not None
    assert (approved.decision.working_days, approved.decision.late) == (4, False)
    assert (owed(approved, "delivery").due_date, owed(approved, "delivery").working_days) == (date(2025, 2, 27), 20)


async def test_the_clock_stands_over_the_festival_while_the_applicant_is_asked(world: World) -> None:
    world.at("2025-01-20T09:00")
    application = await world.submitted()
    world.at("2025-01-24T15:00")  # the fifth day of the file: three whole ones have passed
    asked = await world.applications.ask(OWNER, application.id, "请补正")
    assert asked.answer is not None
    assert (asked.answer.due_date, asked.answer.open) == (None, True)
    standing = asked.answer.countdown(world.applications.book.calendar, china("2025-02-05T09:00"))
    assert standing is not None
    assert (standing.state, standing.left) == ("stopped", 7)
    assert owed(asked, "supplement").due_date == date(2025, 2, 13)
    assert owed(asked, "supplement").responsible == APPLICANT.subsystem
    world.at("2025-02-10T09:00")
    replied = await world.applications.supplement(APPLICANT, application.id, "已补正")
    assert owed(replied, "answer").due_date == date(2025, 2, 19)
    world.at("2025-02-12T09:00")
    decided = await world.applications.decide(OWNER, application.id, REFUSE)
    assert decided.decision is not None
    assert (decided.decision.working_days, decided.decision.late) == (5, False)


async def test_an_application_whose_questions_stay_unanswered_expires(world: World) -> None:
    world.at("2025-01-20T09:00")
    application = await world.submitted()
    await world.applications.ask(OWNER, application.id, "请补正")
    world.at("2025-02-08T23:59")
    await world.applications.keep_time()
    assert (await world.show(application.id)).application.state == "asked-for-more"
    world.at("2025-02-09T00:00")
    with pytest.raises(ConflictError) as caught:  # too late, whether anybody noticed or not
        await world.applications.supplement(APPLICANT, application.id, "已补正")
    assert "expired" in caught.value.detail_in("en")
    await world.applications.keep_time()
    file = await world.show(application.id)
    assert (file.application.state, file.misses) == ("expired", ())
    assert all(not each.open for each in file.application.owed)
    assert file.events[-1].action == "application.expire"
    assert file.events[-1].by == "deadline clock"


async def test_a_draft_that_nobody_touches_expires_and_touching_it_begins_its_life_again(world: World) -> None:
    world.at("2026-01-05T09:00")
    draft = await world.applications.draft(APPLICANT, ask())
    first = owed(draft, "draft").due_at
    world.at("2026-02-02T09:00")
    edited = await world.applications.edit(APPLICANT, draft.id, ask())
    (life,) = edited.owed
    assert first is not None
    assert life.due_at is not None
    assert life.due_at > first
    world.clock.now = first
    await world.applications.keep_time()
    assert (await world.show(draft.id)).application.state == "draft"
    world.clock.now = life.due_at
    with pytest.raises(ConflictError):
        await world.applications.submit(APPLICANT, draft.id)
    await world.applications.keep_time()
    assert (await world.show(draft.id)).application.state == "expired"


async def test_a_missed_deadline_is_noticed_once_escalated_rung_by_rung_and_closed_with_how_late_it_was(
    world: World,
) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted()
    assert await world.applications.keep_time() == china("2025-02-14T00:00")
    world.at("2025-02-13T23:59")
    await world.applications.keep_time()
    assert (await world.show(application.id)).misses == ()
    world.at("2025-02-14T00:00")
    following = await world.applications.keep_time()
    version = await world.registry.version()
    assert await world.applications.keep_time() == following
    assert await world.registry.version() == version
    miss = await the_miss(world, application.id)
    assert (miss.duty, miss.responsible, miss.department, miss.due_date) == ("answer", TAX, MEMBER, date(2025, 2, 13))
    # The day after the due day is the first late one: the head of the owner's office hears of it at once.
    assert [each.rung for each in miss.escalations] == ["owner-office"]
    assert following == miss.next_at == china("2025-02-20T00:00")
    world.at("2025-02-20T08:00")
    assert await world.applications.keep_time() == china("2025-02-27T00:00")
    world.at("2025-03-03T08:00")
    await world.applications.keep_time()
    miss = await the_miss(world, application.id)
    assert [(each.rung, each.late_days) for each in miss.escalations] == [
        ("owner-office", 1),
        ("authority", 5),
        ("government", 12),
    ]
    assert (miss.next_at, miss.ended_at, world.applications.late_days(miss)) == (None, None, 12)
    decided = await world.applications.decide(OWNER, application.id, REFUSE)
    assert decided.decision is not None
    assert (decided.decision.late, decided.decision.working_days) == (True, 22)
    miss = await the_miss(world, application.id)
    assert (miss.ended_at, miss.late_days) == (world.clock.now, 12)
    assert owed(decided, "answer").miss == miss.id
    actions = await world.events(application.id)
    assert actions.count("miss.add") == 1
    assert actions[-2:] == ["miss.close", "application.refuse"]


async def test_what_is_decided_late_before_anybody_kept_time_is_in_the_ledger_too(world: World) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted()
    world.at("2025-02-17T09:00")
    await world.applications.decide(OWNER, application.id, APPROVE)
    miss = await the_miss(world, application.id)
    assert (miss.noticed_at, miss.ended_at, miss.late_days) == (world.clock.now, world.clock.now, 2)


async def test_a_late_answer_stays_late_while_the_applicant_is_asked(world: World) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted()
    world.at("2025-02-14T09:00")
    asked = await world.applications.ask(OWNER, application.id, "请补正")
    assert asked.answer is not None
    assert asked.answer.due_date == date(2025, 2, 13)
    await world.applications.keep_time()
    miss = await the_miss(world, application.id)
    assert miss.ended_at is None
    world.at("2025-02-17T09:00")
    await world.applications.supplement(APPLICANT, application.id, "已补正")
    await world.applications.decide(OWNER, application.id, REFUSE)
    assert (await the_miss(world, application.id)).late_days == 2


async def test_a_late_delivery_is_a_miss_of_its_own(world: World) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted(OFF_PLATFORM)
    await world.applications.decide(OWNER, application.id, APPROVE)
    world.at("2025-02-28T09:00")
    await world.applications.keep_time()
    miss = await the_miss(world, application.id)
    assert (miss.duty, miss.due_date) == ("delivery", date(2025, 2, 27))
    world.at("2025-03-03T09:00")
    await world.applications.deliver(OWNER, application.id)
    assert (await the_miss(world, application.id)).late_days == 2


async def test_an_owner_who_did_everything_is_in_no_ledger_twenty_days_later(world: World) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted()
    approved = await world.applications.decide(OWNER, application.id, APPROVE)
    assert [each for each in approved.owed if each.open] == []
    world.at("2025-04-24T09:00")
    await world.applications.keep_time()
    assert await world.applications.misses() == ((), None)


async def test_a_withdrawn_application_is_late_no_longer(world: World) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted()
    world.at("2025-02-14T09:00")
    await world.applications.keep_time()
    await world.applications.withdraw(APPLICANT, application.id, "不再需要")
    miss = await the_miss(world, application.id)
    assert (miss.ended_at, miss.next_at) == (world.clock.now, None)


async def test_where_the_authority_checks_the_form_first_it_has_its_own_deadline(world: World) -> None:
    await world.move_provider("140581")
    world.at("2025-09-26T09:00")
    application = await world.submitted()
    check = owed(application, "formal-check")
    assert (check.responsible, check.jurisdiction, check.due_date) == ("authority", "CN-140581", date(2025, 9, 29))
    world.at("2025-09-28T09:00")
    reviewed = await world.applications.review(ROOT, application.id)
    assert owed(reviewed, "formal-check").end == "done"
    answer = owed(reviewed, "answer")
    assert (answer.responsible, answer.working_days, answer.due_date) == (TAX, 5, date(2025, 10, 11))
    # Asked for more at once, the check is over, and the owner's days stand from the beginning.
    other = await world.submitted(OFF_PLATFORM)
    asked = await world.applications.ask(OWNER, other.id, "请补正")
    standing = owed(asked, "answer-unpublished").countdown(world.applications.book.calendar, world.clock.now)
    assert standing is not None
    assert (standing.state, standing.left) == ("stopped", 10)


async def test_an_authority_that_checks_too_late_is_in_the_ledger_and_the_owner_is_not(world: World) -> None:
    await world.move_provider("140581")
    world.at("2025-09-26T09:00")
    application = await world.submitted()
    world.at("2025-09-30T09:00")
    await world.applications.keep_time()
    miss = await the_miss(world, application.id)
    assert (miss.duty, miss.responsible, miss.department) == ("formal-check", "authority", "")
    await world.applications.decide(OWNER, application.id, REFUSE)
    (record,) = await world.applications.league_table()
    assert (record.department, record.decided, record.late, record.misses) == (MEMBER, 1, 0, 0)


async def test_where_the_owner_has_nothing_to_answer_the_check_is_all(world: World) -> None:
    """The county's rule gives no day to the owner of what is shared unconditionally."""
    await world.move_provider("140581")
    world.at("2025-09-26T09:00")
    application = await world.submitted(NOTICES)
    reviewed = await world.applications.review(ROOT, application.id)
    assert [each.duty for each in reviewed.owed if each.open] == ["formal-check"]
    assert (await world.applications.decide(OWNER, application.id, APPROVE)).state == "approved"


async def test_a_duty_keeps_the_days_and_the_basis_it_began_with(world: World) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted()
    await world.move_provider("140581")
    world.at("2025-02-05T09:00")
    await world.applications.ask(OWNER, application.id, "请补正")
    replied = await world.applications.supplement(APPLICANT, application.id, "已补正")
    assert (owed(replied, "answer").working_days, owed(replied, "answer").jurisdiction) == (10, "CN")


def _next_years(calendar: Calendar) -> Calendar:
    """The calendar with a notice for the year after the last published one: all of its first fortnight is free."""
    year = calendar.published_until.year + 1
    return Calendar([Notice(year=year, working={date(year, 1, day): False for day in range(1, 15)})])


async def test_past_the_published_calendar_a_deadline_is_provisional_and_counted_again_when_more_is_known(
    world: World,
) -> None:
    calendar = world.applications.book.calendar
    last = calendar.published_until
    world.clock.now = china(f"{last.year}-12-28T09:00")
    application = await world.submitted()
    before = owed(application, "answer")
    assert before.provisional
    assert before.due_date is not None
    assert before.due_date > last
    version = await world.registry.version()
    await world.applications.count_again()
    assert await world.registry.version() == version
    informed = Applications(world.registry, replace(world.applications.book, calendar=_next_years(calendar)))
    await informed.count_again()
    (change,) = await world.changes_after(version)
    assert (change.action, change.target, change.by) == ("application.recount", application.id, "deadline clock")
    after = owed((await world.show(application.id)).application, "answer")
    assert after.due_date is not None
    assert (after.provisional, after.due_date > before.due_date) == (False, True)
    await informed.count_again()
    assert await world.registry.version() == version + 1


async def test_a_miss_that_rested_on_an_older_calendar_is_set_aside(world: World) -> None:
    calendar = world.applications.book.calendar
    world.clock.now = china(f"{calendar.published_until.year}-12-28T09:00")
    application = await world.submitted()
    late_at = owed(application, "answer").due_at
    assert late_at is not None
    world.clock.now = late_at
    await world.applications.keep_time()
    assert (await the_miss(world, application.id)).provisional
    informed = Applications(world.registry, replace(world.applications.book, calendar=_next_years(calendar)))
    await informed.count_again()
    miss = await the_miss(world, application.id)
    assert "calendar" in miss.set_aside
    assert owed((await world.show(application.id)).application, "answer").miss == ""
    assert await informed.league_table() == ()


async def test_the_league_table_counts_what_was_decided_in_time_and_late_and_what_is_overdue(world: World) -> None:
    world.at("2025-01-20T09:00")
    made = [await world.submitted() for _ in range(4)]
    assert [(each.decided, each.overdue) for each in await world.applications.league_table()] == []
    world.at("2025-01-22T09:00")
    await world.applications.decide(OWNER, made[0].id, REFUSE)
    world.at("2025-01-23T09:00")
    await world.applications.decide(OWNER, made[1].id, REFUSE)
    world.at("2025-02-24T09:00")
    # Nothing was changed since: time alone made two of them overdue.
    (record,) = await world.applications.league_table()
    assert (record.decided, record.in_time, record.late, record.overdue, record.misses) == (2, 2, 0, 2, 0)
    await world.applications.decide(OWNER, made[2].id, REFUSE)
    await world.applications.keep_time()
    (record,) = await world.applications.league_table()
    assert (record.department, record.name) == (MEMBER, "示例市税务局")
    assert (record.decided, record.in_time, record.late, record.overdue, record.misses) == (3, 2, 1, 1, 2)
    assert record.median_working_days == 3


async def test_the_ledger_is_paged_newest_first_and_by_department(world: World) -> None:
    world.at("2025-01-20T09:00")
    for _ in range(3):
        await world.submitted()
    world.at("2025-02-24T09:00")
    await world.applications.keep_time()
    every, none = await world.applications.misses(department=MEMBER)
    assert (len(every), none) == (3, None)
    assert [each.number for each in every] == sorted((each.number for each in every), reverse=True)
    first, before = await world.applications.misses(limit=2)
    rest, end = await world.applications.misses(limit=2, before=before)
    assert (*first, *rest) == every
    assert end is None
    assert await world.applications.misses(department="CN/GOV/1199000000000102XG") == ((), None)
    await world.applications.decide(OWNER, every[0].application, REFUSE)
    still, _ = await world.applications.misses(open_only=True)
    assert still == every[1:]


@pytest.fixture
async def second_gateway(database_url: str, world: World, rulebook: Rulebook) -> AsyncIterator[Applications]:
    """Another process's view of the same registry, with the same clock."""
    registry = await Registry.open(database_url, clock=world.clock)
    yield Applications(registry, rulebook)
    await registry.close()


async def test_several_gateways_write_each_miss_once(world: World, second_gateway: Applications) -> None:
    world.at("2025-01-20T09:00")
    made = [await world.submitted() for _ in range(5)]
    drafts = [await world.applications.draft(APPLICANT, ask()) for _ in range(3)]
    world.at("2025-06-24T09:00")
    await asyncio.gather(*(desk.keep_time() for desk in (world.applications, second_gateway) * 3))
    ledger, _ = await world.applications.misses()
    assert sorted(each.application for each in ledger) == sorted(each.id for each in made)
    assert all(
        [each.rung for each in miss.escalations] == ["owner-office", "authority", "government"] for miss in ledger
    )
    for draft in drafts:
        assert (await world.events(draft.id)).count("application.expire") == 1


async def test_a_keeper_does_what_is_due_and_sleeps_until_the_next(world: World) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted()
    keeper = DeadlineKeeper(world.applications, longest_sleep=3600)
    await keeper.start()
    await until(lambda: keeper.rounds == 1)
    world.at("2025-02-14T00:00")
    keeper.wake()
    await until(lambda: keeper.rounds == 2)
    assert (await the_miss(world, application.id)).escalations
    await keeper.stop()
    await keeper.stop()


async def test_a_keeper_wakes_by_itself_when_something_comes_due(world: World) -> None:
    world.at("2025-01-24T09:00")
    application = await world.submitted()
    due_at = owed(application, "answer").due_at
    assert due_at is not None
    world.clock.now = due_at - timedelta(milliseconds=300)
    keeper = DeadlineKeeper(world.applications, longest_sleep=3600)
    await keeper.start()
    await until(lambda: keeper.rounds == 1)
    world.clock.now = due_at
    await until(lambda: keeper.rounds == 2)
    await keeper.stop()
    assert (await the_miss(world, application.id)).noticed_at == due_at


async def test_a_keeper_outlives_a_failure_and_one_bad_record_keeps_no_other_from_its_deadline(world: World) -> None:
    world.at("2025-01-24T09:00")
    broken, sound = await world.submitted(), await world.submitted()
    async with world.registry.writing() as connection:
        await connection.exec_driver_sql(f"UPDATE applications SET questions = '7' WHERE id = '{broken.id}'")
    keeper = DeadlineKeeper(world.applications, longest_sleep=3600, retry_after=0.01)
    world.at("2025-02-14T00:00")
    await keeper.start()
    await until(lambda: keeper.rounds >= 3)
    assert keeper.failing
    assert (await the_miss(world, sound.id)).application == sound.id
    async with world.registry.writing() as connection:
        await connection.exec_driver_sql(f"UPDATE applications SET questions = '[]' WHERE id = '{broken.id}'")
    await until(lambda: not keeper.failing)
    await keeper.stop()
    assert (await the_miss(world, broken.id)).application == broken.id
