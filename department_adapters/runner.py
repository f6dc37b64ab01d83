"""An adapter at work: takes questions from the bus, answers them from its sources under the department's seal.

Rules:
1. A question counts only if a trusted gateway sealed it, it is for a service of ours, its content is what was sealed, its
   time is not over and its exchange id is new. Anything else gets no data.
2. Before an unsafe operation touches the department's system, the ledger holds it durably; before an answer is released,
   the ledger holds that it was.
3. Many questions run at once up to a limit; some wait; more are told to come back. Work past its deadline is dropped.
4. What goes wrong inside is logged here under the exchange id; the gateway is told only which kind of failure it was.
5. One reply per message: that is all the bus lets an adapter send. Parts of large bodies are asked of it one by one.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from nats import micro
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.micro.request import Request
from nats.micro.service import Service as MicroService

from department_adapters.source import Source, SourceAnswer, SourceRequest
from exchange import (
    ANSWER_CONTEXT,
    QUERY_CONTEXT,
    AnswerHead,
    AnswerStatement,
    AnswerTimeoutError,
    BackendError,
    EnvelopeError,
    Headers,
    LogUnavailableError,
    MeshError,
    OverloadedError,
    PartHead,
    PrivateKey,
    PublicKey,
    QueryHead,
    QueryStatement,
    Rfc3339,
    Sealer,
    SealError,
    SealVerifier,
    ServiceId,
    SubsystemId,
    content_digest,
    header_block,
    pack,
    parse_rfc3339,
    read_query_statement,
    request_digest,
    service_nats_subject,
    statement_bytes,
    subject_token,
    unpack,
)

INLINE_BODY = 512 << 10
PART_SIZE = 256 << 10
CLOCK_SKEW = 60_000
"""Milliseconds by which a statement's deadline may lie in the past: clocks of two machines need not agree."""
REMEMBER_IDS = 200_000
KEEP_PARTS = 120.0
"""Seconds a large body waits to be fetched, or to arrive."""
QUEUE_GROUP = "adapters"
QUESTION_REFUSED = "question-refused"
"""Code of the answer to a question that does not count."""

NOT_PASSED_ON = frozenset(
    b"transfer-encoding keep-alive proxy-authenticate proxy-authorization te trailer upgrade connection "
    b"user-agent host content-length server expect x-road-id x-road-client x-road-service x-road-request-id "
    b"x-road-request-hash x-road-error".split()
)
"""Headers of the department's system that are its own business, or that only the mesh may set."""

events = structlog.get_logger("datong.adapter")


class Ledger(Protocol):
    """The adapter's own record of what it was asked and what it released. `exchange.Ledger` is the one used."""

    async def intend(self, query: bytes, seal: bytes) -> None:
        """Return when the question is durable; raises LogUnavailableError."""

    async def answered(self, query: bytes, query_seal: bytes, answer: bytes, answer_seal: bytes) -> None:
        """Return when the answer is written, so that it survives this process; raises LogUnavailableError."""


class RefusedQuestionError(Exception):
    """The question does not count. The gateway is told so under our seal; the reason stays in our log."""


@dataclass(slots=True)
class ServiceCounts:
    """What an operator sees of a service by `$SRV.STATS`, under `data`."""

    requests: int = 0
    errors: int = 0
    refused: int = 0
    in_progress: int = 0
    total_us: int = 0


