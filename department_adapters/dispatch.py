"""What becomes of a question: it is refused, or its answer is sealed, put on the ledger, and handed out.

Rules:
1. Seal, put on the ledger, and only then hand out. What the ledger does not take is withheld; that it was is told as far as
   it can be: of what was done it is not said that it was not.
2. An error discloses nothing, so it may leave without a line on the ledger. So does a refusal, whose reason stays in our log.
3. One reply per message: that is all the bus lets an adapter send. A body that does not fit in it is kept, to be fetched in parts
   (`department_adapters.large_bodies`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import structlog

from department_adapters.answers import AnswerDesk, Release, passed_on
from department_adapters.discovery import ServiceCounts
from department_adapters.parts import PartStore
from department_adapters.questions import RefusedQuestionError
from department_adapters.release import ReleasedAnswer
from department_adapters.source import SourceAnswer
from department_adapters.streams import Reply
from exchange import (
    INLINE_BODY,
    AnswerHead,
    AnswerTimeoutError,
    LogUnavailableError,
    MeshError,
    OverloadedError,
    PayloadTooLargeError,
    QueryHead,
    QueryStatement,
    QuestionRefusedError,
    ServiceId,
    content_digest,
    pack,
    part_count,
)

events = structlog.get_logger("datong.adapter")


class Question:
    """A question that came to a service, and where its answer goes."""

    __slots__ = ("counts", "deadline", "head", "reply_to", "service", "started", "statement")

    def __init__(
        self,
        service: ServiceId,
        counts: ServiceCounts,
        statement: QueryStatement,
        head: QueryHead,
        reply_to: bytes,
        started: float,
    ) -> None:
        self.service = service
        self.counts = counts
        self.statement = statement
        self.head = head
        self.reply_to = reply_to
        self.started = started
        self.deadline = started
        """time.perf_counter() after which nobody waits; set when the question is found to count."""


class DispatchDesk:
    """Sends out what a question gets."""

    def __init__(self, answers: AnswerDesk, parts: PartStore, *, inbox: str, reply: Reply) -> None:
        """
        Args:
            answers: Seals, and puts on the ledger. Another may take its place while questions are answered.
            parts: Where large answers wait to be fetched.
            inbox: The subject where their parts are asked for.
        """
        self.answers = answers
        self.inbox = inbox
        self.reply = reply
        self._parts = parts

    def refuse(self, question: Question, refusal: RefusedQuestionError) -> None:
        question.counts.refused += 1
        question.counts.last_error = QuestionRefusedError.code
        events.warning("adapter.refused", exchange=question.statement.id, reason=str(refusal))
        error = QuestionRefusedError()
        desk = self.answers
        head = question.head
        nothing = content_digest(head.salt, b"")
        sealed = desk.statement(question.statement, head, error.status, [], nothing, 0, error.code)
        self.reply(question.reply_to, pack(AnswerHead(sealed, desk.seal(sealed), [])))

    def check_room(self, statement: QueryStatement, answer: ReleasedAnswer) -> None:
        size = len(answer.body)
        if statement.safe and size > INLINE_BODY and not self._parts.has_room(size):
            raise OverloadedError

    def release(self, question: Question, outcome: ReleasedAnswer | MeshError) -> None:
        """Seal, put on the ledger, and only then hand out."""
        if isinstance(outcome, MeshError):
            code, answer = outcome.code, ReleasedAnswer(outcome.status, [], b"")
        else:
            code, answer = "", outcome
        head, body = question.head, answer.body
        desk = self.answers  # one for all of this: the statement names the certificate that seals it
        sealed = desk.statement(
            *(question.statement, head, answer.status, answer.headers, content_digest(head.salt, body), len(body)),
            *(code, answer.withheld, answer.masked),
        )
        # An error discloses nothing, so it may leave without an entry.
        unrecorded = partial(desk.seal, sealed) if code else None
        desk.release(
            Release(head.statement, head.seal, sealed, partial(self._let_go, question, answer, sealed, unrecorded))
        )

    def _withhold(self, question: Question) -> None:
        """The ledger does not take an answer: tell what can be told."""
        # Of what was done it must not be said that it was not, or it would be done again.
        safe = question.statement.safe
        error = LogUnavailableError() if safe else AnswerTimeoutError(seconds=f"{question.head.budget_ms / 1000:g}")
        question.counts.errors += 1
        question.counts.last_error = error.code
        events.error("adapter.not_released", exchange=question.statement.id, code=error.code)
        self.release(question, error)

    def _let_go(
        self,
        question: Question,
        answer: ReleasedAnswer,
        sealed: bytes,
        unrecorded: Callable[[], bytes] | None,
        seal: bytes | None,
    ) -> None:
        """Hand out what the ledger holds.

        Args:
            sealed: The statement on the answer.
            unrecorded: Makes the seal of what may leave although the ledger does not take it.
            seal: None if the ledger does not take it.
        """
        if seal is None:
            if unrecorded is None:
                self._withhold(question)
                return
            seal = unrecorded()
        headers, body = answer.headers, answer.body
        if len(body) <= INLINE_BODY:
            message = pack(AnswerHead(sealed, seal, headers), body)
        else:
            self._parts.keep(question.statement.id, body, question.deadline - time.perf_counter())
            message = pack(AnswerHead(sealed, seal, headers, parts=part_count(len(body)), inbox=self.inbox))
        self.reply(question.reply_to, message)
        question.counts.note_answer(question.started, time.perf_counter())


def to_release(answer: SourceAnswer, max_answer: int) -> ReleasedAnswer:
    """What of a source's answer leaves the department; raises MeshError or ValueError if it cannot."""
    if len(answer.body) > max_answer:
        raise PayloadTooLargeError(limit=max_answer)
    if not 200 <= answer.status <= 599:
        raise ValueError(f"the source answered with status {answer.status}")
    return ReleasedAnswer(answer.status, passed_on(answer.headers), answer.body)
