"""Openings: that somebody who sees counts may look at one record, because a second person agreed.

Rules:
1. An operator or an auditor asks, for its subsystem and by name, with the exchange and the reason. Another person who holds one of
   these roles approves or refuses. Two persons are told apart by name, but for spaces, width and case: who they are is the word of
   their department's certificate.
2. What was approved opens that one record to the asker, person and subsystem, for a day from the approval. Each look is put on
   record by whoever shows it (`gateway.api.access_records`).
3. Every step is a change of the registry, and so on the log. Nothing is deleted; a decision is not taken back, it ends.
"""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

import sqlalchemy as sa

from exchange import ConflictError, NotFoundError, SubsystemId, UnprocessableError, UtcDateTime
from registry import rules, tables
from registry.actors import Actor
from registry.applications.rules import person_key
from registry.changes import Changes
from registry.records import Role
from registry.registry import Registry
from registry.rows import Row

OpeningState = Literal["asked", "approved", "refused"]
OPENING_STATES: Final[tuple[OpeningState, ...]] = get_args(OpeningState)
OPEN_FOR: Final = timedelta(hours=24)
ROLES_THAT_OPEN: Final[tuple[Role, ...]] = ("operator", "auditor")

openings = sa.Table(
    "openings",
    tables.metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False, unique=True),
    sa.Column("exchange", sa.String(36), nullable=False, index=True),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("asked_by", sa.String(270), sa.ForeignKey(tables.subsystems.c.id), nullable=False),
    sa.Column("official", sa.Text, nullable=False),
    sa.Column("asked_at", UtcDateTime, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("second_official", sa.Text, nullable=False),
    sa.Column("decided_at", UtcDateTime),
    sa.Column("decision_why", sa.Text, nullable=False),
    sa.Column("valid_until", UtcDateTime),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.CheckConstraint("state IN ('asked', 'approved', 'refused')", name="state"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One request to look at one record, and what became of it."""

    id: str
    number: int
    exchange: str
    """Id of the entry of the log."""
    why: str
    asked_by: SubsystemId
    official: str
    """The person who asks, X-Road-UserId."""
    asked_at: datetime
    state: OpeningState = "asked"
    decided_by: str = ""
    """As the record of changes names whoever decided."""
    second_official: str = ""
    decided_at: datetime | None = None
    decision_why: str = ""
    valid_until: datetime | None = None
    """When an approved one ends; None unless it was approved."""
    version: int = 0
    """Version of the registry that last changed it; no part of what it says."""

    def is_open(self, now: datetime) -> bool:
        """Whether it was approved, and the time is not over."""
        return self.valid_until is not None and now < self.valid_until

    def is_of(self, actor: Actor) -> bool:
        """Whether the actor is who asked: the same person, for the same subsystem."""
        return actor.subsystem == self.asked_by and _person(actor.official) == _person(self.official) != ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningFilter:
    """Which openings to list; empty and None mean any."""

    exchange: str = ""
    state: OpeningState | None = None
    asked_by: str = ""


class Openings:
    """Asking, deciding and reading, each in a transaction of its own."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ask(self, actor: Actor, exchange: str, why: str) -> tuple[Opening, bool]:
        """Ask to look at a record. The second value is False for whoever has asked already and may look, or waits for an answer.

        Whether there is such a record is for the caller to find out.

        Raises:
            RoleMissingError: The actor holds neither role.
            UnprocessableError: No subsystem or person is named, or no reason.
        """
        actor.require(*ROLES_THAT_OPEN)
        rules.check_text("why", why)
        if actor.subsystem is None:
            raise UnprocessableError(
                "opening-subsystem",
                problem="A record is opened to a subsystem: name the one that is to look at it (--as at the machine itself).",
                problem_zh="记录只对子系统开启：请指明查看的子系统（命令行用 --as）。",
            )
        _named(actor)
        async with self._change(actor, why) as change:
            found = await _all(change, openings.c.exchange == exchange)
            for each in found:
                if each.is_of(actor) and (each.state == "asked" or each.is_open(change.now)):
                    return each, False
            version = await change.next_version()
            opening = Opening(
                id=f"o{version}",
                number=version,
                exchange=exchange,
                why=why,
                asked_by=actor.subsystem,
                official=actor.official,
                asked_at=change.now,
                version=version,
            )
            await change.record("opening.ask", opening.id, None, _row(opening), version=version)
            await change.write(openings, _row(opening), version, exists=False)
            return opening, True

    async def decide(self, actor: Actor, identifier: str, *, approve: bool, why: str) -> Opening:
        """As the second person, approve or refuse. Deciding the same again changes nothing.

        Raises:
            NotFoundError: There is no such opening.
            RoleMissingError: The actor holds neither role.
            UnprocessableError: Nobody is named, or the same person asked.
            ConflictError: It is decided.
        """
        actor.require(*ROLES_THAT_OPEN)
        rules.check_text("why", why)
        person = _named(actor)
        async with self._change(actor, why) as change:
            found = await _all(change, openings.c.id == identifier)
            if not found:
                raise unknown_opening(identifier)
            (opening,) = found
            if person == _person(opening.official):
                raise UnprocessableError(
                    "two-persons",
                    problem=f"{opening.official} asked for it: another person approves or refuses.",
                    problem_zh=f"该申请由 {opening.official} 提出，须由另一人批准或拒绝。",
                )
            state: OpeningState = "approved" if approve else "refused"
            if opening.state != "asked":
                if (opening.state, opening.decided_by) == (state, actor.by):
                    return opening
                raise ConflictError(
                    "opening-state",
                    problem=f"{opening.decided_by} has {opening.state} it already; ask anew if the record is still needed.",
                    problem_zh=f"{opening.decided_by} 已作出决定；如仍需查看，请重新申请。",
                )
            opening = replace(
                opening,
                state=state,
                decided_by=actor.by,
                second_official=actor.official,
                decided_at=change.now,
                decision_why=why,
                valid_until=change.now + OPEN_FOR if approve else None,
            )
            action = "opening.approve" if approve else "opening.refuse"
            made = await change.put(openings, _row(opening), action, opening.id, replace=True)
            assert made is not None  # its state is another one now
            return replace(opening, version=made.version)

    async def find(self, actor: Actor, identifier: str) -> Opening:
        """One opening, for auditors and operators; raises NotFoundError and RoleMissingError."""
        actor.require(*ROLES_THAT_OPEN)
        found = await self._select(sa.select(openings).where(openings.c.id == identifier))
        if not found:
            raise unknown_opening(identifier)
        return found[0]

    async def page(
        self, actor: Actor, wanted: OpeningFilter, *, before: int | None = None, limit: int = 50
    ) -> tuple[tuple[Opening, ...], int | None]:
        """Openings, newest first, for auditors and operators; the second value is the `before` of the next page.

        Raises:
            RoleMissingError: The actor holds neither role.
        """
        actor.require(*ROLES_THAT_OPEN)
        query = sa.select(openings).order_by(openings.c.number.desc()).limit(limit + 1)
        for column in ("exchange", "state", "asked_by"):
            if value := getattr(wanted, column):
                query = query.where(openings.c[column] == value)
        if before is not None:
            query = query.where(openings.c.number < before)
        found = await self._select(query)
        return found[:limit], found[limit - 1].number if len(found) > limit else None

    async def opened_to(self, actor: Actor, exchange: str) -> Opening | None:
        """The opening by which the actor may look at a record now; None if there is none, or its role is gone."""
        if not actor.holds(*ROLES_THAT_OPEN) or actor.subsystem is None:
            return None
        query = sa.select(openings).where(
            openings.c.exchange == exchange,
            openings.c.asked_by == actor.subsystem,
            openings.c.valid_until > self._registry.now(),
        )
        found = await self._select(query.order_by(openings.c.number.desc()))
        return next((each for each in found if each.is_of(actor)), None)

    def now(self) -> datetime:
        """The time, by the registry's clock."""
        return self._registry.now()

    async def _select(self, query: sa.Select[Any]) -> tuple[Opening, ...]:
        async with self._registry.reading() as connection:
            return tuple(_opening(row) for row in (await connection.execute(query)).mappings())

    @asynccontextmanager
    async def _change(self, actor: Actor, why: str) -> AsyncIterator[Changes]:
        async with self._registry.change(by=actor.by, why=why, certificate=actor.certificate) as change:
            yield change


def unknown_opening(identifier: str) -> NotFoundError:
    return NotFoundError(what=f"opening {identifier[:64]}", what_zh=f"调阅申请 {identifier[:64]}")


async def _all(change: Changes, condition: sa.ColumnElement[bool]) -> list[Opening]:
    query = sa.select(openings).where(condition).order_by(openings.c.number.desc())
    return [_opening(row) for row in (await change.connection.execute(query)).mappings()]


def _named(actor: Actor) -> str:
    """By what the person acting is told from others; raises UnprocessableError if nobody is named."""
    person = _person(actor.official)
    if not person:
        raise UnprocessableError(
            "two-persons",
            problem="Two persons open a record: name the one who acts, in X-Road-UserId.",
            problem_zh="调阅记录须由两人办理：请在 X-Road-UserId 中写明经办人。",
        )
    return person


def _person(official: str) -> str:
    return person_key(unicodedata.normalize("NFKC", official))


def _row(opening: Opening) -> dict[str, Any]:
    return {column.name: getattr(opening, column.name) for column in openings.c if column.name != "version"}


def _opening(row: Row) -> Opening:
    return Opening(**row)