@dataclass(slots=True)
class _Upload:
    head: QueryHead
    service: ServiceId
    parts: dict[int, bytes] = field(default_factory=dict)
    expires: float = 0.0


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
    ) -> None:
        """
        Args:
            client: Connected to the bus as this subsystem.
            sources: Service code -> what answers it.
            key, fingerprint: The registered adapter certificate's key and SHA-256, to seal answers with.
            gateways: Fingerprint -> public key of the gateways whose seals are accepted.
            concurrency: Questions at the sources at once.
            queue: Questions that may wait for their turn.
        """
        self._client = client
        self._name = name
        self._version = version
        self._description = description
        self._sources = {ServiceId(f"{subsystem}/{code}"): source for code, source in sources.items()}
        self._subsystem = subsystem
        self._ledger = ledger
        self._fingerprint = fingerprint
        self._gateways = gateways
        self._sealer = Sealer(key, ANSWER_CONTEXT)
        self._verifier = SealVerifier(QUERY_CONTEXT)
        self._slots = asyncio.Semaphore(concurrency)
        self._limit = concurrency + queue
        self._max_request = max_request
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts = {service: ServiceCounts() for service in self._sources}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._uploads: dict[str, _Upload] = {}
        self._downloads: dict[str, tuple[bytes, float]] = {}
        self._time_text = Rfc3339()
        self._micro: MicroService | None = None
        self._inbox = ""

    @property
    def instance(self) -> str:
        """Identifier of this instance in service discovery."""
        assert self._micro is not None, "start() comes first"
        return self._micro.id

    async def start(self) -> None:
        """Open the sources and listen for questions."""
        for source in self._sources.values():
            await source.start()
        self._micro = await micro.add_service(
            self._client,
            name=self._name,
            version=self._version,
            description=self._description,
            metadata={"subsystem": self._subsystem, "certificate": self._fingerprint},
            stats_handler=None,
        )
        self._inbox = f"dt.i.{subject_token(self._subsystem)}.{self._micro.id}"
        await self._client.subscribe(self._inbox, cb=self._on_part)
        for service in self._sources:
            await self._micro.add_endpoint(
                name=service.rsplit("/", 1)[1],
                subject=service_nats_subject(service),
                queue_group=QUEUE_GROUP,
                handler=self._handler(service),
                metadata={"service": service},
            )
        await self._client.flush()

    async def stop(self, grace: float = 10.0) -> None:
        """Take no more questions, finish those in progress (at most `grace` seconds), close the sources."""
        if self._micro is not None:
            await self._micro.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        await self._client.flush()
        for source in self._sources.values():
            await source.stop()

    def counts(self) -> dict[ServiceId, ServiceCounts]:
        """Counts of each service since the start."""
        return self._counts

    def _handler(self, service: ServiceId):  # type: ignore[no-untyped-def]  # nats-py's Handler
        # nats-py handles one message of a subscription at a time: each becomes a task, so that one slow question
        # holds up nobody. Exceptions never leave the task, or their text would travel to the caller.
        async def handle(request: Request) -> None:
            self._start_task(self._serve(service, request))

        return handle

    def _start_task(self, work) -> None:  # type: ignore[no-untyped-def]
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, service: ServiceId, request: Request) -> None:
        try:
            head, body = unpack(QueryHead, request.data)
            if head.parts:
                await self._expect_parts(service, head, request)
                return
            message = await self._answer(service, head, body)
        except EnvelopeError as error:
            self._counts[service].refused += 1
            events.warning("adapter.refused", service=service, reason=str(error))
            return
        await request.respond(message)

    async def _answer(self, service: ServiceId, head: QueryHead, body: bytes) -> bytes:
        """The sealed answer to one whole question, as a message; raises EnvelopeError."""
        started = time.perf_counter()
        counts = self._counts[service]
        statement = read_query_statement(head.statement)
        try:
            self._check(service, statement, head, body)
        except RefusedQuestionError as refusal:
            counts.refused += 1
            events.warning("adapter.refused", exchange=statement.id, service=service, reason=str(refusal))
            sealed, seal = await self._seal(statement, head, 502, [], b"", QUESTION_REFUSED)
            return pack(AnswerHead(sealed, seal, []))
        counts.requests += 1
        answer: SourceAnswer | None = None
        error: MeshError | None = None
        if counts.in_progress >= self._limit:
            error = OverloadedError()
        else:
            counts.in_progress += 1
            try:
                answer = await self._ask(service, statement, head, body, started)
            except MeshError as failure:
                error = failure
            except Exception as failure:
                # A fault in a source is the department's own business: logged here, told as "backend failed".
                events.exception("adapter.fault", exchange=statement.id, error=repr(failure))
                error = BackendError()
            finally:
                counts.in_progress -= 1
        if error is not None:
            counts.errors += 1
            events.warning("adapter.failed", exchange=statement.id, code=error.code, cause=repr(error.__cause__))
        message = await self._release(statement, head, answer, error)
        counts.total_us += int((time.perf_counter() - started) * 1e6)
        return message

    def _check(self, service: ServiceId, statement: QueryStatement, head: QueryHead, body: bytes) -> None:
        """Return if the question counts; raises RefusedQuestionError."""
        key = self._gateways.get(statement.gateway)
        if key is None:
            raise RefusedQuestionError(f"gateway {statement.gateway} is not trusted")
        try:
            self._verifier.check(statement.gateway, key, head.seal, head.statement)
        except SealError as error:
            raise RefusedQuestionError(f"gateway's seal: {error}") from error
        if statement.service != service:
            raise RefusedQuestionError(f"the question is for {statement.service}")
        if len(body) > self._max_request or statement.request_digest != request_digest(
            head.salt, statement.method, head.target, head.headers, body
        ):
            raise RefusedQuestionError("the content is not what was sealed")
        if parse_rfc3339(statement.deadline) + CLOCK_SKEW < time.time() * 1000:
            raise RefusedQuestionError("the deadline has passed")
        if statement.id in self._seen:
            raise RefusedQuestionError(f"exchange {statement.id} was seen before")
        self._seen[statement.id] = None
        if len(self._seen) > REMEMBER_IDS:
            self._seen.popitem(last=False)

    async def _ask(
        self, service: ServiceId, statement: QueryStatement, head: QueryHead, body: bytes, started: float
    ) -> SourceAnswer:
        async with self._slots:
            left = head.budget_ms / 1000 - (time.perf_counter() - started)
            if left <= 0:
                raise AnswerTimeoutError(seconds=head.budget_ms / 1000)
            if not statement.safe:
                await self._ledger.intend(head.statement, head.seal)
            request = SourceRequest(statement.id, statement.method, head.target, head.headers, body, left)
            return await self._sources[service].answer(request)

    async def _release(
        self, statement: QueryStatement, head: QueryHead, answer: SourceAnswer | None, error: MeshError | None
    ) -> bytes:
        headers = _passed_on(answer.headers) if answer else []
        body = answer.body if answer else b""
        status = answer.status if answer else error.status if error else 0
        sealed, seal = await self._seal(statement, head, status, headers, body, error.code if error else "")
        try:
            await self._ledger.answered(head.statement, head.seal, sealed, seal)
        except LogUnavailableError as failure:
            if error is not None and error.code == failure.code:
                # Nothing is disclosed by saying that the ledger is full, so this one answer needs no entry.
                return pack(AnswerHead(sealed, seal, headers))
            return await self._release(statement, head, None, failure)
        if len(body) <= INLINE_BODY:
            return pack(AnswerHead(sealed, seal, headers), body)
        self._downloads[statement.id] = body, time.monotonic() + KEEP_PARTS
        asyncio.get_running_loop().call_later(KEEP_PARTS, self._downloads.pop, statement.id, None)
        return pack(AnswerHead(sealed, seal, headers, parts=-(-len(body) // PART_SIZE), inbox=self._inbox))

    async def _seal(
        self, statement: QueryStatement, head: QueryHead, status: int, headers: Headers, body: bytes, error: str
    ) -> tuple[bytes, bytes]:
        said = AnswerStatement(
            adapter=self._fingerprint,
            answered_at=self._time_text(time.time_ns() // 1_000_000),
            body_digest=content_digest(head.salt, body),
            body_size=len(body),
            error=error,
            headers_digest=content_digest(head.salt, header_block(headers)),
            id=statement.id,
            query_digest=hashlib.sha256(head.statement).hexdigest(),
            status=status,
        )
        sealed = statement_bytes(said)
        return sealed, await self._sealer.seal(sealed)

    async def _expect_parts(self, service: ServiceId, head: QueryHead, request: Request) -> None:
        statement = read_query_statement(head.statement)
        if statement.request_size > self._max_request or head.parts > -(-self._max_request // PART_SIZE):
            raise EnvelopeError(f"the body is larger than {self._max_request} bytes")
        self._uploads[statement.id] = _Upload(head, service)
        asyncio.get_running_loop().call_later(KEEP_PARTS, self._uploads.pop, statement.id, None)
        await request.respond(pack(AnswerHead(b"", b"", [], inbox=self._inbox)))

    async def _on_part(self, message: Msg) -> None:
        try:
            head, data = unpack(PartHead, message.data)
        except EnvelopeError as error:
            events.warning("adapter.refused", reason=str(error))
            return
        if head.fetch:
            await self._give_part(head, message)
        else:
            await self._take_part(head, data, message)

    async def _give_part(self, head: PartHead, message: Msg) -> None:
        body, _ = self._downloads.get(head.exchange_id, (b"", 0.0))
        start = head.number * PART_SIZE
        if start >= len(body):
            return  # fetched after its time: the gateway's deadline speaks
        await message.respond(body[start : start + PART_SIZE])
        if start + PART_SIZE >= len(body):
            self._downloads.pop(head.exchange_id, None)

    async def _take_part(self, head: PartHead, data: bytes, message: Msg) -> None:
        upload = self._uploads.get(head.exchange_id)
        if upload is None or not 0 <= head.number < upload.head.parts or len(data) > PART_SIZE:
            return
        upload.parts[head.number] = data
        if len(upload.parts) < upload.head.parts:
            await message.respond(b"")
            return
        del self._uploads[head.exchange_id]
        body = b"".join(upload.parts[number] for number in range(upload.head.parts))
        self._start_task(self._serve_upload(upload, body, message))

    async def _serve_upload(self, upload: _Upload, body: bytes, message: Msg) -> None:
        try:
            answer = await self._answer(upload.service, upload.head, body)
        except EnvelopeError as error:
            self._counts[upload.service].refused += 1
            events.warning("adapter.refused", service=upload.service, reason=str(error))
            return
        await message.respond(answer)


def _passed_on(headers: Headers) -> Headers:
    return [pair for pair in headers if pair[0] not in NOT_PASSED_ON and not pair[0].startswith(b"datong-")]
