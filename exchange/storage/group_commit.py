"""Everything that waits while a transaction is on its way goes into the next one: under load each costs a share of a commit.

Rules:
1. Fail closed: what is not known to be written in time is refused. While the database is silent, at once: nobody queues
   behind what may never come.
2. What a caller no longer waits for is not written, unless it is on its way already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from exchange.errors import UnavailableError
from exchange.storage.database_writers import DatabaseFailedError

_Ask = TypeVar("_Ask")
_Answer = TypeVar("_Answer")


class GroupCommit(Generic[_Ask, _Answer]):
    """Gathers asks into transactions. Belongs to one event loop.

    Args:
        write: Carries out a batch in one transaction and returns an answer for each, in order; never called twice at a
            time. It raises DatabaseFailedError when it cannot be said what was written.
        unavailable: What callers are told then.
        name: For our events.
        timeout: Seconds in which an ask has to be on disk.
    """

    def __init__(
        self,
        write: Callable[[list[_Ask]], Awaitable[Sequence[_Answer]]],
        *,
        unavailable: type[UnavailableError],
        name: str,
        timeout: float,
    ) -> None:
        self._write = write
        self._unavailable = unavailable
        self._timeout = timeout
        self._waiting: dict[asyncio.Future[_Answer], _Ask] = {}
        self._writing: asyncio.Task[None] | None = None
        self._stalled = False
        self._name = name
        self._events = structlog.get_logger(f"datong.{name}")

    @property
    def waiting(self) -> int:
        """How many wait for the next transaction."""
        return len(self._waiting)

    @property
    def stalled(self) -> bool:
        """Whether the database is silent: whoever comes now is refused."""
        return self._stalled

    @property
    def busy(self) -> bool:
        """Whether a transaction is on its way."""
        return self._writing is not None

    async def submit(self, ask: _Ask) -> _Answer:
        """The answer, when it is on disk; raises `unavailable`."""
        if self._stalled:
            raise self._unavailable
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Answer] = loop.create_future()
        self._waiting[future] = ask
        if self._writing is None:
            self._writing = loop.create_task(self._run())
        try:
            async with asyncio.timeout(self._timeout):
                return await future
        except TimeoutError as error:
            if not self._stalled:
                self._events.error(f"{self._name}.stalled", seconds=self._timeout)
            self._stalled = True
            raise self._unavailable from error
        finally:
            self._waiting.pop(future, None)

    async def close(self) -> None:
        """Wait for what is being written; what comes later is refused by the database that is closed next."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=self._timeout)

    async def _run(self) -> None:
        """One transaction after another, as long as anyone waits."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                try:
                    answers = await self._write(list(batch.values()))
                except DatabaseFailedError as error:
                    self._events.error(f"{self._name}.write", error=str(error), asks=len(batch))
                    self._refuse(batch)
                except BaseException:
                    self._refuse(batch)  # a fault of ours: those who wait must not wait for it
                    raise
                else:
                    for future, answer in zip(batch, answers, strict=True):
                        if not future.done():
                            future.set_result(answer)
                finally:
                    self._stalled = False  # whatever it said, the database speaks again
        finally:
            self._writing = None

    def _refuse(self, batch: dict[asyncio.Future[_Answer], _Ask]) -> None:
        for future in batch:
            if not future.done():
                future.set_exception(self._unavailable())
