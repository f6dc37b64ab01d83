"""Every move between the states of an application, permitted and refused; and the moves of a dispute."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from exchange import ConflictError, MeshError, RoleMissingError
from registry.applications.application import REASON_CODES, REASON_NAMES
from registry.applications.dispute import MOVE_KINDS, Dispute, DisputeState, Move, MovedBy, MoveKind, state_after
from registry.applications.states import (
    ACTION_NAMES,
    ACTIONS,
    ACTOR_KINDS,
    STATE_NAMES,
    STATES,
    Action,
    ActorKind,
    State,
    next_state,
    possible_actions,
)
from registry.clock.jurisdictions import DISPUTE_LEVELS, DisputeLevel

APPLICANT: frozenset[ActorKind] = frozenset({"applicant"})
OWNER: frozenset[ActorKind] = frozenset({"owner", "operator"})
CLOCK: frozenset[ActorKind] = frozenset({"clock"})
RULING: frozenset[ActorKind] = frozenset({"ruling"})
BEFORE_DECISION = ("submitted", "in-review")

EXPECTED: dict[tuple[State, Action], tuple[State, frozenset[ActorKind]]] = {
    ("draft", "edit"): ("draft", APPLICANT),
    ("draft", "submit"): ("submitted", APPLICANT),
    ("draft", "withdraw"): ("withdrawn", APPLICANT),
    ("draft", "expire"): ("expired", CLOCK),
    ("submitted", "review"): ("in-review", OWNER),
    ("submitted", "ask"): ("asked-for-more", OWNER),
    ("submitted", "propose"): ("in-review", OWNER),
    ("submitted", "approve"): ("approved", OWNER | CLOCK),
    ("submitted", "approve-in-part"): ("partly-approved", OWNER),
    ("submitted", "refuse"): ("refused", OWNER),
    ("submitted", "withdraw"): ("withdrawn", APPLICANT),
    ("in-review", "ask"): ("asked-for-more", OWNER),
    ("in-review", "propose"): ("in-review", OWNER),
    ("in-review", "confirm"): ("in-review", OWNER),
    ("in-review", "reject-proposal"): ("in-review", OWNER),
    ("in-review", "approve"): ("approved", OWNER | CLOCK),
    ("in-review", "approve-in-part"): ("partly-approved", OWNER),
    ("in-review", "refuse"): ("refused", OWNER),
    ("in-review", "withdraw"): ("withdrawn", APPLICANT),
    ("asked-for-more", "supplement"): ("in-review", APPLICANT),
    ("asked-for-more", "withdraw"): ("withdrawn", APPLICANT),
    ("asked-for-more", "expire"): ("expired", CLOCK),
    ("approved", "deliver"): ("approved", OWNER | CLOCK),
    ("partly-approved", "deliver"): ("partly-approved", OWNER | CLOCK),
    ("partly-approved", "reopen"): ("in-review", RULING),
    ("refused", "reopen"): ("in-review", RULING),
}
"""All that is possible; the rest is refused."""


@pytest.mark.parametrize(("state", "action", "kind"), list(itertools.product(STATES, ACTIONS, ACTOR_KINDS)))
def test_each_kind_of_actor_moves_from_each_state_as_the_table_says_or_is_told_what_is_possible(
    state: State, action: Action, kind: ActorKind
) -> None:
    after, kinds = EXPECTED.get((state, action), (None, frozenset()))
    ever = frozenset[ActorKind]().union(*(who for (_, what), (_, who) in EXPECTED.items() if what == action))
    if kind in kinds:
        assert next_state(state, action, {kind}) == after
        assert action in possible_actions(state, {kind})
        return
    assert action not in possible_actions(state, {kind})
    with pytest.raises(MeshError) as caught:
        next_state(state, action, {kind})
    error = caught.value
    assert isinstance(error, ConflictError if kind in ever else RoleMissingError)
    possible = possible_actions(state, {kind})
    for each in possible:
        assert ACTION_NAMES[each]["en"] in error.detail_in("en")
        assert ACTION_NAMES[each]["zh"] in error.detail_in("zh")
    if not possible:
        assert "act." in error.detail_in("en") or "Nothing more" in error.detail_in("en")


def test_who_acts_in_two_capacities_may_do_what_either_may() -> None:
    assert next_state("draft", "submit", {"operator", "applicant"}) == "submitted"
    assert set(possible_actions("submitted", {"operator", "applicant"})) == {
        "review",
        "ask",
        "propose",
        "approve",
        "approve-in-part",
        "refuse",
        "withdraw",
    }
    assert possible_actions("withdrawn", ACTOR_KINDS) == ()


def test_every_state_and_action_has_a_name_in_both_languages() -> None:
    for names in (*STATE_NAMES.values(), *ACTION_NAMES.values()):
        assert names["en"]
        assert names["zh"]
    assert set(STATE_NAMES) == set(STATES)
    assert set(ACTION_NAMES) == set(ACTIONS)


NOW = datetime(2026, 3, 2, tzinfo=UTC)


def _dispute(level: DisputeLevel, state: DisputeState, opened_by: str, last: MoveKind) -> Dispute:
    move = Move(kind=last, at=NOW, by="x", party="operator" if last == "rule" else "applicant", level=level, text="x")
    return Dispute(
        id="d1",
        number=1,
        application="a1",
        about="refusal",
        opened_by="applicant" if opened_by == "applicant" else "owner",
        level=level,
        state=state,
        moves=(move,),
        owed=(),
        opened_at=NOW,
    )


@pytest.mark.parametrize(
    ("level", "kind", "party", "opened_by"),
    list(itertools.product(DISPUTE_LEVELS, MOVE_KINDS, get_args(MovedBy), ("applicant", "owner"))),
)
def test_each_party_moves_an_open_dispute_at_each_level_as_its_rules_say(
    level: DisputeLevel, kind: MoveKind, party: MovedBy, opened_by: str
) -> None:
    dispute = _dispute(level, "open", opened_by, "open")
    if kind in ("open", "say"):
        expected: object = "open"
    elif kind == "escalate":
        expected = "open" if level != "government" else ConflictError
    elif kind == "rule":
        expected = RoleMissingError if party != "operator" else ConflictError if level == "negotiating" else "upheld"
    elif party not in ("applicant", "owner"):
        expected = RoleMissingError
    elif kind == "give-up":
        expected = "upheld" if party == opened_by else RoleMissingError
    else:
        expected = "overturned" if party != opened_by else RoleMissingError
    if isinstance(expected, str):
        assert state_after(dispute, kind, party) == expected
        return
    assert isinstance(expected, type)
    with pytest.raises(MeshError) as caught:
        state_after(dispute, kind, party)
    assert isinstance(caught.value, expected)


@pytest.mark.parametrize(
    ("level", "state", "last", "party", "possible"),
    [
        ("authority", "upheld", "rule", "applicant", True),
        ("authority", "upheld", "rule", "owner", False),
        ("authority", "overturned", "rule", "applicant", False),
        ("authority", "upheld", "give-up", "applicant", False),
        ("government", "upheld", "rule", "applicant", False),
        ("negotiating", "upheld", "give-up", "applicant", False),
    ],
)
def test_of_what_has_ended_only_an_upholding_ruling_of_the_authority_goes_further(
    level: DisputeLevel, state: DisputeState, last: MoveKind, party: MovedBy, possible: bool
) -> None:
    dispute = _dispute(level, state, "applicant", last)
    if possible:
        assert state_after(dispute, "escalate", party) == "open"
    else:
        with pytest.raises(ConflictError):
            state_after(dispute, "escalate", party)
    with pytest.raises(ConflictError):
        state_after(dispute, "say", party)
    assert state_after(replace(dispute, state="open"), "say", party) == "open"


def test_the_manual_names_every_state_and_every_reason() -> None:
    manual = (Path(__file__).parents[2] / "docs/applications.md").read_text(encoding="utf-8")
    for name in (*STATES, *REASON_CODES):
        assert f"`{name}`" in manual
    for names in REASON_NAMES.values():
        assert names["en"]
        assert names["zh"]
