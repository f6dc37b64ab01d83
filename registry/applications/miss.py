"""A deadline that passed, as the public ledger of misses has it. Pure.

Rules:
1. A line names who was responsible, for which duty, by which law, since when, and how late it was in the end. It names no person,
   no applicant, no purpose and no resource: anybody may read it.
2. It is written once, and never goes away. One that turns out to be no miss (a dispute overturned it, or a provisional deadline
   moved) is set aside, with the reason.
3. While it lasts, it is told to the ladder of its jurisdiction, rung by rung.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from exchange import Language
from registry.catalogue.resource import SharingClass
from registry.clock.jurisdictions import DisputeLevel, Duty


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """That somebody higher up was told."""

    rung: str
    name: Mapping[Language, str]
    at: datetime
    late_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One line of the ledger."""

    id: str
    """`m` and the version of the registry that it came with."""
    number: int
    application: str
    dispute: str = ""
    """The dispute whose level took too long; empty for a duty of the application itself."""
    duty: Duty | DisputeLevel
    responsible: str
    department: str
    """The member that answers for it; empty when that is the authority or the government."""
    sharing_class: SharingClass
    jurisdiction: str
    basis: Mapping[Language, str]
    working_days: int
    due_date: date
    due_at: datetime
    provisional: bool
    noticed_at: datetime
    ended_at: datetime | None = None
    late_days: int = 0
    """Working days after the due day, once it has ended."""
    escalations: tuple[Escalation, ...] = ()
    next_at: datetime | None = None
    """When the next rung of the ladder hears of it."""
    set_aside: str = ""
    """Why it counts no longer."""
