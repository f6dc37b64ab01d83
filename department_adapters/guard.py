"""What stands before a source: a bound on the questions at once, a breaker, and repeats of what may be repeated.

Rules:
1. Each service has turns of its own: so many questions at its system at once, so many that wait, the others are told to
   come back. A slow system fills its own turns and nobody else's.
2. The breaker opens when a system keeps failing: no answer, a broken connection, a timeout, or 502, 503 or 504, which say
   so in so many words. Any other answer is the system at work, also one that cannot be passed on; a request that was never
   put to it, and a fault in a source's own code, say nothing.
3. While the breaker is open, questions are refused at once. After a pause one is let through; its end decides.
4. Only a request that is declared to change nothing is repeated, only if the system may be asked again, a few times, and
   within its deadline. Once the head of an answer is here, nothing is repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

import structlog
from msgspec import structs

from department_adapters.source import NotAskedError, Source, SourceAnswer, SourceRequest, UnusableAnswerError
from exchange import AnswerTimeoutError, BackendError, BackendUnavailableError, OverloadedError

BreakerState = Literal["closed", "open", "half-open"]
Clock = Callable[[], float]

FAILING = frozenset({502, 503, 504})
"""Statuses by which a system, or a proxy before it, says that it does not work."""
UNREPEATED = (NotAskedError, UnusableAnswerError, OverloadedError)
"""Failures that say nothing about the system, and would be the same again."""
FIRST_PAUSE = 0.05
"""Seconds before the first repeat, give or take half; each later one waits twice as long."""

events = structlog.get_logger("datong.adapter")


class Turns:
    """Who may ask now. `take` before, `give_back` after, however it ended."""

    def __init__(self, concurrency: int = 64, queue: int = 256) -> None:
        """
        Args:
            concurrency: Questions at the system at once.
            queue: Questions that may wait for their turn.
        """
        self._free = concurrency
        self._limit = concurrency + queue
        self._held = 0
        # Not a semaphore, which costs several times as much. Who gives a turn back hands it to the first who waits, so that
        # there is a free one only while nobody waits.
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def held(self) -> int:
        """Questions that have a turn or wait for one."""
        return self._held

    async def take(self, deadline: float) -> float:
        """Wait for a turn.

        Args:
            deadline: time.perf_counter() after which nobody waits.

        Returns:
            Seconds waited.

        Raises:
            OverloadedError: As many wait as may.
            AnswerTimeoutError: No turn came before the deadline; then there is none to give back.
        """
        if self._held >= self._limit:
            raise OverloadedError
        self._held += 1
        if self._free:
            self._free -= 1
            return 0.0
        began = time.perf_counter()
        left = deadline - began
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(left):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give_back()  # it came as we gave up
            else:
                self._held -= 1
                with contextlib.suppress(ValueError):
                    self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise AnswerTimeoutError(seconds=f"{max(left, 0):g}") from error
            raise
        return time.perf_counter() - began

    def give_back(self) -> None:
        """The question that had the turn is done."""
        self._held -= 1
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Breaker:
    """Whether a system is asked at all. Pure, but for the clock it is given.

    Every question is admitted with a ticket, and its end is told with the same: what was asked before the breaker changed
    says nothing about the system since.
    """

    def __init__(
        self, *, failures: int = 10, window: float = 10.0, pause: float = 5.0, clock: Clock = time.monotonic
    ) -> None:
        """
        Args:
            failures: So many failures open it, if they come within `window` and no more questions succeed in between.
            window: Seconds.
            pause: Seconds until one question is let through.
        """
        self._window = window
        self._pause = pause
        self._clock = clock
        self._failures: deque[tuple[float, int]] = deque(maxlen=failures)  # when, and how many had succeeded by then
        self._successes = 0
        self._ticket = 0
        self._open_until: float | None = None
        self._probing = False
        self.trips = 0
        """How often it opened."""

    @property
    def state(self) -> BreakerState:
        """Half-open is the time from the end of the pause until the end of the one question that is let through."""
        if self._open_until is None:
            return "closed"
        return "half-open" if self._probing or self._clock() >= self._open_until else "open"

    def check(self) -> None:
        """Return if a question may be admitted now; raises BackendUnavailableError."""
        if self._open_until is not None and (self._probing or self._clock() < self._open_until):
            raise BackendUnavailableError

    def admit(self) -> int:
        """Let one question through; returns its ticket. Raises BackendUnavailableError."""
        if self._open_until is not None:
            self.check()
            self._probing = True
            self._ticket += 1
        return self._ticket

    def succeeded(self, ticket: int) -> bool:
        """The system answered; returns whether that closed the breaker."""
        if ticket != self._ticket:
            return False
        if self._open_until is None:
            self._successes += 1
            return False
        if not self._probing:
            return False
        self._open_until, self._probing = None, False
        self._ticket += 1
        return True

    def failed(self, ticket: int) -> bool:
        """The system failed; returns whether that opened the breaker."""
        if ticket != self._ticket:
            return False
        now = self._clock()
        if self._open_until is None:
            failures = self._failures
            failures.append((now, self._successes))
            first, succeeded_by_then = failures[0]
            if len(failures) != failures.maxlen or now - first > self._window:
                return False
            if self._successes - succeeded_by_then > len(failures):
                return False
        elif not self._probing:
            return False
        self._open_until, self._probing = now + self._pause, False
        self._failures.clear()
        self._ticket += 1
        self.trips += 1
        return True

    def unsaid(self, ticket: int) -> None:
        """The question's end says nothing about the system; if it was the one let through, another may be."""
        if ticket == self._ticket:
            self._probing = False


