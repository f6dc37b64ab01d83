"""A streamed answer on its way to the caller: passed on as it comes, all but its end."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque

import structlog
from msgspec import UNSET

from exchange.broker.answer_checks import AnswerChecks, Evidence, answer_too_large, error_from_adapter
from exchange.broker.query import Query
from exchange.bus.streams import HELD_BACK, LONGEST_STREAM, Fetching, Take
from exchange.errors import AnswerBrokenError, BadAnswerError, CallerGoneError, MeshError, OverloadedError
from exchange.messages.envelope import AnswerHead, Headers, OpeningStatement, content_digest, header_block

events = structlog.get_logger("datong.broker")


class Pouring:
    """One streamed answer: what was passed on of it, the end that is held back, and what the department said of the whole."""

    __slots__ = (
        "_checks",
        "_fetching",
        "_query",
        "_sealed",
        "_stall",
        "_stopped",
        "evidence",
        "headers",
        "held",
        "passed_on",
        "size",
        "status",
    )

    def __init__(
        self,
        query: Query,
        sealed: bytes,
        opening: OpeningStatement,
        headers: Headers,
        fetching: Fetching,
        checks: AnswerChecks,
        stall: float,
    ) -> None:
        """
        Args:
            sealed: The question's statement, as it was sent.
            opening: What was announced, found to count.
            stall: Seconds in which the answer's turn must come.
        """
        self._query = query
        self._sealed = sealed
        self._fetching = fetching
        self._checks = checks
        self._stall = stall
        self._stopped = False
        self.status = opening.status
        self.headers = headers
        self.size = None if opening.body_size is UNSET else opening.body_size
        self.passed_on = 0
        """Bytes that were taken."""
        self.held: deque[bytes] = deque()
        """Pieces that came and were not passed on, in order."""
        self.evidence: Evidence | None = None
        """What the department said of the whole, once it is there."""

    async def pass_on(self, take: Take, streams: asyncio.Semaphore) -> None:
        """Pass the answer on as it comes; return when its end is held, and the whole was found to be what was sealed.

        Args:
            streams: As many answers are passed on at once as it lets.

        Raises:
            MeshError: It broke, it is not the answer that was announced, or nobody takes it.
        """
        failure: MeshError | None = None
        waited = False
        try:
            try:
                async with asyncio.timeout(LONGEST_STREAM):
                    async with asyncio.timeout(self._stall):
                        waited = await streams.acquire()
                    digest, came = await self._flow(take)
                    closing = await self._fetching.closing()
            finally:
                self._fetching.leave()
            self._check_whole(closing, digest, came)
        except MeshError as error:
            failure = error
        except TimeoutError as error:
            failure = (
                AnswerBrokenError("answer-flows", problem="The answer took too long.", problem_zh="应答传输时间过长。")
                if waited
                else OverloadedError()
            )
            failure.__cause__ = error
        except asyncio.CancelledError as cancelled:
            self._stopped = True
            failure = AnswerBrokenError("gateway-stays", problem="The gateway was stopped.", problem_zh="网关已停止。")
            failure.__cause__ = cancelled
        except Exception as fault:  # noqa: BLE001 - a fault of ours must not lose the record
            events.exception("broker.fault", exchange=self._query.statement.id, error=repr(fault))
            failure = MeshError()
            failure.__cause__ = fault
        finally:
            if waited:
                streams.release()
        if failure is not None:
            if self.evidence is None:
                self._fetching.abandon()
            raise failure

    def told(self, failure: MeshError) -> int:
        """The status that the caller was told of a stream that broke; 0 if nothing."""
        if self.passed_on or self._stopped:  # stopped, it may have been in the middle of the first piece
            return self.status
        return 0 if isinstance(failure, CallerGoneError) else failure.status

    async def _flow(self, take: Take) -> tuple[str, int]:
        """Pass on what comes, but for the last pieces; the digest and the size of all that came."""
        query, size, held = self._query, self.size, self.held
        digest = hashlib.sha256(query.salt)
        came = 0
        async for part in self._fetching.parts():
            came += len(part)
            if came > (query.max_answer if size is None else size):
                raise answer_too_large(query) if size is None else _not_as_announced()
            digest.update(part)
            held.append(part)
            if len(held) > HELD_BACK:
                await take(held.popleft())
                self.passed_on = came - sum(map(len, held))
        return digest.hexdigest(), came

    def _check_whole(self, closing: AnswerHead, digest: str, came: int) -> None:
        """Return if the department says that this was all of its answer, and the one it announced."""
        query = self._query
        self.evidence = self._checks.check_closing(query, self._sealed, closing, digest, came)
        said = self.evidence.said
        if said.error:
            raise error_from_adapter(said, query)
        block = header_block(self.headers)
        if (said.status, said.headers_digest) != (self.status, content_digest(query.salt, block)):
            raise _not_as_announced()
        if self.size is not None and came != self.size:
            raise _not_as_announced()


def _not_as_announced() -> BadAnswerError:
    return BadAnswerError(
        "answer-opening",
        problem="The answer is not the one that was announced.",
        problem_zh="应答与开头所述不一致。",
    )
