"""Disputes in the registry: opened, argued, escalated and ruled on, with what their outcome does to the application."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import sqlalchemy as sa

from exchange import ConflictError, NotFoundError, RoleMissingError
from registry.applications import ledger, rows, rules
from registry.applications.application import Application
from registry.applications.desk import CLOCK, Desk, kinds_of
from registry.applications.dispute import About, Dispute, Move, MovedBy, MoveKind, Party, Ruling, state_after
from registry.applications.owed import Owed, begin
from registry.applications.states import next_state
from registry.applications.tables import disputes
from registry.clock.jurisdictions import DisputeLevel

RESPONSIBLE: Final[dict[DisputeLevel, str]] = {
    "negotiating": "parties",
    "authority": "authority",
    "government": "government",
}


async def open_dispute(desk: Desk, identifier: str, about: About, text: str, *, miss: str = "") -> Dispute:
    """Dispute a refusal, an approval in part, or a missed deadline (by its id).

    Raises:
        RoleMissingError: The actor is no party, or may not dispute this.
        ConflictError: There is nothing of the kind to dispute, or a dispute is open already.
        UnprocessableError: The text or the missed deadline is wrong; the pointer names it.
    """
    rules.check_text("text", text)
    application = await desk.application(identifier)
    party = _party(desk, application)
    if any(each.state == "open" for each in await load_all(desk, identifier)):
        raise ConflictError(
            "dispute-open", problem="A dispute about it is open already.", problem_zh="该申请已有进行中的争议。"
        )
    if about == "miss":
        await _check_miss(desk, application, miss)
    else:
        _check_disputed_decision(application, about, party)
    version = await desk.change.next_version()
    move = Move(kind="open", at=desk.change.now, by=desk.actor.by, party=party, level="negotiating", text=text)
    dispute = Dispute(
        id=f"d{version}",
        number=version,
        application=application.id,
        about=about,
        miss=miss if about == "miss" else "",
        opened_by=party,
        level="negotiating",
        state="open",
        moves=(move,),
        owed=(await _level_begun(desk, application, "negotiating"),),
        opened_at=desk.change.now,
        version=version,
    )
    desk.change.why = rules.one_line([text])
    row = rows.dispute_row(dispute)
    await desk.change.record("dispute", dispute.id, None, row, version=version)
    await desk.change.write(disputes, row, version, exists=False)
    return dispute


async def move(
    desk: Desk, identifier: str, kind: MoveKind, text: str, *, ruling: Ruling = "upheld", document: str = ""
) -> Dispute:
    """One step of the open dispute of an application, or of its last one.

    Args:
        kind: `say`, `escalate`, `concede`, `give-up`, or `rule`, which takes the other two.
        document: The document of the authority or government that ruled.

    Raises:
        NotFoundError: There is none.
        RoleMissingError, ConflictError: It is not for the actor, or not possible now.
    """
    rules.check_text("text", text)
    application = await desk.application(identifier)
    found = await load_all(desk, identifier)
    if not found:
        raise NotFoundError(what=f"dispute about {identifier}", what_zh=f"关于 {identifier} 的争议")
    dispute = found[-1]
    party = _mover(desk, application)
    state = state_after(dispute, kind, party, ruling)
    if kind == "rule":
        rules.check_text("document", document)
    step = Move(
        kind=kind,
        at=desk.change.now,
        by=desk.actor.by,
        party=party,
        level=dispute.level,
        text=text,
        document=document if kind == "rule" else "",
    )
    dispute = replace(dispute, moves=(*dispute.moves, step))
    desk.change.why = rules.one_line([text])
    if kind == "escalate":
        return await escalate(desk, application, dispute)
    if state != "open":
        dispute = await _level_done(desk, application, dispute)
        dispute = replace(dispute, state=state, closed_at=desk.change.now)
    dispute = await save(desk, dispute, kind)
    if state == "overturned":
        await _overturned(desk, application, dispute)
    return dispute


async def escalate(desk: Desk, application: Application, dispute: Dispute) -> Dispute:
    """To the next level, whose clock begins."""
    level = dispute.next_level
    assert level is not None  # `state_after` allows it only below the top
    dispute = await _level_done(desk, application, dispute)
    begun = await _level_begun(desk, application, level)
    dispute = replace(dispute, level=level, state="open", closed_at=None, owed=(*dispute.owed, begun))
    return await save(desk, dispute, "escalate")


async def level_missed(desk: Desk, application: Application, dispute: Dispute) -> Dispute:
    """The deadline of its level has passed: it goes to the next one; the highest goes on being late."""
    owed = dispute.running
    assert owed is not None  # only a running one can pass
    if dispute.next_level is not None:
        step = Move(
            kind="escalate",
            at=desk.change.now,
            by=CLOCK.by,
            party="clock",
            level=dispute.level,
            text=f"no outcome by {owed.due_date}",
        )
        return await escalate(desk, application, replace(dispute, moves=(*dispute.moves, step)))
    missed = await ledger.notice(desk, application, owed, dispute=dispute.id)
    late = tuple(replace(each, miss=missed.id) if each == owed else each for each in dispute.owed)
    return await save(desk, replace(dispute, owed=late), "late")


async def load_all(desk: Desk, application: str) -> tuple[Dispute, ...]:
    """Disputes about an application, the newest last."""
    query = sa.select(disputes).where(disputes.c.application == application).order_by(disputes.c.number)
    return tuple(rows.dispute_of_row(row) for row in (await desk.change.connection.execute(query)).mappings())


async def save(desk: Desk, dispute: Dispute, action: str) -> Dispute:
    row = rows.dispute_row(dispute)
    change = await desk.change.put(disputes, row, f"dispute.{action}", dispute.id, replace=True)
    return dispute if change is None else replace(dispute, version=change.version)


async def load(desk: Desk, identifier: str) -> Dispute:
    query = sa.select(disputes).where(disputes.c.id == identifier)
    return rows.dispute_of_row((await desk.change.connection.execute(query)).mappings().one())


async def _level_begun(desk: Desk, application: Application, level: DisputeLevel) -> Owed:
    place = await desk.jurisdiction(application.provider)
    return begin(desk.book.calendar, level, RESPONSIBLE[level], place.disputes[level], desk.change.now)


async def _level_done(desk: Desk, application: Application, dispute: Dispute) -> Dispute:
    """The deadline of its level ends. That the parties did not agree in time is nobody's neglect and goes to no ledger."""
    owed = dispute.running
    if owed is None:
        return dispute
    miss = owed.miss
    if owed.is_late(desk.change.now) and owed.duty != "negotiating" and not miss:
        miss = (await ledger.notice(desk, application, owed, dispute=dispute.id)).id
    if miss:
        await ledger.close(desk, miss)
    ended = replace(owed.ended(desk.change.now), miss=miss)
    return replace(dispute, owed=tuple(ended if each == owed else each for each in dispute.owed))


