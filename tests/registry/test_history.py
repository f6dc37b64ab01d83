"""The registry as of the past: who could see what on a day, by whose decision, and that later changes alter no answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from exchange import MemberId, MeshError, ServiceId, SubsystemId
from registry import (
    Catalogue,
    Grant,
    GrantInForce,
    Group,
    Member,
    Operation,
    Registry,
    RoleGrant,
    Service,
    Snapshot,
)
from registry import tables as registry_tables
from tests.registry.catalogue_kit import OPERATOR, parsed, publish
from tests.registry.conftest import AUDIT, ENTERPRISES, HOUSING, TAX, Clock

WHO: dict[str, Any] = {"by": "tester", "why": "a test"}
DAY = timedelta(days=1)


def china(text: str) -> datetime:
    """An instant, written in China's time."""
    return datetime.fromisoformat(f"{text}+08:00")


def terms(**more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "client": HOUSING,
        "service": ENTERPRISES,
        "path": "/enterprises",
        "purposes": ["inspection"],
    }
    return {**base, "valid_to": china("2027-01-01 00:00"), **WHO, **more}


def rule_of(
    snapshot: Snapshot, moment: datetime, client: SubsystemId = HOUSING, service: ServiceId = ENTERPRISES
) -> str:
    """The grant that permits, or the rule that refuses."""
    try:
        return snapshot.decide(client, service, "GET", ("enterprises",), "inspection", moment.timestamp()).grant.id
    except MeshError as error:
        return error.rule


def content(snapshot: Snapshot) -> dict[str, Any]:
    """All that a snapshot says, to be compared; an operation that was withdrawn is nowhere any more."""
    subsystems = snapshot.subsystems()
    services = snapshot.services()
    return {
        "members": snapshot.members(),
        "subsystems": subsystems,
        "services": services,
        "groups": snapshot.groups(),
        "roles": {each.id: snapshot.role_grants_of(each.id) for each in subsystems},
        "certificates": snapshot.certificates(),
        "grants": {(one.id, two.id): snapshot.grants(one.id, two.id) for one in subsystems for two in services},
        "resources": {each.id: snapshot.resources_at(each.id) for each in services},
    }


async def everything(registry: Registry, clock: Clock, remember: Callable[[], Any]) -> None:
    """Every kind of change there is, an hour apart; `remember` is called after each."""
    catalogue = Catalogue(registry)
    county = Member(
        id=MemberId("CN/GOV/1199000000000102XG"), name="示例市住房保障局", level="county", division="450102"
    )
    county_group = Group(id="guangxi", name="广西", level="county", division="450000")
    service = (await registry.snapshot()).service(ENTERPRISES)
    assert service is not None
    given: dict[str, Any] = {}

    async def role(identifier: str) -> None:
        async with registry.change(**WHO) as change:
            wanted = RoleGrant(
                id=identifier,
                subsystem=HOUSING,
                role="auditor",
                valid_from=clock.now,
                valid_to=clock.now + 300 * DAY,
                reason="审计",
                decided_by="审计局",
            )
            await change.grant_role(wanted)

    async def end_roles() -> None:
        async with registry.change(**WHO) as change:
            await change.revoke_role("one")
            await change.revoke_standing_role(TAX, "owner")

    async def grant() -> None:
        given["grant"] = await registry.grant(**terms(items=["name"], masks={"name": "name"}, quota_per_day=9))

    changes: list[Callable[[], Any]] = [
        lambda: registry.add_member(county, replace=True, **WHO),
        lambda: registry.add_group(county_group, **WHO),
        grant,
        lambda: registry.grant(**terms(client=None, group="guangxi", purposes=["group"])),
        lambda: publish(catalogue),
        lambda: registry.grant(**terms(service=None, resource="306002/000001", purposes=["resource"], path="**")),
        lambda: registry.add_service(
            replace(service, listed=False, operations=(*service.operations[1:], Operation.of("PUT", "/x"))),
            replace=True,
            **WHO,
        ),
        lambda: registry.set_service_state(ENTERPRISES, is_open=False, notice="维护", **WHO),
        lambda: role("one"),
        lambda: registry.set_subsystem_state(AUDIT, active=False, **WHO),
        lambda: registry.revoke(given["grant"].id, **WHO),
        lambda: catalogue.save(OPERATOR, parsed(name="改名"), why="编目", replace=True),
        lambda: registry.set_service_state(ENTERPRISES, is_open=True, **WHO),
        lambda: registry.add_service(service, replace=True, **WHO),
        end_roles,
        lambda: registry.add_group(replace(county_group, members=(TAX,)), replace=True, **WHO),
        lambda: registry.set_subsystem_state(AUDIT, active=True, **WHO),
        lambda: registry.close_group("guangxi", **WHO),
        lambda: catalogue.withdraw(OPERATOR, "306002/000001", why="停用"),
        grant,
    ]
    for make in changes:
        clock.now += timedelta(hours=1)
        await make()
        await remember()


