"""Large bodies on their way: questions that arrive in parts, answers that are fetched in parts or leave piece by piece.

Rules:
1. One reply per message: that is all the bus lets an adapter send. Parts of large bodies are asked of it one by one.
2. A large answer leaves piece by piece (`department_adapters.streams`): its question is on the ledger before the first piece,
   and its end on the ledger before the gateway is told that it is the end. Only under release terms it is whole in memory.
3. A question whose body comes in parts is tried before the first part is asked for, and again when it is whole: then it is
   answered like any other, as the reply to its last part.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from department_adapters.answers import Ledger, Release
from department_adapters.dispatch import DispatchDesk, Question, to_release
from department_adapters.parts import PartStore, Upload
from department_adapters.questions import QuestionDesk, RefusedQuestionError
from department_adapters.release import ReleasedAnswer
from department_adapters.services import Services
from department_adapters.source import SourceAnswer, close_stream
from department_adapters.streams import Outgoing
from exchange import (
    ABANDON,
    STREAMED,
    AnswerHead,
    AnswerTimeoutError,
    BackendError,
    Body,
    EnvelopeError,
    LogUnavailableError,
    MeshError,
    PartHead,
    PayloadTooLargeError,
    SpoolRoomError,
    pack,
    part_count,
    read_query_statement,
    unpack,
)

MOST_STREAMS = 32
"""Answers that are read and sent piece by piece at once; each takes some 2 MB."""

events = structlog.get_logger("datong.adapter")


class LargeBodies:
    """Takes and gives what does not fit in a message."""

    def __init__(
        self,
        *,
        services: Services,
        questions: QuestionDesk,
        ledger: Ledger,
        desk: DispatchDesk,
        parts: PartStore,
        max_whole: int,
        answer: Callable[[Question, Body], Coroutine[Any, Any, None]],
        start_task: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """
        Args:
            parts: What `desk` keeps large answers in, too.
            max_whole: Largest request body in bytes to a source that takes no files.
            answer: Answers a question whose body is whole.
            start_task: Lets work go on by itself.
        """
        self._services = services
        self._questions = questions
        self._ledger = ledger
        self._desk = desk
        self._parts = parts
        self.max_whole = max_whole
        self._answer = answer
        self._start_task = start_task
        self._streams: dict[str, Outgoing] = {}
        self._streaming = asyncio.Semaphore(MOST_STREAMS)

    # -- questions

    def await_parts(self, question: Question) -> None:
        """Say where the parts of a question's body are to go, if the question counts so far."""
        statement, head, counts = question.statement, question.head, question.counts
        try:
            budget = self._questions.check(question.service, statement, head, None)
            if head.parts != part_count(statement.request_size):
                raise RefusedQuestionError(f"{head.parts} parts do not make {statement.request_size} bytes")
            if statement.request_size > self.max_whole and not getattr(
                self._services.sources[question.service], "takes_spooled", False
            ):
                raise RefusedQuestionError(f"this kind of source takes no body of more than {self.max_whole} bytes")
        except RefusedQuestionError as refusal:
            self._desk.refuse(question, refusal)
            return
        try:
            self._parts.expect(statement.id, head, question.service, statement.request_size, question.started, budget)
        except SpoolRoomError as error:
            question.deadline += budget
            counts.errors += 1
            counts.last_error = error.code
            self._desk.release(question, error)
            return
        self._desk.reply(question.reply_to, pack(AnswerHead(b"", b"", [], inbox=self._desk.inbox)))

    def take_part(self, _: bytes, reply_to: bytes, message: bytes, __: bool) -> None:
        try:
            head, data = unpack(PartHead, message)
        except EnvelopeError as error:
            events.warning("adapter.refused", reason=str(error))
            return
        if head.fetch:
            self._give_part(head, reply_to)
            return
        upload, fresh = self._parts.take(head, data)
        if upload is not None and fresh:
            self._start_task(self._put_part(upload, head, data, reply_to))
        elif upload is not None:
            self._desk.reply(reply_to, b"")

    async def _put_part(self, upload: Upload, head: PartHead, data: bytes, reply_to: bytes) -> None:
        """Write one part of a question's body; when it was the last, answer the question, as the reply to this part."""
        try:
            await upload.put(head.number, data)
            if not upload.whole:
                self._desk.reply(reply_to, b"")
            elif self._parts.hand_over(head.exchange_id, upload):
                try:
                    await self._serve_upload(upload, reply_to)
                finally:
                    upload.body.close()
        except Exception as error:  # noqa: BLE001  # the end of a task, as in `Runner._serve`
            events.exception("adapter.no_answer", service=upload.service, error=repr(error))

    async def _serve_upload(self, upload: Upload, reply_to: bytes) -> None:
        """Answer a question whose body has arrived."""
        statement = read_query_statement(upload.head.statement)
        counts = self._services.endpoints[upload.service].counts
        question = Question(upload.service, counts, statement, upload.head, reply_to, upload.started)
        if upload.failure is not None:
            counts.errors += 1
            counts.last_error = upload.failure.code
            self._desk.release(question, upload.failure)
        elif not upload.fits:
            self._desk.refuse(question, RefusedQuestionError("the parts are not of the size that was sealed"))
        else:
            await self._answer(question, upload.body)

    # -- answers

    def _give_part(self, head: PartHead, reply_to: bytes) -> None:
        outgoing = self._streams.get(head.exchange_id)
        if outgoing is None:
            part = self._parts.give(head)
            if part is not None:  # None: fetched after its time, and the gateway's deadline speaks
                self._desk.reply(reply_to, part)
        elif head.number == ABANDON:
            outgoing.abandon()
            self._desk.reply(reply_to, b"")
        else:
            outgoing.asked(head.number, reply_to)

    async def stream(self, question: Question, given: SourceAnswer, max_answer: int) -> None:
        """Release an answer piece by piece, and put its end on the ledger; raises MeshError or ValueError before it begins."""
        statement, head, counts = question.statement, question.head, question.counts
        try:
            if given.size is not None and given.size > max_answer:
                raise PayloadTooLargeError(limit=max_answer)
            answer = to_release(given, max_answer)
            if statement.safe:
                await self._ledger.intend(head.statement, head.seal)
            assert given.stream is not None
            outgoing = Outgoing(given.stream, head.salt, max_answer=max_answer, reply=self._desk.reply)
            opening = self._desk.answers.opening(statement, head, answer.status, answer.headers, given.size)
            self._streams[statement.id] = outgoing
            try:
                self._desk.reply(
                    question.reply_to, pack(AnswerHead(*opening, answer.headers, STREAMED, self._desk.inbox))
                )
                async with self._streaming:
                    error = _end_of(await outgoing.run(), statement.safe)
                    await close_stream(given)
                if error is not None:
                    counts.errors += 1
                    counts.last_error = error.code
                    events.warning(
                        "adapter.broke_off", exchange=statement.id, code=error.code, cause=repr(error.__cause__)
                    )
                self._release_end(question, answer, outgoing, error)
                await outgoing.wait_closed()
            finally:
                del self._streams[statement.id]
        finally:
            await close_stream(given)

    def _release_end(
        self, question: Question, answer: ReleasedAnswer, outgoing: Outgoing, error: MeshError | None
    ) -> None:
        """Seal the whole of what left, put it on the ledger, and only then say that it is the whole."""
        statement, head = question.statement, question.head
        digest, size = outgoing.body_digest, outgoing.size
        desk = self._desk.answers
        if error is None:
            sealed = desk.statement(statement, head, answer.status, answer.headers, digest, size, "")
        else:
            sealed = desk.statement(statement, head, error.status, [], digest, size, error.code)

        def let_go(seal: bytes | None) -> None:
            if seal is not None:
                outgoing.close(pack(AnswerHead(sealed, seal, [])))
                question.counts.note_answer(question.started, time.perf_counter())
            elif error is None:
                # Without its line the answer is none, though most of it left: that it began is on the ledger.
                events.error("adapter.not_released", exchange=statement.id, code=LogUnavailableError.code)
                self._release_end(question, answer, outgoing, _end_of(LogUnavailableError(), statement.safe))
            else:
                outgoing.close(pack(AnswerHead(sealed, desk.seal(sealed), [])))

        desk.release(Release(head.statement, head.seal, sealed, let_go))


def _end_of(error: MeshError | None, safe: bool) -> MeshError | None:
    """What the end of a stream is told as: of an operation that may have changed something, that nobody knows."""
    failed: MeshError
    if safe and isinstance(error, AnswerTimeoutError):
        failed = BackendError()
    elif not safe and isinstance(error, BackendError | LogUnavailableError):
        failed = AnswerTimeoutError(seconds="0")
    else:
        return error
    failed.__cause__ = error.__cause__ or error
    return failed
