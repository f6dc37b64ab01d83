"""How deadlines, disputes and missed deadlines look in answers. The commands print the same with `--json`."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from gateway.api.fields import Moment
from registry import Calendar, DepartmentRecord, Dispute, Miss, Owed, SharingClass


class Named(BaseModel):
    """A text in both languages."""

    en: str
    zh: str


class DeadlineView(BaseModel):
    """What somebody owes, and where its clock stands."""

    duty: str = Field(
        description="formal-check, answer, answer-unpublished, delivery, supplement, draft, or a dispute's level."
    )
    responsible: str = Field(description="A subsystem, or `authority`, `government`, `parties`. 责任方。")
    working_days: int = Field(description="Working days that it may take. 法定工作日数。")
    jurisdiction: str
    basis: Named
    received_at: Moment
    due_date: date | None = Field(description="The last day, in China; null while the clock stands. 截止日期。")
    due_at: Moment | None = Field(description="The first instant that is late. 超期时刻。")
    provisional: bool = Field(description="The calendar of working days is not published that far. 是否暂定。")
    state: Literal["running", "stopped", "late", "done", "void"]
    working_days_left: int | None = Field(description="0 on the due day itself; null once it has ended. 剩余工作日。")
    working_days_late: int = Field(description="Working days begun since the due day. 超期工作日。")
    ended_at: Moment | None
    miss: str | None = Field(description="Its line in the ledger of misses. 超期记录编号。")

    @classmethod
    def of(cls, owed: Owed, calendar: Calendar, now: datetime) -> DeadlineView:
        standing = owed.countdown(calendar, now)
        state: Any = standing.state if standing is not None else owed.end
        return cls(
            duty=owed.duty,
            responsible=owed.responsible,
            working_days=owed.working_days,
            jurisdiction=owed.jurisdiction,
            basis=Named.model_validate(dict(owed.basis)),
            received_at=owed.received,
            due_date=owed.due_date,
            due_at=owed.due_at,
            provisional=owed.provisional,
            state=state,
            working_days_left=standing.left if standing is not None else None,
            working_days_late=standing.late_by if standing is not None else 0,
            ended_at=owed.ended_at,
            miss=owed.miss or None,
        )


class MoveView(BaseModel):
    """One step of a dispute."""

    kind: str
    at: Moment
    by: str
    party: Literal["applicant", "owner", "operator", "clock"]
    level: str
    text: str
    document: str


class DisputeView(BaseModel):
    """A dispute."""

    id: str
    application: str
    about: Literal["refusal", "partial-approval", "miss"]
    miss: str | None
    opened_by: Literal["applicant", "owner"]
    level: Literal["negotiating", "authority", "government"]
    state: Literal["open", "upheld", "overturned"]
    moves: list[MoveView]
    deadlines: list[DeadlineView]
    opened_at: Moment
    closed_at: Moment | None

    @classmethod
    def of(cls, dispute: Dispute, calendar: Calendar, now: datetime) -> DisputeView:
        return cls(
            id=dispute.id,
            application=dispute.application,
            about=dispute.about,
            miss=dispute.miss or None,
            opened_by=dispute.opened_by,
            level=dispute.level,
            state=dispute.state,
            moves=[MoveView.model_validate(each, from_attributes=True) for each in dispute.moves],
            deadlines=[DeadlineView.of(each, calendar, now) for each in dispute.owed],
            opened_at=dispute.opened_at,
            closed_at=dispute.closed_at,
        )


class EscalationView(BaseModel):
    """That somebody higher up was told."""

    rung: str
    name: Named
    at: Moment
    late_days: int


class MissView(BaseModel):
    """A line of the public ledger. It names no person, no applicant, no purpose, no resource."""

    id: str
    application: str
    duty: str
    responsible: str
    department: str | None = Field(description="Member that answers for it; null: the authority or the government.")
    sharing_class: SharingClass
    jurisdiction: str
    basis: Named
    working_days: int
    due_date: date
    provisional: bool
    noticed_at: Moment
    ended_at: Moment | None = Field(description="Null: it is late still. 办结时间，null 为仍未办结。")
    late_days: int = Field(description="Working days after the due day, until it ended or until now. 超期工作日。")
    escalations: list[EscalationView]
    set_aside: str | None = Field(description="Why it counts no longer. 不再计入的原因。")

    @classmethod
    def of(cls, miss: Miss, late_days: int) -> MissView:
        return cls(
            id=miss.id,
            application=miss.application,
            duty=miss.duty,
            responsible=miss.responsible,
            department=miss.department or None,
            sharing_class=miss.sharing_class,
            jurisdiction=miss.jurisdiction,
            basis=Named.model_validate(dict(miss.basis)),
            working_days=miss.working_days,
            due_date=miss.due_date,
            provisional=miss.provisional,
            noticed_at=miss.noticed_at,
            ended_at=miss.ended_at,
            late_days=late_days,
            escalations=[
                EscalationView(
                    rung=each.rung, name=Named.model_validate(dict(each.name)), at=each.at, late_days=each.late_days
                )
                for each in miss.escalations
            ],
            set_aside=miss.set_aside or None,
        )


class DepartmentView(BaseModel):
    """How a department kept its deadlines."""

    department: str
    name: str
    name_en: str
    decided: int
    in_time: int
    late: int = Field(description="Decided after the deadline. 超期办结。")
    overdue: int = Field(description="Not decided yet, after the deadline. 超期未办结。")
    median_working_days: float | None
    misses: int = Field(description="Lines of the ledger that count. 计入的超期记录数。")

    @classmethod
    def of(cls, record: DepartmentRecord) -> DepartmentView:
        return cls.model_validate(record, from_attributes=True)
