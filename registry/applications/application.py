"""An application and what belongs to it, as frozen values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Literal, get_args

from exchange import Language, SubsystemId
from registry.applications.owed import Owed
from registry.applications.states import GRANTED, Action, State
from registry.catalogue.resource import SharingClass
from registry.clock.jurisdictions import Duty
from registry.records import Access

Outcome = Literal["approved", "partly-approved", "refused"]
ReasonCode = Literal[
    "no-legal-basis",
    "purpose-not-specific",
    "scope-too-wide",
    "not-held",
    "not-provider",
    "security",
    "secrecy",
    "personal-data",
    "other",
]
"""Why something was not given. No one may invent a further condition, so the list is closed and `other` needs its basis, too."""
REASON_CODES: Final[tuple[ReasonCode, ...]] = get_args(ReasonCode)
REASON_NAMES: Final[Mapping[ReasonCode, Mapping[Language, str]]] = {
    "no-legal-basis": {"en": "no legal basis for the request", "zh": "申请缺乏法律法规依据"},
    "purpose-not-specific": {"en": "the purpose is not specific", "zh": "用途或应用场景不明确"},
    "scope-too-wide": {"en": "more than the purpose needs", "zh": "申请范围超出履职所需"},
    "not-held": {"en": "the owner does not hold the data", "zh": "提供部门不掌握该数据"},
    "not-provider": {"en": "another department answers for the data", "zh": "应由其他部门提供"},
    "security": {"en": "the applicant cannot keep the data safe", "zh": "不具备相应的数据安全保障条件"},
    "secrecy": {"en": "state or trade secrets", "zh": "涉及国家秘密、工作秘密或商业秘密"},
    "personal-data": {"en": "protection of personal data", "zh": "涉及个人信息保护要求"},
    "other": {"en": "another reason, stated in the text", "zh": "其他（见说明）"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What an applicant asks for, and why. A draft may leave everything open but the resource."""

    resource: str
    """Code of a resource of the catalogue."""
    purposes: tuple[str, ...] = ()
    """Codes that the grant and each call will name, such as `public-rental-housing`."""
    purpose_text: str = ""
    legal_basis: str = ""
    """The article that lets or makes the applicant do what the data is needed for."""
    overriding_basis: str = ""
    """For what is not shared: the article that obliges the owner to give it all the same."""
    scenario: str = ""
    """In which step of which matter the data is used."""
    items: tuple[str, ...] = ()
    """Paths of the information items wanted; empty: all that the resource lists."""
    mode: str = ""
    """How the data is to be had, one of the resource's modes; empty: its first."""
    valid_from: datetime | None = None
    """None: from the decision on."""
    valid_to: datetime | None = None
    calls_per_day: int = 0
    """Expected volume; 0: not stated."""
    case_rule: str = ""
    """What case numbers of the applicant look like, as a grant's `case_pattern`."""
    contact: str = ""
    official: str = ""
    """The person who answers for the use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An information item of a resource, as far as applications need it."""

    path: str
    sharing_class: SharingClass
    mask: str = ""
    """The mask that its owner proposes; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an application needs to know of the resource it asks for."""

    code: str
    provider: SubsystemId
    sharing_class: SharingClass
    items: tuple[Item, ...]
    modes: tuple[str, ...] = ()
    accesses: tuple[Access, ...] = ()
    """At which services it is to be had; whether they can be called now is asked of the registry (`offers.can_be_called`)."""
    two_persons: bool = False
    """Two persons decide about it."""
    standing: StandingApproval | None = None
    """What its owner said beforehand."""

    @property
    def on_platform(self) -> bool:
        """Whether it is to be had at a service; else it must be brought onto the platform first."""
        return bool(self.accesses)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingApproval:
    """That the owner of a resource has approved beforehand whoever applies for what it shares unconditionally."""

    resource: str
    provider: SubsystemId
    text: str
    decided_by: str
    decided_at: datetime
    active: bool = True
    version: int = 0
    """Version of the registry that last changed it; no part of what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an owner says about an application; what is left out is as it was asked for."""

    approve: bool
    reason_code: str = ""
    text: str = ""
    basis: str = ""
    items: tuple[str, ...] | None = None
    masks: Mapping[str, str] | None = None
    """Item path -> mask, beside those the catalogue proposes; an empty name takes a proposed one away."""
    purposes: tuple[str, ...] | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    quota_per_second: int = 0
    quota_per_day: int = 0
    signed_requests: bool = False
    case_pattern: str | None = None
    decided_on: date | None = None
    """The date of the decision, in China; None: today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is granted, complete: nothing in it depends on the catalogue any more."""

    items: tuple[str, ...]
    masks: Mapping[str, str]
    purposes: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime
    quota_per_second: int
    quota_per_day: int
    signed_requests: bool
    case_pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided, by whom, on what grounds."""

    outcome: Outcome
    reason_code: str
    text: str
    basis: str
    terms: Terms | None
    """None in a refusal."""
    decided_on: date
    decided_at: datetime
    decided_by: str
    confirmed_by: str = ""
    """The second person, where two decide."""
    grants: tuple[str, ...] = ()
    """Ids of the grants it made."""
    working_days: int = 0
    """How many the owner took, without those on which the clock stood."""
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What the first of two persons proposes; nobody but the owner's side sees it."""

    verdict: Verdict
    outcome: Outcome
    proposed_at: datetime
    proposed_by: str
    official: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the owner wants to know, and the applicant's reply."""

    text: str
    asked_at: datetime
    asked_by: str
    reply: str = ""
    replied_at: datetime | None = None
    replied_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An application as it stands."""

    id: str
    """`a` and the version of the registry that it came with."""
    number: int
    applicant: SubsystemId
    provider: SubsystemId
    ask: Ask
    state: State
    sharing_class: SharingClass
    """The strictest of the resource and of what is wanted of it; a fact from submission on."""
    created_at: datetime
    submitted_at: datetime | None = None
    questions: tuple[Question, ...] = ()
    proposal: Proposal | None = None
    decision: Decision | None = None
    """The newest; earlier ones are in its history."""
    delivered_at: datetime | None = None
    owed: tuple[Owed, ...] = field(default=())
    """Every duty that it began, oldest first."""
    version: int = 0
    """Version of the registry that last changed it; no part of what it says."""

    def open_duty(self, *duties: Duty) -> Owed | None:
        """The first of these duties that has not ended."""
        return next((each for each in self.owed if each.open and each.duty in duties), None)

    @property
    def answer(self) -> Owed | None:
        """What is owed before a decision: the check of its form, or the answer."""
        return self.open_duty("formal-check", "answer", "answer-unpublished")

    def state_at(self, now: datetime) -> State:
        """The state, but for what has expired by now and nobody has noticed yet."""
        waiting = self.open_duty("draft", "supplement")
        return "expired" if waiting is not None and waiting.is_late(now) else self.state

    @property
    def void_steps(self) -> frozenset[Action]:
        """Steps that its state allows and that it does not need or wait for: it is delivered, or nothing is proposed."""
        delivered: frozenset[Action] = frozenset({"deliver"} if self.delivered_at is not None else ())
        unproposed: frozenset[Action] = frozenset({"confirm", "reject-proposal"} if self.proposal is None else ())
        return delivered | unproposed

    @property
    def grants(self) -> tuple[str, ...]:
        """Ids of the grants that rest on it."""
        return self.decision.grants if self.decision is not None and self.state in (*GRANTED, "in-review") else ()
