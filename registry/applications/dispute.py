"""A dispute about an application and what may happen in it. Pure.

    negotiating ──escalate / time──▶ authority ──escalate / time──▶ government
        │  concede, give-up             │  rule, concede, give-up       │  rule
        ▼                               ▼                               ▼
    overturned | upheld             overturned | upheld ──escalate──▶   overturned | upheld

Rules:
1. The applicant may dispute a refusal, an approval in part, and a deadline that was missed towards it. The owner may dispute
   that it missed a deadline.
2. The parties negotiate first; then the authority of their level decides, then the government. Each level has a deadline, and
   when it passes without an outcome the dispute goes to the next level by itself.
3. `upheld`: what was disputed stands. `overturned`: it does not. A party that gives in, or that gives up, needs nobody else.
4. A ruling of the authority that upholds may be taken to the government. One that overturns takes effect at once and is final:
   the application is being decided anew.
5. Only an operator records rulings, naming the document of the authority or government that made them; one that is a party
   itself does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from exchange import ConflictError, RoleMissingError
from registry.applications.owed import Owed
from registry.clock.jurisdictions import DISPUTE_LEVELS, DisputeLevel

About = Literal["refusal", "partial-approval", "miss"]
DisputeState = Literal["open", "upheld", "overturned"]
Party = Literal["applicant", "owner"]
MoveKind = Literal["open", "say", "escalate", "concede", "give-up", "rule"]
Ruling = Literal["upheld", "overturned"]
MovedBy = Literal["applicant", "owner", "operator", "clock"]

ABOUTS: Final[tuple[About, ...]] = get_args(About)
MOVE_KINDS: Final[tuple[MoveKind, ...]] = get_args(MoveKind)
RULINGS: Final[tuple[Ruling, ...]] = get_args(Ruling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One step of a dispute."""

    kind: MoveKind
    at: datetime
    by: str
    party: MovedBy
    level: DisputeLevel
    """On which it was made."""
    text: str
    document: str = ""
    """Of a ruling: the document of the authority or government."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A dispute as it stands."""

    id: str
    """`d` and the version of the registry that it came with."""
    number: int
    application: str
    about: About
    miss: str = ""
    """Id of the missed deadline that it is about."""
    opened_by: Party
    level: DisputeLevel
    state: DisputeState
    moves: tuple[Move, ...]
    owed: tuple[Owed, ...]
    """The deadline of each level that it reached."""
    opened_at: datetime
    closed_at: datetime | None = None
    version: int = 0
    """Version of the registry that last changed it; no part of what it says."""

    @property
    def running(self) -> Owed | None:
        """The deadline of its level, while it is open."""
        return next((each for each in self.owed if each.open), None)

    @property
    def next_level(self) -> DisputeLevel | None:
        """The level above; None at the top."""
        index = DISPUTE_LEVELS.index(self.level) + 1
        return DISPUTE_LEVELS[index] if index < len(DISPUTE_LEVELS) else None


def state_after(dispute: Dispute, kind: MoveKind, party: MovedBy, ruling: Ruling = "upheld") -> DisputeState:
    """The state of a dispute after a move.

    Raises:
        RoleMissingError: The move is for somebody else.
        ConflictError: It is not possible now; the text says what is.
    """
    if kind == "rule":
        if party != "operator":
            raise RoleMissingError(
                "dispute-party",
                problem="A ruling is recorded by an operator, for the authority or the government.",
                problem_zh="裁定由平台运维方代主管部门或政府登记。",
            )
        if dispute.state != "open" or dispute.level == "negotiating":
            raise _impossible(dispute, kind)
        return ruling
    if kind in ("concede", "give-up") and party not in ("applicant", "owner"):
        raise RoleMissingError(
            "dispute-party",
            problem=f"To {kind} is for the parties themselves.",
            problem_zh="让步或放弃只能由争议双方自己作出。",
        )
    if dispute.state != "open":
        # An upheld ruling of the authority is the one thing that may be taken further.
        appealed = dispute.state == "upheld" and dispute.level == "authority" and dispute.moves[-1].kind == "rule"
        if not (kind == "escalate" and party == dispute.opened_by and appealed):
            raise _impossible(dispute, kind)
        return "open"
    if kind == "escalate" and dispute.next_level is None:
        raise _impossible(dispute, kind)
    if kind in ("concede", "give-up"):
        ours = party == dispute.opened_by
        if ours != (kind == "give-up"):
            raise RoleMissingError(
                "dispute-party",
                problem="Who opened the dispute may give it up; the other party may concede.",
                problem_zh="提出争议的一方可以放弃，另一方可以让步。",
            )
        return "upheld" if ours else "overturned"
    return "open"


def _impossible(dispute: Dispute, kind: MoveKind) -> ConflictError:
    if dispute.state != "open":
        now, now_zh = f"It has ended: {dispute.state}.", f"争议已结束：{_STATES_ZH[dispute.state]}。"
    elif dispute.level == "negotiating":
        now, now_zh = (
            "The parties negotiate: say, escalate, concede, give-up.",
            "双方协商中：可陈述、升级、让步、放弃。",
        )
    elif dispute.level == "authority":
        now, now_zh = (
            "The authority decides: say, escalate, concede, give-up; an operator records its ruling.",
            "主管部门协调中：可陈述、升级、让步、放弃；裁定由平台运维方登记。",
        )
    else:
        now, now_zh = (
            "The government decides: say, concede, give-up; an operator records its ruling.",
            "政府裁决中：可陈述、让步、放弃；裁定由平台运维方登记。",
        )
    return ConflictError(
        "dispute-state", problem=f"To {kind} is not possible. {now}", problem_zh=f"不能进行该操作。{now_zh}"
    )


_STATES_ZH = {"open": "进行中", "upheld": "维持", "overturned": "推翻"}
