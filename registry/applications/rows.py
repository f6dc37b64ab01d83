"""Applications, disputes and misses to rows and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from registry.applications.application import Application, Ask, Decision, Proposal, Question, StandingApproval
from registry.applications.dispute import Dispute, Move
from registry.applications.miss import Escalation, Miss
from registry.applications.owed import Owed

Row = sa.RowMapping | Mapping[str, Any]


def application_row(application: Application) -> dict[str, Any]:
    decision = application.decision
    open_due_at, due_at, provisional = _due(application.owed)
    return {
        "id": application.id,
        "number": application.number,
        "applicant": application.applicant,
        "provider": application.provider,
        "resource": application.ask.resource,
        "state": application.state,
        "sharing_class": application.sharing_class,
        "ask": _json(application.ask),
        "questions": _json(application.questions),
        "proposal": _json(application.proposal),
        "decision": _json(decision),
        "owed": _json(application.owed),
        "created_at": application.created_at,
        "submitted_at": application.submitted_at,
        "decided_at": decision.decided_at if decision else None,
        "decided_late": decision.late if decision else False,
        "working_days": decision.working_days if decision else 0,
        "delivered_at": application.delivered_at,
        "open_due_at": open_due_at,
        "due_at": due_at,
        "provisional": provisional,
    }


def application_of_row(row: Row) -> Application:
    return Application(
        id=row["id"],
        number=row["number"],
        applicant=row["applicant"],
        provider=row["provider"],
        ask=_read(row["ask"], Ask),
        state=row["state"],
        sharing_class=row["sharing_class"],
        questions=_read(row["questions"], tuple[Question, ...]),
        proposal=_read(row["proposal"], Proposal | None),
        decision=_read(row["decision"], Decision | None),
        owed=_read(row["owed"], tuple[Owed, ...]),
        created_at=row["created_at"],
        submitted_at=row["submitted_at"],
        delivered_at=row["delivered_at"],
        version=row["version"],
    )


def standing_row(standing: StandingApproval) -> dict[str, Any]:
    return {
        "resource": standing.resource,
        "provider": standing.provider,
        "text": standing.text,
        "decided_by": standing.decided_by,
        "decided_at": standing.decided_at,
        "state": "active" if standing.active else "ended",
    }


def standing_of_row(row: Row) -> StandingApproval:
    names = ("resource", "provider", "text", "decided_by", "decided_at")
    return StandingApproval(
        **{name: row[name] for name in names}, active=row["state"] == "active", version=row["version"]
    )


def dispute_row(dispute: Dispute) -> dict[str, Any]:
    _, due_at, provisional = _due(dispute.owed)
    return {
        "id": dispute.id,
        "number": dispute.number,
        "application": dispute.application,
        "about": dispute.about,
        "miss": dispute.miss,
        "opened_by": dispute.opened_by,
        "level": dispute.level,
        "state": dispute.state,
        "moves": _json(dispute.moves),
        "owed": _json(dispute.owed),
        "opened_at": dispute.opened_at,
        "closed_at": dispute.closed_at,
        "due_at": due_at,
        "provisional": provisional,
    }


def dispute_of_row(row: Row) -> Dispute:
    names = (
        "id",
        "number",
        "application",
        "about",
        "miss",
        "opened_by",
        "level",
        "state",
        "opened_at",
        "closed_at",
        "version",
    )
    return Dispute(
        **{name: row[name] for name in names},
        moves=_read(row["moves"], tuple[Move, ...]),
        owed=_read(row["owed"], tuple[Owed, ...]),
    )


_MISS = (
    "id",
    "number",
    "application",
    "dispute",
    "duty",
    "responsible",
    "department",
    "sharing_class",
    "jurisdiction",
    "working_days",
    "due_at",
    "provisional",
    "noticed_at",
    "ended_at",
    "late_days",
    "next_at",
    "set_aside",
)


def miss_row(miss: Miss) -> dict[str, Any]:
    return {
        **{name: getattr(miss, name) for name in _MISS},
        "basis": dict(miss.basis),
        "due_date": miss.due_date.isoformat(),
        "escalations": _json(miss.escalations),
    }


def miss_of_row(row: Row) -> Miss:
    return Miss(
        **{name: row[name] for name in _MISS},
        basis=row["basis"],
        due_date=datetime.fromisoformat(row["due_date"]).date(),
        escalations=_read(row["escalations"], tuple[Escalation, ...]),
    )


def _due(owed: Sequence[Owed]) -> tuple[datetime | None, datetime | None, bool]:
    """The next open deadline, the next that nobody noticed as missed yet, and whether an open one is provisional."""
    counting = [each for each in owed if each.open and each.due_at is not None]
    return (
        min((each.due_at for each in counting if each.due_at), default=None),
        min((each.due_at for each in counting if each.due_at and not each.miss), default=None),
        any(each.provisional for each in counting),
    )


def _json(value: Any) -> Any:
    # Through the text: what is written equals what is read back, lists for lists, so that a row can be compared.
    return msgspec.json.decode(msgspec.json.encode(value))


def _read(value: Any, kind: Any) -> Any:
    return msgspec.convert(value, kind)
