"""The log as a gateway uses it, with its writer process, on both databases."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from exchange.errors import LogUnavailableError
from exchange.log.log import ExchangeLog
from exchange.log.record import read_record
from exchange.log.store import CorruptLogError
from exchange.messages.envelope import statement_bytes
from exchange.storage.database import create_engine, writing
from exchange.transparency.checkpoint import NoteSigner, open_checkpoint
from exchange.transparency.merkle import check_consistency, check_inclusion, hash_leaf, root_of
from tests.exchange.log_kit import Place, attempt, new_id, now_ms, query_statement, until


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Place:
    return Place(database_url, tmp_path)


@pytest.fixture
async def log(place: Place) -> AsyncIterator[ExchangeLog]:
    async with place.log() as log:
        yield log


async def test_records_get_consecutive_numbers_and_are_stored_byte_for_byte(place: Place, log: ExchangeLog) -> None:
    attempts = [attempt(number) for number in range(50)]
    assert await asyncio.gather(*[one.append_to(log) for one in attempts]) == list(range(50))
    assert await attempt().append_to(log) == 50
    stored = await log.reader.entry(attempts[7].exchange_id)
    assert stored is not None
    assert (stored.seq, stored.leaf, stored.salt) == (7, attempts[7].record, attempts[7].salt)
    assert stored.leaf_hash == hash_leaf(attempts[7].record)
    assert await log.reader.entry(new_id()) is None
    assert (await place.check()).size == 51


async def test_a_log_goes_on_where_it_ended(place: Place) -> None:
    for life in range(3):
        async with place.log() as log:
            assert await attempt().append_to(log) == life
            assert log.ready
        assert not log.ready
        assert (await place.check()).size == life + 1


async def test_an_exchange_gets_one_record_whatever_is_tried(place: Place, log: ExchangeLog) -> None:
    first = attempt(1)
    assert await first.append_to(log) == 0
    results = await asyncio.gather(
        attempt(2).append_to(log),
        attempt(3, exchange_id=first.exchange_id).append_to(log),
        attempt(4).append_to(log),
        return_exceptions=True,
    )
    assert results[0::2] == [1, 2]
    assert isinstance(results[1], LogUnavailableError)
    assert results[1].rule == "one-record-per-exchange"
    twin = attempt(5)
    twins = await asyncio.gather(twin.append_to(log), twin.append_to(log), return_exceptions=True)
    assert twins[0] == 3
    assert isinstance(twins[1], LogUnavailableError)
    assert log.ready
    assert (await place.check()).size == 4


async def test_a_checkpoint_covers_all_that_was_acknowledged(place: Place, log: ExchangeLog) -> None:
    assert open_checkpoint(await log.checkpoint(), place.verifiers).size == 0
    await asyncio.gather(*[attempt(number).append_to(log) for number in range(300)])
    old = open_checkpoint(await log.checkpoint(), place.verifiers)
    await attempt().append_to(log)
    new = open_checkpoint(await log.checkpoint(), place.verifiers)
    assert (old.size, new.size) == (300, 301)
    stored = await log.reader.latest_checkpoint()
    assert stored is not None
    assert (stored.size, stored.root) == (new.size, new.root)
    check_consistency(old.size, old.root, new.size, new.root, await log.reader.consistency(old.size, new.size))
    for seq in (0, 255, 256, 300):
        entry = await log.reader.entry_at(seq)
        assert entry is not None
        check_inclusion(entry.leaf_hash, seq, new.size, new.root, await log.reader.inclusion(seq, new.size))
    assert log.vkey == place.signer.verifier.vkey


async def test_a_record_is_under_a_signed_checkpoint_within_the_interval(place: Place) -> None:
    async with place.log(checkpoint_interval=0.1) as log:
        await attempt().append_to(log)

        async def signed() -> bool:
            newest = await log.reader.latest_checkpoint()
            return newest is not None and newest.size == 1

        await until(signed, seconds=5)


async def test_certificates_are_kept_once(log: ExchangeLog) -> None:
    for _ in range(3):
        log.remember_certificate("ab", b"der")
        await attempt().append_to(log)
    assert await log.reader.certificates_of(["ab", "cd"]) == {"ab": b"der"}


async def test_an_intent_of_an_earlier_life_becomes_unknown(place: Place) -> None:
    settled, open_one, unreadable = new_id(), new_id(), new_id()
    log = await place.start()
    at_ms = now_ms()
    statement = query_statement(open_one, 3, at_ms)
    for exchange_id in (settled, open_one):
        asked = statement_bytes(query_statement(exchange_id, 3, at_ms))
        await log.intend(exchange_id, deadline_ms=now_ms() + 60_000, record=asked, salt=b"salt of it")
    await log.intend(unreadable, deadline_ms=now_ms(), record=b"garbage")
    await attempt(exchange_id=settled).append_to(log, settles_intent=True)
    assert {intent.exchange_id for intent in await log.reader.intents()} == {open_one, unreadable}
    await log.close()
    async with place.log("gateway-2") as other:
        # Another gateway leaves them alone: their own may be at work.
        assert len(await other.reader.intents("gateway-1")) == 2
    async with place.log() as log:
        entry = await log.reader.entry(open_one)
        assert entry is not None
        assert (entry.outcome, entry.rule, entry.client, entry.salt) == (
            "unknown",
            "intent-unsettled",
            statement.client,
            b"salt of it",
        )
        assert bytes(read_record(entry.leaf).query) == statement_bytes(statement)
        assert await log.reader.intents() == []
    ids = await place.stored_ids()
    assert sorted(ids) == sorted([settled, open_one, unreadable])
    assert (await place.check()).size == 3


async def test_an_intent_past_its_deadline_is_settled_only_when_nobody_works_on_it(place: Place) -> None:
    async with place.log(recovery_grace=0) as log:
        working, lost = new_id(), new_id()
        for exchange_id in (working, lost):
            asked = statement_bytes(query_statement(exchange_id))
            await log.intend(exchange_id, deadline_ms=now_ms() - 1, record=asked)
        log._working_on.discard(lost)  # as after an append that failed
        assert await log.recover() == 1
        assert await log.recover() == 0
        assert await attempt(exchange_id=working).append_to(log, settles_intent=True) == 1
        entry = await log.reader.entry(lost)
        assert entry is not None
        assert entry.outcome == "unknown"
    assert (await place.check()).size == 2


async def test_an_intent_whose_exchange_has_its_record_is_only_removed(place: Place) -> None:
    async with place.log() as log:
        exchange_id = new_id()
        await log.intend(exchange_id, deadline_ms=now_ms(), record=statement_bytes(query_statement(exchange_id)))
        await attempt(exchange_id=exchange_id).append_to(log, settles_intent=False)
    async with place.log() as log:
        assert await log.reader.intents() == []
        entry = await log.reader.entry(exchange_id)
        assert entry is not None
        assert entry.outcome == "answered"
    assert (await place.check()).size == 1


async def test_gateways_at_one_database_write_one_log(place: Place) -> None:
    async def write(log: ExchangeLog) -> list[int]:
        async def one_caller(number: int) -> list[int]:
            return [await attempt(number).append_to(log) for _ in range(30)]

        return [seq for numbers in await asyncio.gather(*map(one_caller, range(8))) for seq in numbers]

    async with place.log("gateway-1") as one, place.log("gateway-2") as two:
        numbers = await asyncio.gather(write(one), write(two))
        assert sorted([*numbers[0], *numbers[1]]) == list(range(480))
        notes = await asyncio.gather(one.checkpoint(), two.checkpoint())
        assert notes[0] == notes[1]
    summary = await place.check()
    assert (summary.size, summary.signed_size) == (480, 480)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE log_entries SET leaf = leaf_hash WHERE seq = 4", "entry 4 was changed"),
        ("DELETE FROM log_entries WHERE seq = 4", "5 entries"),
        ("UPDATE log_checkpoints SET note = 'x'", "newest stored checkpoint"),
        ("UPDATE log_checkpoints SET size = 4", "newest stored checkpoint was changed"),
        ("DELETE FROM log_checkpoints", ""),
    ],
)
async def test_a_gateway_does_not_start_on_a_log_that_was_changed(place: Place, damage: str, says: str) -> None:
    async with place.log() as log:
        await asyncio.gather(*[attempt(number).append_to(log) for number in range(5)])
        await log.checkpoint()
    await _execute(place, damage)
    if not says:
        # The file beside the key still knows what was signed, and the entries are those.
        async with place.log() as log:
            assert await attempt().append_to(log) == 5
        return
    with pytest.raises(CorruptLogError, match=says):
        await place.start()


async def test_an_old_copy_of_the_database_is_recognised(place: Place) -> None:
    async with place.log() as log:
        await asyncio.gather(*[attempt(number).append_to(log) for number in range(5)])
        await log.checkpoint()
    # As a copy taken after three entries would be, with nothing wrong in itself.
    async with place.reader() as reader:
        hashes = [entry.leaf_hash async for entry in reader.iter_entries()]
    await _execute(place, "DELETE FROM log_entries WHERE seq >= 3")
    await _execute(place, "DELETE FROM log_checkpoints")
    await _execute(place, f"UPDATE log_state SET size = 3, root = {_blob(place, root_of(hashes[:3]))}")
    with pytest.raises(CorruptLogError, match="old copy"):
        await place.start()


async def test_another_key_does_not_take_over_a_log(place: Place) -> None:
    async with place.log() as log:
        await attempt().append_to(log)
        await log.checkpoint()
    place.signer = NoteSigner.generate("log.example/test")
    place.log_key.write_text(place.signer.skey)
    with pytest.raises(CorruptLogError):
        await place.start()


async def test_a_log_without_its_key_does_not_start(place: Place) -> None:
    place.log_key.unlink()
    with pytest.raises(LogUnavailableError):
        await place.start()


async def test_an_append_without_a_writer_fails_at_once(place: Place) -> None:
    log = await place.start()
    await log.close()
    with pytest.raises(LogUnavailableError):
        await attempt().append_to(log)
    with pytest.raises(LogUnavailableError):
        await log.checkpoint()


async def test_a_caller_that_stops_waiting_harms_nobody(place: Place, log: ExchangeLog) -> None:
    futures = [attempt(number).append_to(log) for number in range(4)]
    futures.pop(1).cancel()
    assert await asyncio.gather(*futures) == [0, 2, 3]
    assert (await place.check()).size == 4


async def _execute(place: Place, statement: str) -> None:
    engine = create_engine(place.database)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        connection = await stack.enter_async_context(writing(engine))
        await connection.execute(text(statement))


def _blob(place: Place, data: bytes) -> str:
    return f"'\\x{data.hex()}'" if place.database.startswith("postgresql") else f"x'{data.hex()}'"
