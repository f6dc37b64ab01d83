"""What a department's own system is to an adapter: something that answers a request.

A source never sees the mesh's envelope and never decides who may ask; it maps one request to its system and back.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from exchange import AnswerTimeoutError, Headers


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


class SourceAnswer(msgspec.Struct, frozen=True, gc=False):
    """What the department's system answered, as it is. Names of headers are in lower case."""

    status: int
    headers: Headers
    body: bytes


class Source(Protocol):
    """One kind of system. Many requests run at once; `start` and `stop` are called once each."""

    async def start(self) -> None:
        """Open pools. Must not fail because the system is down: that is found out per request."""

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        """Return the system's answer, whatever its status. Cancelled at the deadline: a source needs no clock.

        Raises:
            BackendError: The system did not answer, or its answer cannot be passed on. It may be asked again.
            AnswerTimeoutError: Whether the system acted is unknown, and the request was one that makes it act.
            PayloadTooLargeError: Its answer is larger than may be passed on.
        """

    async def stop(self) -> None: ...


async def ask(source: Source, request: SourceRequest) -> SourceAnswer:
    """The source's answer, or AnswerTimeoutError at the deadline; raises what `Source.answer` raises."""
    # What asyncio.timeout does, at a fifth of its cost: it is paid for every question.
    task = asyncio.current_task()
    assert task is not None
    over = False

    def expire() -> None:
        nonlocal over
        over = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(request.timeout, expire)
    try:
        return await source.answer(request)
    except asyncio.CancelledError as cancelled:
        if not over or task.uncancel() > 0:
            raise
        raise AnswerTimeoutError(seconds=f"{request.timeout:g}") from cancelled
    except TimeoutError as error:
        raise AnswerTimeoutError(seconds=f"{request.timeout:g}") from error
    finally:
        timer.cancel()
