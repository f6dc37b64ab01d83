"""One connection to a NATS server: subscribe, publish, parse. Nothing else.

Gateways and adapters use this instead of nats-py: in trials a request through nats-py cost the requester five times the CPU
(docs/decisions/0003). Tools and tests use nats-py, which also checks that both speak the same protocol.

Rules:
1. TLS first: nothing in clear text is read or written (the server is configured with `handshake_first`).
2. What is published in one turn of the event loop leaves in few writes: a TLS record and a system call for a group of
   messages (`exchange.turns`).
3. A silent server is noticed: a PING every `ping_seconds`, and the link is dropped when two in a row stay unanswered.
4. A link is used once. When it breaks it says so to its owner, who opens another.
5. What the server says is bounded: a line or a message that is too long ends the link, as does anything not understood.
6. A subscription that the server refuses, or takes away, is asked for again and again: what a subject stands for may be
   registered later than its server starts, and come back after it was gone.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from exchange.turns import MOST

PING_SECONDS = 5.0
MAX_BUFFERED = 64 << 20
"""Bytes that may wait to be written; beyond it the link takes nothing more until it has drained."""

MAX_LINE = 64 << 10
"""Bytes of one protocol line; the longest is the server's greeting, which lists the servers of a cluster."""
MAX_MESSAGE = 2 << 20
"""Bytes of one message with its headers; servers are configured for 1 MB."""

FIRST_RETRY, LONGEST_RETRY = 0.25, 5.0
"""Seconds until a refused subscription is asked for again; each time twice as long."""
_NO_PUBLISH = re.compile(r'\'Permissions Violation for Publish to "([^"]+)"')
_NO_SUBSCRIPTION = re.compile(r'\'Permissions Violation for Subscription to "([^"]+)"')

Take = Callable[[bytes, bytes, bytes, bool], None]
"""Called with subject, where to reply (empty: nobody waits), payload, and whether the server says that nobody listens."""

events = structlog.get_logger("datong.bus")


class LinkError(Exception):
    """The server refused the connection or broke the protocol; the message says why."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subject, with wildcards or without, and who takes what comes on it."""

    subject: str
    take: Take
    queue: str = ""
    """Of those who subscribe with the same queue group, one gets each message."""
    needed: bool = True
    """Whether a link is of no use if the server refuses it at the start."""


