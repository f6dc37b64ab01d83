"""How applications look in answers. The commands print the same with `--json`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field

from gateway.api.deadline_views import DeadlineView, DisputeView, MissView
from gateway.api.fields import Moment
from registry import (
    Actor,
    Application,
    ApplicationDecision,
    Calendar,
    CaseFile,
    Change,
    SharingClass,
    StandingApproval,
    kinds_of,
    possible_actions,
    sees_owners_side,
)


class WantedView(BaseModel):
    """What is asked for."""

    resource: str
    purposes: list[str]
    purpose_text: str
    legal_basis: str
    overriding_basis: str
    scenario: str
    items: list[str]
    mode: str
    valid_from: Moment | None
    valid_to: Moment | None
    calls_per_day: int
    case_rule: str
    contact: str
    official: str


class QuestionView(BaseModel):
    """What the owner asked, and the reply."""

    text: str
    asked_at: Moment
    asked_by: str
    reply: str
    replied_at: Moment | None
    replied_by: str


class TermsView(BaseModel):
    """What was granted."""

    items: list[str] = Field(description="Paths of the items released; empty: all. 信息项。")
    masks: dict[str, str]
    purposes: list[str]
    valid_from: Moment
    valid_to: Moment
    quota_per_second: int
    quota_per_day: int
    signed_requests: bool
    case_pattern: str


class DecisionView(BaseModel):
    """What was decided."""

    outcome: Literal["approved", "partly-approved", "refused"]
    reason_code: str
    text: str
    basis: str
    terms: TermsView | None = Field(description="Null in a refusal. 授权内容。")
    decided_on: date
    decided_at: Moment
    decided_by: str
    confirmed_by: str = Field(description="The second person, where two decide. 复核人。")
    grants: list[str] = Field(description="Ids of the grants that it made. 授权编号。")
    working_days: int = Field(description="Working days it took, without those on which the clock stood. 办理工作日。")
    late: bool

    @classmethod
    def of(cls, decision: ApplicationDecision) -> DecisionView:
        return cls.model_validate(decision, from_attributes=True)


class ProposalView(BaseModel):
    """What the first of two persons proposes; the applicant is not shown it."""

    outcome: Literal["approved", "partly-approved", "refused"]
    text: str
    proposed_at: Moment
    proposed_by: str


class ApplicationView(BaseModel):
    """An application."""

    id: str
    state: str
    applicant: str
    provider: str
    sharing_class: SharingClass = Field(description="The strictest of the resource and of what is wanted. 共享类型。")
    wanted: WantedView
    created_at: Moment
    submitted_at: Moment | None
    deadlines: list[DeadlineView] = Field(description="Every duty it began, with its countdown. 时限。")
    questions: list[QuestionView]
    proposal: ProposalView | None
    decision: DecisionView | None
    delivered_at: Moment | None
    possible: list[str] = Field(description="What the caller may do now. 当前可进行的操作。")

    @classmethod
    def of(cls, application: Application, actor: Actor, calendar: Calendar, now: datetime) -> ApplicationView:
        proposal = application.proposal if sees_owners_side(actor, application) else None
        state = application.state_at(now)
        possible = possible_actions(state, kinds_of(actor, application), application.void_steps)
        return cls(
            id=application.id,
            state=state,
            applicant=application.applicant,
            provider=application.provider,
            sharing_class=application.sharing_class,
            wanted=WantedView.model_validate(application.ask, from_attributes=True),
            created_at=application.created_at,
            submitted_at=application.submitted_at,
            deadlines=[DeadlineView.of(each, calendar, now) for each in application.owed],
            questions=[QuestionView.model_validate(each, from_attributes=True) for each in application.questions],
            proposal=ProposalView(
                outcome=proposal.outcome,
                text=proposal.verdict.text,
                proposed_at=proposal.proposed_at,
                proposed_by=proposal.proposed_by,
            )
            if proposal is not None
            else None,
            decision=DecisionView.of(application.decision) if application.decision is not None else None,
            delivered_at=application.delivered_at,
            possible=list(possible),
        )


class EventView(BaseModel):
    """One change of it, or of what belongs to it."""

    version: int = Field(description="Version of the registry; `/v1/changes/{version}` has the rows. 变更号。")
    at: Moment
    by: str
    action: str
    target: str
    why: str

    @classmethod
    def of(cls, change: Change) -> EventView:
        return cls.model_validate(change, from_attributes=True)


class CaseView(ApplicationView):
    """An application with its history."""

    disputes: list[DisputeView]
    misses: list[MissView]
    events: list[EventView]

    @classmethod
    def of_file(
        cls, file: CaseFile, actor: Actor, calendar: Calendar, now: datetime, late_days: Iterable[int]
    ) -> CaseView:
        return cls(
            **dict(ApplicationView.of(file.application, actor, calendar, now)),
            disputes=[DisputeView.of(each, calendar, now) for each in file.disputes],
            misses=[MissView.of(each, late) for each, late in zip(file.misses, late_days, strict=True)],
            events=[EventView.of(each) for each in file.events],
        )


class StandingView(BaseModel):
    """That the owner of a resource approves beforehand whoever applies for what it shares unconditionally."""

    resource: str
    provider: str
    text: str
    decided_by: str
    decided_at: Moment
    active: bool

    @classmethod
    def of(cls, standing: StandingApproval) -> StandingView:
        return cls.model_validate(standing, from_attributes=True)
