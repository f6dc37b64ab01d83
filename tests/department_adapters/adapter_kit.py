"""For tests of adapters: a gateway that can lie, sources in code, and an adapter at work on a real bus."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from nats.aio.client import Client

from ca_auth import identity_uri
from department_adapters import Runner, Source, SourceAnswer, SourceRequest
from deploy.demo.identities import CIVIL_SUBSYSTEM, OPERATOR_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import (
    ANSWER_CONTEXT,
    QUERY_CONTEXT,
    Answer,
    AnswerHead,
    AnswerStatement,
    Broker,
    Bus,
    CallerFacts,
    Entropy,
    Headers,
    Ledger,
    NatsBus,
    PublicKey,
    Query,
    QueryHead,
    QueryStatement,
    Rfc3339,
    SealVerifier,
    ServiceId,
    ServingBus,
    SubsystemId,
    connect_client,
    content_digest,
    header_block,
    inbox_prefix,
    load_identity,
    load_sealing_keys,
    pack,
    read_answer_statement,
    request_digest,
    seal_all,
    service_nats_subject,
    statement_bytes,
    unpack,
    uuid7,
)
from tests.conftest import Pki

ENTERPRISES = ServiceId(f"{TAX_SUBSYSTEM}/enterprises")
_entropy = Entropy()
_time_text = Rfc3339()


async def until(condition: Callable[[], object], within: float = 10) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


class FunctionSource:
    """A source in code."""

    def __init__(self, function: Callable[[SourceRequest], Awaitable[SourceAnswer]]) -> None:
        self._function = function
        self.asked: list[SourceRequest] = []
        self.started = self.stopped = 0

    async def start(self) -> None:
        self.started += 1

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        self.asked.append(request)
        return await self._function(request)

    async def stop(self) -> None:
        self.stopped += 1


async def _echo(request: SourceRequest) -> SourceAnswer:
    return SourceAnswer(200, [(b"content-type", b"text/plain")], request.method.encode() + b" " + request.target)


def echo() -> FunctionSource:
    """Answers with method and target."""
    return FunctionSource(_echo)


def says(status: int = 200, headers: Headers | None = None, body: bytes = b"") -> FunctionSource:
    """Answers everything with the same."""

    async def answer(_: SourceRequest) -> SourceAnswer:
        return SourceAnswer(status, headers or [], body)

    return FunctionSource(answer)


def fails(error: BaseException) -> FunctionSource:
    """Raises."""

    async def answer(_: SourceRequest) -> SourceAnswer:
        raise error

    return FunctionSource(answer)


class FullDisk(Ledger):
    """A ledger whose disk can be full."""

    full = False

    def _write(self, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super()._write(data)


@dataclass(frozen=True, slots=True)
class Question:
    statement: QueryStatement
    head: QueryHead
    body: bytes

    @property
    def message(self) -> bytes:
        return pack(self.head, self.body)


@dataclass(frozen=True, slots=True)
class Said:
    """What came back under the department's seal."""

    statement: AnswerStatement
    head: AnswerHead
    body: bytes


def make_statement(
    gateway: str, method: str, target: bytes, headers: Headers, body: bytes, *, safe: bool | None, timeout: float
) -> tuple[QueryStatement, bytes]:
    """A statement as a gateway makes it, and its salt."""
    now = time.time_ns() // 1_000_000
    salt = _entropy.draw(16)
    statement = QueryStatement(
        asked_at=_time_text(now),
        case="",
        certificate="00" * 32,
        channel="",
        client="CN/GOV/1/caller",
        deadline=_time_text(now + int(timeout * 1000)),
        gateway=gateway,
        grant="1@1",
        id=uuid7(now, _entropy),
        message_id="m",
        method=method,
        path_template="/x",
        purpose="test",
        represented="",
        request_digest=request_digest(salt, method, target, headers, body),
        request_size=len(body),
        safe=method in ("GET", "HEAD") if safe is None else safe,
        service=ENTERPRISES,
        subject="",
        user="",
    )
    return statement, salt


