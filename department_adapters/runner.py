"""An adapter at work: takes questions from the bus, answers them from its sources under the department's seal.

Rules:
1. Only a question that counts (`department_adapters.questions`) reaches a source. Anything else gets no data.
2. Before an unsafe operation touches the department's system, the ledger holds it durably; before an answer is released,
   the ledger holds that it was.
3. Many questions run at once up to a limit; some wait; more are told to come back. Work past its deadline is dropped.
4. What goes wrong inside is logged here under the exchange id; the gateway is told only which kind of failure it was.
5. One reply per message: that is all the bus lets an adapter send. Parts of large bodies are asked of it one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.micro.service import ServiceConfig

from department_adapters.answers import AnswerDesk, passed_on
from department_adapters.discovery import Discovery, ServedEndpoint, ServiceCounts
from department_adapters.parts import PartStore, Upload, part_count
from department_adapters.questions import QuestionDesk, RefusedQuestionError
from department_adapters.source import Source, SourceAnswer, SourceRequest, ask
from exchange import (
    AnswerHead,
    AnswerTimeoutError,
    BackendError,
    EnvelopeError,
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
    ServiceId,
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


class Ledger(Protocol):
    """The adapter's own record of what it was asked and what it released. `exchange.Ledger` is the one used."""

    async def intend(self, query: bytes, seal: bytes) -> None:
        """Return when the question is durable; raises LogUnavailableError."""

    async def answered(self, query: bytes, query_seal: bytes, answer: bytes, answer_seal: bytes) -> None:
        """Return when the answer is written, so that it survives this process; raises LogUnavailableError."""


