"""Whatever is changed in a stored log, the check names it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from exchange.audit.log_check import check_log
from exchange.audit.log_damage import DamagedLogError
from exchange.log.record import read_record
from exchange.messages.envelope import read_query_statement
from exchange.moments import parse_rfc3339
from exchange.storage.database import create_engine, writing
from exchange.transparency.checkpoint import Checkpoint, NoteSigner, open_checkpoint
from exchange.transparency.merkle import hash_leaf, root_of
from exchange.transparency.tiles import Edge
from tests.exchange.log_kit import ORIGIN, Place, attempt

SIZE = 700
SIGNED = (100, 300, 600)


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> Place:
    """A log of 700 entries with checkpoints at 100, 300 and 600."""
    place = Place(database_url, tmp_path)
    await place.fill(SIZE, SIGNED)
    return place


async def execute(place: Place, *statements: str, **values: object) -> None:
    engine = create_engine(place.database)
    try:
        async with writing(engine) as connection:
            for statement in statements:
                await connection.execute(text(statement), values)
    finally:
        await engine.dispose()


async def hashes_of(place: Place) -> list[bytes]:
    async with place.reader() as reader:
        return [entry.leaf_hash async for entry in reader.iter_entries()]


async def test_an_untouched_log_is_in_order(place: Place) -> None:
    seen: list[tuple[int, int]] = []
    async with place.reader() as reader:
        held = open_checkpoint((place.log_key.with_name("log.key.signed")).read_text(encoding="utf-8"), place.verifiers)
        summary = await check_log(
            reader, place.verifiers, held=[held], progress=lambda done, size: seen.append((done, size))
        )
    assert (summary.size, summary.tiles, summary.checkpoints, summary.signed_size) == (SIZE, 2, 3, 600)
    assert seen[-1] == (SIZE, SIZE)


async def test_an_empty_log_is_in_order(database_url: str, tmp_path: Path) -> None:
    place = Place(database_url, tmp_path)
    async with place.log() as log:
        await log.checkpoint()
    assert (await place.check()).checkpoints == 1


FOREIGN_NOTE = Checkpoint(ORIGIN, 300, hash_leaf(b"")).signed(NoteSigner.generate(ORIGIN))


async def test_two_entries_that_changed_places_are_named(place: Place) -> None:
    async with place.reader() as reader:
        one, two = await reader.entry_at(40), await reader.entry_at(41)
    assert one is not None
    assert two is not None
    await execute(place, "DELETE FROM log_entries WHERE seq IN (40, 41)")
    for seq, entry in ((40, two), (41, one)):
        await insert(place, seq, entry.leaf, entry.leaf_hash)
    with pytest.raises(DamagedLogError) as raised:
        await place.check()
    # With its hash, so that the row itself is in order: the checkpoint at 100 tells, the tile tells where.
    assert raised.value.where == "entry 40"


async def test_a_record_changed_with_its_hash_is_found_by_the_tile(place: Place) -> None:
    await replace(place, 250)
    with pytest.raises(DamagedLogError) as raised:
        await place.check()
    assert raised.value.where == "entry 250"
    # Without a checkpoint that could tell, the tile is believed; and of entries in no tile yet, only the place is known.
    await execute(place, "DELETE FROM log_checkpoints")
    with pytest.raises(DamagedLogError) as raised:
        await place.check()
    assert raised.value.where == "entry 250"


async def test_of_a_record_in_no_tile_yet_the_edge_tells_which(place: Place) -> None:
    """What was kept with the newest checkpoint. Without it, it lies between two checkpoints."""
    await replace(place, 550)
    with pytest.raises(DamagedLogError) as raised:
        await place.check()
    assert raised.value.where == "entry 550"
    for damage in ("UPDATE log_edge SET hashes = substr(hashes, 33)", "DELETE FROM log_edge"):
        await execute(place, damage)
        with pytest.raises(DamagedLogError) as raised:
            await place.check()
        assert raised.value.where == "entries 300 to 599"


async def test_an_edge_that_was_changed_with_a_record_hides_nothing(place: Place) -> None:
    await replace(place, 550)
    hashes = (await hashes_of(place))[512:]
    await execute(place, "UPDATE log_edge SET hashes = :hashes", hashes=b"".join(hashes))
    with pytest.raises(DamagedLogError) as raised:
        await place.check()
    assert raised.value.where == "entries 300 to 599"


@pytest.mark.parametrize("slot", [3, 200])
async def test_a_tile_that_was_made_anew_is_named_where_checkpoints_prove_the_entries(place: Place, slot: int) -> None:
    """Good in itself, with another hash in it: before the checkpoint at 300, and before the one at 600."""
    hashes = (await hashes_of(place))[256:512]
    hashes[slot] = hash_leaf(b"another")
    made = {"root": root_of(hashes), "hashes": b"".join(hashes)}
    await execute(place, "UPDATE log_tiles SET root = :root, hashes = :hashes WHERE number = 1", **made)
    with pytest.raises(DamagedLogError) as raised:
        await place.check()
    assert raised.value.where == "tile 0/1"


async def test_a_record_changed_with_everything_above_it_is_found_by_the_checkpoint(place: Place) -> None:
    """Whoever has the whole database, but not the key, can do no better than this."""
    await replace(place, 450)
    edge, tiles = Edge.empty().extended(await hashes_of(place))
    for tile in tiles:
        await execute(
            place,
            "UPDATE log_tiles SET root = :root, hashes = :hashes WHERE level = :level AND number = :number",
            **tile._asdict(),
        )
    await execute(place, "UPDATE log_state SET root = :root", root=edge.root)
    with pytest.raises(DamagedLogError) as raised:
        await place.check()
    assert raised.value.where == "entries 300 to 599"


async def test_a_foreign_checkpoint_is_named(place: Place) -> None:
    await execute(place, "UPDATE log_checkpoints SET note = :note WHERE size = 300", note=FOREIGN_NOTE)
    with pytest.raises(DamagedLogError) as raised:
        await place.check()
    assert raised.value.where == "checkpoint 300"


async def test_a_log_cut_together_with_its_checkpoints_is_found_by_one_that_was_kept_elsewhere(place: Place) -> None:
    held = open_checkpoint(place.log_key.with_name("log.key.signed").read_text(encoding="utf-8"), place.verifiers)
    hashes = await hashes_of(place)
    edge, _ = Edge.empty().extended(hashes[:350])
    await execute(
        place,
        "DELETE FROM log_entries WHERE seq >= 350",
        "DELETE FROM log_tiles WHERE number >= 1",
        "DELETE FROM log_checkpoints WHERE size > 350",
        "DELETE FROM log_edge",
    )
    await execute(place, "UPDATE log_state SET size = 350, root = :root", root=edge.root)
    assert (await place.check()).size == 350
    async with place.reader() as reader:
        with pytest.raises(DamagedLogError, match="held elsewhere") as raised:
            await check_log(reader, place.verifiers, held=[held])
    assert raised.value.where == "entry 350"


async def test_an_exchange_with_two_records_is_named(place: Place) -> None:
    async with place.reader() as reader:
        entry = await reader.entry_at(5)
    assert entry is not None
    await execute(place, "DROP INDEX log_entries_exchange_id")
    await insert(place, SIZE, entry.leaf, entry.leaf_hash)
    edge, _ = Edge.empty().extended(await hashes_of(place))
    await execute(place, f"UPDATE log_state SET size = {edge.size}, root = :root", root=edge.root)
    with pytest.raises(DamagedLogError, match="two records") as raised:
        await place.check()
    assert raised.value.exchange_id == entry.exchange_id


async def replace(place: Place, seq: int) -> None:
    """Put another record, well-formed and with its own hash, where one was."""
    other = attempt(seq)
    await execute(place, f"DELETE FROM log_entries WHERE seq = {seq}")
    await insert(place, seq, other.record, hash_leaf(other.record))


async def insert(place: Place, seq: int, leaf: bytes, leaf_hash: bytes) -> None:
    record = read_record(leaf)
    query = read_query_statement(bytes(record.query))
    await execute(
        place,
        "INSERT INTO log_entries (seq, exchange_id, at_ms, client, service, outcome, rule, leaf_hash, leaf)"
        " VALUES (:seq, :exchange_id, :at_ms, :client, :service, :outcome, :rule, :leaf_hash, :leaf)",
        seq=seq,
        exchange_id=record.id,
        at_ms=parse_rfc3339(record.ended_at),
        client=query.client,
        service=query.service,
        outcome=record.outcome,
        rule=record.rule,
        leaf_hash=leaf_hash,
        leaf=leaf,
    )
