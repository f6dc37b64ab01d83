"""Callers' own signatures beside the record: as durable as it, and gone with its salt; on SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from msgspec import Raw

from exchange.audit.log_damage import DamagedLogError
from exchange.log.record import read_record, record_bytes
from exchange.log.tables import entries, evidence
from exchange.messages.envelope import read_query_statement, statement_bytes
from exchange.signatures.recorded_signatures import evidence_digest
from exchange.storage.database import create_engine, database_url, writing
from tests.exchange.log_kit import Attempt, Place, attempt, now_ms

EVIDENCE = b'"@path": /r1/x\n"@signature-params": ()\n"@signature": :AAAA:'


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Place:
    return Place(database_url, tmp_path)


def signed(number: int = 0) -> Attempt:
    """A record of a signed exchange."""
    made = attempt(number)
    record = read_record(made.record)
    query = read_query_statement(bytes(record.query))
    digest = evidence_digest(made.salt, EVIDENCE)
    statement = statement_bytes(msgspec.structs.replace(query, signature_digest=digest))
    record = msgspec.structs.replace(record, query=Raw(statement))
    return Attempt(
        record_bytes(record),
        made.exchange_id,
        made.at_ms,
        made.client,
        made.service,
        made.outcome,
        made.rule,
        made.salt,
    )


async def append(place: Place, one: Attempt) -> None:
    async with place.log() as log:
        await log.append(
            one.record,
            exchange_id=one.exchange_id,
            salt=one.salt,
            at_ms=one.at_ms,
            client=one.client,
            service=one.service,
            outcome=one.outcome,
            rule=one.rule,
            settles_intent=False,
            evidence=EVIDENCE,
        )
        assert await log.reader.evidence(one.exchange_id) == EVIDENCE


async def execute(place: Place, statement: sa.UpdateBase) -> None:
    engine = create_engine(database_url(place.database))
    try:
        async with writing(engine) as connection:
            await connection.execute(statement)
    finally:
        await engine.dispose()


async def test_a_signature_is_kept_with_its_record(place: Place) -> None:
    one = signed()
    await append(place, one)
    async with place.log() as log:
        await attempt(1).append_to(log)
        assert await log.reader.evidence(one.exchange_id) == EVIDENCE
    await place.check()


async def test_a_signature_is_kept_with_the_intent_already(place: Place) -> None:
    """After a crash the unknown record of an unsafe question has it, too."""
    one = signed()
    async with place.log() as log:
        query = bytes(read_record(one.record).query)
        await log.intend(one.exchange_id, deadline_ms=now_ms() + 60_000, record=query, salt=one.salt, evidence=EVIDENCE)
        assert await log.reader.evidence(one.exchange_id) == EVIDENCE
    async with place.log() as log:  # another life: the intent is settled
        entry = await log.reader.entry(one.exchange_id)
        assert entry is not None
        assert entry.outcome == "unknown"
        assert await log.reader.evidence(one.exchange_id) == EVIDENCE
    await place.check()


async def test_with_its_salt_the_signature_is_gone_and_the_log_still_holds(place: Place) -> None:
    one, other = signed(), signed(1)
    await append(place, one)
    await append(place, other)
    await execute(place, sa.update(entries).where(entries.c.exchange_id == one.exchange_id).values(salt=None))
    async with place.reader() as reader:
        assert await reader.evidence(one.exchange_id) is None
        assert await reader.evidence(other.exchange_id) == EVIDENCE
    await place.check()


async def test_a_signature_that_is_changed_or_taken_away_is_damage(place: Place) -> None:
    one = signed()
    await append(place, one)
    of_it = evidence.c.exchange_id == one.exchange_id
    for damage in (
        sa.update(evidence).where(of_it).values(evidence=EVIDENCE + b" "),
        sa.delete(evidence).where(of_it),
    ):
        await execute(place, damage)
        with pytest.raises(DamagedLogError, match="signature"):
            await place.check()