class Runner:
    """Serves the services of one subsystem."""

    def __init__(
        self,
        *,
        client: Client,
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
    ) -> None:
        """
        Args:
            client: Connected to the bus as this subsystem.
            sources: Service code -> what answers it.
            key, fingerprint: The registered adapter certificate's key and SHA-256, to seal answers with.
            gateways: Fingerprint -> public key of the gateways whose seals are accepted.
            concurrency: Questions at the sources at once.
            queue: Questions that may wait for their turn.
            max_request, max_answer: Largest bodies in bytes.
        """
        self._client = client
        self._sources = {ServiceId(f"{subsystem}/{code}"): source for code, source in sources.items()}
        self._endpoints = {
            service: ServedEndpoint(service, service_nats_subject(service), QUEUE_GROUP) for service in self._sources
        }
        self._ledger = ledger
        self._questions = QuestionDesk(gateways, max_request)
        self._answers = AnswerDesk(key, fingerprint)
        self._slots = asyncio.Semaphore(concurrency)
        self._limit = concurrency + queue
        self._in_progress = 0
        self._max_answer = max_answer
        self._parts = PartStore(max(MAX_HELD, max_request, max_answer))
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []
        self._part_subscriptions: list[Subscription] = []
        self._discovery = Discovery(
            client,
            ServiceConfig(
                name=name,
                version=version,
                description=description,
                metadata={"subsystem": subsystem, "certificate": fingerprint},
            ),
            list(self._endpoints.values()),
        )
        self._inbox = f"dt.i.{subject_token(subsystem)}.{self._discovery.id}"

    @property
    def instance(self) -> str:
        """Identifier of this instance in service discovery."""
        return self._discovery.id

    def counts(self) -> dict[ServiceId, ServiceCounts]:
        """Counts of each service since the start."""
        return {service: endpoint.counts for service, endpoint in self._endpoints.items()}

    async def start(self) -> None:
        """Open the sources and listen for questions."""
        for source in self._sources.values():
            await source.start()
        await self._discovery.start()
        self._part_subscriptions.append(await self._client.subscribe(self._inbox, cb=self._on_part))
        for service, endpoint in self._endpoints.items():
            self._subscriptions.append(
                await self._client.subscribe(endpoint.nats_subject, queue=QUEUE_GROUP, cb=self._taker(service))
            )
        # Twice: nats-py writes the ping of a flush ahead of what still waits to be written, the last subscription too.
        await self._client.flush()
        await self._client.flush()

    async def stop(self, grace: float = 10.0) -> None:
        """Take no more questions, finish those in progress (at most `grace` seconds), close the sources."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                # Drained, not cut: what the bus has already given to us would be lost without a word.
                await self._leave(self._subscriptions)
                while self._tasks:
                    await asyncio.wait(self._tasks)
                # Answers that wait to be fetched in parts were released: their gateways may have them.
                await self._parts.empty.wait()
        for task in self._tasks:
            task.cancel()
        await self._leave(self._part_subscriptions)
        await self._leave_bus(self._discovery.stop())
        for source in self._sources.values():
            await source.stop()

    async def _leave(self, subscriptions: list[Subscription]) -> None:
        for subscription in subscriptions:
            await self._leave_bus(subscription.drain())  # type: ignore[no-untyped-call]  # of nats-py
        subscriptions.clear()
        await self._leave_bus(self._client.flush())

    async def _leave_bus(self, farewell: Coroutine[Any, Any, None]) -> None:
        """Do it if the bus is there to hear it: nats-py would wait long for a bus that is not."""
        try:
            async with asyncio.timeout(LEAVE_SECONDS if self._client.is_connected else 0):
                await farewell
        except Exception as error:  # noqa: BLE001  # nats-py lets through whatever its closed transport raises
            events.warning("adapter.left_without_a_word", cause=repr(error))

    def _taker(self, service: ServiceId) -> Callable[[Msg], Awaitable[None]]:
        # nats-py hands over one message of a subscription at a time: each becomes a task, so that one slow question
        # holds up nobody.
        async def take(message: Msg) -> None:
            self._start_task(self._serve(service, message))

        return take

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, service: ServiceId, message: Msg) -> None:
        """Answer one message, or drop it if it is none of ours."""
        started = time.perf_counter()
        counts = self._endpoints[service].counts
        counts.received += 1
        try:
            head, body = unpack(QueryHead, message.data)
            statement = read_query_statement(head.statement)
            if head.parts:
                answer = await self._await_parts(service, statement, head, started)
            else:
                answer = await self._answer(service, statement, head, body, started)
            await message.respond(answer)
        except EnvelopeError as error:
            counts.refused += 1
            events.warning("adapter.refused", service=service, reason=str(error))
        except Exception as error:  # noqa: BLE001  # the end of a task: nobody else would hear of it
            # Nothing was released, and the gateway's deadline speaks.
            events.exception("adapter.no_answer", service=service, error=repr(error))

    async def _answer(
        self, service: ServiceId, statement: QueryStatement, head: QueryHead, body: bytes, started: float
    ) -> bytes:
        """The sealed answer to one whole question, as a message."""
        counts = self._endpoints[service].counts
        try:
            budget = self._questions.check(service, statement, head, body)
        except RefusedQuestionError as refusal:
            return await self._refuse(counts, statement, head, refusal)
        answer: SourceAnswer | None = None
        error: MeshError | None = None
        counts.in_progress += 1
        self._in_progress += 1
        try:
            answer = await self._perform(service, statement, head, body, started + budget)
        except MeshError as failure:
            error = failure
            counts.errors += 1
            counts.last_error = failure.code
            events.warning("adapter.failed", exchange=statement.id, code=error.code, cause=repr(error.__cause__))
        finally:
            counts.in_progress -= 1
            self._in_progress -= 1
        message = await self._release(statement, head, answer, error, started + budget)
        counts.answered += 1
        counts.busy_ns += int((time.perf_counter() - started) * 1e9)
        return message

    async def _refuse(
        self, counts: ServiceCounts, statement: QueryStatement, head: QueryHead, refusal: RefusedQuestionError
    ) -> bytes:
        counts.refused += 1
        counts.last_error = QuestionRefusedError.code
        events.warning("adapter.refused", exchange=statement.id, reason=str(refusal))
        error = QuestionRefusedError()
        sealed, seal = await self._answers.seal(statement, head, error.status, [], b"", error.code)
        return pack(AnswerHead(sealed, seal, []))

    async def _perform(
        self, service: ServiceId, statement: QueryStatement, head: QueryHead, body: bytes, deadline: float
    ) -> SourceAnswer:
        """Wait for a turn, note what is unsafe, ask the source; raises MeshError and nothing else."""
        if self._in_progress > self._limit:
            raise OverloadedError
        await self._turn(deadline)
        try:
            if not statement.safe:
                await self._ledger.intend(head.statement, head.seal)
            left = _left(deadline)
            request = SourceRequest(
                statement.id, statement.method, head.target, head.headers, body, left, statement.safe
            )
            try:
                return self._passed_on(statement, await ask(self._sources[service], request))
            except MeshError:
                raise
            except Exception as fault:
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

    def _passed_on(self, statement: QueryStatement, answer: SourceAnswer) -> SourceAnswer:
        """What of a source's answer leaves the department; raises MeshError or ValueError if it cannot."""
        size = len(answer.body)
        if size > self._max_answer:
            raise PayloadTooLargeError(limit=self._max_answer)
        if not 200 <= answer.status <= 599:
            raise ValueError(f"the source answered with status {answer.status}")
        if statement.safe and size > INLINE_BODY and not self._parts.has_room(size):
            raise OverloadedError
        return SourceAnswer(answer.status, passed_on(answer.headers), answer.body)

    async def _release(
        self,
        statement: QueryStatement,
        head: QueryHead,
        answer: SourceAnswer | None,
        error: MeshError | None,
        deadline: float,
    ) -> bytes:
        """Seal, put on the ledger, and only then hand out."""
        headers, body = (answer.headers, answer.body) if answer else ([], b"")
        status = answer.status if answer else error.status if error else 0
        sealed, seal = await self._answers.seal(statement, head, status, headers, body, error.code if error else "")
        try:
            await self._ledger.answered(head.statement, head.seal, sealed, seal)
        except LogUnavailableError as failure:
            if answer is None:
                # An error discloses nothing, so it may leave without an entry.
                return pack(AnswerHead(sealed, seal, headers))
            # Of what was done it must not be said that it was not, or it would be done again.
            error = failure if statement.safe else AnswerTimeoutError(seconds=f"{head.budget_ms / 1000:g}")
            counts = self._endpoints[ServiceId(statement.service)].counts
            counts.errors += 1
            counts.last_error = error.code
            events.error("adapter.not_released", exchange=statement.id, code=error.code)
            return await self._release(statement, head, None, error, deadline)
        if len(body) <= INLINE_BODY:
            return pack(AnswerHead(sealed, seal, headers), body)
        self._parts.keep(statement.id, body, deadline - time.perf_counter())
        return pack(AnswerHead(sealed, seal, headers, parts=part_count(len(body)), inbox=self._inbox))

    # -- large bodies

    async def _await_parts(
        self, service: ServiceId, statement: QueryStatement, head: QueryHead, started: float
    ) -> bytes:
        """Say where the parts of a question's body are to go, if the question counts so far."""
        counts = self._endpoints[service].counts
        try:
            budget = self._questions.check(service, statement, head, None)
            if head.parts != part_count(statement.request_size):
                raise RefusedQuestionError(f"{head.parts} parts do not make {statement.request_size} bytes")
        except RefusedQuestionError as refusal:
            return await self._refuse(counts, statement, head, refusal)
        if not self._parts.has_room(statement.request_size):
            counts.answered += 1
            counts.errors += 1
            counts.last_error = OverloadedError.code
            return await self._release(statement, head, None, OverloadedError(), started + budget)
        upload = Upload(head, service, statement.request_size, started)
        self._parts.expect(statement.id, upload, budget)
        return pack(AnswerHead(b"", b"", [], inbox=self._inbox))

    async def _on_part(self, message: Msg) -> None:
        try:
            head, data = unpack(PartHead, message.data)
        except EnvelopeError as error:
            events.warning("adapter.refused", reason=str(error))
            return
        if head.fetch:
            part = self._parts.give(head)
            if part is not None:  # None: fetched after its time, and the gateway's deadline speaks
                await message.respond(part)
            return
        wanted, upload = self._parts.take(head, data)
        if upload is not None:
            self._start_task(self._serve_upload(upload, message))
        elif wanted:
            await message.respond(b"")

    async def _serve_upload(self, upload: Upload, message: Msg) -> None:
        """Answer a question whose body has arrived, as the reply to its last part."""
        try:
            statement = read_query_statement(upload.head.statement)
            answer = await self._answer(upload.service, statement, upload.head, upload.body(), upload.started)
            await message.respond(answer)
        except Exception as error:  # noqa: BLE001  # the end of a task, as in `_serve`
            events.exception("adapter.no_answer", service=upload.service, error=repr(error))


def _left(deadline: float) -> float:
    left = deadline - time.perf_counter()
    if left <= 0:
        raise AnswerTimeoutError(seconds="0")
    return left