async def test_every_moment_can_be_rebuilt_to_what_the_registry_was_then(registry: Registry, clock: Clock) -> None:
    """Whatever kind of change was made: its record holds all that is needed. Asked long after."""
    moments: list[tuple[datetime, dict[str, Any]]] = []

    async def remember() -> None:
        moments.append((clock.now, content(await registry.snapshot())))

    await remember()
    await everything(registry, clock, remember)
    actions = {change.action for change in await registry.changes(limit=1000)}
    assert len(actions) >= 20, "the point is to make every kind of change"
    for moment, was in moments:
        rebuilt = content(await registry.snapshot_at(moment))
        for name, expected in was.items():
            assert rebuilt[name] == expected, (name, moment)
        # Nothing is different a moment before the next change.
        assert content(await registry.snapshot_at(moment + timedelta(minutes=59))) == rebuilt


async def test_a_call_is_decided_as_of_a_moment(registry: Registry, clock: Clock) -> None:
    clock.now = china("2026-05-05 09:00")
    given = await registry.grant(**terms())
    clock.now = china("2026-05-07 10:00")
    await registry.revoke(given.id, **WHO)
    # As it was known then, and as it is known now: what was revoked later was in force before.
    for moment, then, now in (
        ("2026-05-05 08:59", "grant-method-path", "grant-not-yet-valid"),
        ("2026-05-05 09:00", given.id, given.id),
        ("2026-05-07 09:59", given.id, given.id),
        ("2026-05-07 10:00", "grant-revoked", "grant-revoked"),
    ):
        for known_at, expected in ((None, then), (clock.now, now)):
            assert rule_of(await registry.snapshot_at(china(moment), known_at), china(moment)) == expected
    before = await registry.snapshot_at(china("2020-01-01 00:00"))
    assert (before.version, before.members()) == (0, ())


async def test_what_was_recorded_later_is_known_later(registry: Registry, clock: Clock) -> None:
    """A grant that began in the past, and the service that it is for, were recorded today."""
    service = ServiceId(f"{TAX}/archive")
    day = china("2026-05-10 12:00")
    clock.now = china("2026-05-20 09:00")
    await registry.add_service(Service(id=service, title_zh="档案", operations=(Operation.of("GET", "/**"),)), **WHO)
    await registry.grant(**terms(service=service, valid_from=china("2026-05-01 00:00"), backdated=True))
    clock.now = china("2026-05-21 09:00")
    await registry.set_service_state(service, is_open=False, notice="停用", **WHO)
    known = {
        "then": rule_of(await registry.snapshot_at(day), day, service=service),
        "before it was recorded": rule_of(
            await registry.snapshot_at(day, china("2026-05-20 08:59")), day, service=service
        ),
        "now": rule_of(await registry.snapshot_at(day, clock.now), day, service=service),
        "today": rule_of(await registry.snapshot_at(clock.now), clock.now, service=service),
    }
    assert known["then"] == known["before it was recorded"] == "service-registered"
    assert known["now"].startswith("g")  # as it was first recorded, not as it was closed later
    assert known["today"] == "service-open"


def told(found: tuple[GrantInForce, ...]) -> dict[str, tuple[str, str]]:
    """Grant -> from and until on the day, in China's time, without those of the seed."""
    offset = timedelta(hours=8)
    return {
        each.grant.id: (f"{each.begins + offset:%d %H:%M}", f"{each.ends + offset:%d %H:%M}")
        for each in found
        if not each.grant.id.startswith("housing-")
    }


