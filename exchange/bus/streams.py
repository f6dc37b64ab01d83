"""Large bodies on the bus, as the gateway carries them: in parts, a few at a time, in order.

Rules:
1. An adapter may publish one reply to one message, so each part is a request of ours: the parts of a question are brought, those
   of an answer are asked for. So it is also we who set the pace: who takes nothing is sent nothing.
2. An answer comes piece by piece after an opening. Whether a piece is what the department says is known only when the closing
   is there, a statement over the whole: until then the last pieces are held back (`exchange.broker.pouring`).
3. What makes no progress for a while is given up. A department that went away is known sooner: it is asked whether it is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from exchange.bus.transport import Bus, NoRespondersError
from exchange.errors import AnswerBrokenError, AnswerTimeoutError, BadAnswerError, BusUnavailableError, OverloadedError
from exchange.messages.envelope import (
    ABANDON,
    CLOSING,
    INLINE_BODY,
    PART_SIZE,
    PRESENT,
    AnswerHead,
    EnvelopeError,
    PartHead,
    pack,
    unpack,
)

PARTS_IN_FLIGHT = 8
SLOWEST = 4 << 20
"""Bytes a second at which a large question may cross the bus: that is added to the time its service has for an answer."""
HELD_BACK = 2
"""Parts of an answer that are released only when it is on the record: so that more than the last byte is missing before."""
LONGEST_STREAM = 24 * 3600.0
"""Seconds after which a stream ends, whatever its progress: its intent is not open for ever."""
_LATE_SECONDS = 2.0
"""A part that has not come by then: is its adapter still there?"""
_REPLY_SECONDS = 110.0
"""The bus lets an adapter reply for 120 s. It never takes that long to send what it has (`department_adapters.streams`)."""

Take = Callable[[bytes], Awaitable[None]]
"""Takes the next piece of an answer, and returns when it may be given another; raises MeshError if there is no use."""


@dataclass(slots=True, frozen=True)
class AnswerStream:
    """The body of an answer that comes piece by piece. Whoever has it pours it, once: that is how it gets its record."""

    size: int | None
    """Bytes, if the department said so."""
    pour: Callable[[Take], Awaitable[None]]
    """Returns when the whole was taken, and is on the record as answered.

    Raises:
        MeshError: It broke, and that is on the record; or LogUnavailableError: the record is not durable. If nothing was
            taken yet, the error can be told to the caller; else the transfer must be seen to be incomplete.
    """


def part_count(size: int) -> int:
    """How many parts a body has."""
    return -(-size // PART_SIZE)


def carriage_seconds(size: int) -> float:
    """How much longer than its service's timeout a question may take whose body has `size` bytes."""
    return size / SLOWEST if size > INLINE_BODY else 0.0


async def push_parts(
    bus: Bus,
    inbox: str,
    exchange_id: str,
    parts: int,
    part: Callable[[int], Awaitable[bytes]],
    left: Callable[[], float],
) -> bytes:
    """Bring the parts of a question to an adapter; the reply to the last one, which goes when it has all others.

    Args:
        part: Number -> the part.
        left: Seconds until nobody waits; raises AnswerTimeoutError when there are none.

    Raises:
        NoRespondersError, BusUnavailableError, OverloadedError, AnswerTimeoutError: As `Bus.post` says.
    """
    loop = asyncio.get_running_loop()
    sent: deque[asyncio.Future[bytes]] = deque()
    try:
        for number in range(parts):
            data = await part(number)
            while sent and (len(sent) >= PARTS_IN_FLIGHT or number == parts - 1):
                await sent[0]
                sent.popleft()
            reply: asyncio.Future[bytes] = loop.create_future()
            sent.append(reply)
            bus.post(inbox, pack(PartHead(exchange_id, number, False), data), left(), reply)
        return await sent[0]
    finally:
        for reply in sent:
            _forget(reply)


