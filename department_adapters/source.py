"""What a department's own system is to an adapter: something that answers a request.

A source never sees the mesh's envelope and never decides who may ask; it maps one request to its system and back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from exchange import AnswerTimeoutError, BackendError, Headers, PayloadTooLargeError, Spooled


class SourceRequest(msgspec.Struct, frozen=True, gc=False):
    """One request for the department's system."""

    exchange_id: str
    method: str
    target: bytes
    """Path and query, normalised: empty, or starting with `/` or `?`."""
    headers: Headers
    body: bytes
    timeout: float
    """Seconds left until nobody waits any more."""
    safe: bool = False
    """Whether the operation changes nothing, so that it may be repeated. The registry says so, not the method."""
    waited: float = 0.0
    """Seconds it has waited for its turn."""
    streams: bool = False
    """Whether the answer may have a `stream`: whoever asks then reads it, or closes it."""
    spooled: Spooled | None = None
    """In place of `body`, if that is large: only for sources with `takes_spooled`."""


class SourceAnswer(msgspec.Struct, frozen=True, gc=False):
    """What the department's system answered, as it is. Names of headers are in lower case."""

    status: int
    headers: Headers
    body: bytes
    stream: AsyncIterator[bytes] | None = None
    """In place of `body`, if that is large: read once, no faster than it can be sent. Its `aclose`, if it has one, is called."""
    size: int | None = None
    """Bytes that the stream will have, if that is known."""


class NotAskedError(BackendError):
    """The request was not put to the system, and never can be: that says nothing about how the system is."""


class UnusableAnswerError(BackendError):
    """The system answered, and what it said cannot be passed on: it is at work, and asking again would change nothing."""


class Source(Protocol):
    """One kind of system. Many requests run at once; `start` and `stop` are called once each.

    A source with an attribute `takes_spooled` that is true gets large bodies as `SourceRequest.spooled`; others get them in
    memory, up to a limit.
    """

    async def start(self) -> None:
        """Open pools. Must not fail because the system is down: that is found out per request."""

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        """Return the system's answer, whatever its status. Cancelled at the deadline: a source needs no clock.

        Raises:
            BackendError: The system did not answer, or its answer cannot be passed on. It may be asked again.
            NotAskedError: It was not asked, for a reason that lies in the request.
            UnusableAnswerError: It answered what cannot be passed on, and would again.
            AnswerTimeoutError: Whether the system acted is unknown, and the request was one that makes it act.
            PayloadTooLargeError: Its answer is larger than may be passed on.
        """

    async def stop(self) -> None: ...


async def close_stream(answer: SourceAnswer) -> None:
    """Let go of what an answer's stream holds; for one that is not read to its end, or is."""
    close = getattr(answer.stream, "aclose", None)
    if close is not None:
        await close()


async def begun(answer: SourceAnswer, inline: int) -> SourceAnswer:
    """An answer whose stream is known to be large: another becomes a body.

    Args:
        inline: Bytes up to which it is a body.
    """
    stream = answer.stream
    if stream is None or (answer.size is not None and answer.size > inline):
        return answer
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in stream:
            pieces.append(piece)
            size += len(piece)
            if size > inline:
                return SourceAnswer(answer.status, answer.headers, b"", _Resumed(pieces, answer), answer.size)
    except BaseException:
        await close_stream(answer)
        raise
    await close_stream(answer)
    return SourceAnswer(answer.status, answer.headers, b"".join(pieces))


async def whole(answer: SourceAnswer, limit: int) -> SourceAnswer:
    """An answer with its body in memory; raises PayloadTooLargeError beyond `limit` bytes, and what the stream raises."""
    stream = answer.stream
    if stream is None:
        return answer
    pieces: list[bytes] = []
    left = limit
    try:
        async for piece in stream:
            left -= len(piece)
            if left < 0:
                raise PayloadTooLargeError(limit=limit)
            pieces.append(piece)
    finally:
        await close_stream(answer)
    return SourceAnswer(answer.status, answer.headers, b"".join(pieces))


class _Resumed:
    """A stream of which some pieces have been read already."""

    def __init__(self, pieces: list[bytes], answer: SourceAnswer) -> None:
        self._pieces = pieces[::-1]
        self._answer = answer
        assert answer.stream is not None
        self._rest = answer.stream

    def __aiter__(self) -> _Resumed:
        return self

    async def __anext__(self) -> bytes:
        return self._pieces.pop() if self._pieces else await anext(self._rest)

    async def aclose(self) -> None:
        await close_stream(self._answer)


async def ask(source: Source, request: SourceRequest, *, inline: int = 0, limit: int | None = None) -> SourceAnswer:
    """The source's answer, or AnswerTimeoutError at the deadline; raises what `Source.answer` raises.

    Args:
        inline: Of an answer that streams, so many bytes are waited for; one that has no more is a body.
        limit: Bytes of the body if there must be no stream; None: there may be one.
    """
    # What asyncio.timeout does, at a fifth of its cost: it is paid for every question.
    loop = asyncio.get_running_loop()
    task = asyncio.current_task(loop)
    assert task is not None
    over = False

    def expire() -> None:
        nonlocal over
        over = True
        task.cancel()

    timer = loop.call_later(request.timeout, expire)
    try:
        answer = await source.answer(request)
        if answer.stream is not None:
            return await (begun(answer, inline) if limit is None else whole(answer, limit))
        return answer
    except asyncio.CancelledError as cancelled:
        if not over or task.uncancel() > 0:
            raise
        raise AnswerTimeoutError(seconds=f"{request.timeout:g}") from cancelled
    except TimeoutError as error:
        raise AnswerTimeoutError(seconds=f"{request.timeout:g}") from error
    finally:
        timer.cancel()