async def test_a_day_lists_every_grant_in_force_from_when_until_when(registry: Registry, clock: Clock) -> None:
    clock.now = china("2026-05-05 09:00")
    long = await registry.grant(**terms())
    begun = await registry.grant(**terms(purposes=["begins"], valid_from=china("2026-05-06 10:30")))
    over = await registry.grant(**terms(purposes=["ends"], valid_to=china("2026-05-06 15:00")))
    whole = await registry.grant(
        **terms(purposes=["day"], valid_from=china("2026-05-06 00:00"), valid_to=china("2026-05-07 00:00"))
    )
    clock.now = china("2026-05-06 11:00")
    await registry.revoke(long.id, by="李四", why="项目结束")
    replaced = await registry.grant(**terms(items=["name"], application="a7", decided_by="王五"))
    brief = await registry.grant(**terms(purposes=["brief"], valid_from=china("2026-05-06 00:00")))
    clock.now = china("2026-05-06 12:00")
    await registry.revoke(brief.id, **WHO)

    def day(number: int, **more: Any) -> Any:
        return registry.grants_as_of(date(2026, 5, number), **more)

    assert told(await day(4)) == {}
    assert told(await day(5)) == {long.id: ("05 09:00", "06 00:00"), over.id: ("05 09:00", "06 00:00")}
    found = await day(6)
    assert told(found) == {
        long.id: ("06 00:00", "06 11:00"),
        begun.id: ("06 10:30", "07 00:00"),
        over.id: ("06 00:00", "06 15:00"),
        whole.id: ("06 00:00", "07 00:00"),
        replaced.id: ("06 11:00", "07 00:00"),
        brief.id: ("06 11:00", "06 12:00"),  # gateways permitted by it from when it was recorded
    }
    assert told(await day(7)) == {begun.id: ("07 00:00", "08 00:00"), replaced.id: ("07 00:00", "08 00:00")}
    by_id = {each.grant.id: each for each in found}
    ended, current = by_id[long.id], by_id[replaced.id]
    assert (ended.recorded_by, ended.recorded_at, ended.why) == ("tester", china("2026-05-05 09:00"), "a test")
    assert (ended.grant.active, ended.grant.revocation_reason, ended.revoked_by) == (False, "项目结束", "李四")
    assert ended.grant.revoked_at == china("2026-05-06 11:00")
    assert ended.grant.version == long.version
    assert (current.grant, current.grant.decided_by, current.grant.application) == (replaced, "王五", "a7")
    # On the day before, nobody knew that it would be revoked.
    assert {each.grant.id: each.grant for each in await day(5)}[long.id] == long
    assert [each.grant.id for each in found] == [each.grant.id for each in sorted(found, key=lambda e: e.grant.version)]


async def test_changes_made_later_do_not_alter_what_was_in_force_on_a_day(registry: Registry, clock: Clock) -> None:
    clock.now = china("2026-05-05 09:00")
    given = await registry.grant(**terms())
    asked = [date(2026, 5, number) for number in (4, 5, 6)]
    clock.now = china("2026-05-07 00:00")
    before = [await registry.grants_as_of(day) for day in asked]
    await registry.revoke(given.id, **WHO)
    await registry.grant(**terms(purposes=["late"], valid_from=china("2026-05-01 00:00"), backdated=True))
    await registry.set_subsystem_state(HOUSING, active=False, **WHO)
    assert [await registry.grants_as_of(day) for day in asked] == before
    # Those who ask with today's knowledge are told what was recorded late, from its beginning.
    known = await registry.grants_as_of(date(2026, 5, 4), known_at=clock.now)
    (late,) = (each for each in known if each.grant.purposes == ("late",))
    assert (late.begins, late.ends) == (china("2026-05-04 00:00"), china("2026-05-05 00:00"))
    assert late.recorded_at == clock.now
    # And what was given at nine o'clock on the day it was given still began then: it says so itself.
    known = await registry.grants_as_of(date(2026, 5, 5), known_at=clock.now)
    assert told(known)[given.id] == ("05 09:00", "06 00:00")
    assert told(await registry.grants_as_of(date(2026, 5, 5), known_at=china("2026-05-05 08:59"))) == {}


