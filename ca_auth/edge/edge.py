"""The edge of the gateway: what may reach the application at all, and for how long a caller may take.

Rules:
1. A request head has at most so many bytes and lines. The bytes are counted before the parser sees them (llhttp has no
   limit); beyond the limit the answer is 431 and nothing more is read.
2. A head that breaks a rule of `ca_auth.edge.request_head`, or that is not HTTP, is answered 400.
3. A head has `head_seconds` from its first byte, or from the opening of the connection; a body has `body_seconds`, and
   a second more for every `body_rate` bytes of it that came: a large one may take its time, one that drips may not.
   Beyond that the answer is 408. Without a first byte there is nothing to answer: the connection is closed.
4. A connection with nothing in progress is closed after `idle_seconds`.
5. A certificate may hold `connections_per_certificate` connections; on further ones the first request is answered 429.
6. At most `pipelined_requests` wait behind one that is being answered; one read could hold thousands. Beyond that 429.
7. After a refusal nothing more is taken from the connection, and no request that followed is executed. Requests that
   were complete before it are still answered, in order.
8. Every refusal is reported to `on_refused`, so that the gateway can put it on the record.
9. While a caller is slow to take an answer, nothing more is read from it and no request of its that waits is begun; after
   `idle_seconds` of that the connection is closed.

The usual request, a whole head in one read, pays for a few comparisons: no timer, no copy. A connection has one timer.
What is replaced of uvicorn's own protocol is in `ca_auth.edge.http_protocol`; tests run against the real server.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

import httptools

from ca_auth.edge.client_cert import PeerCertificateProtocol
from ca_auth.edge.client_cert_header import TerminatorTrust
from ca_auth.edge.refusals import (
    BODY_DEADLINE,
    CONNECTION_LIMIT,
    HEAD_DEADLINE,
    HEAD_SIZE,
    HTTP_SYNTAX,
    PIPELINE_DEPTH,
    TYPE_BASE,
    Refusal,
    response_bytes,
)
from ca_auth.edge.request_head import check_head, check_size, language_of

OnRefused = Callable[[str, int, str | None], None]
"""Called with rule, status and the client certificate's fingerprint (or None). On the event loop: must not block."""

REFUSAL_KEY: Final = "edge_refusal"
"""Key in `scope["state"]` of the Refusal that ended a request whose head the application has."""

_END_OF_HEAD: Final = b"\r\n\r\n"
_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """What one connection may take. Times are seconds."""

    head_bytes: int = 16 << 10
    header_lines: int = 64
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    body_rate: int = 16 << 10
    idle_seconds: float = 75.0
    pipelined_requests: int = 16
    connections_per_certificate: int | None = None
    terminator_head_bytes: int = 128 << 10
    """Of requests that a TLS terminator passes on: its header with a chain of four certificates has 8 kB."""


