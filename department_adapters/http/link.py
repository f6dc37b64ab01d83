"""One connection to a department's HTTP server: one request, its answer, the next request. Nothing else.

No client library is used. The ones there are repeat requests by themselves when a kept connection turns out to be closed
(aiohttp: PUT and DELETE too), so that one exchange could act twice; and this costs a fifth of the CPU. The parser is
llhttp (through httptools), which refuses what could be read in two ways.

A large answer is handed over when its size is known to be large, and read no faster than it is taken: the connection's
window does the rest. A large request is written as fast as the server reads it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

import httptools

from department_adapters.source import SourceAnswer
from exchange import INLINE_BODY, Headers, PayloadTooLargeError

MAX_HEAD = 64 << 10
"""Bytes of an answer's header names and values."""
READ_AHEAD = 256 << 10
"""Bytes of an answer that may wait to be taken."""


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
        self._stream_over: int | None = None
        self._stream: AnswerPieces | None = None
        self._sender: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.answering = False
        """Whether a byte of the answer to the last request has come."""
        self.reusable = False
        """Whether another request may be sent, the last one having been answered."""
        self.idle_since = 0.0

    def ask(
        self,
        method: str,
        request: bytes,
        body: bytes,
        *,
        streams: bool = False,
        pieces: AsyncIterator[bytes] | None = None,
    ) -> asyncio.Future[SourceAnswer]:
        """Send one request, return the future answer; it fails with HttpLinkError or PayloadTooLargeError.

        Args:
            streams: Whether a large answer is handed over as a stream, an `AnswerPieces`.
            pieces: More of the body, behind `body`.
        """
        self._waiting = waiting = self._loop.create_future()
        self._method = method
        self._stream_over = INLINE_BODY if streams else None
        self.answering = self.reusable = False
        if self._transport is None:
            self._fail(HttpLinkError("closed before the request was sent"))
        elif len(body) < 64 << 10:
            self._transport.write(request + body)
        else:
            self._transport.write(request)
            self._transport.write(body)
        if pieces is not None and self._transport is not None:
            self._sender = self._loop.create_task(self._send(pieces))
        return waiting

    async def _send(self, pieces: AsyncIterator[bytes]) -> None:
        """Write a body as fast as the server takes it. It may answer before it has read the whole, and while it reads."""
        try:
            async for piece in pieces:
                await self._writable.wait()
                if self._transport is None:
                    return
                self._transport.write(piece)
        except Exception as error:  # noqa: BLE001  # a task of its own: who waits for the answer hears of it
            self._fail(HttpLinkError(f"the request could not be read on: {error!r}"))

    def read_on(self, on: bool) -> None:
        """Read from the server, or let it wait."""
        if self._transport is not None and not self._transport.is_closing():
            if on:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def close(self) -> None:
        """End the connection at once: an answer still on its way must never meet another request."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream's transport
        self._transport = transport

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

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
        self._writable.set()
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
        elif self._length is not None and self._stream_over is not None and self._length > self._stream_over:
            self._begin_stream()

    def on_body(self, body: bytes) -> None:
        if self._waiting is None:
            self.close()  # a body where none may be, or after one that was too large
            return
        self._body_size += len(body)
        if self._body_size > self._max_answer:
            self._fail(PayloadTooLargeError(limit=self._max_answer))
        elif self._stream is not None:
            self._stream.feed(body)
        else:
            self._pieces.append(body)
            if self._stream_over is not None and self._body_size > self._stream_over:
                self._begin_stream()

    def on_message_complete(self) -> None:
        if self._status:
            self._finish(keep=self._parser.should_keep_alive())

    def _begin_stream(self) -> None:
        """Hand the answer over before it is whole."""
        waiting = self._waiting
        if waiting is None or waiting.done():
            return
        self._stream = stream = AnswerPieces(self, self._pieces)
        self._pieces = []
        waiting.set_result(SourceAnswer(self._status, self._answer_headers, b"", stream, self._length))

    # -- the end of a request

    def _finish(self, *, keep: bool) -> None:
        waiting = self._waiting
        if waiting is None:
            return
        stream, self._stream = self._stream, None
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        answer = SourceAnswer(self._status, self._answer_headers, body)
        self._waiting = None
        self._status = self._body_size = self._head_size = 0
        self._length, self._chunked = None, False
        self._headers, self._pieces = [], []
        # A server may answer before it has read the whole request; then the rest must not stand before the next one.
        transport = self._transport
        sent = self._end_sender()
        self.reusable = keep and sent and transport is not None and not transport.get_write_buffer_size()
        if not self.reusable:
            self.close()
        if stream is not None:
            stream.end(None)
        elif not waiting.done():
            waiting.set_result(answer)

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        stream, self._stream = self._stream, None
        self._status = 0
        self._end_sender()
        self.close()
        if stream is not None:
            stream.end(error)
        elif waiting is not None and not waiting.done():
            waiting.set_exception(error)

    def _end_sender(self) -> bool:
        """Write no more of the request; returns whether all of it was written."""
        sender, self._sender = self._sender, None
        if sender is None or sender.done():
            return True
        if sender is not asyncio.current_task():
            sender.cancel()
        return False


class AnswerPieces:
    """The body of an answer as it comes over a link; read by one, to its end or to `aclose`."""

    def __init__(self, link: HttpLink, pieces: list[bytes]) -> None:
        self._link = link
        self._pieces = deque(pieces)
        self._size = sum(map(len, pieces))
        self._paused = False
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.on_end: Callable[[], None] = lambda: None
        """Called once, when nobody reads it any more. The link is reusable then, or closed."""
        self.explain: Callable[[Exception], Exception] = lambda error: error
        """What an error of the link is for who reads."""

    def __aiter__(self) -> AnswerPieces:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                error = self._error
                await self.aclose()
                raise self.explain(error) from error
            if self._ended:
                await self.aclose()
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if self._paused and self._size <= READ_AHEAD // 2:
            self._paused = False
            self._link.read_on(True)
        return piece

    async def aclose(self) -> None:
        """Read no more: an answer that is not at its end takes its connection with it."""
        if not self._ended:
            self._link.close()
        elif self._paused:
            self._link.read_on(True)
        self._pieces.clear()
        on_end, self.on_end = self.on_end, lambda: None
        on_end()

    def feed(self, piece: bytes) -> None:
        """The link has more."""
        self._pieces.append(piece)
        self._size += len(piece)
        self._wake()
        if self._size > READ_AHEAD and not self._paused:
            self._paused = True
            self._link.read_on(False)

    def end(self, error: Exception | None) -> None:
        """The link has no more: that was all, or it broke."""
        self._ended, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