async def test_one_clients_day_includes_what_its_groups_and_resources_brought(registry: Registry, clock: Clock) -> None:
    catalogue = Catalogue(registry)
    clock.now = china("2026-05-05 09:00")
    code = await publish(catalogue)
    await registry.add_group(Group(id="some", name="一些", members=(AUDIT,)), **WHO)
    of_group = await registry.grant(**terms(client=None, group="some"))
    of_resource = await registry.grant(**terms(service=None, resource=code, path="**"))
    of_other = await registry.grant(**terms(client=AUDIT, purposes=["other"]))
    clock.now = china("2026-05-06 10:00")
    await registry.add_group(Group(id="some", name="一些", members=(AUDIT, HOUSING)), replace=True, **WHO)
    clock.now = china("2026-05-06 11:00")
    await registry.add_group(Group(id="some", name="一些", members=(AUDIT,)), replace=True, **WHO)
    await catalogue.withdraw(OPERATOR, code, why="停用")

    async def ids(number: int, **more: Any) -> set[str]:
        return set(told(await registry.grants_as_of(date(2026, 5, number), **more)))

    assert await ids(5) == {of_group.id, of_resource.id, of_other.id}
    assert await ids(5, client=HOUSING) == {of_resource.id}
    assert await ids(6, client=HOUSING) == {of_resource.id, of_group.id}, "it was in the group for an hour"
    assert await ids(7, client=HOUSING) == {of_resource.id}
    assert await ids(6, client=HOUSING, service=ENTERPRISES) == {of_resource.id, of_group.id}
    assert await ids(7, client=HOUSING, service=ENTERPRISES) == set(), "the resource was withdrawn the day before"
    assert await ids(6, service=ServiceId(f"{TAX}/none")) == set()
    assert await ids(6, client=TAX) == set()


async def test_records_older_than_a_column_are_read_with_its_default(registry: Registry, clock: Clock) -> None:
    """What migration 0003 added is missing in what was recorded before it."""
    table = registry_tables.registry_changes
    added = ("level", "division", "listed", "client_group", "resource", "items", "masks", "quota_per_second")
    added += ("quota_per_day", "case_pattern", "application")
    was = content(await registry.snapshot())
    async with registry.writing() as connection:
        for row in (await connection.execute(sa.select(table.c.version, table.c.after))).all():
            older = {name: value for name, value in row.after.items() if name not in added}
            await connection.execute(sa.update(table).where(table.c.version == row.version).values(after=older))
    assert content(await registry.snapshot_at(clock.now)) == was
    assert len(await registry.grants_as_of(date(2026, 5, 4))) == 2


async def test_identifiers_that_several_kinds_of_records_share_are_told_apart(registry: Registry, clock: Clock) -> None:
    await registry.add_group(Group(id="same", name="同", members=(AUDIT,)), **WHO)
    await registry.grant(**terms(grant_id="same"))
    async with registry.change(**WHO) as change:
        await change.grant_role(
            RoleGrant(
                id="same",
                subsystem=AUDIT,
                role="owner",
                valid_from=clock.now,
                valid_to=clock.now + DAY,
                reason="同",
                decided_by="同",
            )
        )
    rebuilt = await registry.snapshot_at(clock.now)
    assert content(rebuilt) == content(await registry.snapshot())
    assert (rebuilt.group("same") is not None, rule_of(rebuilt, clock.now)) == (True, "same")
    assert [each.id for each in rebuilt.role_grants_of(AUDIT)] == ["same"]


async def test_many_grants_are_rebuilt_and_listed(registry: Registry, clock: Clock) -> None:
    count = 300
    async with registry.change(**WHO) as change:
        for number in range(count):
            base = dict(terms(purposes=(f"p{number}",)), valid_from=clock.now, id="", reason="r", decided_by="d")
            base = {name: value for name, value in base.items() if name not in ("by", "why")}
            added = await change.add_grant(Grant(**base))
            assert added is not None
            if number % 2:
                await change.revoke(added.target)
    clock.now += DAY
    found = await registry.grants_as_of(date(2026, 5, 5), client=HOUSING)
    assert len(found) == count // 2 + 2
    rebuilt = await registry.snapshot_at(clock.now)
    assert content(rebuilt) == content(await registry.snapshot())
    assert rebuilt.version == await registry.version()
