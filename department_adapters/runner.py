"""An adapter at work: takes questions from the bus, answers them from its sources under the department's seal.

Rules:
1. Only a question that counts (`department_adapters.questions`) reaches a source. Anything else gets no data.
2. Before an unsafe operation touches the department's system, the ledger holds it durably; before an answer is released,
   the ledger holds that it was.
3. Many questions to a service run at once up to a limit; some wait; more are told to come back. Each service has turns of
   its own (`department_adapters.guard`). Work past its deadline is dropped.
4. Where a grant releases only some items, the rest leaves neither the department nor a trace (`department_adapters.release`).
5. What goes wrong inside is logged here under the exchange id; the gateway is told only which kind of failure it was.

Beside the straight path stand what is served and how it is replaced (`department_adapters.services`), how a question is refused or
its answer sealed and handed out (`dispatch`), and what does not fit in a message (`large_bodies`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

import structlog
from cryptography import x509
from nats.micro.service import ServiceConfig

from department_adapters.answers import AnswerDesk, Ledger
from department_adapters.discovery import Discovery, ServedEndpoint, ServiceCounts
from department_adapters.dispatch import DispatchDesk, Question, to_release
from department_adapters.guard import Guarded
from department_adapters.large_bodies import LargeBodies
from department_adapters.parts import PartStore
from department_adapters.questions import QuestionDesk, RefusedQuestionError
from department_adapters.release import ReleasedAnswer, asking_for_all, terms_of, within
from department_adapters.services import QUEUE_GROUP, Services
from department_adapters.source import Source, SourceAnswer, SourceRequest, ask
from department_adapters.streams import pieces_of
from exchange import (
    INLINE_BODY,
    REPLY_VERB,
    AnswerTimeoutError,
    BackendError,
    Body,
    EnvelopeError,
    MeshError,
    PrivateKey,
    PublicKey,
    QueryHead,
    ReleaseError,
    ServiceId,
    ServingBus,
    Spool,
    Spooled,
    Subscription,
    SubsystemId,
    discovery_nats_subject,
    read_query_statement,
    subject_token,
    unpack,
)

MAX_HELD = 64 << 20
"""Bytes of large answers held in memory at once."""
LONGEST_REPLY = 118.0
"""Seconds in which the bus lets us reply to a message."""
LEAVE_SECONDS = 2.0

events = structlog.get_logger("datong.adapter")

Take = Callable[[bytes, bytes, bytes, bool], None]


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
        self._loop = asyncio.get_running_loop()
        self._ledger = ledger
        self._services = Services(
            subsystem,
            sources,
            hears=self.hears,
            concurrency=concurrency,
            queue=queue,
            callers=callers,
            signed=signed,
        )
        self._questions = QuestionDesk(
            gateways,
            max_request,
            signatures=self._services.signatures,
            limit_of=self._services.max_request,
        )
        self._max_answer = max_answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._metadata = {"subsystem": subsystem, "certificate": fingerprint}
        self._discovery = Discovery(
            ServiceConfig(name=name, version=version, description=description, metadata=self._metadata),
            subsystem,
            self._services.endpoints.values(),
            self._facts,
        )
        self._parts = PartStore(max(MAX_HELD, max_whole), spool or Spool())
        self._desk = DispatchDesk(
            self._answers(key, fingerprint),
            self._parts,
            inbox=f"dt.i.{subject_token(subsystem)}.{self._discovery.id}",
            reply=self._reply,
        )
        self._large = LargeBodies(
            services=self._services,
            questions=self._questions,
            ledger=ledger,
            desk=self._desk,
            parts=self._parts,
            max_whole=max_whole,
            answer=self._answer,
            start_task=self._start_task,
        )
        # The bus is made of its subscriptions, and one of them leads back to it.
        reminded = Subscription(
            discovery_nats_subject(subsystem, REPLY_VERB), lambda *message: self._bus.send_after_all(*message)
        )
        self._bus = bus(
            [
                reminded,
                *[self._subscription(each) for each in self._services.endpoints.values()],
                Subscription(self._desk.inbox, self._large.take_part),
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
        return {service.rpartition("/")[2]: source for service, source in self._services.sources.items()}

    def hears(self, nats_subject: str) -> bool:
        """Whether the bus gives us what is sent to one of our subjects now."""
        return self._bus.hears(nats_subject)

    @property
    def unheard(self) -> list[str]:
        """Codes of the services whose questions the bus does not give us: the registry does not know them, or not as ours."""
        return [
            each.service.rpartition("/")[2]
            for each in self._services.endpoints.values()
            if not self.hears(each.nats_subject)
        ]

    def counts(self) -> dict[ServiceId, ServiceCounts]:
        """Counts of each service since the start."""
        return {service: endpoint.counts for service, endpoint in self._services.endpoints.items()}

    async def start(self) -> None:
        """Open the sources, and listen for questions as soon as the bus is there."""
        await self._services.start()
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
        await self._services.answer_from(
            sources, signed, bus=self._bus, subscribed=self._subscription, answering=self._tasks
        )

    def seal_as(self, key: PrivateKey, fingerprint: str) -> None:
        """Seal with another certificate from now on; an answer that is being made keeps the one that it names."""
        self._desk.answers = self._answers(key, fingerprint)
        self._metadata["certificate"] = fingerprint

    def _answers(self, key: PrivateKey, fingerprint: str) -> AnswerDesk:
        return AnswerDesk(key, fingerprint, self._ledger, at_once=self._tasks, flush=lambda: self._bus.flush())

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
                        await self._bus.leave([each.nats_subject for each in self._services.endpoints.values()])
                while self._tasks:
                    await asyncio.wait(self._tasks)
                # Answers that wait to be fetched in parts were released: their gateways may have them.
                await self._parts.empty.wait()
        for task in (left := list(self._tasks)):
            task.cancel()
        if left:
            # Gateways whose streams end here are told, as long as there is a bus.
            await asyncio.wait(left, timeout=LEAVE_SECONDS)
        self._parts.close()
        await self._bus.stop()
        await self._services.stop()

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
        task = self._loop.create_task(work)
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
            question = Question(service, counts, statement, head, reply_to, started)
            if head.parts:
                self._large.await_parts(question)
            else:
                await self._answer(question, body)
        except EnvelopeError as error:
            counts.refused += 1
            events.warning("adapter.refused", service=service, reason=str(error))
        except Exception as error:  # noqa: BLE001  # the end of a task: nobody else would hear of it
            # Nothing was released, and the gateway's deadline speaks.
            events.exception("adapter.no_answer", service=service, error=repr(error))

    async def _answer(self, question: Question, body: Body) -> None:
        """Answer one whole question, under the department's seal."""
        statement, counts = question.statement, question.counts
        try:
            question.deadline += self._questions.check(question.service, statement, question.head, body)
            if question.head.parts:
                question.deadline = min(question.deadline, time.perf_counter() + LONGEST_REPLY)
        except RefusedQuestionError as refusal:
            self._desk.refuse(question, refusal)
            return
        outcome: ReleasedAnswer | MeshError | None
        counts.in_progress += 1
        try:
            outcome = await self._perform(question, body)
        except MeshError as error:
            outcome = error
            counts.errors += 1
            counts.last_error = error.code
            events.warning("adapter.failed", exchange=statement.id, code=error.code, cause=repr(error.__cause__))
        finally:
            counts.in_progress -= 1
        if outcome is not None:
            self._desk.release(question, outcome)

    async def _perform(self, question: Question, body: Body) -> ReleasedAnswer | None:
        """Wait for a turn, note what is unsafe, ask the source; raises MeshError and nothing else.

        An answer that leaves piece by piece has left when this returns, and None is returned.
        """
        statement, head = question.statement, question.head
        source, turns = self._services.sources[question.service], self._services.turns[question.service]
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
            max_answer = getattr(source, "max_answer", None) or self._max_answer
            limit = None if may_stream else min(self._large.max_whole, max_answer)
            try:
                given = await ask(source, request, inline=INLINE_BODY, limit=limit)
                if may_stream and len(given.body) > INLINE_BODY:
                    given = SourceAnswer(given.status, given.headers, b"", pieces_of(given.body), len(given.body))
                if given.stream is not None:
                    await self._large.stream(question, given, max_answer)
                    return None
                answer = to_release(given, max_answer if may_stream else min(self._large.max_whole, max_answer))
                if terms is not None:
                    answer = await within(terms, answer)
                self._desk.check_room(statement, answer)
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


def _left(deadline: float) -> float:
    left = deadline - time.perf_counter()
    if left <= 0:
        raise AnswerTimeoutError(seconds="0")
    return left
