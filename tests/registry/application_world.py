"""A small world for tests of applications: a tax bureau offers resources, a housing bureau applies for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from exchange import SubsystemId
from registry import (
    Access,
    Actor,
    Application,
    Applications,
    Ask,
    CaseFile,
    Change,
    Grant,
    Level,
    Registry,
    Subsystem,
    Verdict,
    ends,
)
from registry.applications.desk import Rulebook
from registry.catalogue.resource import Classification, ClassificationStep, Resource, ResourceItem
from registry.catalogue.writer import publish_resource, save_resource, withdraw_resource
from registry.clock.jurisdictions import read_jurisdictions
from registry.clock.notices import read_calendar
from tests.registry.example import AUDIT, ENTERPRISES, HOUSING, TAX, Clock

WHO: dict[str, Any] = {"by": "tester", "why": "a test"}
STRANGER = SubsystemId("CN/GOV/1199000000000102XG/other")
ROOT = Actor.operator("root")
APPLICANT = Actor(subsystem=HOUSING, official="李四")
OWNER = Actor(subsystem=TAX, official="王五", roles=frozenset({"owner"}))
SECOND = Actor(subsystem=TAX, official="赵六", roles=frozenset({"owner"}))
CLERK = Actor(subsystem=TAX, official="孙七")
"""Of the provider, without the role owner."""
AUDITOR = Actor(subsystem=AUDIT, official="钱八", roles=frozenset({"auditor"}))
NOBODY = Actor(subsystem=STRANGER, official="无名")

ARREARS = "306001/1"
"""Shared conditionally; one item strictly not at all; a phone number that is masked."""
NOTICES = "306001/2"
"""Shared unconditionally."""
SECRET = "306001/3"
"""Not shared."""
OFF_PLATFORM = "306001/4"
"""Shared conditionally, and nowhere to be called yet."""

_ITEMS = (
    ResourceItem(path="uscc", name="统一社会信用代码"),
    ResourceItem(path="name", name="名称"),
    ResourceItem(path="arrears", name="欠税", data_type="object"),
    ResourceItem(path="arrears.amount", name="欠税金额", data_type="money"),
    ResourceItem(path="owner.phone", name="联系电话", mask="phone"),
    ResourceItem(path="case", name="稽查案件", sharing_class="not-shared"),
)


def china(text: str) -> datetime:
    """An instant, by the clock on the wall in China."""
    return datetime.fromisoformat(f"{text}+08:00").astimezone(UTC)


def resource(code: str, **other: Any) -> Resource:
    """One of the tax bureau's."""
    facts: dict[str, Any] = {
        "classification": Classification(
            category=ClassificationStep(code="3", name="部门"),
            subcategory=ClassificationStep(code="06", name="税务"),
            entry=ClassificationStep(code="001", name="征管"),
        ),
        "provider": TAX,
        "name": "企业欠税信息",
        "abstract": "企业登记与欠税情况",
        "format": "database",
        "items": _ITEMS,
        "sharing_class": "conditional",
        "conditions": "用于履行职责",
        "legal_basis": "税收征收管理法第八条",
        "mode": "query-interface",
        "update_cycle": "daily",
        "accesses": (Access(service=ENTERPRISES),),
    }
    return Resource(code=code, **{**facts, **other})


def ask(code: str = ARREARS, **other: Any) -> Ask:
    """A complete one for everything that is shared of the resource with arrears."""
    facts: dict[str, Any] = {
        "purposes": ("public-rental-housing",),
        "purpose_text": "核查公租房申请人名下企业",
        "legal_basis": "公共租赁住房管理办法第七条",
        "scenario": "公租房资格核查",
        "items": ("uscc", "name", "arrears", "owner.phone") if code in (ARREARS, OFF_PLATFORM) else (),
        "valid_to": ends("2029-12-31"),
        "calls_per_day": 1000,
        "contact": "0771-0000000",
        "official": "李四",
    }
    return Ask(resource=code, **{**facts, **other})


APPROVE = Verdict(approve=True)
REFUSE = Verdict(approve=False, reason_code="no-legal-basis", text="依据不足", basis="《政务数据共享条例》第二十条")
PART = Verdict(
    approve=True,
    items=("uscc", "name"),
    reason_code="scope-too-wide",
    text="欠税情况与资格核查无关",
    basis="《政务数据共享条例》第二十条",
)


@dataclass
class World:
    """What a test holds in its hands."""

    registry: Registry
    clock: Clock
    applications: Applications

    def at(self, text: str) -> None:
        """Set the clock to a wall time in China."""
        self.clock.now = china(text)

    async def submitted(self, code: str = ARREARS, actor: Actor = APPLICANT, **other: Any) -> Application:
        """One that was handed in."""
        return await self.applications.draft(actor, ask(code, **other), submit=True)

    async def refused(self) -> Application:
        application = await self.submitted()
        return await self.applications.decide(OWNER, application.id, REFUSE)

    async def show(self, identifier: str, actor: Actor = ROOT) -> CaseFile:
        return await self.applications.find(actor, identifier)

    async def events(self, identifier: str, actor: Actor = ROOT) -> list[str]:
        """What happened to it, by the names of the actions."""
        return [each.action for each in (await self.show(identifier, actor)).events]

    async def grant_of(self, application: Application) -> Grant:
        """The one grant that it made."""
        (identifier,) = application.grants
        found = await self.registry.find_grant(identifier)
        assert found is not None
        return found

    async def changes_after(self, version: int) -> tuple[Change, ...]:
        return await self.registry.changes(after=version, limit=500)

    async def publish(self, code: str, **other: Any) -> None:
        """Put a resource, or its next version, into force."""
        async with self.registry.change(**WHO) as change:
            await save_resource(change, ROOT, resource(code, **other), replace=True)
            await publish_resource(change, ROOT, code)

    async def withdraw_resource(self, code: str) -> None:
        async with self.registry.change(**WHO) as change:
            await withdraw_resource(change, ROOT, code)

    async def move_provider(self, division: str, level: Level = "county") -> None:
        """Have the tax bureau act elsewhere."""
        (member,) = [each for each in (await self.registry.snapshot()).members() if TAX.startswith(each.id)]
        moved = replace(member, division=division, level=level)
        await self.registry.add_member(moved, replace=True, **WHO)


@pytest.fixture(scope="session")
def rulebook() -> Rulebook:
    """The packaged calendar and jurisdictions."""
    return Rulebook(calendar=read_calendar(), jurisdictions=read_jurisdictions())


@pytest.fixture
async def world(registry: Registry, clock: Clock, rulebook: Rulebook) -> World:
    """The example seed, with four resources in force, on each kind of database."""
    made = World(registry=registry, clock=clock, applications=Applications(registry, rulebook))
    await registry.add_subsystem(Subsystem(id=STRANGER, name="另一系统"), **WHO)
    await made.publish(ARREARS)
    free = tuple(item for item in _ITEMS if item.path in ("uscc", "name"))
    await made.publish(NOTICES, sharing_class="unconditional", conditions="", legal_basis="", items=free)
    await made.publish(SECRET, sharing_class="not-shared", conditions="", items=free)
    await made.publish(OFF_PLATFORM, accesses=())
    return made