class Guarded:
    """A source behind its service's turns and breaker. It is a source itself.

    `answer` takes no turn: who asks takes one of `turns` first, for a turn must be had before an operation that changes
    something is put on the ledger, and is held until the whole answer has been read.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str = "",
        turns: Turns | None = None,
        breaker: Breaker | None = None,
        retries: int = 1,
        max_request: int | None = None,
        max_answer: int | None = None,
    ) -> None:
        """
        Args:
            source: What is asked.
            name: The service's code, for events.
            turns: Default: the limits' defaults.
            breaker: Default: one with its defaults.
            retries: How often a request that changes nothing is repeated at most.
            max_request, max_answer: Largest bodies in bytes, if the service has its own limits.
        """
        self.source = source
        self.max_request = max_request
        self.max_answer = max_answer
        self.turns = turns or Turns()
        self.breaker = breaker or Breaker()
        self._name = name
        self._retries = retries

    @property
    def takes_spooled(self) -> bool:
        """As the source's."""
        return getattr(self.source, "takes_spooled", False)

    async def start(self) -> None:
        """As the source's."""
        await self.source.start()

    async def stop(self) -> None:
        """As the source's."""
        await self.source.stop()

    def check(self) -> None:
        """Return if asking has any prospect now; raises BackendUnavailableError while the breaker is open."""
        self.breaker.check()

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        """The source's answer.

        Raises:
            BackendUnavailableError: The breaker is open; the system was not asked.
            Whatever the source raises.
        """
        # A clock of its own: the time a question waited for its turn is none of the system's.
        deadline = time.perf_counter() + request.timeout
        repeated = 0
        while True:
            try:
                return await self._ask(request)
            except UNREPEATED:
                raise
            except BackendError:
                pause = FIRST_PAUSE * 2**repeated * random.uniform(0.5, 1.5)
                left = deadline - time.perf_counter() - pause
                if not request.safe or repeated >= self._retries or left <= 0 or self.breaker.state != "closed":
                    raise
            repeated += 1
            await asyncio.sleep(pause)
            request = structs.replace(request, timeout=left)

    async def _ask(self, request: SourceRequest) -> SourceAnswer:
        ticket = self.breaker.admit()
        began = time.perf_counter()
        try:
            answer = await self.source.answer(request)
        except UNREPEATED:
            self.breaker.unsaid(ticket)
            raise
        except (BackendError, AnswerTimeoutError, OSError) as error:
            self._failed(ticket, repr(error.__cause__ or error))
            raise
        except asyncio.CancelledError:
            # At its deadline a question is cancelled; one that waited long for its turn gave the system little time.
            at_deadline = time.perf_counter() - began >= 0.99 * request.timeout
            if at_deadline and request.waited <= request.timeout:
                self._failed(ticket, "no answer in time")
            else:
                self.breaker.unsaid(ticket)
            raise
        except BaseException:
            self.breaker.unsaid(ticket)
            raise
        if answer.status in FAILING:
            self._failed(ticket, f"status {answer.status}")
        elif self.breaker.succeeded(ticket):
            events.info("adapter.breaker_closed", service=self._name)
        return answer

    def _failed(self, ticket: int, cause: str) -> None:
        if self.breaker.failed(ticket):
            events.error("adapter.breaker_opened", service=self._name, trips=self.breaker.trips, cause=cause)