class NatsLink(asyncio.Protocol):
    """The protocol of one connection."""

    def __init__(
        self,
        name: str,
        subscriptions: Sequence[Subscription],
        on_lost: Callable[[NatsLink], None],
        *,
        ping_seconds: float = PING_SECONDS,
        on_unsent: Callable[[bytes], None] = lambda subject: None,
    ) -> None:
        """
        Args:
            name: Shown by the server's monitoring.
            on_lost: Called once, when an established connection has ended, whoever ended it.
            on_unsent: Called with the subject of a message that the server did not let us send.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._name = name
        self._subscriptions = {b"%d" % number: each for number, each in enumerate(subscriptions, 1)}
        self._takers = {number: each.take for number, each in self._subscriptions.items()}
        self._last_number = len(self._subscriptions)
        self._refused: dict[bytes, asyncio.TimerHandle | None] = {}
        """Number of a subscription that the server does not grant, and what asks for it again; None while it is asked."""
        self._still_refused: set[bytes] = set()
        """Those of them that the server has refused again while it was asked."""
        self._on_lost = on_lost
        self._on_unsent = on_unsent
        self._ping_seconds = ping_seconds
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._pieces: list[bytes] = []
        self._missing = 0
        self._out: list[bytes] = []
        self._gathered = 0
        self._buffered_out = 0
        self._flushing = False
        self._paused = False
        self._unanswered = 0
        self._ping_timer: asyncio.TimerHandle | None = None
        self.info: dict[str, Any] = {}
        self.ready: asyncio.Future[None] = loop.create_future()
        self._pongs: deque[asyncio.Future[None] | None] = deque()

    @property
    def writable(self) -> bool:
        """Whether the link takes messages now."""
        return self._transport is not None and self._buffered_out < MAX_BUFFERED

    def publish(self, subject: bytes, reply: bytes, payload: bytes) -> None:
        """Send one message at the end of this turn of the event loop, or before.

        Args:
            reply: Where the answer is to go; empty if none is expected.
        """
        self._send(b"PUB %b %b %d\r\n" % (subject, reply, len(payload)), payload, b"\r\n")

    @property
    def refused(self) -> frozenset[str]:
        """The subjects that the server does not let us subscribe to now."""
        return frozenset(self._subscriptions[number].subject for number in self._refused)

    def join(self, subscription: Subscription) -> asyncio.Future[None]:
        """Take what comes on one more subscription; the future is done when the server knows of it, or has refused it.

        It fails with LinkError if the connection ends before.
        """
        self._last_number += 1
        number = b"%d" % self._last_number
        self._subscriptions[number], self._takers[number] = subscription, subscription.take
        return self._ask_after(_sub(number, subscription))

    def leave(self, subject: str) -> asyncio.Future[None]:
        """Give up a subscription; the future is done when the server knows, and all it sent before was taken.

        It fails with LinkError if the connection ends before.
        """
        numbers = self._numbers(subject)
        for number in numbers:
            # What was sent before is still taken: `_takers` keeps it.
            del self._subscriptions[number]
            self._granted(number)
        return self._ask_after(b"".join([b"UNSUB %b\r\n" % number for number in numbers]))

    def _ask_after(self, lines: bytes) -> asyncio.Future[None]:
        """Send lines; the future is done when the server has acted on them."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._send(lines + b"PING\r\n")
        self._pongs.append(done)
        return done

    def close(self) -> None:
        """Write what is waiting, then close."""
        if self._transport is not None:
            self.flush()
            self._transport.close()

    def abort(self) -> None:
        """Close at once; nothing waiting is written."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream's transport
        transport.set_write_buffer_limits(high=4 << 20)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        for number in list(self._refused):
            self._granted(number)
        error = LinkError(f"the connection was closed: {exc or 'by the server'}")
        for waiting in (self.ready, *self._pongs):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.flush()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            # A large message arrives in many pieces: they are joined once, when all are there.
            self._pieces.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._missing = 0
        elif self._buffer:
            data = self._buffer + data
        try:
            self._buffer = self._parse(data)
        except (ValueError, IndexError, RecursionError, LinkError) as error:
            events.error("bus.protocol", error=repr(error))
            self.abort()

    # -- the NATS protocol

    def _parse(self, data: bytes) -> bytes:
        """Act on every complete protocol message in `data`; return the rest."""
        at, end = 0, len(data)
        while at < end:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                if end - at > MAX_LINE:
                    raise LinkError("a protocol line without end")
                return data[at:]
            kind = data[at : at + 3]
            if kind == b"MSG" or kind == b"HMS":
                fields = data[at:line_end].split(b" ")
                body_at = line_end + 2
                size = int(fields[-1])
                if not 0 <= size <= MAX_MESSAGE:
                    raise LinkError(f"a message of {size} bytes")
                body_end = body_at + size
                if body_end + 2 > end:
                    self._missing = body_end + 2 - end
                    self._pieces.append(data[at:])
                    return b""
                # MSG subject number [reply] size; HMSG subject number [reply] size-of-headers size.
                take = self._takers.get(fields[2])
                if kind == b"MSG":
                    if take is not None:
                        take(fields[1], fields[3] if len(fields) == 5 else b"", data[body_at:body_end], False)
                else:
                    header_end = body_at + int(fields[-2])
                    if not body_at <= header_end <= body_end:
                        raise LinkError("a message's headers are longer than the message")
                    status = data[body_at:header_end].partition(b"\r\n")[0]
                    nobody = status.startswith(b"NATS/1.0 503")
                    if take is not None:
                        take(fields[1], fields[3] if len(fields) == 6 else b"", data[header_end:body_end], nobody)
                at = body_end + 2
                continue
            self._control(kind, data[at:line_end])
            at = line_end + 2
        return b""

    def _control(self, kind: bytes, line: bytes) -> None:
        if kind == b"PIN":
            self._send(b"PONG\r\n")
        elif kind == b"PON":
            self._unanswered = 0
            waiting = self._pongs.popleft() if self._pongs else None
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        elif kind == b"INF":
            first = not self.info
            info = json.loads(line[5:])
            if not isinstance(info, dict):
                raise LinkError("the server's greeting is no object")
            self.info = info
            if first:
                self._introduce()
        elif kind == b"-ER":
            # A publish or subscription that the server's permissions forbid is told here, and only here.
            reason = line[5:].decode("latin-1")
            found = _NO_SUBSCRIPTION.match(reason)
            refused = self._numbers(found[1]) if found else []
            if not self.ready.done() and (not refused or any(self._subscriptions[each].needed for each in refused)):
                self.ready.set_exception(LinkError(reason))
            if not all(number in self._refused for number in refused) or not refused:
                events.error("bus.refused", reason=reason)
            for number in refused:
                self._refuse(number)
            if found := _NO_PUBLISH.match(reason):
                self._on_unsent(found[1].encode())
        elif kind != b"+OK":
            raise LinkError(f"unknown protocol message {line[:40]!r}")

    def _numbers(self, subject: str) -> list[bytes]:
        return [number for number, each in self._subscriptions.items() if each.subject == subject]

    def _refuse(self, number: bytes) -> None:
        """Ask for a subscription again, in a while."""
        if number in self._refused:
            self._still_refused.add(number)
        else:
            self._ask_again(number, FIRST_RETRY)

    def _ask_again(self, number: bytes, pause: float) -> None:
        def ask() -> None:
            self._refused[number] = None
            self._still_refused.discard(number)
            self._ask_after(_sub(number, self._subscriptions[number])).add_done_callback(asked)

        def asked(answer: asyncio.Future[None]) -> None:
            if answer.cancelled() or answer.exception() is not None or number not in self._refused:
                return  # the connection has ended, or the subscription was given up
            if number in self._still_refused:  # the server says so before it answers the PING
                self._ask_again(number, min(2 * pause, LONGEST_RETRY))
            else:
                self._granted(number)
                events.info("bus.granted", subject=self._subscriptions[number].subject)

        self._refused[number] = self._loop.call_later(pause, ask)

    def _granted(self, number: bytes) -> None:
        timer = self._refused.pop(number, None)
        if timer is not None:
            timer.cancel()

    def _introduce(self) -> None:
        options = {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "protocol": 1,
            "lang": "python",
            "version": "1",
            "name": self._name,
        }
        subscriptions = [_sub(number, each) for number, each in self._subscriptions.items()]
        self._send(b"CONNECT %b\r\n" % json.dumps(options).encode() + b"".join(subscriptions) + b"PING\r\n")
        self._pongs.append(self.ready)
        self._ping_timer = self._loop.call_later(self._ping_seconds, self._ping)

    def _ping(self) -> None:
        self._unanswered += 1
        if self._unanswered > 2:
            events.warning("bus.silent", pings=2)
            self.abort()
            return
        self._send(b"PING\r\n")
        self._pongs.append(None)
        self._ping_timer = self._loop.call_later(self._ping_seconds, self._ping)

    # -- writing

    def _send(self, *pieces: bytes) -> None:
        self._out += pieces
        if self._paused:
            self._buffered_out += sum(map(len, pieces))
            return
        self._gathered += 1
        if self._gathered >= MOST:
            self.flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        self._flushing = False
        self.flush()

    def flush(self) -> None:
        """Send now what was published, not at the end of this turn."""
        self._gathered = 0
        if self._transport is None or self._paused or not self._out:
            return
        out, self._out = self._out, []
        self._buffered_out = 0
        self._transport.write(b"".join(out))


def _sub(number: bytes, subscription: Subscription) -> bytes:
    subject = " ".join(filter(None, (subscription.subject, subscription.queue))).encode()
    return b"SUB %b %b\r\n" % (subject, number)