async def fetch_parts(bus: Bus, inbox: str, exchange_id: str, parts: int, left: Callable[[], float]) -> bytes:
    """The whole of an answer that is held at the adapter; raises as `push_parts`."""

    async def fetch(number: int) -> bytes:
        return await bus.request(inbox, pack(PartHead(exchange_id, number, True)), left())

    pieces: list[bytes] = []
    for start in range(0, parts, PARTS_IN_FLIGHT):
        pieces += await asyncio.gather(*[fetch(number) for number in range(start, min(start + PARTS_IN_FLIGHT, parts))])
    return b"".join(pieces)


class Fetching:
    """An answer that an adapter streams: its parts in order, and then its closing."""

    def __init__(self, bus: Bus, inbox: str, exchange_id: str, stall: float) -> None:
        """
        Args:
            inbox: Of the adapter instance, found to be the owner's.
            stall: Seconds without a part after which it is given up.
        """
        self._bus = bus
        self._inbox = inbox
        self._id = exchange_id
        self._stall = stall
        self._loop = asyncio.get_running_loop()
        self._replies: deque[asyncio.Future[bytes]] = deque()
        self._next = 0

    async def parts(self) -> AsyncIterator[bytes]:
        """Each part, 1 to PART_SIZE bytes. The next ones are on their way, but no more than a few.

        Raises:
            AnswerBrokenError: The adapter went away, or sends nothing. BadAnswerError: it sends what is no part.
        """
        for _ in range(PARTS_IN_FLIGHT):
            self._ask_for_next()
        while part := await self._reply(self._replies[0]):
            if len(part) > PART_SIZE:
                raise BadAnswerError(
                    "answer-form", problem="A part of the answer is too large.", problem_zh="应答的分段过大。"
                )
            self._replies.popleft()
            self._ask_for_next()
            yield part

    async def closing(self) -> AnswerHead:
        """What ends the answer under the department's seal, not verified; raises as `parts`."""
        try:
            return unpack(AnswerHead, await self._reply(self._ask(CLOSING)))[0]
        except EnvelopeError as error:
            raise BadAnswerError(
                "answer-form", problem="The answer is not an envelope.", problem_zh="应答报文格式不正确。"
            ) from error

    def abandon(self) -> None:
        """Tell the adapter that nobody wants the rest."""
        self.leave()
        _forget(self._ask(ABANDON))

    def leave(self) -> None:
        """Wait for nothing any more."""
        for reply in self._replies:
            _forget(reply)
        self._replies.clear()

    def _ask_for_next(self) -> None:
        self._replies.append(self._ask(self._next))
        self._next += 1

    def _ask(self, number: int) -> asyncio.Future[bytes]:
        reply: asyncio.Future[bytes] = self._loop.create_future()
        self._bus.post(self._inbox, pack(PartHead(self._id, number, True)), _REPLY_SECONDS, reply)
        return reply

    async def _reply(self, reply: asyncio.Future[bytes]) -> bytes:
        try:
            until = self._loop.time() + self._stall
            while not reply.done():
                left = until - self._loop.time()
                await asyncio.wait([reply], timeout=min(left, _LATE_SECONDS))
                if reply.done():
                    break
                if left <= _LATE_SECONDS:
                    raise AnswerTimeoutError
                await self._bus.request(self._inbox, pack(PartHead(self._id, PRESENT, True)), left)
            return reply.result()
        except (NoRespondersError, BusUnavailableError, OverloadedError) as error:
            raise gone() from error
        except AnswerTimeoutError as error:
            raise AnswerBrokenError(
                "answer-flows",
                problem=f"The department sent nothing more for {self._stall:g} s.",
                problem_zh=f"提供部门超过 {self._stall:g} 秒未继续发送应答。",
            ) from error
        finally:
            _forget(reply)


def _forget(reply: asyncio.Future[bytes]) -> None:
    """Nobody will ask for this reply."""
    if not reply.cancel() and not reply.cancelled():
        reply.exception()  # or asyncio would complain that nobody did


def gone() -> AnswerBrokenError:
    """The adapter, or the bus, is not there any more."""
    return AnswerBrokenError(
        problem="The adapter or the bus went away before the answer was complete.",
        problem_zh="应答传完之前适配器或总线已断开。",
    )
