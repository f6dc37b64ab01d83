"""What the gateway and its log writer say to each other, and how the writer waits for it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from exchange.errors import LogUnavailableError
from exchange.log.frames import Frame, Messages, Reply, Start, message
from exchange.log.link import Pending
from exchange.log.writer import _Link
from tests.exchange.log_kit import attempt

FRAMES = [Frame(), Frame(entries=[attempt(number).row for number in range(3)], probe=True), Frame(settled=["a"])]


@pytest.mark.parametrize("portion", [1, 3, 4, 5, 100, 1 << 20])
def test_messages_come_whole_however_the_stream_is_cut(portion: int) -> None:
    stream = b"".join([message(frame) for frame in FRAMES])
    messages = Messages(Frame)
    found = []
    for at in range(0, len(stream), portion):
        found += messages.feed(stream[at : at + portion])
    assert found == FRAMES


async def test_of_a_frame_the_entries_left_out_fail_and_the_others_are_numbered_without_them() -> None:
    loop = asyncio.get_running_loop()
    pending = Pending()
    assert not pending
    futures: list[asyncio.Future[int]] = [loop.create_future() for _ in range(5)]
    pending.entries += [attempt(number).row for number in range(5)]
    pending.entry_futures += futures
    assert pending
    assert not Pending(), "no two have a list in common"
    futures[4].cancel()
    pending.succeed(Reply(first_seq=70, duplicates=[1, 3]))
    assert [futures[place].result() for place in (0, 2)] == [70, 71]
    for place in (1, 3):
        with pytest.raises(LogUnavailableError) as refused:
            futures[place].result()
        assert refused.value.rule == "one-record-per-exchange"


@pytest.fixture
async def ends() -> AsyncIterator[tuple[asyncio.WriteTransport, _Link]]:
    """The gateway's end of a socket pair, and the writer's."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=ours)
    other, link = await loop.create_unix_connection(_Link, sock=theirs)
    transport.write(
        message(Start(sqlite_path="", postgresql={}, log_key="", gateway="", boot="", checkpoint_interval=1))
    )
    await link.start
    yield transport, link
    transport.close()
    other.close()


async def test_a_writer_wakes_for_a_frame_and_for_the_end_long_before_its_time(
    ends: tuple[asyncio.WriteTransport, _Link],
) -> None:
    transport, link = ends
    async with asyncio.timeout(20):
        transport.write(message(FRAMES[1]))
        await link.wait(time.monotonic() + 3600)
        assert link.frames == [FRAMES[1]]
        transport.close()
        await link.wait(time.monotonic() + 3600)
    assert link.closed


async def test_a_writer_wakes_at_its_time_whatever_it_waited_for_before(
    ends: tuple[asyncio.WriteTransport, _Link],
) -> None:
    transport, link = ends
    async with asyncio.timeout(20):
        # A frame came before the time was over, and the next time is an earlier one.
        transport.write(message(FRAMES[0]))
        await link.wait(time.monotonic() + 3600)
        for seconds in (0.02, -1.0, 0.02):
            until = time.monotonic() + seconds
            await link.wait(until)
            assert time.monotonic() >= until - 0.01
        # One for an earlier time is still set: it may wake it too early, never too late.
        transport.write(message(FRAMES[0]))
        await link.wait(time.monotonic() + 0.02)
        until = time.monotonic() + 0.1
        while time.monotonic() < until - 0.01:
            await link.wait(until)
    assert link.frames == [FRAMES[0]] * 2
