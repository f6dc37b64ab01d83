"""An adapter at work: takes questions from the bus, answers them from its sources under the department's seal.

Rules:
1. Only a question that counts (`department_adapters.questions`) reaches a source. Anything else gets no data.
2. Before an unsafe operation touches the department's system, the ledger holds it durably; before an answer is released,
   the ledger holds that it was.
3. Many questions run at once up to a limit; some wait; more are told to come back. Work past its deadline is dropped.
4. Where a grant releases only some items, the rest leaves neither the department nor a trace (`department_adapters.release`).
5. What goes wrong inside is logged here under the exchange id; the gateway is told only which kind of failure it was.
6. One reply per message: that is all the bus lets an adapter send. Parts of large bodies are asked of it one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

import structlog
from cryptography import x509
from msgspec import UNSET
from nats.micro.service import ServiceConfig

from department_adapters.answers import AnswerDesk, Ledger, Release, passed_on
from department_adapters.discovery import Discovery, ServedEndpoint, ServiceCounts
from department_adapters.parts import PartStore, Upload, part_count
from department_adapters.questions import QuestionDesk, RefusedQuestionError
from department_adapters.release import ReleasedAnswer, asking_for_all, terms_of, within
from department_adapters.signed_questions import SignatureDesk
from department_adapters.source import Source, SourceAnswer, SourceRequest, ask
from exchange import (
    AnswerHead,
    AnswerTimeoutError,
    BackendError,
    EnvelopeError,
    Headers,
    LogUnavailableError,
    MeshError,
    OverloadedError,
    PartHead,
    PayloadTooLargeError,
    PrivateKey,
    PublicKey,
    QueryHead,
    QueryStatement,
    QuestionRefusedError,
    ReleaseError,
    ServiceId,
    ServingBus,
    Subscription,
    SubsystemId,
    pack,
    read_query_statement,
    service_nats_subject,
    subject_token,
    unpack,
)

INLINE_BODY = 512 << 10
MAX_HELD = 512 << 20
"""Bytes of large bodies held at once."""
LEAVE_SECONDS = 2.0
QUEUE_GROUP = "adapters"

events = structlog.get_logger("datong.adapter")

Take = Callable[[bytes, bytes, bytes, bool], None]


class _Question:
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


class Runner:
    """Serves the services of one subsystem."""

    def __init__(
        self,
        *,
        bus: Callable[[Sequence[Subscription]], ServingBus],
        name: str,
        version: str,
        description: str,
        subsystem: SubsystemId,
        sources: Mapping[str, Source],
        ledger: Ledger,
        key: PrivateKey,
        fingerprint: str,
        gateways: Mapping[str, PublicKey],
        concurrency: int = 64,
        queue: int = 256,
        max_request: int = 64 << 20,
        max_answer: int = 64 << 20,
        callers: Sequence[x509.Certificate] = (),
        signed: Collection[str] = (),
    ) -> None:
        """
        Args:
            bus: Makes a connection to the bus as this subsystem, which takes what comes on the subscriptions.
            sources: Service code -> what answers it.
            key, fingerprint: The registered adapter certificate's key and SHA-256, to seal answers with.
            gateways: Fingerprint -> public key of the gateways whose seals are accepted.
            concurrency: Questions at the sources at once.
            queue: Questions that may wait for their turn.
            max_request, max_answer: Largest bodies in bytes.
            callers: CAs whose certificates sign requests.
            signed: Codes of the services that take questions only if the caller's own key signed them.
        """
        self._sources = {ServiceId(f"{subsystem}/{code}"): source for code, source in sources.items()}
        self._endpoints = {
            service: ServedEndpoint(service, service_nats_subject(service), QUEUE_GROUP) for service in self._sources
        }
        self._ledger = ledger
        demanded = [ServiceId(f"{subsystem}/{code}") for code in signed]
        self._questions = QuestionDesk(gateways, max_request, signatures=SignatureDesk(callers, demanded))
        self._answers = AnswerDesk(key, fingerprint, ledger)
        self._slots = asyncio.Semaphore(concurrency)
        self._limit = concurrency + queue
        self._in_progress = 0
        self._max_answer = max_answer
        self._parts = PartStore(max(MAX_HELD, max_request, max_answer))
        self._tasks: set[asyncio.Task[None]] = set()
        self._metadata = {"subsystem": subsystem, "certificate": fingerprint}
        self._discovery = Discovery(
            ServiceConfig(name=name, version=version, description=description, metadata=self._metadata),
            list(self._endpoints.values()),
        )
        self._inbox = f"dt.i.{subject_token(subsystem)}.{self._discovery.id}"
        self._bus = bus(
            [
                *[Subscription(each.nats_subject, self._taker(each), QUEUE_GROUP) for each in self._endpoints.values()],
                Subscription(self._inbox, self._take_part),
                *[Subscription(subject, self._teller(tell)) for subject, tell in self._discovery.subjects()],
            ]
        )

    @property
    def instance(self) -> str:
        """Identifier of this instance in service discovery."""
        return self._discovery.id

    def counts(self) -> dict[ServiceId, ServiceCounts]:
        """Counts of each service since the start."""
        return {service: endpoint.counts for service, endpoint in self._endpoints.items()}

    async def start(self) -> None:
        """Open the sources, and listen for questions as soon as the bus is there."""
        for source in self._sources.values():
            await source.start()
        self._bus.start()

    def seal_as(self, key: PrivateKey, fingerprint: str) -> None:
        """Seal with another certificate from now on; an answer that is being made keeps the one that it names."""
        self._answers = AnswerDesk(key, fingerprint, self._ledger)
        self._metadata["certificate"] = fingerprint

    async def wait_connected(self) -> None:
        """Return when questions are taken."""
        await self._bus.wait_connected()

    async def stop(self, grace: float = 10.0) -> None:
        """Take no more questions, finish those in progress (at most `grace` seconds), close the sources."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                # Drained, not cut: what the bus has already given to us would be lost without a word.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LEAVE_SECONDS):
                        await self._bus.leave([each.nats_subject for each in self._endpoints.values()])
                while self._tasks:
                    await asyncio.wait(self._tasks)
                # Answers that wait to be fetched in parts were released: their gateways may have them.
                await self._parts.empty.wait()
        for task in self._tasks:
            task.cancel()
        await self._bus.stop()
        for source in self._sources.values():
            await source.stop()

    def _taker(self, endpoint: ServedEndpoint) -> Take:
        service, counts = endpoint.service, endpoint.counts

        def take(_: bytes, reply_to: bytes, message: bytes, __: bool) -> None:
            # A task for each, so that one slow question holds up nobody.
            self._start_task(self._serve(service, counts, reply_to, message))

        return take

    def _teller(self, tell: Callable[[], bytes]) -> Take:
        def take(_: bytes, reply_to: bytes, __: bytes, ___: bool) -> None:
            if reply_to:
                self._reply(reply_to, tell())

        return take

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _reply(self, to: bytes, message: bytes) -> None:
        try:
            self._bus.reply(to, message)
        except (MeshError, ValueError) as error:
            # The gateway's deadline speaks.
            events.error("adapter.no_answer", error=repr(error))

    async def _serve(self, service: ServiceId, counts: ServiceCounts, reply_to: bytes, message: bytes) -> None:
        """Answer one message, or drop it if it is none of ours."""
        started = time.perf_counter()
        counts.received += 1
        try:
            head, body = unpack(QueryHead, message)
            statement = read_query_statement(head.statement)
            question = _Question(service, counts, statement, head, reply_to, started)
            if head.parts:
                self._await_parts(question)
            else:
                await self._answer(question, body)
        except EnvelopeError as error:
            counts.refused += 1
            events.warning("adapter.refused", service=service, reason=str(error))
        except Exception as error:  # noqa: BLE001  # the end of a task: nobody else would hear of it
            # Nothing was released, and the gateway's deadline speaks.
            events.exception("adapter.no_answer", service=service, error=repr(error))

    async def _answer(self, question: _Question, body: bytes) -> None:
        """Answer one whole question, under the department's seal."""
        statement, counts = question.statement, question.counts
        try:
            question.deadline += self._questions.check(question.service, statement, question.head, body)
        except RefusedQuestionError as refusal:
            self._refuse(question, refusal)
            return
        answer: ReleasedAnswer | None = None
        error: MeshError | None = None
        counts.in_progress += 1
        self._in_progress += 1
        try:
            answer = await self._perform(question, body)
        except MeshError as failure:
            error = failure
            counts.errors += 1
            counts.last_error = failure.code
            events.warning("adapter.failed", exchange=statement.id, code=error.code, cause=repr(error.__cause__))
        finally:
            counts.in_progress -= 1
            self._in_progress -= 1
        self._release(question, answer, error)

    def _refuse(self, question: _Question, refusal: RefusedQuestionError) -> None:
        question.counts.refused += 1
        question.counts.last_error = QuestionRefusedError.code
        events.warning("adapter.refused", exchange=question.statement.id, reason=str(refusal))
        error = QuestionRefusedError()
        desk = self._answers
        sealed = desk.statement(question.statement, question.head, error.status, [], b"", error.code)
        self._reply(question.reply_to, pack(AnswerHead(sealed, desk.seal(sealed), [])))

    async def _perform(self, question: _Question, body: bytes) -> ReleasedAnswer:
        """Wait for a turn, note what is unsafe, ask the source; raises MeshError and nothing else."""
        if self._in_progress > self._limit:
            raise OverloadedError
        statement, head = question.statement, question.head
        await self._turn(question.deadline)
        try:
            if not statement.safe:
                await self._ledger.intend(head.statement, head.seal)
            left = _left(question.deadline)
            terms = terms_of(statement)
            headers = head.headers if terms is None else asking_for_all(head.headers, statement.safe)
            request = SourceRequest(statement.id, statement.method, head.target, headers, body, left, statement.safe)
            try:
                answer = self._passed_on(await ask(self._sources[question.service], request))
                if terms is not None:
                    answer = await within(terms, answer)
                self._check_room(statement, answer)
                return answer
            except MeshError:
                raise
            except Exception as fault:
                if isinstance(fault, ReleaseError):
                    events.error("adapter.not_within_terms", exchange=statement.id, reason=str(fault))
                else:
                    # A fault in a source is the department's own business: it is logged here, and its text goes no further.
                    events.exception("adapter.fault", exchange=statement.id, error=repr(fault))
                if statement.safe:
                    raise BackendError from fault
                raise AnswerTimeoutError(seconds=f"{left:g}") from fault  # that is: whether it acted is unknown
        finally:
            self._slots.release()

    async def _turn(self, deadline: float) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        left = _left(deadline)
        try:
            async with asyncio.timeout(left):
                await self._slots.acquire()
        except TimeoutError as error:
            raise AnswerTimeoutError(seconds=f"{left:g}") from error

    def _passed_on(self, answer: SourceAnswer) -> ReleasedAnswer:
        """What of a source's answer leaves the department; raises MeshError or ValueError if it cannot."""
        if len(answer.body) > self._max_answer:
            raise PayloadTooLargeError(limit=self._max_answer)
        if not 200 <= answer.status <= 599:
            raise ValueError(f"the source answered with status {answer.status}")
        return ReleasedAnswer(answer.status, passed_on(answer.headers), answer.body)

    def _check_room(self, statement: QueryStatement, answer: ReleasedAnswer) -> None:
        size = len(answer.body)
        if statement.safe and size > INLINE_BODY and not self._parts.has_room(size):
            raise OverloadedError

    def _release(self, question: _Question, answer: ReleasedAnswer | None, error: MeshError | None) -> None:
        """Seal, put on the ledger, and only then hand out."""
        headers, body = (answer.headers, answer.body) if answer else ([], b"")
        status = answer.status if answer else error.status if error else 0
        withheld, masked = (answer.withheld, answer.masked) if answer else (UNSET, UNSET)
        statement, head = question.statement, question.head
        desk = self._answers  # one for all of this: the statement names the certificate that seals it
        code = error.code if error else ""
        sealed = desk.statement(statement, head, status, headers, body, code, withheld=withheld, masked=masked)

        def let_go(seal: bytes | None) -> None:
            if seal is not None:
                self._hand_out(question, sealed, seal, headers, body)
            elif answer is None:
                # An error discloses nothing, so it may leave without an entry.
                self._hand_out(question, sealed, desk.seal(sealed), headers, body)
            else:
                self._withhold(question)

        desk.release(Release(head.statement, head.seal, sealed, let_go))

    def _withhold(self, question: _Question) -> None:
        """The ledger does not take an answer: tell what can be told."""
        # Of what was done it must not be said that it was not, or it would be done again.
        safe = question.statement.safe
        error = LogUnavailableError() if safe else AnswerTimeoutError(seconds=f"{question.head.budget_ms / 1000:g}")
        question.counts.errors += 1
        question.counts.last_error = error.code
        events.error("adapter.not_released", exchange=question.statement.id, code=error.code)
        self._release(question, None, error)

    def _hand_out(self, question: _Question, sealed: bytes, seal: bytes, headers: Headers, body: bytes) -> None:
        if len(body) <= INLINE_BODY:
            message = pack(AnswerHead(sealed, seal, headers), body)
        else:
            self._parts.keep(question.statement.id, body, question.deadline - time.perf_counter())
            message = pack(AnswerHead(sealed, seal, headers, parts=part_count(len(body)), inbox=self._inbox))
        self._reply(question.reply_to, message)
        question.counts.answered += 1
        question.counts.busy_ns += int((time.perf_counter() - question.started) * 1e9)

    # -- large bodies

    def _await_parts(self, question: _Question) -> None:
        """Say where the parts of a question's body are to go, if the question counts so far."""
        statement, head, counts = question.statement, question.head, question.counts
        try:
            budget = self._questions.check(question.service, statement, head, None)
            if head.parts != part_count(statement.request_size):
                raise RefusedQuestionError(f"{head.parts} parts do not make {statement.request_size} bytes")
        except RefusedQuestionError as refusal:
            self._refuse(question, refusal)
            return
        if not self._parts.has_room(statement.request_size):
            question.deadline += budget
            counts.errors += 1
            counts.last_error = OverloadedError.code
            self._release(question, None, OverloadedError())
            return
        self._parts.expect(
            statement.id, Upload(head, question.service, statement.request_size, question.started), budget
        )
        self._reply(question.reply_to, pack(AnswerHead(b"", b"", [], inbox=self._inbox)))

    def _take_part(self, _: bytes, reply_to: bytes, message: bytes, __: bool) -> None:
        try:
            head, data = unpack(PartHead, message)
        except EnvelopeError as error:
            events.warning("adapter.refused", reason=str(error))
            return
        if head.fetch:
            part = self._parts.give(head)
            if part is not None:  # None: fetched after its time, and the gateway's deadline speaks
                self._reply(reply_to, part)
            return
        wanted, upload = self._parts.take(head, data)
        if upload is not None:
            self._start_task(self._serve_upload(upload, reply_to))
        elif wanted:
            self._reply(reply_to, b"")

    async def _serve_upload(self, upload: Upload, reply_to: bytes) -> None:
        """Answer a question whose body has arrived, as the reply to its last part."""
        try:
            statement = read_query_statement(upload.head.statement)
            counts = self._endpoints[upload.service].counts
            question = _Question(upload.service, counts, statement, upload.head, reply_to, upload.started)
            await self._answer(question, upload.body())
        except Exception as error:  # noqa: BLE001  # the end of a task, as in `_serve`
            events.exception("adapter.no_answer", service=upload.service, error=repr(error))


def _left(deadline: float) -> float:
    left = deadline - time.perf_counter()
    if left <= 0:
        raise AnswerTimeoutError(seconds="0")
    return left
