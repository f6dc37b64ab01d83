"""Removing what was kept long enough: with its record or not at all, and every proof stays."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exchange.archive.manifest import ArchiveError
from exchange.archive.pruning import Pruned, _parts, open_pruner
from exchange.archive.retention import Period, Retention, RetentionClass
from exchange.archive.writing import segments_in
from exchange.audit.log_check import check_log
from exchange.audit.log_damage import DamagedLogError
from exchange.canonical_json import canonical
from exchange.log.log_event import MOST_BYTES, read_event
from exchange.log.reader import LogReader
from exchange.log.store import Batch, Removal, StoreError
from exchange.log.stores import log_store
from exchange.receipts.receipt_checks import Keys
from exchange.storage.database import database_url as url_of
from exchange.storage.database import sqlite_path
from exchange.transparency.merkle import check_consistency, check_inclusion
from tests.exchange.archive_kit import SIZE, Authority, Filled, log, templates  # noqa: F401
from tests.exchange.archive_victim import later
from tests.exchange.log_kit import Place, attempt
from tests.exchange.test_log_check import execute

KEEPS_REFUSALS = Retention((RetentionClass(name="refusals", keep=Period(months=60), outcomes=frozenset({"refused"})),))


async def prune(
    log: Filled,  # noqa: F811
    retention: Retention | None = None,
    *,
    keys: Keys | None = None,
    clock: Callable[[], datetime] = later,
    only_count: bool = False,
) -> Pruned:
    place = log.place
    async with open_pruner(place.database, place.log_key, keys or log.keys, by="张三", why="档〔2030〕3号") as pruner:
        segments = segments_in(place.folder / "archive")
        return await pruner.prune(segments, retention or Retention(), clock, only_count=only_count)


def today() -> datetime:
    return datetime.now(UTC)


async def removed_seqs(reader: LogReader) -> list[int]:
    return [seq for one in await reader.removed() for seq in range(one.first, one.end)]


async def proofs(reader: LogReader, sizes: Sequence[int]) -> list[object]:
    """Inclusion proofs of entries all over the log, in trees of many sizes, and consistency proofs between these."""
    found: list[object] = [await reader.inclusion(seq, size) for size in sizes for seq in range(0, size, 61)]
    return found + [await reader.consistency(old, new) for old in sizes for new in sizes if old <= new]


async def test_what_was_kept_long_enough_goes_and_a_record_says_so(log: Filled) -> None:  # noqa: F811
    sizes = [1, 100, 255, 256, 257, 300, 600, 900, SIZE]
    async with log.place.reader() as reader:
        before = await proofs(reader, sizes)
        entries = [entry async for entry in reader.iter_entries()]
    pruned = await prune(log)
    kept = {entry.seq for entry in entries if entry.seq >= 768 or entry.outcome == "change"}
    assert (pruned.removed, pruned.kept) == (SIZE - len(kept), len(kept) - (SIZE - 768))
    assert pruned.classes == {"default": pruned.removed}
    assert pruned.records == 2
    async with log.place.reader() as reader:
        assert [entry.seq async for entry in reader.iter_entries(0, SIZE)] == sorted(kept)
        assert await removed_seqs(reader) == sorted(set(range(SIZE)) - kept)
        ranges = await reader.removed()
        events = [await reader.entry_at(seq) for seq in (SIZE, SIZE + 1)]
        said = [read_event(entry.leaf) for entry in events if entry]
        assert [[one.first, one.end] for one in ranges] == [each for one in said for each in one.details["ranges"]]
        assert [one.details["segment"] for one in said] == [
            one.sha256 for one in segments_in(log.place.folder / "archive")
        ]
        assert {one.seq for one in ranges} == {SIZE, SIZE + 1}
        first = said[0]
        assert (first.kind, first.act, first.by, first.user, first.why) == (
            *("retention", "segment.pruned", "datong log prune", "张三", "档〔2030〕3号"),
        )
        assert sum(one.details["count"] for one in said) == pruned.removed
        # Every proof that could be made can be made, and is the same.
        assert await proofs(reader, sizes) == before
        newest = await reader.latest_checkpoint()
        assert newest is not None
        assert newest.size == SIZE + 2  # it is signed already
        for entry in entries[::83]:
            proof = await reader.inclusion(entry.seq, newest.size)
            check_inclusion(entry.leaf_hash, entry.seq, newest.size, newest.root, proof)
        summary = await check_log(reader, log.place.verifiers)
        assert (summary.size, summary.removed) == (SIZE + 2, pruned.removed)
    again = await prune(log)
    assert (again.removed, again.records, again.kept) == (0, 0, pruned.kept)


async def test_classes_that_are_kept_longer_stay_one_by_one(log: Filled) -> None:  # noqa: F811
    expected = await prune(log, KEEPS_REFUSALS, only_count=True)
    async with log.place.reader() as reader:
        assert await reader.removed() == []
        assert (await reader.size())[0] == SIZE
    assert await prune(log, KEEPS_REFUSALS) == Pruned(expected.removed, expected.classes, 2, expected.kept)
    async with log.place.reader() as reader:
        left = [entry async for entry in reader.iter_entries(0, 768)]
        assert {entry.outcome for entry in left} == {"refused", "change"}
        await check_log(reader, log.place.verifiers)


async def test_nothing_goes_before_its_time_or_beyond_the_archive(log: Filled) -> None:  # noqa: F811
    forever = Retention((RetentionClass(name="all", keep=Period(), kinds=frozenset({"exchange", "access"})),))
    assert (await prune(log, forever)).removed == 0
    now = await prune(log, clock=today)
    assert (now.removed, now.records) == (0, 0)
    assert (await log.place.check()).size == SIZE


async def test_searches_by_time_find_what_is_left(database_url: str, tmp_path: Path) -> None:
    """Bisection passes over gaps: the instants of removed entries lead to the next that is there."""
    place = Place(database_url, tmp_path)
    log = Filled(place, Authority())  # noqa: F811
    begin = 1_700_000_000_000
    step = 3_600_000  # an hour apart: far more than clocks may differ
    await place.fill(SIZE, [SIZE], made=lambda number: attempt(number, at_ms=begin + number * step))
    await log.archive(tmp_path / "archive")
    keep = RetentionClass(name="keep", keep=Period(), clients=("CN/GOV/MEMBER3/*",))
    await prune(log, Retention((keep,)), keys=Keys(tuple(place.verifiers), ()))
    async with place.reader() as reader:
        left = [entry.seq async for entry in reader.iter_entries(0, SIZE)]
        for since, until in ((0, 10), (100, 130), (300, 700), (701, 703), (760, 790), (0, SIZE)):
            low, high = [await reader.first_at(begin + hours * step) for hours in (since, until)]
            assert [seq for seq in left if low <= seq < high] == [seq for seq in left if since <= seq < until]


async def test_a_log_goes_on_and_receipts_are_made_as_before(log: Filled) -> None:  # noqa: F811
    await prune(log)
    async with log.place.log() as running:
        one = attempt(3)
        seq = await one.append_to(running)
        assert seq == SIZE + 2
        note = await running.checkpoint()
        assert f"\n{seq + 1}\n" in note
        reader = running.reader
        newest, old = await reader.latest_checkpoint(), (await reader.checkpoints_from(600, 1))[0]
        assert newest is not None
        proof = await reader.consistency(old.size, newest.size)
        check_consistency(old.size, old.root, newest.size, newest.root, proof)
    assert (await log.place.check()).size == SIZE + 3


async def test_gateways_that_run_meanwhile_lose_nothing(log: Filled) -> None:  # noqa: F811
    """Two gateways append while another command removes: everybody takes turns."""
    async with log.place.log("gateway-1") as first, log.place.log("gateway-2") as second:
        done = asyncio.Event()

        async def append(number: int) -> int:
            count = 0
            while not done.is_set() or count < 5:
                await attempt(number).append_to((first, second)[number % 2])
                count += 1
            return count

        tasks = [asyncio.create_task(append(number)) for number in range(4)]
        pruned = await prune(log)
        done.set()
        counts = await asyncio.gather(*tasks)
        # The second gateway's writer may not have written since: it reads on over the gap.
        for gateway in (first, second):
            await attempt(1).append_to(gateway)
    assert pruned.records == 2
    summary = await log.place.check()
    assert (summary.size, summary.removed) == (SIZE + 2 + sum(counts) + 2, pruned.removed)


async def test_a_writer_that_slept_through_it_all_reads_on_from_the_tiles(log: Filled) -> None:  # noqa: F811
    """Its edge is older than entries that were written and removed since."""
    url = url_of(log.place.database)
    sleeper, busy = log_store(url), log_store(url)
    try:
        edge = await sleeper.load()
        rows = [attempt(number).row for number in range(600)]
        await busy.append(await busy.load(), Batch("", "", entries=rows))
        removal = Removal(1024, 1536, "0" * 64)
        await busy.append(await busy.load(), Batch("", "", entries=[attempt(1).row], removals=[removal]))
        grown = await sleeper.append(edge, Batch("", "", entries=[attempt(2).row]))
        assert grown.size == SIZE + 602
        assert grown.root == (await busy.load()).root
        with pytest.raises(StoreError, match="not there"):
            await busy.append(grown, Batch("", "", entries=[attempt(3).row], removals=[removal]))
        for wrong in (Removal(1536, 1602, "0" * 64), Removal(3, 3, "0" * 64), Removal(-1, 3, "0" * 64)):
            with pytest.raises(ValueError, match="complete tiles"):
                await busy.append(grown, Batch("", "", entries=[attempt(3).row], removals=[wrong]))
        with pytest.raises(ValueError, match="record"):
            await busy.append(grown, Batch("", "", removals=[Removal(0, 3, "0" * 64)]))
        # What was refused left nothing behind, not even an open transaction.
        assert (await busy.append(grown, Batch("", "", entries=[attempt(4).row]))).size == SIZE + 603
    finally:
        await sleeper.close()
        await busy.close()


async def test_signatures_of_callers_go_with_the_entry(log: Filled) -> None:  # noqa: F811
    async with log.place.reader() as reader:
        entry = await reader.entry_at(20)
        assert entry is not None
        assert await reader.evidence(entry.exchange_id) is not None
    await prune(log)
    async with log.place.reader() as reader:
        assert await reader.entry(entry.exchange_id) is None
        assert await reader.evidence(entry.exchange_id) is None
    file = sqlite_path(url_of(log.place.database))
    if file is not None:
        # Not even the file's free pages, or what is left of the write-ahead log, hold it any more.
        contents = file.read_bytes() + b"".join([one.read_bytes() for one in file.parent.glob(f"{file.name}-wal")])
        assert entry.exchange_id.encode() not in contents
        assert entry.leaf not in contents


async def test_what_differs_from_the_archive_is_named_and_nothing_is_removed(log: Filled) -> None:  # noqa: F811
    await execute(log.place, "UPDATE log_entries SET leaf = leaf_hash WHERE seq = 600")
    with pytest.raises(DamagedLogError, match="entry 600: it is not the one in the archive"):
        await prune(log)
    async with log.place.reader() as reader:
        assert {one.segment for one in await reader.removed()} == {segments_in(log.place.folder / "archive")[0].sha256}


async def test_a_row_that_was_made_to_look_old_is_not_removed(log: Filled) -> None:  # noqa: F811
    """The time that counts is that of the record, under the tree; the column beside it proves nothing."""
    await execute(log.place, "UPDATE log_entries SET at_ms = 1 WHERE seq = 6")
    assert (await prune(log, clock=today)).removed == 0
    with pytest.raises(DamagedLogError, match="entry 6: what is stored for searching differs"):
        await prune(log)
    async with log.place.reader() as reader:
        assert await reader.removed() == []


@pytest.mark.parametrize("damage", ["flipped", "foreign", "missing"])
async def test_only_what_a_verified_archive_holds_is_removed(log: Filled, damage: str, tmp_path: Path) -> None:  # noqa: F811
    paths = [one.path for one in segments_in(log.place.folder / "archive")]
    if damage == "flipped":
        content = bytearray(paths[0].read_bytes())
        content[5000] ^= 1
        paths[0].write_bytes(content)
    elif damage == "foreign":
        (tmp_path / "other").mkdir()
        other = Place(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "other")
        await other.fill(600, [600])
        paths[0].unlink()
        await Filled(other, Authority()).archive(log.place.folder / "archive", 0, 512)
    else:
        paths[0].unlink()
    if damage == "missing":
        assert (await prune(log)).removed > 0
        async with log.place.reader() as reader:
            assert min(await removed_seqs(reader)) == 512
        return
    with pytest.raises((ArchiveError, DamagedLogError)):
        await prune(log)
    async with log.place.reader() as reader:
        assert await reader.removed() == []


async def test_a_gap_without_its_record_is_damage(log: Filled) -> None:  # noqa: F811
    await prune(log)
    await execute(log.place, "DELETE FROM log_removed WHERE first < 20")
    with pytest.raises(DamagedLogError, match="missing"):
        await log.place.check()


@pytest.mark.faults
async def test_killed_anywhere_record_and_removal_are_there_together(log: Filled) -> None:  # noqa: F811
    """Killed before the commit of its second batch, and then after it; the next command goes on."""
    place = log.place
    commands = [str(place.log_key), str(place.folder / "keys.json"), str(place.folder / "archive")]
    batches = 0
    for point, durable in {"removed:1": 1, "committed:1": 2}.items():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.exchange.archive_victim", point, "prune", place.database, *commands
        )
        assert await process.wait() == -signal.SIGKILL
        batches += durable
        async with place.reader() as reader:
            assert (await reader.size())[0] == SIZE + batches
            ranges = await reader.removed()
        assert {one.seq for one in ranges} == set(range(SIZE, SIZE + batches))
        gone = sum(one.end - one.first for one in ranges)
        assert gone == 64 * batches
        assert (await place.check()).removed == gone
    await prune(log)
    summary = await place.check()
    assert summary.signed_size == summary.size
    assert (await prune(log, only_count=True)).removed == 0


def test_a_batch_is_small_and_its_record_fits() -> None:
    """Every other entry is kept, with the largest numbers: the most ranges; or all go: the most entries."""
    begin = 9_999_000_000
    alternating = [(begin + 2 * number, "a" * 63) for number in range(5000)]
    parts = list(_parts(alternating))
    assert [seq for part in parts for first, end in part.ranges for seq in range(first, end)] == [
        s for s, _ in alternating
    ]
    assert max(len(part.ranges) for part in parts) == 400
    together = list(_parts([(number, "default") for number in range(5000)]))
    assert [part.ranges for part in together] == [[(0, 2048)], [(2048, 4096)], [(4096, 5000)]]
    for part in parts:
        assert len(canonical({"ranges": [list(each) for each in part.ranges]})) < MOST_BYTES - 5200
