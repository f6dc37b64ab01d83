"""Answers that leave piece by piece: what a gateway asks for, when it asks, and at the end the department's word on the whole.

Rules:
1. Nothing is read from the department's system that no gateway has asked for: at most one part waits here.
2. A part is given once, in order, and counted into the digest as it leaves. So what is sealed at the end is what left, also of
   an answer that breaks off: then the seal is over what left of it, with the code of the error.
3. The ledger holds the question before the first part leaves, and the closing statement before a gateway gets it.
4. A system that drips is passed on as it drips: a part need not be full, but it leaves within seconds.
5. A stream for which nobody asks is given up. So is one of which its gateway says so.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from exchange import (
    CLOSING,
    PART_SIZE,
    PRESENT,
    AnswerBrokenError,
    BackendError,
    MeshError,
    PayloadTooLargeError,
)

DRIP_SECONDS: Final = 5.0
"""So long a part may wait to be full."""
STALL_SECONDS: Final = 115.0
"""A gateway that asks for nothing in this time is gone: none waits longer for its caller."""

Reply = Callable[[bytes, bytes], None]
"""Sends a message to where a reply is waited for."""


class Outgoing:
    """One answer on its way."""

    def __init__(self, stream: AsyncIterator[bytes], salt: bytes, *, max_answer: int, reply: Reply) -> None:
        """
        Args:
            stream: What the source gives.
            salt: Of the exchange.
            max_answer: Bytes of the body beyond which it is broken off.
        """
        self._stream = stream
        self._max_answer = max_answer
        self._reply = reply
        self._loop = asyncio.get_running_loop()
        self._digest = hashlib.sha256(salt)
        self.size = 0
        """Bytes that left."""
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        """Bytes that wait to leave."""
        self._next = 0
        self._asked: dict[int, bytes] = {}
        """Number of a part that is asked for -> where it goes."""
        self._woken = asyncio.Event()
        self._drip: asyncio.TimerHandle | None = None
        self._due = False
        """Whether what waits is to leave as soon as it is asked for."""
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._abandoned = False
        self._closing: bytes | None = None
        self._closing_to: bytes | None = None
        self._closed = asyncio.Event()

    @property
    def body_digest(self) -> str:
        """SHA-256 of salt and all that left, hex."""
        return self._digest.hexdigest()

    def asked(self, number: int, reply_to: bytes) -> None:
        """A gateway asks for part `number`, for the closing, or whether we are there."""
        if number == PRESENT:
            self._reply(reply_to, b"")
        elif number == CLOSING:
            self._closing_to = reply_to
            self._close()
        elif self._ended and not self._waiting:
            self._reply(reply_to, b"")
        elif self._next <= number < self._next + 2 * _MOST_ASKED:
            self._asked[number] = reply_to
            if number == self._next:
                self._woken.set()
                if self._due:
                    self._give()

    def abandon(self) -> None:
        """The gateway wants no more of it."""
        self._abandoned = True
        self._closed.set()
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> MeshError | None:
        """Give out the whole; returns why it broke off, or None. Then `close` is to be called, and `wait_closed`."""
        error: MeshError | None = None
        if self._abandoned:
            self._stream = _nothing()
        # A task of its own: cancelled, it leaves the one that asked to put the end on the ledger.
        self._task = asyncio.create_task(self._give_all())
        try:
            await asyncio.wait([self._task])
            if self._task.cancelled() or self._abandoned:
                error = AnswerBrokenError(problem="Nobody wants the rest.", problem_zh="对方不再接收。")
            elif isinstance(failure := self._task.exception(), MeshError):
                error = failure
            elif failure is not None:
                error = BackendError()
                error.__cause__ = failure
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        finally:
            self._ended = True
            self._pieces.clear()
            self._waiting = 0
            if self._drip is not None:
                self._drip.cancel()
            for reply_to in self._asked.values():
                self._reply(reply_to, b"")
            self._asked.clear()
        return error

    def close(self, closing: bytes) -> None:
        """Give out the closing message, when it is asked for."""
        self._closing = closing
        self._close()

    async def wait_closed(self) -> None:
        """Return when the closing was given out, or nobody came for it."""
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await self._closed.wait()
        except TimeoutError:
            pass

    def _close(self) -> None:
        if self._closing is not None and self._closing_to is not None:
            self._reply(self._closing_to, self._closing)
            self._closing_to = None
            self._closed.set()

    async def _give_all(self) -> None:
        async for piece in self._stream:
            if self.size + self._waiting + len(piece) > self._max_answer:
                raise PayloadTooLargeError(limit=self._max_answer)
            if not self._waiting:
                self._drip = self._loop.call_later(DRIP_SECONDS, self._give_drip)
            self._pieces.append(piece)
            self._waiting += len(piece)
            while self._waiting >= PART_SIZE:
                await self._give_next()
        while self._waiting:
            await self._give_next()

    async def _give_next(self) -> None:
        while not self._give():
            self._woken.clear()
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await self._woken.wait()
            except TimeoutError as error:
                raise AnswerBrokenError(problem="Nobody asks for more.", problem_zh="对方未继续接收。") from error

    def _give_drip(self) -> None:
        self._due = not self._give()

    def _give(self) -> bool:
        """Give out a part of what waits, if it was asked for; returns whether it was."""
        reply_to = self._asked.pop(self._next, None) if self._waiting else None
        if reply_to is None:
            return False
        taken: list[bytes] = []
        left = PART_SIZE
        pieces = self._pieces
        while pieces and left:
            piece = pieces.popleft()
            if len(piece) > left:
                pieces.appendleft(piece[left:])
                piece = piece[:left]
            taken.append(piece)
            left -= len(piece)
        part = b"".join(taken)
        self._next += 1
        self._waiting -= len(part)
        self.size += len(part)
        self._digest.update(part)
        if self._drip is not None:
            self._drip.cancel()
        self._drip = self._loop.call_later(DRIP_SECONDS, self._give_drip) if self._waiting else None
        self._due = False
        self._reply(reply_to, part)
        return True


_MOST_ASKED: Final = 32
"""More parts than any gateway asks for at once."""


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def pieces_of(body: bytes) -> AsyncIterator[bytes]:
    """A body that is in memory as a stream."""
    view = memoryview(body)
    for start in range(0, len(body), PART_SIZE):
        yield bytes(view[start : start + PART_SIZE])
