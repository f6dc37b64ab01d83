"""What a department's own system is to an adapter: something that answers a request.

A source never sees the mesh's envelope and never decides who may ask; it maps one request to its system and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from exchange import Headers


@dataclass(slots=True, frozen=True)
class SourceRequest:
    """One request for the department's system. `target` is path and query, normalised, starting with `/` or empty."""

    exchange_id: str
    method: str
    target: bytes
    headers: Headers
    body: bytes
    timeout: float
    """Seconds left until the gateway stops waiting."""


@dataclass(slots=True, frozen=True)
class SourceAnswer:
    """What the department's system answered, as it is."""

    status: int
    headers: Headers
    body: bytes


class Source(Protocol):
    """One kind of system. Many requests run at once; `start` and `stop` are called once each."""

    async def start(self) -> None:
        """Open pools. Must not fail because the system is down: that is found out per request."""

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        """Return the system's answer, whatever its status.

        Raises:
            BackendError: The system did not answer, or its answer cannot be passed on.
            AnswerTimeoutError: It did not answer in time; whether it acted is unknown.
            PayloadTooLargeError: Its answer is larger than may be passed on.
        """

    async def stop(self) -> None: ...
