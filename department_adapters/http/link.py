"""One connection to a department's HTTP server: one request, its answer, the next request. Nothing else.

No client library is used. The ones there are repeat requests by themselves when a kept connection turns out to be closed
(aiohttp: PUT and DELETE too), so that one exchange could act twice; and this costs a fifth of the CPU. The parser is
llhttp (through httptools), which refuses what could be read in two ways.
"""

from __future__ import annotations

import asyncio

import httptools

from department_adapters.source import SourceAnswer
from exchange import Headers, PayloadTooLargeError

MAX_HEAD = 64 << 10
"""Bytes of an answer's header names and values."""


class HttpLinkError(Exception):
    """The connection broke, or what came over it is not an answer; the message says which."""


class HttpLink(asyncio.Protocol):
    """The protocol of one connection. The parser calls the `on_...` methods."""

    def __init__(self, max_answer: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_answer = max_answer
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[SourceAnswer] | None = None
        self._method = ""
        self._headers: Headers = []
        self._head_size = 0
        self._length: int | None = None
        self._chunked = False
        self._status = 0
        self._answer_headers: Headers = []
        self._pieces: list[bytes] = []
        self._body_size = 0
        self.answering = False
        """Whether a byte of the answer to the last request has come."""
        self.reusable = False
        """Whether another request may be sent, the last one having been answered."""
        self.idle_since = 0.0

    def ask(self, method: str, request: bytes, body: bytes) -> asyncio.Future[SourceAnswer]:
        """Send one request, return the future answer; it fails with HttpLinkError or PayloadTooLargeError."""
        self._waiting = waiting = self._loop.create_future()
        self._method = method
        self.answering = self.reusable = False
        if self._transport is None:
            self._fail(HttpLinkError("closed before the request was sent"))
        elif len(body) < 64 << 10:
            self._transport.write(request + body)
        else:
            self._transport.write(request)
            self._transport.write(body)
        return waiting

    def close(self) -> None:
        """End the connection at once: an answer still on its way must never meet another request."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream's transport
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:
            self.close()  # nothing was asked
            return
        self.answering = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(HttpLinkError(f"not an HTTP answer: {error!r}"))

    def eof_received(self) -> None:
        if self._status and self._length is None and not self._chunked:
            self._finish(keep=False)  # a body without a length ends with the connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.reusable = False
        self._fail(HttpLinkError(f"the connection was closed: {exc or 'by the server'}"))

    # -- the parser

    def on_message_begin(self) -> None:
        if self._waiting is None:
            self.close()  # a second answer, which would be taken for that to the next request

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > MAX_HEAD:
            self._fail(HttpLinkError(f"the head is larger than {MAX_HEAD} bytes"))
            return
        name = name.lower()
        if name == b"content-length":
            self._length = int(value)
        elif name == b"transfer-encoding":
            self._chunked = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        if status < 200:
            self._length, self._chunked, self._head_size = None, False, 0
            if status == 101:
                self._fail(HttpLinkError("the server changed the protocol, which nobody asked for"))
            return
        if status > 599:
            self._fail(HttpLinkError(f"the status is {status}"))
            return
        self._status = status
        self._answer_headers = headers
        if self._method == "HEAD":
            keep = self._parser.should_keep_alive()
            # Or it would wait for the body whose length the head tells.
            self._parser = httptools.HttpResponseParser(self)
            self._finish(keep=keep)
        elif self._length is not None and self._length > self._max_answer:
            self._fail(PayloadTooLargeError(limit=self._max_answer))

    def on_body(self, body: bytes) -> None:
        if self._waiting is None:
            self.close()  # a body where none may be, or after one that was too large
            return
        self._body_size += len(body)
        if self._body_size > self._max_answer:
            self._fail(PayloadTooLargeError(limit=self._max_answer))
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._status:
            self._finish(keep=self._parser.should_keep_alive())

    # -- the end of a request

    def _finish(self, *, keep: bool) -> None:
        waiting = self._waiting
        if waiting is None:
            return
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        answer = SourceAnswer(self._status, self._answer_headers, body)
        self._waiting = None
        self._status = self._body_size = self._head_size = 0
        self._length, self._chunked = None, False
        self._headers, self._pieces = [], []
        # A server may answer before it has read the whole request; then the rest must not stand before the next one.
        transport = self._transport
        self.reusable = keep and transport is not None and not transport.get_write_buffer_size()
        if not self.reusable:
            self.close()
        if not waiting.done():
            waiting.set_result(answer)

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        self._status = 0
        self.close()
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