class Gateway:
    """A gateway's key and its place on the bus."""

    def __init__(self, pki: Pki, client: Client, party: str = "gateway") -> None:
        self.identity = load_identity(pki.certificate(party), pki.key(party))
        self.client = client
        self._departments = {
            fingerprint: key
            for name in ("tax", "civil")
            for fingerprint, key in load_sealing_keys(pki.certificate(name)).items()
        }
        self._verifier = SealVerifier(ANSWER_CONTEXT)

    async def question(
        self,
        method: str = "GET",
        target: bytes = b"/x",
        headers: Headers | None = None,
        body: bytes = b"",
        *,
        safe: bool | None = None,
        timeout: float = 5.0,
        parts: int = 0,
        **changes: Any,
    ) -> Question:
        """A sealed question; `changes` are made to the statement before it is sealed."""
        headers = headers or []
        statement, salt = make_statement(
            self.identity.fingerprint, method, target, headers, body, safe=safe, timeout=timeout
        )
        statement = msgspec.structs.replace(statement, **changes)
        sealed = statement_bytes(statement)
        seal = seal_all(self.identity.key, QUERY_CONTEXT, [sealed])[0]
        head = QueryHead(sealed, seal, salt, target, headers, int(timeout * 1000), parts)
        return Question(statement, head, b"" if parts else body)

    async def send(self, question: Question, *, wait: float = 10.0, service: ServiceId = ENTERPRISES) -> Said:
        """The answer to a question, if it is the department's own, and to this question; AssertionError otherwise."""
        reply = await self.client.request(service_nats_subject(service), question.message, timeout=wait)
        return self.check(question, reply.data)

    async def ask(self, method: str = "GET", target: bytes = b"/x", body: bytes = b"", **options: Any) -> Said:
        """`question`, then `send`."""
        return await self.send(await self.question(method, target, body=body, **options))

    def check(self, question: Question, message: bytes) -> Said:
        """Open an answer."""
        head, body = unpack(AnswerHead, message)
        said = read_answer_statement(head.statement)
        self._verifier.check(said.adapter, self._departments[said.adapter], head.seal, head.statement)
        assert said.id == question.statement.id
        assert said.query_digest == hashlib.sha256(question.head.statement).hexdigest()
        assert said.headers_digest == content_digest(question.head.salt, header_block(head.headers))
        if not head.parts:
            assert said.body_digest == content_digest(question.head.salt, body)
            assert said.body_size == len(body)
        return Said(said, head, body)


@asynccontextmanager
async def bus_client(server: NatsServer, pki: Pki, party: str, subsystem: SubsystemId) -> AsyncIterator[Client]:
    """A connection to the bus with nats-py, as a party of the demo."""
    client = Client()
    await connect_client(client, server.url, pki.bus_tls(party), party, inbox_prefix(identity_uri(subsystem)))
    try:
        yield client
    finally:
        with contextlib.suppress(AttributeError):  # nats-py writes to the transport that the dead bus left behind
            await client.close()


@asynccontextmanager
async def gateway_on(server: NatsServer, pki: Pki) -> AsyncIterator[Gateway]:
    """The demo's gateway."""
    async with bus_client(server, pki, "gateway", OPERATOR_SUBSYSTEM) as client:
        yield Gateway(pki, client)


@asynccontextmanager
async def adapter_on(
    server: NatsServer,
    pki: Pki,
    sources: Mapping[str, Source],
    ledger: Ledger,
    *,
    party: str = "tax",
    subsystem: SubsystemId = TAX_SUBSYSTEM,
    grace: float = 10.0,
    **options: Any,
) -> AsyncIterator[Runner]:
    """An adapter at work."""
    identity = load_identity(pki.certificate(party), pki.key(party))
    runner = Runner(
        bus=lambda subscriptions: ServingBus(server.url, pki.bus_tls(party), party, subscriptions),
        name=party,
        version="1.2.3",
        description="测试",
        subsystem=subsystem,
        sources=sources,
        ledger=ledger,
        key=identity.key,
        fingerprint=identity.fingerprint,
        gateways=load_sealing_keys(pki.certificate("gateway")),
        **options,
    )
    await runner.start()
    try:
        await asyncio.wait_for(runner.wait_connected(), 10)
        yield runner
    finally:
        await runner.stop(grace)