async def _overturned(desk: Desk, application: Application, dispute: Dispute) -> None:
    """What was disputed does not stand: the application is decided anew, or the deadline was not missed after all."""
    text = dispute.moves[-1].text
    if dispute.about == "miss":
        if dispute.opened_by == "owner":
            await ledger.set_aside(desk, dispute.miss, rules.one_line([dispute.id, "overturned:", text]))
        return
    application = await desk.nothing_owed(application)
    state = next_state(application.state, "reopen", frozenset({"ruling"}))
    offer = await desk.offer(application.ask.resource)
    owed = await desk.owes_answer(application, offer is None or offer.on_platform, again=True)
    application = replace(application, state=state, delivered_at=None, owed=(*application.owed, owed))
    await desk.save(application, "reopen", [dispute.id, text])


def _check_disputed_decision(application: Application, about: About, party: Party) -> None:
    if party != "applicant":
        raise RoleMissingError(
            "dispute-party",
            problem="A decision is disputed by the applicant; the owner may dispute a missed deadline.",
            problem_zh="对决定的争议由申请方提出；提供方可以对超期记录提出争议。",
        )
    wanted = "refused" if about == "refusal" else "partly-approved"
    if application.state != wanted:
        raise ConflictError(
            "dispute-about",
            problem=f"The application is {application.state}: there is no {about} to dispute.",
            problem_zh="申请当前状态与争议事由不符。",
        )


async def _check_miss(desk: Desk, application: Application, miss: str) -> None:
    known = {each.miss for each in application.owed if each.miss}
    if miss not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise rules.wrong(
            "miss",
            "/miss",
            f"{miss[:64]!r} is no missed deadline of this application; there is: {listed}.",
            f"“{miss[:64]}”不是本申请的超期记录；现有：{listed}。",
        )
    if (await ledger.load(desk, miss)).set_aside:
        raise ConflictError(
            "dispute-about", problem="It counts no longer: it was set aside.", problem_zh="该超期记录已不计入。"
        )


def _party(desk: Desk, application: Application) -> Party:
    kinds = kinds_of(desk.actor, application)
    if "applicant" in kinds:
        return "applicant"
    if "owner" in kinds:
        return "owner"
    raise RoleMissingError(
        "dispute-party",
        problem="Disputes are between the applicant and the owner.",
        problem_zh="争议双方为申请方与提供方。",
    )


def _mover(desk: Desk, application: Application) -> MovedBy:
    kinds = kinds_of(desk.actor, application)
    if not kinds & {"applicant", "owner"} and "operator" in kinds:
        return "operator"
    return _party(desk, application)