class EdgeProtocol(PeerCertificateProtocol):
    """The protocol of one connection. Use `edge_protocol` to make the class uvicorn is given."""

    limits: ClassVar[EdgeLimits] = EdgeLimits()
    on_refused: ClassVar[OnRefused]
    type_base: ClassVar[str] = TYPE_BASE
    held: ClassVar[Counter[str]]
    """Open connections per certificate fingerprint."""

    # What is being read.
    _reading_head = True
    _max_head = 0
    _head_limit = 0
    _head_bytes = 0
    _head_end = b""
    _recount = False
    _dry_bytes = 0
    _body_bytes = 0
    _has_deadline = False
    _known_host: bytes | None = None

    # What is due.
    _timer: asyncio.TimerHandle | None = None
    _idle_until = 0.0
    _unfinished_until = 0.0
    _held_back = False

    # What was refused.
    _refused: Refusal | None = None
    _owed: Refusal | None = None
    _deaf = False
    _in_a_hurry = False
    _over_limit = False
    _lingered = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limits = self.limits
        self._max_head = limits.terminator_head_bytes if self.terminator else limits.head_bytes
        self._head_limit = self._max_head
        self._idle_until = self.loop.time() + limits.head_seconds
        self._timer = self.loop.call_later(limits.head_seconds, self._look_at_the_clock)
        if self.peer is not None:
            self.held[self.peer] += 1
            allowed = limits.connections_per_certificate
            if allowed is not None and not self.terminator and self.held[self.peer] > allowed:
                # Answered with the first request: a response nobody asked for yet would confuse the caller.
                self._over_limit, self._head_limit = True, -1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.peer is not None:
            self.held[self.peer] -= 1
            if not self.held[self.peer]:
                del self.held[self.peer]
        super().connection_lost(exc)

    # Reading

    def data_received(self, data: bytes) -> None:
        if self._reading_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._head_limit and not self._admit(data):
                return
        else:
            self._dry_bytes += len(data)
            if len(data) > self._head_limit:
                self._recount = True
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here. The request is answered as it is, and what follows it is not HTTP.
            if self.cycle is not None:
                self.cycle.keep_alive = False
            self._stop_listening()
        except httptools.HttpParserError:
            self._refuse(self._refused or HTTP_SYNTAX)
        else:
            if self.in_message:
                self._note_unfinished(data)

    def _admit(self, data: bytes) -> bool:
        """Look at bytes that exceed the limit of a head: they may be the body that came in the same read."""
        if self._deaf:
            self._lingered += len(data)
            # What was on its way is thrown away; a caller that goes on regardless is made to wait until it is cut off.
            if self._lingered > _LINGER_BYTES and not self.transport.is_closing():
                self.flow.pause_reading()
            return False
        if self._over_limit:
            self._refuse(CONNECTION_LIMIT)
            return False
        room = max(0, self._head_limit - (self._head_bytes - len(data)))
        if _END_OF_HEAD in self._head_end + data[:room]:
            # This head is within the limit. Others behind it in the same read are counted after parsing.
            self._recount = True
            return True
        self._refuse(HEAD_SIZE)
        return False

    def _note_unfinished(self, data: bytes) -> None:
        """Called when a read ends inside a message: this is where deadlines start."""
        if self._reading_head:
            if not self._head_bytes:
                # It began behind another message, in a read that was not counted: count it when it is complete.
                self._recount = True
            self._head_end = (self._head_end + data)[-3:]
        elif self._dry_bytes > self._max_head:
            # Read after read without a byte of body: endless trailers or chunk extensions.
            self._refuse(HEAD_SIZE)
            return
        if not self._has_deadline:
            self._has_deadline = True
            limits = self.limits
            seconds = limits.head_seconds if self._reading_head else limits.body_seconds
            self._unfinished_until = self.loop.time() + seconds
            self._wake_in(min(seconds, limits.head_seconds))

    def on_headers_complete(self) -> None:
        headers = self.headers
        fields = dict(headers)
        refusal = check_head(
            self.parser.get_http_version(), self.url, headers, fields, self.limits.header_lines, self._known_host
        )
        if refusal is None and self._recount:
            refusal = check_size(self.url, headers, max_bytes=self._max_head)
        if refusal is None and self.pipeline and len(self.pipeline) >= self.limits.pipelined_requests:
            refusal = PIPELINE_DEPTH
        if refusal is not None:
            self._refused = refusal
            raise _HeadRefusedError  # stops the parser; data_received answers
        if self._known_host is None:
            self._known_host = fields[b"host"]
        if self._has_deadline:
            # The head took several reads; from here on it is the body's time.
            self._has_deadline = False
            self._head_end = b""
        self.expect_100_continue = b"expect" in fields and _expects_to_continue(headers)
        super().on_headers_complete()
        self._reading_head = False

    def on_body(self, body: bytes) -> None:
        self._dry_bytes = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._reading_head = True
        self._head_bytes = self._dry_bytes = self._body_bytes = 0
        self._has_deadline = False
        super().on_message_complete()

    # Answering

    def on_response_complete(self) -> None:
        """Called by a cycle whose answer is written: begin what waited for it."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._idle_until = self.loop.time() + self.limits.idle_seconds
        flow = self.flow
        if flow.write_paused:
            self._held_back = True
            flow.pause_reading()
        elif self.pipeline or flow.read_paused or self._owed is not None:
            self._go_on()

    def resume_writing(self) -> None:
        """Called by the transport when the caller has taken most of what was written."""
        super().resume_writing()
        if self._held_back and not self.transport.is_closing():
            self._held_back = False
            now = self.loop.time()
            self._idle_until = now + self.limits.idle_seconds
            # It could not go on with what it was sending.
            self._unfinished_until = max(self._unfinished_until, now + self.limits.head_seconds)
            self._go_on()

    def _go_on(self) -> None:
        self.flow.resume_reading()
        if self.pipeline:
            self.start(*self.pipeline.pop())
        elif self._owed is not None:
            self._answer(self._owed)

    def shutdown(self) -> None:
        """As uvicorn's, for a server that stops; but it need not wait for an idle caller to agree to the end of TLS."""
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.get_write_buffer_size():
            self._stop_listening()
            self._close()
        else:
            super().shutdown()

    def _refuse(self, refusal: Refusal) -> None:
        if self._deaf:
            return
        in_body = not self._reading_head
        self._refused = refusal
        self._stop_listening()
        cycle = self.cycle
        if in_body and cycle is not None and cycle.response_complete:
            # Answered already, without reading the body to its end; a second answer would be taken for the next one's.
            self._close()
            return
        queued = bool(self.pipeline) and self.pipeline[0][0] is cycle
        try:
            if cycle is not None and in_body and not queued:
                # It has the request, learns that the rest never comes, and records the one attempt with this rule.
                cycle.scope["state"][REFUSAL_KEY] = refusal
            else:
                type(self).on_refused(refusal.rule, refusal.status, self.peer)
        finally:
            if cycle is None or cycle.response_complete:
                self._answer(refusal)
            elif not in_body:
                # The broken bytes came behind complete requests: those are answered first.
                self._owed = refusal
            else:
                # The application has the broken request, or will have it, and waits for the rest of its body.
                cycle.disconnected = True
                cycle.wake()
                if queued:
                    self.pipeline.popleft()  # queued behind another: it must never start
                    self._owed = refusal
                elif cycle.response_started:
                    self._close()
                else:
                    self._answer(refusal)

    def _answer(self, refusal: Refusal) -> None:
        self._owed = None
        language = language_of(self.received)
        self.transport.write(response_bytes(refusal, language, type_base=self.type_base))
        if refusal.status in (408, 431):
            # The caller may be sending still: closing now would reset the connection and could destroy the answer.
            self._wake_in(_LINGER_SECONDS)
        else:
            self._close()

    def _stop_listening(self) -> None:
        self._deaf, self._reading_head, self._head_limit = True, True, -1

    def _close(self) -> None:
        """Close, and do not wait long for the other side to agree to the end of TLS."""
        self._in_a_hurry = True
        self._wake_in(_LINGER_SECONDS)
        self.transport.close()

    # Time

    def _look_at_the_clock(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            if self._in_a_hurry:
                self.transport.abort()
            return
        now = self.loop.time()
        cycle = self.cycle
        idle = cycle is None or cycle.response_complete or cycle.disconnected
        until = now + self.limits.head_seconds
        if self._deaf and idle and self._owed is None:
            self._close()
            return
        if self._held_back or (idle and not self._deaf and not self.in_message):
            if now >= self._idle_until:
                self._stop_listening()
                self._close()
                return
            until = min(until, self._idle_until)
        elif self.in_message and not self._deaf:
            unfinished_until = self._unfinished_until + self._body_bytes / self.limits.body_rate
            if now >= unfinished_until:
                self._refuse(HEAD_DEADLINE if self._reading_head else BODY_DEADLINE)
                return
            until = min(until, unfinished_until)
        self._wake_in(until - now)

    def _wake_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._look_at_the_clock)


def _expects_to_continue(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)


class _HeadRefusedError(Exception):
    """Leaves the parser; never seen outside."""


def edge_protocol(
    limits: EdgeLimits,
    on_refused: OnRefused,
    *,
    type_base: str = TYPE_BASE,
    terminators: Callable[[], TerminatorTrust] = TerminatorTrust,
) -> type[EdgeProtocol]:
    """Return the protocol class for `uvicorn.Config(http=...)`.

    Args:
        limits: What a connection may take.
        on_refused: Told of every refusal before it is answered.
        type_base: What precedes the code in the `type` of a problem.
        terminators: Who may hand over the certificates of others, asked for each connection.
    """

    class ConfiguredEdgeProtocol(EdgeProtocol):
        pass

    ConfiguredEdgeProtocol.limits = limits
    ConfiguredEdgeProtocol.on_refused = staticmethod(on_refused)
    ConfiguredEdgeProtocol.type_base = type_base
    ConfiguredEdgeProtocol.terminators = staticmethod(terminators)
    ConfiguredEdgeProtocol.held = Counter()
    return ConfiguredEdgeProtocol