class Notes:
    """A log in memory that keeps the order of what happened."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.happened: list[str] = []

    def append(self, record: bytes, **facts: Any) -> asyncio.Future[int]:
        self.records.append(record)
        self.happened.append(f"{facts['outcome']} {facts['rule']}".strip())
        return _done(len(self.records))

    def intend(self, exchange_id: str, **facts: Any) -> asyncio.Future[None]:
        self.happened.append("intent")
        return _done(None)

    def prolong(self, exchange_id: str, deadline_ms: int) -> None:
        pass


def _done(value: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


class Carrier:
    """A gateway's broker over the bus, with a log in memory."""

    def __init__(self, pki: Pki, bus: Bus) -> None:
        self.identity = load_identity(pki.certificate("gateway"), pki.key("gateway"))
        self.log = Notes()
        tax = load_identity(pki.certificate("tax"), pki.key("tax"))
        civil = load_identity(pki.certificate("civil"), pki.key("civil"))
        self.adapters: dict[str, tuple[SubsystemId, PublicKey]] = {
            tax.fingerprint: (TAX_SUBSYSTEM, tax.key.public_key()),
            civil.fingerprint: (CIVIL_SUBSYSTEM, civil.key.public_key()),
        }
        self.broker = Broker(
            bus=bus,
            log=self.log,
            sealing_key=self.identity.key,
            verifier=SealVerifier(ANSWER_CONTEXT),
            adapter_key=self.adapters.get,
        )

    def query(
        self,
        method: str = "GET",
        target: bytes = b"/x",
        headers: Headers | None = None,
        body: bytes = b"",
        *,
        safe: bool | None = None,
        timeout: float = 5.0,
        max_answer: int = 64 << 20,
        release: tuple[str, ...] | UnsetType = UNSET,
    ) -> Query:
        question = make_statement(
            self.identity.fingerprint, method, target, headers or [], body, safe=safe, timeout=timeout
        )
        statement, salt = question
        statement = msgspec.structs.replace(statement, release=release)
        return Query(
            statement=statement,
            owner=TAX_SUBSYSTEM,
            nats_subject=service_nats_subject(ENTERPRISES),
            salt=salt,
            target=target,
            headers=headers or [],
            body=body,
            safe=statement.safe,
            timeout=timeout,
            max_answer=max_answer,
            caller=CallerFacts("07"),
            started=time.perf_counter(),
        )

    async def perform(self, method: str = "GET", target: bytes = b"/x", **options: Any) -> Answer:
        """Ask, and read the answer to its end."""
        return await self.finish(await self.broker.perform(self.query(method, target, **options)))

    async def finish(self, answer: Answer) -> Answer:
        """The same answer with its body in memory."""
        if answer.stream is None:
            return answer
        pieces: list[bytes] = []

        async def take(piece: bytes) -> None:
            self.log.happened.append("piece")
            pieces.append(piece)

        await answer.stream.pour(take)
        return Answer(answer.status, answer.headers, b"".join(pieces))


@asynccontextmanager
async def carrier_on(server: NatsServer, pki: Pki) -> AsyncIterator[Carrier]:
    """The demo's gateway with its own client and broker."""
    bus = NatsBus(server.url, pki.bus_tls("gateway"), identity_uri(OPERATOR_SUBSYSTEM))
    bus.start()
    try:
        await until(lambda: bus.connected)
        yield Carrier(pki, bus)
    finally:
        await bus.stop()
