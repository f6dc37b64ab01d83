"""A question on its way, and what crosses the bus in parts for it: a large question, a large answer that comes whole."""

from __future__ import annotations

import asyncio
import time

from exchange.broker.answer_checks import answer_too_large, inbox_of
from exchange.broker.query import Query
from exchange.broker.spool import Spooled
from exchange.bus.streams import fetch_parts, part_count, push_parts
from exchange.bus.transport import Bus, BusLostError, NoRespondersError
from exchange.errors import AnswerTimeoutError, BadAnswerError, BusUnavailableError, OverloadedError
from exchange.messages.envelope import INLINE_BODY, PART_SIZE, AnswerHead


class Carriage:
    """A question on its way: sealed and sent with others of the same turn."""

    __slots__ = ("deadline", "parts", "query", "reply", "seal", "sealed")

    def __init__(self, query: Query, sealed: bytes) -> None:
        self.query = query
        self.sealed = sealed
        self.seal: bytes | None = None
        """Set when it is sent."""
        self.parts = part_count(len(query.body)) if len(query.body) > INLINE_BODY else 0
        self.deadline = 0.0
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def send_parts(self, bus: Bus, inbox: str) -> bytes:
        """Bring the body's parts to the adapter that waits for them at `inbox`; returns its reply, raises as `push_parts`."""
        body = self.query.body

        async def part(number: int) -> bytes:
            start = number * PART_SIZE
            if isinstance(body, Spooled):
                return await body.read(start, PART_SIZE)
            assert isinstance(body, bytes)
            return body[start : start + PART_SIZE]

        return await push_parts(bus, inbox, self.query.statement.id, self.parts, part, self._left)

    async def fetch_parts(self, bus: Bus, answer: AnswerHead) -> bytes:
        """The whole body of an answer that is held at the adapter.

        Raises:
            BadAnswerError: It is too large, or not at a place of the owner's, or the adapter went away.
            AnswerTimeoutError, BusLostError: As `push_parts`.
        """
        query = self.query
        if not 0 < answer.parts <= part_count(query.max_answer):
            raise answer_too_large(query)
        inbox = inbox_of(query, answer)
        try:
            return await fetch_parts(bus, inbox, query.statement.id, answer.parts, self._left)
        except BusLostError:
            raise
        except (NoRespondersError, BusUnavailableError, OverloadedError) as error:
            # The department has acted and answered. To say that nobody is there would invite to try again.
            raise BadAnswerError(
                "answer-complete",
                problem="The adapter went away before its answer was fetched; the department has acted.",
                problem_zh="应答取回之前适配器已断开；部门已经处理。",
            ) from error

    def _left(self) -> float:
        left = self.deadline - time.perf_counter()
        if left <= 0:
            raise AnswerTimeoutError(seconds=f"{self.query.timeout:g}")
        return left
