"""A log is put back from its archive as it was, or not at all, and nobody who has seen more of it is passed over."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from exchange.archive.archive_reader import receipt_from_archive
from exchange.archive.restoring import (
    Held,
    Loss,
    RestoreError,
    RestorePlan,
    chain_of,
    plan_restore,
    record_loss,
    removed_by,
    restore,
)
from exchange.archive.segment_checks import private_path
from exchange.archive.writing import segments_in
from exchange.log.log_event import LogEvent
from exchange.log.store import CorruptLogError
from exchange.log.store_sqlite import create_file
from exchange.log.stores import log_store
from exchange.receipts.receipt import verify_receipt
from exchange.receipts.receipt_checks import Keys
from exchange.storage.database import create_engine, sqlite_path, upgrade
from exchange.storage.database import database_url as url_of
from exchange.transparency.checkpoint import Checkpoint, NoteSigner
from tests.exchange.archive_kit import SIZE, Filled, log, members_of, put_together, rows_of, templates, with_manifest  # noqa: F401
from tests.exchange.log_kit import Place, attempt, new_id, now_ms
from tests.exchange.test_log_check import execute
from tests.exchange.test_pruning import prune


@asynccontextmanager
async def empty(database: str) -> AsyncIterator[AsyncEngine]:
    """An empty log at a database."""
    if (file := sqlite_path(url_of(database))) is not None:
        create_file(file)
    await upgrade(database, "exchange.migrations")
    engine = create_engine(database)
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
async def target(log: Filled, tmp_path: Path, request: pytest.FixtureRequest) -> str:  # noqa: F811
    """Another database of the same kind."""
    if url_of(log.place.database).get_backend_name() == "sqlite":
        return f"sqlite:///{tmp_path / '恢复.db'}"
    server = request.getfixturevalue("postgres_server")
    url: str = await server.create_database()
    return url


def planned(log: Filled, *held: Held) -> RestorePlan:  # noqa: F811
    return plan_restore(chain_of(segments_in(log.place.folder / "archive")), log.keys, held)


async def archive_rest(log: Filled) -> None:  # noqa: F811
    await log.archive(log.place.folder / "archive", 768, tail=True)


async def test_a_log_comes_back_as_it_was(log: Filled, target: str) -> None:  # noqa: F811
    """Every row of every table; also what was removed meanwhile stays removed, and its record is there."""
    await prune(log)
    async with log.place.log() as running:
        for number in range(40):
            await attempt(number).append_to(running)
        await running.checkpoint()
    await archive_rest(log)
    seen: list[tuple[int, int]] = []
    plan = planned(log)
    async with empty(target) as engine:
        assert await restore(engine, plan, lambda done, size: seen.append((done, size))) == 0
    before, after = await rows_of(log.place.database), await rows_of(target)
    assert before.keys() == after.keys()
    differing = [name for name in before if before[name] != after[name]]
    assert differing == []
    assert (plan.size, plan.losses) == (SIZE + 2 + 40, ())
    assert seen[-1] == (plan.size, plan.size)
    assert sum(one.end - one.first for one in plan.removed) > 700
    # It is whole to the check, and to a gateway that goes on with it under the old key.
    restored = Place(target, log.place.folder, log.place.signer)
    assert (await restored.check()).removed == sum(one.end - one.first for one in plan.removed)
    async with restored.log() as running:
        assert await attempt(1).append_to(running) == plan.size


async def test_without_salts_everything_else_comes_back(log: Filled, target: str) -> None:  # noqa: F811
    await archive_rest(log)
    for one in segments_in(log.place.folder / "archive"):
        private_path(one.path).unlink(missing_ok=True)
    async with empty(target) as engine:
        await restore(engine, planned(log))
    before, after = await rows_of(log.place.database), await rows_of(target)
    assert after["log_evidence"] == []
    assert [row[:8] + row[9:] for row in before["log_entries"]] == [row[:8] + row[9:] for row in after["log_entries"]]
    assert {row[8] for row in after["log_entries"]} == {None}
    restored = Place(target, log.place.folder, log.place.signer)
    assert (await restored.check()).size == SIZE


@pytest.mark.faults
async def test_killed_anywhere_it_goes_on(log: Filled, target: str) -> None:  # noqa: F811
    await archive_rest(log)
    async with empty(target):
        pass
    keys, folder = str(log.place.folder / "keys.json"), str(log.place.folder / "archive")
    for point in ("written:0", "committed:0"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.exchange.archive_victim", point, "restore", target, keys, folder
        )
        assert await process.wait() == -signal.SIGKILL
    async with empty(target) as engine:
        assert 0 < await restore(engine, planned(log)) < SIZE
        assert await restore(engine, planned(log)) == SIZE
    assert await rows_of(log.place.database) == await rows_of(target)


@pytest.mark.parametrize("size", [256, 512])
async def test_a_database_with_anything_else_in_it_is_refused(log: Filled, target: str, size: int) -> None:  # noqa: F811
    """Of whatever size; also one at which a transaction of ours would have ended."""
    await archive_rest(log)
    folder = log.place.folder / "other"
    folder.mkdir()
    await Place(target, folder).fill(size, [size])
    before = await rows_of(target)
    async with empty(target) as engine:
        with pytest.raises(RestoreError, match=f"{size} entries that are not the first of the archive"):
            await restore(engine, planned(log))
    assert await rows_of(target) == before


async def test_a_database_that_holds_more_is_refused(log: Filled) -> None:  # noqa: F811
    async with empty(log.place.database) as engine:
        with pytest.raises(RestoreError, match="not the first of the archive"):
            await restore(engine, planned(log))


async def test_it_goes_on_whatever_an_earlier_command_put_back(log: Filled, target: str) -> None:  # noqa: F811
    """A tail was put back, which ended inside a tile; now there are longer segments."""
    await archive_rest(log)
    async with empty(target) as engine:
        await restore(engine, planned(log))
    async with log.place.log() as running:
        await asyncio.gather(*[attempt(number).append_to(running) for number in range(300)])
        await running.checkpoint()
    await archive_rest(log)
    plan = planned(log)
    assert [one.end for one in plan.segments] == [512, 768, 1024, 1300]
    async with empty(target) as engine:
        assert await restore(engine, plan) == SIZE
    assert await rows_of(log.place.database) == await rows_of(target)


# What others hold. These look at the archive alone; one database is enough.


@pytest.fixture
async def one(templates: object, tmp_path: Path) -> Filled:  # noqa: F811
    return await templates.copy(tmp_path, None)  # type: ignore[attr-defined, no-any-return]


def held(log: Filled, size: int, root: bytes, by: str = "witness audit") -> Held:  # noqa: F811
    return Held(by, Checkpoint(log.place.signer.verifier.name, size, root))


async def root_at(log: Filled, size: int) -> bytes:  # noqa: F811
    async with log.place.reader() as reader:
        (found,) = await reader.checkpoints_from(size, 1)
        assert found.size == size
        return found.root


async def test_what_was_signed_and_is_not_in_the_archive_is_told_exactly(one: Filled) -> None:
    """Without the tail, the checkpoints in the last segment cover more than it holds: that alone shows a loss."""
    plan = planned(one)
    assert (plan.size, plan.losses) == (768, (Loss("the archive itself", SIZE),))
    seen = [held(one, 600, await root_at(one, 600)), held(one, 2000, b"\1" * 32, "witness civil")]
    assert planned(one, *seen).losses == (Loss("witness civil", 2000), Loss("the archive itself", SIZE))
    await archive_rest(one)
    assert planned(one, *seen).losses == (Loss("witness civil", 2000),)
    assert planned(one, seen[0], held(one, SIZE, await root_at(one, SIZE))).losses == ()
    assert planned(one, held(one, 0, b"\2" * 32)).losses == ()


@pytest.mark.parametrize("size", [1, 100, 255, 256, 600, 768])
async def test_a_fork_is_told_whoever_has_seen_it(one: Filled, size: int) -> None:
    with pytest.raises(RestoreError, match=f"witness audit holds a checkpoint of {size} entries.*forked") as refused:
        planned(one, held(one, size, b"\1" * 32))
    assert "分叉" in refused.value.zh


async def test_a_log_with_a_loss_goes_on_under_another_key_and_says_so(one: Filled) -> None:
    plan = planned(one)
    target = f"sqlite:///{one.place.folder / 'again.db'}"
    folder = one.place.folder / "new"
    folder.mkdir()
    new = Place(target, folder, NoteSigner.generate("log.example/test-2"))
    async with empty(target) as engine:
        await restore(engine, plan)
    with pytest.raises(CorruptLogError, match="entries are missing"):
        async with Place(target, one.place.folder, one.place.signer).log():
            pass  # the old key remembers more
    store = log_store(url_of(target))
    await record_loss(store, new.signer, new.log_key, plan, by="张三", why="机房失火", at_ms=now_ms())
    await store.close()
    async with new.log() as running:
        (event,) = [entry async for entry in running.reader.iter_entries(768)]
        said = json.loads(event.leaf)
        assert (said["act"], said["why"], said["user"]) == ("log.restored", "机房失火", "张三")
        assert said["details"]["lost"] == [{"by": "the archive itself", "signed": SIZE}]
        assert await attempt(1).append_to(running) == 769
        await running.checkpoint()
    both = Place(target, folder, new.signer)
    async with both.reader() as reader:
        from exchange.audit.log_check import check_log

        assert (await check_log(reader, [one.place.signer.verifier, new.signer.verifier])).signed_size == 770


# What cannot be put back


async def test_a_missing_segment_is_named(one: Filled, tmp_path: Path) -> None:
    folder = one.place.folder / "archive"
    await archive_rest(one)
    first, second, third = segments_in(folder)
    for gone, said in ((first, "entries 0 to 511"), (second, "entries 512 to 767")):
        with pytest.raises(RestoreError, match=f"{said} are in no segment"):
            chain_of([each for each in (first, second, third) if each is not gone])
    assert chain_of([first, second]) == [first, second]
    with pytest.raises(RestoreError, match="found: none"):
        chain_of([])
    other = Place(f"sqlite:///{tmp_path / 'o.db'}", tmp_path, NoteSigner.generate("log.example/other"))
    (tmp_path / "log.key.signed").unlink()
    await other.fill(300, [300])
    await Filled(other, one.authority).archive(folder)
    with pytest.raises(RestoreError, match=r"of one log are needed.*log.example/other, log.example/test"):
        chain_of(segments_in(folder))


async def test_of_segments_that_begin_alike_the_longest_is_taken(one: Filled) -> None:
    await one.archive(one.place.folder / "archive", 768, tail=True)
    await execute(one.place, "SELECT 1")
    async with one.place.log() as running:
        await asyncio.gather(*[attempt(number).append_to(running) for number in range(100)])
        await running.checkpoint()
    await one.archive(one.place.folder / "archive", 768, tail=True)
    found = segments_in(one.place.folder / "archive")
    assert [(each.first, each.end) for each in found] == [(0, 512), (512, 768), (768, 1000), (768, 1024), (1024, 1100)]
    assert [(each.first, each.end) for each in chain_of(found)] == [(0, 512), (512, 768), (768, 1024), (1024, 1100)]
    assert planned(one).size == 1100


async def test_a_damaged_segment_and_one_of_another_tree_are_refused(one: Filled, tmp_path: Path) -> None:
    folder = one.place.folder / "archive"
    _, second = segments_in(folder)
    content = bytearray(second.path.read_bytes())
    content[9000] ^= 1
    whole = second.path.read_bytes()
    second.path.write_bytes(content)
    with pytest.raises(RestoreError, match=second.path.name):
        planned(one)
    second.path.write_bytes(whole)
    # Another log under the same key and origin: its second segment is good in itself, and does not continue the first.
    (tmp_path / "fork").mkdir()
    fork = Filled(Place(f"sqlite:///{tmp_path / 'fork.db'}", tmp_path / "fork", one.place.signer), one.authority)
    await fork.fill()
    await fork.archive(tmp_path / "fork" / "archive")
    shutil.copy(segments_in(tmp_path / "fork" / "archive")[1].path, second.path)
    with pytest.raises(RestoreError, match="does not continue the segment before it"):
        planned(one)


async def test_a_segment_that_changes_between_check_and_writing_is_noticed(one: Filled) -> None:
    plan = planned(one)
    path = plan.segments[1].path
    members = members_of(path)
    put_together(path, with_manifest(members, one.place.signer, archived_at="2026-01-01T00:00:00.000Z"))
    async with empty(f"sqlite:///{one.place.folder / 'again.db'}") as engine:
        with pytest.raises(Exception, match="changed meanwhile"):
            await restore(engine, plan)


@pytest.mark.parametrize(
    "details",
    [
        {"segment": "00", "ranges": [[5, 3]]},
        {"segment": "00", "ranges": [[5, 90]]},
        {"segment": "00", "ranges": [[-1, 3]]},
        {"segment": "00", "ranges": ["all"]},
        {"segment": "00", "ranges": 7},
        {"ranges": [[1, 2]]},
        {},
    ],
)
def test_a_record_of_removal_that_makes_no_sense_is_refused(details: dict[str, object]) -> None:
    event = LogEvent(
        id=new_id(), kind="retention", act="segment.pruned", at="2026-01-01T00:00:00.000Z", by="x", details=details
    )
    with pytest.raises(RestoreError, match="entry 40 is not the record of a removal"):
        removed_by(40, event.leaf)
    other = LogEvent(id=new_id(), kind="retention", act="subject.erased", at=event.at, by="x", details=details)
    assert removed_by(40, other.leaf) == []


async def test_a_removed_record_has_its_receipt_from_the_archive(one: Filled) -> None:
    async with one.place.reader() as reader:
        entry = await reader.entry_at(100)
        assert entry is not None
    await prune(one)
    async with one.place.reader() as reader:
        assert await reader.entry(entry.exchange_id) is None
        (gap,) = await reader.removed(100, 101)
    path = next(each.path for each in segments_in(one.place.folder / "archive") if each.sha256 == gap.segment)
    receipt = receipt_from_archive(path, entry.exchange_id)
    assert receipt is not None
    keys = (one.place.folder / "keys.json").read_bytes()
    found = {check.name: check for check in verify_receipt(receipt, keys)}
    assert found["inclusion"].ok
    assert found["checkpoint"].ok
    assert Keys.from_json(keys).logs[0].vkey == one.place.signer.verifier.vkey
