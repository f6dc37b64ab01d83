"""One connection to a NATS server: publish, subscribe to one subject, parse. Nothing else.

The gateway's side of the bus is this instead of nats-py: in trials a request through nats-py cost the requester five times
the CPU (docs/decisions/0003). Adapters, tools and tests use nats-py, which also checks that both speak the same protocol.

Rules:
1. TLS first: nothing in clear text is read or written (the server is configured with `handshake_first`).
2. Everything published in one turn of the event loop leaves in one write: one TLS record, one system call.
3. A silent server is noticed: a PING every `ping_seconds`, and the link is dropped when two in a row stay unanswered.
4. A link is used once. When it breaks it says so to its owner, who opens another.
5. What the server says is bounded: a line or a message that is too long ends the link, as does anything not understood.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import structlog

PING_SECONDS = 5.0
MAX_BUFFERED = 64 << 20
"""Bytes that may wait to be written; beyond it the link takes nothing more until it has drained."""

MAX_LINE = 64 << 10
"""Bytes of one protocol line; the longest is the server's greeting, which lists the servers of a cluster."""
MAX_MESSAGE = 2 << 20
"""Bytes of one message with its headers; servers are configured for 1 MB."""

OnMessage = Callable[[bytes, bytes, bool], None]
"""Called with subject, payload, and whether the server says that nobody listens."""

events = structlog.get_logger("datong.bus")


class LinkError(Exception):
    """The server refused the connection or broke the protocol; the message says why."""


class NatsLink(asyncio.Protocol):
    """The protocol of one connection."""

    def __init__(
        self,
        name: str,
        inbox: bytes,
        on_message: OnMessage,
        on_lost: Callable[[NatsLink], None],
        *,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        """
        Args:
            name: Shown by the server's monitoring.
            inbox: Prefix of the one subscription, `<inbox>.r.*`.
            on_lost: Called once, when an established connection has ended, whoever ended it.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._name = name
        self._inbox = inbox
        self._on_message = on_message
        self._on_lost = on_lost
        self._ping_seconds = ping_seconds
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._pieces: list[bytes] = []
        self._missing = 0
        self._out: list[bytes] = []
        self._buffered_out = 0
        self._flushing = False
        self._paused = False
        self._unanswered = 0
        self._ping_timer: asyncio.TimerHandle | None = None
        self.info: dict[str, Any] = {}
        self.ready: asyncio.Future[None] = loop.create_future()

    @property
    def writable(self) -> bool:
        """Whether the link takes messages now."""
        return self._transport is not None and self._buffered_out < MAX_BUFFERED

    def publish(self, subject: bytes, reply: bytes, payload: bytes) -> None:
        """Send one message at the end of this turn of the event loop."""
        self._send(b"PUB %b %b %d\r\n" % (subject, reply, len(payload)), payload, b"\r\n")

    def close(self) -> None:
        """Write what is waiting, then close."""
        if self._transport is not None:
            self._flush()
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
        if not self.ready.done():
            self.ready.set_exception(LinkError(f"the connection was closed: {exc or 'by the server'}"))
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

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
                if kind == b"MSG":
                    self._on_message(fields[1], data[body_at:body_end], False)
                else:
                    header_end = body_at + int(fields[-2])
                    if not body_at <= header_end <= body_end:
                        raise LinkError("a message's headers are longer than the message")
                    status = data[body_at:header_end].partition(b"\r\n")[0]
                    self._on_message(fields[1], data[header_end:body_end], status.startswith(b"NATS/1.0 503"))
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
            if not self.ready.done():
                self.ready.set_result(None)
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
            events.error("bus.refused", reason=line[5:].decode("latin-1"))
            if not self.ready.done():
                self.ready.set_exception(LinkError(line[5:].decode("latin-1")))
        elif kind != b"+OK":
            raise LinkError(f"unknown protocol message {line[:40]!r}")

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
        self._send(b"CONNECT %b\r\nSUB %b.r.* 1\r\nPING\r\n" % (json.dumps(options).encode(), self._inbox))
        self._ping_timer = self._loop.call_later(self._ping_seconds, self._ping)

    def _ping(self) -> None:
        self._unanswered += 1
        if self._unanswered > 2:
            events.warning("bus.silent", pings=2)
            self.abort()
            return
        self._send(b"PING\r\n")
        self._ping_timer = self._loop.call_later(self._ping_seconds, self._ping)

    # -- writing

    def _send(self, *pieces: bytes) -> None:
        self._out += pieces
        if not self._flushing and not self._paused:
            self._flushing = True
            self._loop.call_soon(self._flush)
        elif self._paused:
            self._buffered_out += sum(map(len, pieces))

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is None or self._paused or not self._out:
            return
        out, self._out = self._out, []
        self._buffered_out = 0
        self._transport.write(b"".join(out))
