"""An adapter at work: takes questions from the bus, answers them from its sources under the department's seal.

Rules:
1. Only a question that counts (`department_adapters.questions`) reaches a source. Anything else gets no data.
2. Before an unsafe operation touches the department's system, the ledger holds it durably; before an answer is released,
   the ledger holds that it was.
3. Many questions to a service run at once up to a limit; some wait; more are told to come back. Each service has turns of
   its own (`department_adapters.guard`). Work past its deadline is dropped.
4. Where a grant releases only some items, the rest leaves neither the department nor a trace (`department_adapters.release`).
5. What goes wrong inside is logged here under the exchange id; the gateway is told only which kind of failure it was.
6. One reply per message: that is all the bus lets an adapter send. Parts of large bodies are asked of it one by one.
7. A large answer leaves piece by piece (`department_adapters.streams`): its question is on the ledger before the first piece,
   and its end on the ledger before the gateway is told that it is the end. Only under release terms it is whole in memory.
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
from department_adapters.guard import Breaker, Guarded, Turns
from department_adapters.parts import PartStore, Upload
from department_adapters.questions import QuestionDesk, RefusedQuestionError
from department_adapters.release import ReleasedAnswer, asking_for_all, terms_of, within
from department_adapters.signed_questions import SignatureDesk
from department_adapters.source import Source, SourceAnswer, SourceRequest, ask, close_stream
from department_adapters.streams import Outgoing, pieces_of
from exchange import (
    ABANDON,
    INLINE_BODY,
    REPLY_VERB,
    STREAMED,
    AnswerHead,
    AnswerTimeoutError,
    BackendError,
    Body,
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
    Spool,
    Spooled,
    SpoolRoomError,
    Subscription,
    SubsystemId,
    discovery_nats_subject,
    pack,
    part_count,
    read_query_statement,
    service_nats_subject,
    subject_token,
    unpack,
)

MAX_HELD = 64 << 20
"""Bytes of large answers held in memory at once."""
MOST_STREAMS = 32
"""Answers that are read and sent piece by piece at once; each takes some 2 MB."""
LONGEST_REPLY = 118.0
"""Seconds in which the bus lets us reply to a message."""
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
        max_whole: int = 8 << 20,
        spool: Spool | None = None,
        callers: Sequence[x509.Certificate] = (),
        signed: Collection[str] = (),
    ) -> None:
        """
        Args:
            bus: Makes a connection to the bus as this subsystem, which takes what comes on the subscriptions.
            sources: Service code -> what answers it.
            key, fingerprint: The registered adapter certificate's key and SHA-256, to seal answers with.
            gateways: Fingerprint -> public key of the gateways whose seals are accepted.
            concurrency: Questions at each source at once, unless it is guarded, and so has turns of its own.
            queue: Questions to each that may wait for their turn, likewise.
            max_request, max_answer: Largest bodies in bytes, unless a source is guarded and has its own limits.
            max_whole: Largest body that has to be in memory: of an answer under release terms, or to a gateway that takes no
                streams; of a request to a source that takes no files.
            spool: Where large requests wait until they are whole; default: the system's temporary folder.
            callers: CAs whose certificates sign requests.
            signed: Codes of the services that take questions only if the caller's own key signed them.
        """
        self._subsystem = subsystem
        self._sources = {self._service(code): source for code, source in sources.items()}
        self._endpoints = {
            service: ServedEndpoint(
                service,
                service_nats_subject(service),
                QUEUE_GROUP,
                breaker=_breaker(source),
                hears=self.hears,
            )
            for service, source in self._sources.items()
        }
        self._ledger = ledger
        self._signatures = SignatureDesk(callers, [self._service(code) for code in signed])
        self._questions = QuestionDesk(
            gateways,
            max_request,
            signatures=self._signatures,
            limit_of=lambda service: self._own(service, "max_request"),
        )
        self._answers = AnswerDesk(key, fingerprint, ledger)
        self._concurrency, self._queue = concurrency, queue
        self._turns = {service: self._turns_of(source) for service, source in self._sources.items()}
        self._closing: set[asyncio.Task[None]] = set()
        self._max_answer = max_answer
        self._max_whole = max_whole
        self._parts = PartStore(max(MAX_HELD, max_whole), spool or Spool())
        self._streams: dict[str, Outgoing] = {}
        self._streaming = asyncio.Semaphore(MOST_STREAMS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._metadata = {"subsystem": subsystem, "certificate": fingerprint}
        self._discovery = Discovery(
            ServiceConfig(name=name, version=version, description=description, metadata=self._metadata),
            subsystem,
            self._endpoints.values(),
            self._facts,
        )
        self._inbox = f"dt.i.{subject_token(subsystem)}.{self._discovery.id}"
        # The bus is made of its subscriptions, and one of them leads back to it.
        reminded = Subscription(
            discovery_nats_subject(subsystem, REPLY_VERB), lambda *message: self._bus.send_after_all(*message)
        )
        self._bus = bus(
            [
                reminded,
                *[self._subscription(each) for each in self._endpoints.values()],
                Subscription(self._inbox, self._take_part),
                *[Subscription(subject, self._teller(tell)) for subject, tell in self._discovery.subjects()],
            ]
        )

    @property
    def instance(self) -> str:
        """Identifier of this instance in service discovery."""
        return self._discovery.id

    @property
    def sources(self) -> dict[str, Source]:
        """Service code -> what answers it now."""
        return {service.rpartition("/")[2]: source for service, source in self._sources.items()}

    def hears(self, nats_subject: str) -> bool:
        """Whether the bus gives us what is sent to one of our subjects now."""
        return self._bus.hears(nats_subject)

    @property
    def unheard(self) -> list[str]:
        """Codes of the services whose questions the bus does not give us: the registry does not know them, or not as ours."""
        return [
            each.service.rpartition("/")[2] for each in self._endpoints.values() if not self.hears(each.nats_subject)
        ]

    def counts(self) -> dict[ServiceId, ServiceCounts]:
        """Counts of each service since the start."""
        return {service: endpoint.counts for service, endpoint in self._endpoints.items()}

    async def start(self) -> None:
        """Open the sources, and listen for questions as soon as the bus is there."""
        for source in self._sources.values():
            await source.start()
        self._bus.start()

    async def answer_from(self, sources: Mapping[str, Source], *, signed: Collection[str] = ()) -> None:
        """Answer from these sources from now on; whoever asks meanwhile notices nothing.

        A source that is there already goes on. One that is replaced or gone is closed when every question that it may have
        got is answered.

        Args:
            sources: Service code -> what answers it, all of them.
            signed: As at the start.

        Raises:
            Exception: What the start of a new source raises. Then all is as before.
        """
        wanted = {self._service(code): source for code, source in sources.items()}
        before = dict(self._sources)
        begun: list[Source] = []
        try:
            for service, source in wanted.items():
                if before.get(service) is not source:
                    begun.append(source)
                    await source.start()
        except BaseException:
            for source in begun:
                with contextlib.suppress(Exception):
                    await source.stop()
            raise
        gone = [service for service in before if service not in wanted]
        await self._bus.leave([self._endpoints[service].nats_subject for service in gone])
        self._signatures.demand([self._service(code) for code in signed])
        for service in gone:
            # Questions that were taken before we left are still tasks that have not looked up their source.
            self._endpoints.pop(service)
        added = []
        for service, source in wanted.items():
            if before.get(service) is not source:
                self._sources[service], self._turns[service] = source, self._turns_of(source)
            if service in self._endpoints:
                self._endpoints[service].breaker = _breaker(source)
            else:
                self._endpoints[service] = endpoint = ServedEndpoint(
                    service, service_nats_subject(service), QUEUE_GROUP, breaker=_breaker(source), hears=self.hears
                )
                added.append(self._subscription(endpoint))
        old = [(service, source) for service, source in before.items() if wanted.get(service) is not source]
        self._close_after(old, set(self._tasks))
        for subscription in added:
            await self._bus.join(subscription)

    def _close_after(self, old: Sequence[tuple[ServiceId, Source]], asked: set[asyncio.Task[None]]) -> None:
        """Close sources when the questions that may have gone to them are answered."""

        async def close() -> None:
            if asked:
                await asyncio.wait(asked)
            for service, source in old:
                if self._sources.get(service) is source:  # the service is gone, and nothing has taken its place
                    del self._sources[service], self._turns[service]
                try:
                    await source.stop()
                except Exception as error:  # noqa: BLE001  # nobody waits for it; the others are closed all the same
                    events.exception("adapter.fault", service=service, error=repr(error))

        if old:
            task = asyncio.create_task(close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

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
        for task in (left := list(self._tasks)):
            task.cancel()
        if left:
            await asyncio.wait(
                left, timeout=LEAVE_SECONDS
            )  # gateways whose streams end here are told, as long as there is a bus
        self._parts.close()
        await self._bus.stop()
        while self._closing:
            await asyncio.wait(self._closing)
        for source in self._sources.values():
            await source.stop()

    def _service(self, code: str) -> ServiceId:
        return ServiceId(f"{self._subsystem}/{code}")

    def _turns_of(self, source: Source) -> Turns:
        return source.turns if isinstance(source, Guarded) else Turns(self._concurrency, self._queue)

    def _facts(self) -> dict[str, str]:
        since = self._bus.connected_at
        return {"connected": since.isoformat(timespec="seconds").replace("+00:00", "Z")} if since else {}

    def _subscription(self, endpoint: ServedEndpoint) -> Subscription:
        # Not needed for a start: a service may be registered after its adapter has begun to run.
        return Subscription(endpoint.nats_subject, self._taker(endpoint), QUEUE_GROUP, needed=False)

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

    async def _answer(self, question: _Question, body: Body) -> None:
        """Answer one whole question, under the department's seal."""
        statement, counts = question.statement, question.counts
        try:
            question.deadline += self._questions.check(question.service, statement, question.head, body)
            if question.head.parts:
                question.deadline = min(question.deadline, time.perf_counter() + LONGEST_REPLY)
        except RefusedQuestionError as refusal:
            self._refuse(question, refusal)
            return
        answer: ReleasedAnswer | None = None
        error: MeshError | None = None
        counts.in_progress += 1
        try:
            answer = await self._perform(question, body)
        except MeshError as failure:
            error = failure
            counts.errors += 1
            counts.last_error = failure.code
            events.warning("adapter.failed", exchange=statement.id, code=error.code, cause=repr(error.__cause__))
        finally:
            counts.in_progress -= 1
        if answer is not None or error is not None:
            self._release(question, answer, error)

    def _refuse(self, question: _Question, refusal: RefusedQuestionError) -> None:
        question.counts.refused += 1
        question.counts.last_error = QuestionRefusedError.code
        events.warning("adapter.refused", exchange=question.statement.id, reason=str(refusal))
        error = QuestionRefusedError()
        desk = self._answers
        sealed = desk.statement(question.statement, question.head, error.status, [], b"", error.code)
        self._reply(question.reply_to, pack(AnswerHead(sealed, desk.seal(sealed), [])))

    async def _perform(self, question: _Question, body: Body) -> ReleasedAnswer | None:
        """Wait for a turn, note what is unsafe, ask the source; raises MeshError and nothing else.

        An answer that leaves piece by piece has left when this returns, and None is returned.
        """
        statement, head = question.statement, question.head
        source, turns = self._sources[question.service], self._turns[question.service]
        if isinstance(source, Guarded):
            source.check()
        waited = await turns.take(question.deadline)
        try:
            if not statement.safe:
                await self._ledger.intend(head.statement, head.seal)
            left = _left(question.deadline)
            terms = terms_of(statement)
            headers = head.headers if terms is None else asking_for_all(head.headers, statement.safe)
            spooled = body if isinstance(body, Spooled) else None
            content = body if isinstance(body, bytes) else b""
            if spooled is not None and not getattr(source, "takes_spooled", False):
                content, spooled = await spooled.read(0, len(spooled)), None  # it was found to be small enough
            request = SourceRequest(
                *(statement.id, statement.method, head.target, headers, content, left, statement.safe, waited),
                streams=True,
                spooled=spooled,
            )
            may_stream = terms is None and head.streams and statement.method != "HEAD"
            max_answer = self._own(question.service, "max_answer") or self._max_answer
            limit = None if may_stream else min(self._max_whole, max_answer)
            try:
                given = await ask(source, request, inline=INLINE_BODY, limit=limit)
                if may_stream and len(given.body) > INLINE_BODY:
                    given = SourceAnswer(given.status, given.headers, b"", pieces_of(given.body), len(given.body))
                if given.stream is not None:
                    await self._stream(question, given, max_answer)
                    return None
                answer = self._passed_on(given, max_answer if may_stream else min(self._max_whole, max_answer))
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
            turns.give_back()

    async def _stream(self, question: _Question, given: SourceAnswer, max_answer: int) -> None:
        """Release an answer piece by piece, and put its end on the ledger; raises MeshError or ValueError before it begins."""
        statement, head, counts = question.statement, question.head, question.counts
        try:
            if given.size is not None and given.size > max_answer:
                raise PayloadTooLargeError(limit=max_answer)
            answer = self._passed_on(given, max_answer)
            if statement.safe:
                await self._ledger.intend(head.statement, head.seal)
            assert given.stream is not None
            outgoing = Outgoing(given.stream, head.salt, max_answer=max_answer, reply=self._reply)
            opening = self._answers.opening(statement, head, answer.status, answer.headers, given.size)
            self._streams[statement.id] = outgoing
            try:
                self._reply(question.reply_to, pack(AnswerHead(*opening, answer.headers, STREAMED, self._inbox)))
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
        self, question: _Question, answer: ReleasedAnswer, outgoing: Outgoing, error: MeshError | None
    ) -> None:
        """Seal the whole of what left, put it on the ledger, and only then say that it is the whole."""
        statement, head = question.statement, question.head
        body = (outgoing.body_digest, outgoing.size)
        desk = self._answers
        if error is None:
            sealed = desk.statement_on(statement, head, answer.status, answer.headers, body, "")
        else:
            sealed = desk.statement_on(statement, head, error.status, [], body, error.code)

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

    def _own(self, service: ServiceId, limit: str) -> int | None:
        """A limit that the service has for itself."""
        own: int | None = getattr(self._sources.get(service), limit, None)
        return own

    def _passed_on(self, answer: SourceAnswer, max_answer: int) -> ReleasedAnswer:
        """What of a source's answer leaves the department; raises MeshError or ValueError if it cannot."""
        if len(answer.body) > max_answer:
            raise PayloadTooLargeError(limit=max_answer)
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
        question.counts.note_answer(question.started, time.perf_counter())

    # -- large bodies

    def _await_parts(self, question: _Question) -> None:
        """Say where the parts of a question's body are to go, if the question counts so far."""
        statement, head, counts = question.statement, question.head, question.counts
        try:
            budget = self._questions.check(question.service, statement, head, None)
            if head.parts != part_count(statement.request_size):
                raise RefusedQuestionError(f"{head.parts} parts do not make {statement.request_size} bytes")
            if statement.request_size > self._max_whole and not getattr(
                self._sources[question.service], "takes_spooled", False
            ):
                raise RefusedQuestionError(f"this kind of source takes no body of more than {self._max_whole} bytes")
        except RefusedQuestionError as refusal:
            self._refuse(question, refusal)
            return
        try:
            self._parts.expect(statement.id, head, question.service, statement.request_size, question.started, budget)
        except SpoolRoomError as error:
            question.deadline += budget
            counts.errors += 1
            counts.last_error = error.code
            self._release(question, None, error)
            return
        self._reply(question.reply_to, pack(AnswerHead(b"", b"", [], inbox=self._inbox)))

    def _take_part(self, _: bytes, reply_to: bytes, message: bytes, __: bool) -> None:
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
            self._reply(reply_to, b"")

    def _give_part(self, head: PartHead, reply_to: bytes) -> None:
        outgoing = self._streams.get(head.exchange_id)
        if outgoing is None:
            part = self._parts.give(head)
            if part is not None:  # None: fetched after its time, and the gateway's deadline speaks
                self._reply(reply_to, part)
        elif head.number == ABANDON:
            outgoing.abandon()
            self._reply(reply_to, b"")
        else:
            outgoing.asked(head.number, reply_to)

    async def _put_part(self, upload: Upload, head: PartHead, data: bytes, reply_to: bytes) -> None:
        """Write one part of a question's body; when it was the last, answer the question, as the reply to this part."""
        try:
            await upload.put(head.number, data)
            if not upload.whole:
                self._reply(reply_to, b"")
            elif self._parts.hand_over(head.exchange_id, upload):
                try:
                    await self._serve_upload(upload, reply_to)
                finally:
                    upload.body.close()
        except Exception as error:  # noqa: BLE001  # the end of a task, as in `_serve`
            events.exception("adapter.no_answer", service=upload.service, error=repr(error))

    async def _serve_upload(self, upload: Upload, reply_to: bytes) -> None:
        """Answer a question whose body has arrived."""
        statement = read_query_statement(upload.head.statement)
        counts = self._endpoints[upload.service].counts
        question = _Question(upload.service, counts, statement, upload.head, reply_to, upload.started)
        if upload.failure is not None:
            counts.errors += 1
            counts.last_error = upload.failure.code
            self._release(question, None, upload.failure)
        elif not upload.fits:
            self._refuse(question, RefusedQuestionError("the parts are not of the size that was sealed"))
        else:
            await self._answer(question, upload.body)


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


def _left(deadline: float) -> float:
    left = deadline - time.perf_counter()
    if left <= 0:
        raise AnswerTimeoutError(seconds="0")
    return left


def _breaker(source: Source) -> Breaker | None:
    return source.breaker if isinstance(source, Guarded) else None
