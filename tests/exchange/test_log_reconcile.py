"""What the comparison of log and ledgers says about every way in which they can differ."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET, Raw

from exchange.audit.reconciliation import Finding, ReconciliationCounts, reconcile
from exchange.ledger.ledger import Ledger, LedgerError
from exchange.log.log_event import LogEvent
from exchange.log.record import Record, record_bytes
from exchange.messages.envelope import AnswerStatement, QueryStatement, statement_bytes
from exchange.moments import parse_rfc3339
from tests.exchange.log_kit import SERVICES, Attempt, Place, new_id, query_statement

OWNER = "CN/GOV/TAX/tax"

OLD = parse_rfc3339("2026-01-01T00:00:00Z")
OURS = SERVICES[0]


def asked(**changes: Any) -> QueryStatement:
    return query_statement(new_id(), 0, OLD, service=OURS, **changes)


def said(query: QueryStatement, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "adapter": "",
        "answered_at": query.asked_at,
        "body_digest": "",
        "body_size": 0,
        "error": "",
        "headers_digest": "",
        "id": query.id,
        "query_digest": hashlib.sha256(statement_bytes(query)).hexdigest(),
        "status": 200,
    }
    return statement_bytes(AnswerStatement(**{**fields, **changes}))


def recorded(query: QueryStatement, outcome: Any = "answered", answer: bytes | None = None) -> Attempt:
    record = Record(
        answer=UNSET if answer is None else Raw(answer),
        answer_seal=UNSET if answer is None else "",
        duration_us=1,
        ended_at=query.asked_at,
        id=query.id,
        outcome=outcome,
        query=Raw(statement_bytes(query)),
        query_seal=UNSET if outcome == "refused" else "",
        status=200,
    )
    return Attempt(record_bytes(record), query.id, OLD, query.client, query.service, outcome, "")


class Story:
    """What happened, as each side tells it."""

    def __init__(self, tmp_path: Path) -> None:
        self.place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
        self.ledger = tmp_path / "ledger"
        self.entries: list[Attempt] = []
        self.lines: list[tuple[QueryStatement, bytes | None]] = []

    async def findings(
        self, owners: frozenset[str] | None = None, **settings: Any
    ) -> tuple[dict[str, Finding], ReconciliationCounts]:
        await self.place.fill(0, [], extra=self.entries or [recorded(query_statement(new_id(), 2, OLD), "refused")])
        ledger = await Ledger.open(self.ledger, OWNER)
        for query, answer in self.lines:
            if answer is None:
                await ledger.intend(statement_bytes(query), b"")
            else:
                ledger.answered([(statement_bytes(query), b"", answer, b"")])
        await ledger.close()
        counts = ReconciliationCounts()
        async with self.place.reader() as reader:
            findings = reconcile(reader, [self.ledger], counts, owners=owners, **settings)
            found = [finding async for finding in findings]
        assert len({finding.exchange_id for finding in found}) == len(found)
        assert counts.contradictions == sum(not finding.agrees for finding in found)
        return {finding.exchange_id: finding for finding in found}, counts


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


async def test_two_sides_that_agree_give_nothing_to_say(story: Story) -> None:
    for _ in range(10):
        query = asked()
        story.entries.append(recorded(query, answer=said(query)))
        story.lines += [(query, None), (query, said(query))]
    refused = asked()
    story.entries.append(recorded(refused, "refused"))
    found, counts = await story.findings()
    assert found == {}
    assert (counts.ledger_exchanges, counts.log_entries, counts.agreed) == (10, 11, 11)


@pytest.mark.parametrize(
    ("outcome", "in_log", "in_ledger", "says", "agrees"),
    [
        ("answered", "answer", "nothing", "in no ledger", False),
        ("answered", "answer", "other answer", "different answers", False),
        ("answered", "answer", "intent", "different answers", False),
        ("answered", "answer", "other question", "different questions", False),
        ("refused", "nothing", "intent", "it arrived", False),
        ("refused", "nothing", "answer", "it was answered", False),
        ("failed", "nothing", "answer", "the caller was not given it", True),
        ("unknown", "nothing", "nothing", "never reached", True),
        ("unknown", "nothing", "intent", "look into its own system", True),
        ("unknown", "nothing", "answer", "the department answered 200", True),
        ("unknown", "nothing", "error", "answered backend-failed", True),
        ("unknown", "nothing", "two answers", "different questions or answers", False),
        (None, "nothing", "answer", "the log has no record", False),
        (None, "nothing", "intent", "the log has no record", False),
    ],
)
async def test_a_difference_is_named_and_an_unknown_explained(
    story: Story, outcome: str | None, in_log: str, in_ledger: str, says: str, agrees: bool
) -> None:
    query, other = asked(), asked()
    # Another exchange, in order, so that the owner's ledger is one that counts.
    story.entries.append(recorded(other, answer=said(other)))
    story.lines.append((other, said(other)))
    if outcome is not None:
        story.entries.append(recorded(query, outcome, said(query) if in_log == "answer" else None))
    changed = query_statement(query.id, 0, OLD, service=OURS, purpose="another")
    story.lines += {
        "nothing": [],
        "intent": [(query, None)],
        "answer": [(query, None), (query, said(query))],
        "error": [(query, said(query, error="backend-failed"))],
        "other answer": [(query, said(query, status=404))],
        "other question": [(changed, said(query))],
        "two answers": [(query, said(query)), (query, said(query, status=404))],
    }[in_ledger]
    found, _ = await story.findings()
    assert found.keys() == {query.id}
    assert says in found[query.id].en
    assert found[query.id].zh
    assert found[query.id].agrees is agrees


async def test_an_exchange_still_under_way_is_no_contradiction(story: Story) -> None:
    query = query_statement(new_id(), 0, service=OURS)
    story.lines.append((query, None))
    found, _ = await story.findings()
    assert found == {}


async def test_only_the_named_owners_are_compared(story: Story) -> None:
    foreign = query_statement(new_id(), 1, OLD)
    assert foreign.service != OURS
    ours = asked()
    story.entries += [recorded(foreign, answer=said(foreign)), recorded(ours, answer=said(ours))]
    story.lines.append((ours, said(ours)))
    found, counts = await story.findings(frozenset({OURS.rpartition("/")[0]}))
    assert found == {}
    assert counts.agreed == counts.log_entries


async def test_an_emptied_ledger_does_not_pass_for_one_with_nothing_to_say(story: Story) -> None:
    ours = asked()
    story.entries.append(recorded(ours, answer=said(ours)))
    found, counts = await story.findings()
    assert not found[ours.id].agrees
    assert (counts.ledger_exchanges, counts.contradictions) == (0, 1)


async def test_a_range_holds_what_began_in_it_on_both_sides(story: Story) -> None:
    """However late it ended: on neither side an exchange near the border is taken for a missing one."""
    began = [OLD + 1000 * number for number in range(10)]
    for at in began:
        query = query_statement(new_id(at), 0, at, service=OURS)
        one = recorded(query, answer=said(query))
        late = Attempt(one.record, one.exchange_id, at + 600_000, one.client, one.service, one.outcome, one.rule)
        story.entries.append(late)
        story.lines.append((query, said(query)))
    missing = query_statement(new_id(OLD + 8500), 0, OLD + 8500, service=OURS)
    story.lines.append((missing, said(missing)))
    seen: list[tuple[str, int, int]] = []
    found, counts = await story.findings(since_ms=OLD + 2000, until_ms=OLD + 7000)
    assert found == {}
    assert (counts.ledger_exchanges, counts.log_entries, counts.agreed) == (5, 5, 5)
    async with story.place.reader() as reader:
        counts = ReconciliationCounts()
        findings = reconcile(reader, [story.ledger], counts, lambda *told: seen.append(told), since_ms=OLD + 7000)
        assert [finding.exchange_id async for finding in findings] == [missing.id]
    assert counts.log_entries == 3


async def test_records_of_acts_on_the_log_are_no_exchanges(story: Story) -> None:
    ours = asked()
    event = LogEvent(id=new_id(), kind="access", act="exchanges.list", at="2026-01-01T00:00:00.000Z", by=OURS)
    story.entries += [
        recorded(ours, answer=said(ours)),
        Attempt(event.leaf, event.id, OLD, event.by, "", event.kind, event.act, b""),
    ]
    story.lines.append((ours, said(ours)))
    found, counts = await story.findings()
    assert found == {}
    assert counts.log_entries == 1, "the exchange alone"


async def test_what_was_removed_from_the_log_in_time_is_no_contradiction(story: Story) -> None:
    kept, gone = (query_statement(new_id(at), 0, at, service=OURS) for at in (OLD + 86_400_000, OLD))
    story.entries += [recorded(gone, answer=said(gone)), recorded(kept, answer=said(kept))]
    story.lines += [(query, said(query)) for query in (gone, kept)]
    await story.findings()
    async with story.place.reader() as reader:
        numbers = await reader.numbers([gone.id])
    with closing(sqlite3.connect(story.place.folder / "log.db")) as log:
        log.execute("DELETE FROM log_entries WHERE seq = ?", (numbers[gone.id],))
        log.commit()
    counts = ReconciliationCounts()
    async with story.place.reader() as reader:
        found = [each async for each in reconcile(reader, [story.ledger], counts)]
    assert [(each.exchange_id, each.agrees) for each in found] == [(gone.id, False)]
    with closing(sqlite3.connect(story.place.folder / "log.db")) as log:
        log.execute("INSERT INTO log_removed VALUES (?, ?, 1, '')", (numbers[gone.id], numbers[gone.id] + 1))
        log.commit()
    counts = ReconciliationCounts()
    async with story.place.reader() as reader:
        assert [each async for each in reconcile(reader, [story.ledger], counts)] == []
    assert counts.removed == 1


async def test_a_ledger_that_cannot_be_read_is_an_error(story: Story, tmp_path: Path) -> None:
    await story.place.fill(3, [])
    async with story.place.reader() as reader:
        with pytest.raises(LedgerError):
            [finding async for finding in reconcile(reader, [tmp_path / "none"], ReconciliationCounts())]
