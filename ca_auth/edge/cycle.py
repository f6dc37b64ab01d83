"""One request and its answer, in place of uvicorn's `RequestResponseCycle`.

The same bytes and the same order of events as uvicorn 0.54, at less work: header lines are checked together, names are remembered,
nothing is made that most requests never need. Beside ASGI's `send` there is `respond`, which gives a whole answer in one call: the
application finds it as `scope["state"]["respond"]`.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent, HTTPScope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

if TYPE_CHECKING:
    from ca_auth.edge.http_protocol import HttpProtocol

Respond: TypeAlias = Callable[[int, list[tuple[bytes, bytes]], bytes], None]
"""Status, headers and the whole body; see `Cycle.respond`."""

_JOIN_BYTES: Final = 64 << 10
"""Beyond this a copy of the body costs more than a write of its own."""

_NOT_IN_NAMES: Final = re.compile(b'[\x00-\x1f\x7f()<>@,;:\\[\\]={} \t\\\\"]')
_CONTROLS: Final = bytes({*range(32), 127} - {ord("\t")})
"""None of them may be in a value; in a whole head, they are the ends of its lines."""
_FRAMING: Final = frozenset({b"content-length: ", b"transfer-encoding: ", b"connection: "})


class Cycle:
    """One request on a connection, from its head to the end of its answer.

    Args:
        connection: Where it came from and where its answer goes.
        keep_alive: Whether the connection may be used again afterwards.
        expect_100_continue: Whether the caller waits for a word before it sends the body.
    """

    # Most requests never change these.
    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    task: asyncio.Task[None]
    """What runs it, once it is started."""
    _body: bytes | bytearray = b""
    _news = False
    _waiting: asyncio.Event | None = None
    _chunked: bool | None = None
    _body_bytes_due = 0

    def __init__(self, connection: HttpProtocol, scope: HTTPScope, keep_alive: bool, expect_100_continue: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self._connection = connection
        self._transport = connection.transport
        self._expected_to_continue = expect_100_continue

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Let the application answer; if it does not, say so."""
        logger = self._connection.logger
        state: dict[str, Any] = self.scope["state"]
        state["respond"] = self.respond
        try:
            result = await app(self.scope, self.receive, self.send)  # type: ignore[func-returns-value]
        except BaseException as error:  # as uvicorn: whatever it is, the caller is told and the server goes on
            logger.error("Exception in ASGI application\n", exc_info=error)
            self._fail()
        else:
            if result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
                self._transport.close()
            elif not self.response_complete and not self.disconnected:
                missing = "completing" if self.response_started else "starting"
                logger.error("ASGI callable returned without %s response.", missing)
                self._fail()
        finally:
            self._connection.tasks.discard(self.task)
            state.pop("respond", None)  # or this object would hold itself

    def _fail(self) -> None:
        if self.response_started:
            self._transport.close()
        else:
            self.respond(
                500,
                [
                    (b"content-type", b"text/plain; charset=utf-8"),
                    (b"content-length", b"21"),
                    (b"connection", b"close"),
                ],
                b"Internal Server Error",
            )

    # The request's body

    def take(self, body: bytes) -> int:
        """Take a piece of the body; returns how many bytes wait for the application."""
        if not self._body:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        self.wake()
        return len(self._body)

    def wake(self) -> None:
        """Tell the application, now or when it asks, that something has happened."""
        self._news = True
        if self._waiting is not None:
            self._waiting.set()
            self._waiting = None

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI's `receive`."""
        if self._expected_to_continue and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expected_to_continue = False
        if not self.disconnected and not self.response_complete:
            flow = self._connection.flow
            if flow.read_paused:
                flow.resume_reading()
            if not self._news:
                if self._waiting is None:
                    self._waiting = asyncio.Event()
                await self._waiting.wait()
            self._news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self._body = self._body, b""
        return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}

    # The answer

    def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Give the whole answer: what `send` does with a head and the one piece of its body, without waiting.

        If the caller is slow to take it, no further request of this connection is begun until it has.

        Raises:
            RuntimeError: An answer was begun already; a header has an invalid name or value; the body is not as long as
                `content-length` says. Nothing of this answer was written.
        """
        if self.disconnected:
            return
        if self.response_started:
            raise RuntimeError("A response was started already.")
        head = self._head(status, headers)
        piece = self._piece(body, last=True)
        if self._body_bytes_due:
            raise RuntimeError("Response content shorter than Content-Length")
        if len(piece) <= _JOIN_BYTES:
            self._transport.write_now(head + piece)
        else:
            self._transport.write_now(head)
            self._transport.write_now(piece)
        self._complete()

    async def send(self, message: ASGISendEvent) -> None:
        """ASGI's `send`: waits while the caller is slow to read."""
        flow = self._connection.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()
        if self.disconnected:
            return
        if self.response_complete:
            raise RuntimeError(f"Unexpected ASGI message '{message['type']}' sent, after response already completed.")
        if not self.response_started:
            if message["type"] != "http.response.start":
                raise RuntimeError(f"Expected ASGI message 'http.response.start', but got '{message['type']}'.")
            self._transport.write(self._head(message["status"], message.get("headers", ())))
            return
        if message["type"] != "http.response.body":
            raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{message['type']}'.")
        last = not message.get("more_body", False)
        piece = self._piece(message.get("body", b""), last=last)
        if piece:
            self._transport.write(piece)
        if last:
            if self._body_bytes_due:
                raise RuntimeError("Response content shorter than Content-Length")
            self._complete()

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Status line and headers as they are sent; notes how the body is framed."""
        self.response_started = True
        self._expected_to_continue = False
        connection = self._connection
        if connection.access_log:
            connection.access_logger.info(
                '%s - "%s %s HTTP/%s" %d',
                get_client_addr(self.scope),
                self.scope["method"],
                get_path_with_query_string(self.scope),
                self.scope["http_version"],
                status,
            )
        if connection.server_state.default_headers:
            headers = [*connection.server_state.default_headers, *headers]
        closes = False
        head = STATUS_LINE[status]
        lines = [head[:-2]]
        for name, value in headers:
            start = _start_of_line(name)
            if start in _FRAMING:
                if start == b"content-length: ":
                    if self._chunked is None:
                        self._body_bytes_due, self._chunked = int(value), False
                elif start == b"connection: ":
                    closes = closes or b"close" in [token.strip() for token in value.lower().split(b",")]
                elif value.lower() == b"chunked":
                    self._body_bytes_due, self._chunked = 0, True
            lines.append(start + value)
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close")
        if self._chunked is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self._chunked = True
            lines.append(b"transfer-encoding: chunked")
        lines += (b"", b"")
        head = b"\r\n".join(lines)
        # One look at all lines is cheaper than one at each.
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(lines) - 1):
            raise RuntimeError("Invalid HTTP header value.")
        return head

    def _piece(self, body: bytes, *, last: bool) -> bytes:
        """A piece of the body as it is sent."""
        if self.scope["method"] == "HEAD":
            self._body_bytes_due = 0
            return b""
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return piece + b"0\r\n\r\n" if last else piece
        if len(body) > self._body_bytes_due:
            raise RuntimeError("Response content longer than Content-Length")
        self._body_bytes_due -= len(body)
        return body

    def _complete(self) -> None:
        self.response_complete = True
        if self._waiting is not None:
            self.wake()
        if not self.keep_alive:
            self._transport.close()
        self._connection.on_response_complete()


@functools.lru_cache(4096)
def _start_of_line(name: bytes) -> bytes:
    """`name: `, in lower case; raises RuntimeError if that is no name."""
    if _NOT_IN_NAMES.search(name):
        raise RuntimeError("Invalid HTTP header name.")
    return name.lower() + b": "
