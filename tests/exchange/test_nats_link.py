"""The protocol of one connection: whatever pieces it arrives in it is read the same, and nonsense ends it."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.bus.nats_link import MAX_LINE, MAX_MESSAGE, LinkError, NatsLink, Subscription
from exchange.turns import MOST
from tests.conftest import Pki
from tests.exchange.bus_kit import gateway_bus, scripted_server, until

INFO = b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576}\r\n'


class Wire(asyncio.Transport):
    """The other end of a link: keeps what is written, and whether it was ended."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def abort(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True


class Ear:
    """A link that hears, on no event loop's connection."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, bytes, bytes, bool]] = []
        self.lost: list[NatsLink] = []
        self.wire = Wire()
        subscriptions = [Subscription("_INBOX.me.r.*", self.hears), Subscription("a.b", self.hears, "group")]
        self.link = NatsLink("test", subscriptions, self.lost.append)
        self.link.connection_made(self.wire)

    def hears(self, *message: Any) -> None:
        self.heard.append(message)

    def hear(self, data: bytes, *cuts: int) -> None:
        edges = [0, *sorted(cuts), len(data)]
        for start, end in pairwise(edges):
            if start < end:
                self.link.data_received(data[start:end])


def message(subject: bytes, payload: bytes, headers: bytes | None, reply: bytes) -> bytes:
    middle = b" " + reply if reply else b""
    if headers is None:
        return b"MSG %b 1%b %d\r\n%b\r\n" % (subject, middle, len(payload), payload)
    size = len(headers) + len(payload)
    return b"HMSG %b 1%b %d %d\r\n%b%b\r\n" % (subject, middle, len(headers), size, headers, payload)


NOBODY = b"NATS/1.0 503\r\n\r\n"
MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([b"_INBOX.me.r.1", b"_INBOX.me.r.22"]),
        st.one_of(
            st.binary(max_size=60), st.just(b"MSG x 1 5\r\nhello\r\n"), st.just(b"\r\n" * 9), st.binary(max_size=9000)
        ),
        st.sampled_from([None, NOBODY, b"NATS/1.0\r\nA: b\r\n\r\n"]),
        st.sampled_from([b"", b"reply.to"]),
    ),
    max_size=6,
)


@given(messages=MESSAGES, data=st.data())
async def test_messages_are_read_the_same_in_whatever_pieces_they_arrive(
    messages: list[tuple[bytes, bytes, bytes | None, bytes]], data: st.DataObject
) -> None:
    stream = INFO + b"PING\r\n" + b"".join(message(*each) + b"+OK\r\n" for each in messages) + b"PONG\r\n"
    expected = [(subject, reply, payload, headers == NOBODY) for subject, payload, headers, reply in messages]
    ear = Ear()
    ear.hear(stream, *data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    assert ear.heard == expected
    assert ear.link.ready.done()
    assert not ear.wire.ended


@given(messages=MESSAGES)
async def test_messages_are_read_byte_by_byte(messages: list[tuple[bytes, bytes, bytes | None, bytes]]) -> None:
    messages = [each for each in messages if len(each[1]) < 100]
    stream = INFO + b"".join(message(*each) for each in messages) + b"PONG\r\n"
    ear = Ear()
    ear.hear(stream, *range(len(stream)))
    assert [each[2] for each in ear.heard] == [each[1] for each in messages]
    assert ear.link.ready.done()


@given(stream=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=5))
async def test_nonsense_ends_the_link_or_is_waited_for_and_never_raises(stream: bytes, cuts: list[int]) -> None:
    ear = Ear()
    ear.hear(INFO + stream, *(min(cut, len(INFO + stream)) for cut in cuts))
    ear.hear(b"MSG _INBOX.me.r.1 1 1\r\nx\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"MSG x 1 -5\r\n",
        b"MSG x 1 %d\r\n" % (MAX_MESSAGE + 1),
        b"MSG x 1 99999999999999999999999999\r\n",
        b"MSG x 1 many\r\n",
        b"MSG\r\n",
        b"HMSG x 1 9 5\r\nhello\r\n",
        b"HMSG x 1 -1 5\r\nhello\r\n",
        b"HMSG x 5\r\nhello\r\n",
        b"HELLO\r\n",
        b"INFO {\r\n",
        b"INFO []\r\n",
        b"INFO " + b"[" * 50_000 + b"\r\n",
        b"x" * (MAX_LINE + 2),
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
async def test_what_is_no_protocol_ends_the_link(line: bytes) -> None:
    ear = Ear()
    ear.hear(INFO)
    ear.hear(line)
    assert ear.wire.ended
    assert not ear.heard


async def test_a_link_introduces_itself_once_and_answers_pings() -> None:
    ear = Ear()
    ear.hear(INFO + INFO + b"PING\r\n")
    await asyncio.sleep(0)
    lines = ear.wire.written.split(b"\r\n")
    assert lines[1:] == [b"SUB _INBOX.me.r.* 1", b"SUB a.b group 2", b"PING", b"PONG", b""]
    options = json.loads(lines[0].removeprefix(b"CONNECT "))
    assert options["no_responders"] is True
    assert options["headers"] is True


async def test_everything_of_one_turn_leaves_in_one_write() -> None:
    ear = Ear()
    ear.hear(INFO)
    await asyncio.sleep(0)
    ear.wire.written = b""
    for payload in (b"one", b"two"):
        ear.link.publish(b"a.b", b"r", payload)
        assert ear.wire.written == b""
    await asyncio.sleep(0)
    assert ear.wire.written == b"PUB a.b r 3\r\none\r\nPUB a.b r 3\r\ntwo\r\n"


async def test_many_messages_of_one_turn_do_not_wait_for_its_end() -> None:
    ear = Ear()
    ear.hear(INFO)
    await asyncio.sleep(0)
    ear.wire.written = b""
    for _ in range(MOST + 1):
        ear.link.publish(b"a.b", b"", b"x")
    assert ear.wire.written.count(b"PUB") == MOST
    await asyncio.sleep(0)
    assert ear.wire.written.count(b"PUB") == MOST + 1


async def test_a_subscription_is_left_when_all_that_came_before_was_taken() -> None:
    ear = Ear()
    ear.hear(INFO + b"PONG\r\n")
    left = ear.link.leave("a.b")
    await asyncio.sleep(0)
    assert ear.wire.written.endswith(b"UNSUB 2\r\nPING\r\n")
    ear.hear(b"MSG a.b 2 4\r\nlast\r\n")
    assert not left.done()
    ear.hear(b"PONG\r\n")
    assert left.done()
    assert [each[2] for each in ear.heard] == [b"last"]


async def test_leaving_fails_when_the_connection_ends() -> None:
    ear = Ear()
    ear.hear(INFO + b"PONG\r\n")
    left = ear.link.leave("a.b")
    ear.link.connection_lost(None)
    with pytest.raises(LinkError):
        await left


async def test_a_message_for_a_subscription_that_is_not_ours_is_passed_over() -> None:
    ear = Ear()
    ear.hear(INFO + b"MSG x 7 1\r\nx\r\nMSG _INBOX.me.r.1 1 1\r\ny\r\n")
    assert [each[2] for each in ear.heard] == [b"y"]


async def test_a_link_that_cannot_write_keeps_what_it_was_given_and_says_when_it_is_full() -> None:
    ear = Ear()
    ear.hear(INFO)
    await asyncio.sleep(0)
    ear.wire.written = b""
    ear.link.pause_writing()
    while ear.link.writable:
        ear.link.publish(b"a", b"r", b"x" * (1 << 20))
    await asyncio.sleep(0)
    assert ear.wire.written == b""
    ear.link.resume_writing()
    assert len(ear.wire.written) > 64 << 20
    assert ear.link.writable


async def test_the_end_of_the_connection_is_told_once_and_nothing_is_written_after_it() -> None:
    ear = Ear()
    ear.hear(INFO)
    ear.link.connection_lost(ConnectionResetError("reset"))
    assert ear.lost == [ear.link]
    with pytest.raises(LinkError, match="reset"):
        await ear.link.ready
    assert not ear.link.writable
    ear.link.publish(b"a", b"r", b"x")
    await asyncio.sleep(0)
    assert ear.wire.written == b""
    ear.link.close()
    ear.link.abort()


async def test_a_refusal_of_the_server_is_told() -> None:
    ear = Ear()
    ear.hear(INFO + b"-ERR 'Authorization Violation'\r\n")
    with pytest.raises(LinkError, match="Authorization Violation"):
        await ear.link.ready


async def test_a_server_that_stays_silent_is_dropped_after_two_pings(pki: Pki) -> None:
    pings = 0

    async def greet_and_fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal pings
        writer.write(INFO)
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        while await reader.readuntil(b"PING\r\n"):
            pings += 1

    async with scripted_server(pki, greet_and_fall_silent) as url, gateway_bus(url, pki, ping_seconds=0.02) as bus:
        await until(lambda: not bus.connected)
        assert pings == 2


async def test_a_server_that_answers_pings_is_kept(pki: Pki) -> None:
    pings = 0

    async def answer_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal pings
        writer.write(INFO)
        while await reader.readuntil(b"PING\r\n"):
            writer.write(b"PONG\r\n")
            pings += 1

    async with scripted_server(pki, answer_each) as url, gateway_bus(url, pki, ping_seconds=0.002) as bus:
        link = bus._link
        await until(lambda: pings > 20)
        assert bus._link is link
