"""The states of an application and the one function that moves between them. Pure.

    draft ──submit──▶ submitted ──review──▶ in-review ──ask──▶ asked-for-more ──supplement──▶ in-review
                                               ├──approve──────────▶ approved         ──deliver──▶ (delivered)
                                               ├──approve-in-part──▶ partly-approved  ──deliver──▶ (delivered)
                                               └──refuse───────────▶ refused
    draft, asked-for-more ──expire──▶ expired               draft, submitted, in-review, asked-for-more ──withdraw──▶ withdrawn
    refused, partly-approved ──reopen──▶ in-review          submitted: whatever in-review allows

Rules:
1. The applicant drafts, submits, supplements and withdraws. The owner, or an operator for it, reviews, asks and decides.
2. An owner need not say that it reviews: it may ask or decide at once.
3. A decision that two persons make is proposed by the first; the application is in review until the second confirms it.
4. Only time expires an application, and only a dispute that overturns the decision opens it again.
5. What ended stays as it is: withdrawn and expired applications are written anew.
6. What can be called already when it is approved is delivered by rule, with the approval.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, get_args

from exchange import ConflictError, Language, RoleMissingError

State = Literal[
    "draft",
    "submitted",
    "in-review",
    "asked-for-more",
    "approved",
    "partly-approved",
    "refused",
    "withdrawn",
    "expired",
]
Action = Literal[
    "edit",
    "submit",
    "review",
    "ask",
    "supplement",
    "propose",
    "confirm",
    "reject-proposal",
    "approve",
    "approve-in-part",
    "refuse",
    "withdraw",
    "deliver",
    "expire",
    "reopen",
]
ActorKind = Literal["applicant", "owner", "operator", "clock", "ruling"]
"""In which capacity somebody acts. `clock` is time itself, `ruling` the outcome of a dispute."""

STATES: Final[tuple[State, ...]] = get_args(State)
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
ACTOR_KINDS: Final[tuple[ActorKind, ...]] = get_args(ActorKind)

UNDECIDED: Final[frozenset[State]] = frozenset({"submitted", "in-review", "asked-for-more"})
"""Received, and nothing decided yet."""
GRANTED: Final[frozenset[State]] = frozenset({"approved", "partly-approved"})

_APPLICANT: Final[frozenset[ActorKind]] = frozenset({"applicant"})
_OWNER: Final[frozenset[ActorKind]] = frozenset({"owner", "operator"})
# An owner may have said beforehand that what is shared unconditionally is approved without anybody looking.
_OWNER_OR_RULE: Final[frozenset[ActorKind]] = _OWNER | {"clock"}

_MOVES: Final[Mapping[Action, tuple[frozenset[ActorKind], Mapping[State, State]]]] = {
    "edit": (_APPLICANT, {"draft": "draft"}),
    "submit": (_APPLICANT, {"draft": "submitted"}),
    "review": (_OWNER, {"submitted": "in-review"}),
    "ask": (_OWNER, {"submitted": "asked-for-more", "in-review": "asked-for-more"}),
    "supplement": (_APPLICANT, {"asked-for-more": "in-review"}),
    "propose": (_OWNER, {"submitted": "in-review", "in-review": "in-review"}),
    "confirm": (_OWNER, {"in-review": "in-review"}),
    "reject-proposal": (_OWNER, {"in-review": "in-review"}),
    "approve": (_OWNER_OR_RULE, {"submitted": "approved", "in-review": "approved"}),
    "approve-in-part": (_OWNER, {"submitted": "partly-approved", "in-review": "partly-approved"}),
    "refuse": (_OWNER, {"submitted": "refused", "in-review": "refused"}),
    "withdraw": (
        _APPLICANT,
        {
            "draft": "withdrawn",
            "submitted": "withdrawn",
            "in-review": "withdrawn",
            "asked-for-more": "withdrawn",
        },
    ),
    "deliver": (_OWNER_OR_RULE, {"approved": "approved", "partly-approved": "partly-approved"}),
    "expire": (frozenset({"clock"}), {"draft": "expired", "asked-for-more": "expired"}),
    "reopen": (frozenset({"ruling"}), {"refused": "in-review", "partly-approved": "in-review"}),
}

STATE_NAMES: Final[Mapping[State, Mapping[Language, str]]] = {
    "draft": {"en": "a draft", "zh": "草稿"},
    "submitted": {"en": "submitted", "zh": "已提交"},
    "in-review": {"en": "in review", "zh": "审核中"},
    "asked-for-more": {"en": "waiting for the applicant", "zh": "待补正"},
    "approved": {"en": "approved", "zh": "已批准"},
    "partly-approved": {"en": "approved in part", "zh": "部分批准"},
    "refused": {"en": "refused", "zh": "已拒绝"},
    "withdrawn": {"en": "withdrawn", "zh": "已撤回"},
    "expired": {"en": "expired", "zh": "已失效"},
}
ACTION_NAMES: Final[Mapping[Action, Mapping[Language, str]]] = {
    "edit": {"en": "edit", "zh": "修改"},
    "submit": {"en": "submit", "zh": "提交"},
    "review": {"en": "review", "zh": "受理审核"},
    "ask": {"en": "ask", "zh": "要求补正"},
    "supplement": {"en": "supplement", "zh": "补正"},
    "propose": {"en": "propose", "zh": "拟办"},
    "confirm": {"en": "confirm", "zh": "确认拟办意见"},
    "reject-proposal": {"en": "reject-proposal", "zh": "退回拟办意见"},
    "approve": {"en": "approve", "zh": "批准"},
    "approve-in-part": {"en": "approve-in-part", "zh": "部分批准"},
    "refuse": {"en": "refuse", "zh": "拒绝"},
    "withdraw": {"en": "withdraw", "zh": "撤回"},
    "deliver": {"en": "deliver", "zh": "交付"},
    "expire": {"en": "expire", "zh": "失效"},
    "reopen": {"en": "reopen", "zh": "重新审核"},
}
KIND_NAMES: Final[Mapping[ActorKind, Mapping[Language, str]]] = {
    "applicant": {"en": "the applicant", "zh": "申请方"},
    "owner": {"en": "the owner", "zh": "提供方"},
    "operator": {"en": "an operator", "zh": "平台运维方"},
    "clock": {"en": "the clock", "zh": "系统时限"},
    "ruling": {"en": "a ruling on a dispute", "zh": "争议裁定"},
}


def next_state(
    state: State, action: Action, kinds: Collection[ActorKind], void: Collection[Action] = frozenset()
) -> State:
    """The state after `action`.

    Args:
        kinds: The capacities in which the actor acts on this application.
        void: Actions not to be told of as possible, as this application has no use for them (`Application.void_steps`).

    Raises:
        RoleMissingError: Nobody of these kinds takes that action, in whatever state.
        ConflictError: The state does not allow it; the text says what is possible now.
    """
    allowed, moves = _MOVES[action]
    if allowed.isdisjoint(kinds):
        who = [each for each in ACTOR_KINDS if each in allowed]
        possible, possible_zh = _possible(state, kinds, void)
        raise RoleMissingError(
            "application-actor",
            problem=f"To {ACTION_NAMES[action]['en']} is for {_listed(who, 'en')}. {possible}",
            problem_zh=f"“{ACTION_NAMES[action]['zh']}”应由{_listed(who, 'zh')}进行。{possible_zh}",
        )
    after = moves.get(state)
    if after is None:
        possible, possible_zh = _possible(state, kinds, void)
        raise ConflictError(
            "application-state",
            problem=f"The application is {STATE_NAMES[state]['en']}: to {ACTION_NAMES[action]['en']} is not possible. "
            f"{possible}",
            problem_zh=f"申请处于“{STATE_NAMES[state]['zh']}”状态，不能{ACTION_NAMES[action]['zh']}。{possible_zh}",
        )
    return after


def possible_actions(
    state: State, kinds: Collection[ActorKind], void: Collection[Action] = frozenset()
) -> tuple[Action, ...]:
    """What these kinds of actor may do in a state, in the order of an application's life, but for what is `void`."""
    return tuple(
        action
        for action, (allowed, moves) in _MOVES.items()
        if state in moves and allowed & set(kinds) and action not in void
    )


def _possible(state: State, kinds: Collection[ActorKind], void: Collection[Action]) -> tuple[str, str]:
    """What may be done now, first by the one who asks, else by whomever."""
    ours = possible_actions(state, kinds, void)
    if ours:
        names = [ACTION_NAMES[each] for each in ours]
        return (
            f"Possible for you now: {', '.join(each['en'] for each in names)}.",
            f"您现在可以：{'、'.join(each['zh'] for each in names)}。",
        )
    waiting = [kind for kind in ACTOR_KINDS[:3] if possible_actions(state, (kind,), void)]
    if waiting:
        return f"Now it is for {_listed(waiting, 'en')} to act.", f"目前应由{_listed(waiting, 'zh')}处理。"
    return "Nothing more can be done with it.", "该申请已办结，不能再作处理。"


def _listed(kinds: Collection[ActorKind], language: Language) -> str:
    return {"en": " or ", "zh": "或"}[language].join(KIND_NAMES[each][language] for each in kinds)
