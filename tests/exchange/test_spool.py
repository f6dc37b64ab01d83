"""Large bodies on disk: whole in any order, unreadable to others, and never more than there is room for."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import PART_SIZE, Spool, Spooled, SpoolRoomError
from exchange.broker.spool import KEPT_FREE


async def content(body: Spooled) -> bytes:
    return b"".join([piece async for piece in body.pieces()])


@given(st.lists(st.integers(0, 3 * PART_SIZE // 2), max_size=5))
async def test_what_was_added_in_any_pieces_is_read_and_hashed(sizes: list[int]) -> None:
    data = os.urandom(sum(sizes))
    body = Spool().open()
    at = 0
    for size in sizes:
        await body.add(data[at : at + size])
        at += size
    await body.finish()
    assert (len(body), body.sha256, body.sha512) == (
        len(data),
        hashlib.sha256(data).digest(),
        hashlib.sha512(data).digest(),
    )
    assert await content(body) == data
    body.close()


@pytest.mark.parametrize("seed", range(4))
async def test_parts_may_come_in_any_order(tmp_path: Path, seed: int) -> None:
    data = os.urandom(5 * PART_SIZE + 77)
    spool = Spool(tmp_path)
    body = spool.open(len(data))
    numbers = list(range(6))
    random.Random(seed).shuffle(numbers)
    await asyncio.gather(*[body.put(each, data[each * PART_SIZE :][:PART_SIZE]) for each in numbers])
    assert body.sha256 == hashlib.sha256(data).digest()
    assert await content(body) == data
    assert await body.read(2 * PART_SIZE, 100) == data[2 * PART_SIZE :][:100]
    assert spool.promised == 0
    assert not list(tmp_path.iterdir()), "the file has no name"
    body.close()


async def test_the_disk_holds_nothing_that_can_be_read() -> None:
    data = b"310101199001011234" * 20_000
    body = Spool().open()
    await body.add(data)
    await body.finish()
    stored = os.pread(body._file.fileno(), len(data), 0)
    assert len(stored) == len(data)
    assert data[:16] not in stored
    body.close()


async def test_what_does_not_fit_is_refused_before_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = os.statvfs(tmp_path)
    blocks = (KEPT_FREE + 4 * PART_SIZE) // disk.f_frsize

    class Small:
        f_frsize, f_bavail = disk.f_frsize, blocks

    monkeypatch.setattr("os.statvfs", lambda folder: Small)
    spool = Spool(tmp_path)
    with pytest.raises(SpoolRoomError) as raised:
        spool.open(5 * PART_SIZE)
    assert (raised.value.code, raised.value.rule, raised.value.status) == ("overloaded", "spool-room", 503)
    one = spool.open(4 * PART_SIZE)
    with pytest.raises(SpoolRoomError):
        spool.open(1)
    two = spool.open()  # of unknown size: it finds out when it comes
    await two.add(bytes(PART_SIZE))
    with pytest.raises(SpoolRoomError):
        await two.finish()
    one.close()
    two.close()
    assert spool.promised == 0


async def test_a_folder_that_is_not_there_is_no_room(tmp_path: Path) -> None:
    with pytest.raises(SpoolRoomError):
        Spool(tmp_path / "nowhere").open(1)


async def test_a_disk_that_is_full_in_the_middle_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    body = Spool().open(4 * PART_SIZE)
    await body.put(0, bytes(PART_SIZE))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(SpoolRoomError):
        await body.put(1, bytes(PART_SIZE))
    body.close()


async def test_a_body_may_be_closed_while_it_is_written() -> None:
    spool = Spool()
    body = spool.open(8 * PART_SIZE)
    writing = [asyncio.create_task(body.put(number, bytes(PART_SIZE))) for number in range(8)]
    await asyncio.sleep(0)
    body.close()
    body.close()
    await asyncio.gather(*writing)
    assert spool.promised == 0
