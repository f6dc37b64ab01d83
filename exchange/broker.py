"""The straight path of one query: intent, carry, check the answer, record, release.

Rules:
1. An operation that may change something leaves only after its intent is durable.
2. Nothing is believed because it came over the bus: an answer counts only if a certificate registered for the owner's
   subsystem sealed it, for this exchange, for these request bytes; and where an adapter says that parts of a body are to
   be sent or fetched, only addresses on the bus that belong to the owner are used. Under release terms the body is
   gone through again: an adapter that released more is not a way around a grant.
3. Record, then release: the caller gets a byte of the answer only after the record of it is durable.
4. Exactly one terminal record per attempt, whatever happens. The server does not cancel a request whose caller hangs up;
   an intent orphaned by a crash is settled by `ExchangeLog.recover`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from msgspec import UNSET, Raw

from exchange.envelope import (
    AnswerHead,
    AnswerStatement,
    EnvelopeError,
    Headers,
    PartHead,
    QueryHead,
    QueryStatement,
    check_headers,
    content_digest,
    header_block,
    pack,
    read_answer_statement,
    statement_bytes,
    unpack,
)
from exchange.errors import (
    AdapterUnavailableError,
    AnswerTimeoutError,
    BackendError,
    BadAnswerError,
    BusUnavailableError,
    LogUnavailableError,
    MeshError,
    OverloadedError,
    PayloadTooLargeError,
    QuestionRefusedError,
    RegistryStaleError,
    UnavailableError,
)
from exchange.identifiers import SubsystemId, subject_token
from exchange.moments import Rfc3339
from exchange.record import NOBODY, CallerFacts, Outcome, Record, record_bytes, salt_digest, seal_text
from exchange.release import ReleaseError, check_answer
from exchange.seal import QUERY_CONTEXT, PrivateKey, PublicKey, SealError, SealVerifier, seal_all
from exchange.terms import read_terms
from exchange.transport import Bus, BusLostError, NoRespondersError
from exchange.turns import Gathering

INLINE_BODY = 512 << 10
"""Bodies up to this size travel in one message; the bus takes 1 MB."""
PART_SIZE = 256 << 10
PARTS_IN_FLIGHT = 8

events = structlog.get_logger("datong.broker")


@dataclass(slots=True, kw_only=True, eq=False)
class Query:
    """One question, ready to be carried. `statement` is what the gateway vouches for."""

    statement: QueryStatement
    owner: SubsystemId
    nats_subject: str
    salt: bytes
    target: bytes
    headers: Headers
    body: bytes
    safe: bool
    timeout: float
    max_answer: int
    caller: CallerFacts
    started: float
    """time.perf_counter() when the request's head was complete."""
    signature: bytes = b""
    """Evidence of the caller's own signature, if the request was signed (`exchange.recorded_signatures`)."""
    certificate: bytes = b""
    """The certificate whose key signed it, DER."""


@dataclass(slots=True, frozen=True)
class Answer:
    """What the department's own system answered."""

    status: int
    headers: Headers
    body: bytes


@dataclass(slots=True, frozen=True)
class _Evidence:
    """An answer statement whose seal was verified."""

    said: AnswerStatement
    statement: bytes
    seal: bytes


class _Carriage:
    """A question on its way: sealed and sent with others of the same turn."""

    __slots__ = ("deadline", "parts", "query", "reply", "seal", "sealed")

    def __init__(self, query: Query, sealed: bytes) -> None:
        self.query = query
        self.sealed = sealed
        self.seal: bytes | None = None
        """Set when it is sent."""
        self.parts = _part_count(len(query.body)) if len(query.body) > INLINE_BODY else 0
        self.deadline = 0.0
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()


class UnrecordedEndError(LogUnavailableError):
    """An operation that may change something was carried, and what became of it is not on the record."""

    detail = {
        "en": "The request was carried, but the exchange log did not accept the record, so nothing was released. "
        "Whether the department acted is unknown.",
        "zh": "请求已送达，但交换日志未能写入，因此没有返回任何数据；部门是否已处理未知。",
    }
    next = AnswerTimeoutError.next
    retry_after: int | None = None  # to try again would be to do it twice


class UnconfirmedAnswerError(RegistryStaleError):
    """The same, and nobody can say now whether the adapter's certificate still counts."""

    detail = {
        "en": "The answer cannot be checked: the registry was last confirmed {age} s ago, the limit is {limit} s. "
        "Whether the department acted is unknown.",
        "zh": "无法核验应答：登记信息最近一次确认在 {age} 秒前，上限为 {limit} 秒；部门是否已处理未知。",
    }
    next = AnswerTimeoutError.next
    retry_after: int | None = None


class Log(Protocol):
    """Where records become durable. `exchange.log.ExchangeLog` is the one used."""

    def append(
        self,
        record: bytes,
        *,
        exchange_id: str,
        salt: bytes,
        at_ms: int,
        client: str,
        service: str,
        outcome: str,
        rule: str,
        settles_intent: bool,
        evidence: bytes = b"",
    ) -> asyncio.Future[int]: ...

    def intend(
        self, exchange_id: str, *, deadline_ms: int, record: bytes, salt: bytes, evidence: bytes = b""
    ) -> asyncio.Future[None]: ...


AdapterKey = Callable[[str], tuple[SubsystemId, PublicKey] | None]
"""Fingerprint of an adapter certificate -> (the subsystem it is registered for, its key), or None."""


class Broker:
    """Carries queries to departments and records what happened."""

    def __init__(
        self, *, bus: Bus, log: Log, sealing_key: PrivateKey, verifier: SealVerifier, adapter_key: AdapterKey
    ) -> None:
        self._bus = bus
        self._log = log
        self._sealing_key = sealing_key
        self._leaving = Gathering(self._seal_and_send)
        self._verifier = verifier
        self._adapter_key = adapter_key
        self._time_text = Rfc3339()

    async def perform(self, query: Query) -> Answer:
        """Carry one query to its department and back, and record what happened.

        Raises:
            MeshError: Refused, failed or unknown; that is on the record, except for
            LogUnavailableError: the record is not durable, so nothing may be released.
        """
        statement = query.statement
        sealed = statement_bytes(statement)
        carriage = _Carriage(query, sealed)
        evidence: _Evidence | None = None
        intended = False
        try:
            if not query.safe:
                await self._log.intend(
                    statement.id,
                    deadline_ms=_deadline_ms(query),
                    record=sealed,
                    salt=query.salt,
                    evidence=query.signature,
                )
                intended = True
            head, body = await self._carry(carriage)
            evidence = self._check(query, sealed, head, body)
            if evidence.said.error:
                raise _error_from_adapter(evidence.said, query)
            if statement.release is not UNSET:
                await _check_release(statement.release, evidence.said, head.headers, body)
        except MeshError as error:
            await self._record(carriage, evidence, error, intended)
            raise
        except Exception as fault:
            # A fault of ours must not lose the record; the caller learns nothing but the exchange's number.
            events.exception("broker.fault", exchange=statement.id, error=repr(fault))
            failure = MeshError()
            await self._record(carriage, evidence, failure, intended)
            raise failure from fault
        await self._record(carriage, evidence, None, intended)
        return Answer(evidence.said.status, head.headers, body)

    async def refuse(
        self,
        statement: QueryStatement,
        error: MeshError,
        *,
        started: float,
        caller: CallerFacts = NOBODY,
        status: int | None = None,
    ) -> None:
        """Record an attempt that was refused before anything was carried; `statement` holds what is known of it.

        Args:
            status: What the caller was told, if it is not the error's own; 0 if nothing could be told.

        Raises:
            LogUnavailableError: The refusal could not be recorded.
        """
        await self._record_uncarried(
            statement,
            started=started,
            caller=caller,
            outcome="refused",
            status=error.status if status is None else status,
            code=error.code,
            rule=error.rule,
            source=error.source,
        )

    async def note_answer(
        self, statement: QueryStatement, status: int, *, started: float, caller: CallerFacts = NOBODY
    ) -> None:
        """Record an attempt that the gateway answers by itself: nothing was carried, and no department spoke.

        Raises:
            LogUnavailableError: The answer could not be recorded, so it must not be given.
        """
        await self._record_uncarried(
            statement, started=started, caller=caller, outcome="answered", status=status, source="gateway"
        )

    async def _record_uncarried(
        self,
        statement: QueryStatement,
        *,
        started: float,
        caller: CallerFacts,
        outcome: Outcome,
        status: int,
        source: str,
        code: str = "",
        rule: str = "",
    ) -> None:
        now_ms = time.time_ns() // 1_000_000
        record = Record(
            certificate_notes=caller.notes or UNSET,
            certificate_serial=caller.certificate_serial,
            code=code,
            duration_us=int((time.perf_counter() - started) * 1e6),
            ended_at=self._time_text(now_ms),
            id=statement.id,
            outcome=outcome,
            person=caller.person or UNSET,
            query=Raw(statement_bytes(statement)),
            rule=rule,
            source=source,
            status=status,
        )
        await self._append(record, statement, b"", now_ms, settles_intent=False)

    def _seal_and_send(self, together: list[_Carriage]) -> None:
        """Seal questions with one signature, and send them."""
        try:
            seals = seal_all(self._sealing_key, QUERY_CONTEXT, [carriage.sealed for carriage in together])
        except Exception as fault:  # noqa: BLE001  # told to all that wait, who would hear of it in no other way
            for carriage in together:
                carriage.reply.set_exception(fault)
            return
        for carriage, seal in zip(together, seals, strict=True):
            try:
                self._send(carriage, seal)
            except Exception as fault:  # noqa: BLE001  # likewise
                carriage.reply.set_exception(fault)

    def _send(self, carriage: _Carriage, seal: bytes) -> None:
        query, parts = carriage.query, carriage.parts
        budget_ms = int(query.timeout * 1000)
        head = QueryHead(
            *(carriage.sealed, seal, query.salt, query.target, query.headers, budget_ms, parts),
            query.signature,
            query.certificate,
        )
        carriage.seal = seal
        carriage.deadline = time.perf_counter() + query.timeout
        message = pack(head, b"" if parts else query.body)
        self._bus.post(query.nats_subject, message, query.timeout, carriage.reply)

    async def _carry(self, carriage: _Carriage) -> tuple[AnswerHead, bytes]:
        """Send the question, its body in parts if it is large, and fetch the answer, likewise."""
        query = carriage.query
        self._leaving.add(carriage)
        try:
            message = await carriage.reply
            answer, answer_body = unpack(AnswerHead, message)
            if carriage.parts and answer.inbox and not answer.statement:
                # The adapter that took the head waits for the parts; the answer comes as the reply to the last one.
                inbox = _inbox_of(query, answer)
                message = await self._send_parts(query, inbox, carriage.parts, carriage.deadline)
                answer, answer_body = unpack(AnswerHead, message)
        except NoRespondersError as error:
            raise AdapterUnavailableError(owner=query.owner) from error
        except EnvelopeError as error:
            raise BadAnswerError(
                "answer-form", problem="The answer is not an envelope.", problem_zh="应答报文格式不正确。"
            ) from error
        if answer.parts:
            answer_body = await self._fetch_parts(query, answer, carriage.deadline)
        return answer, answer_body

    async def _send_parts(self, query: Query, inbox: str, parts: int, deadline: float) -> bytes:
        async def send(number: int) -> bytes:
            part = query.body[number * PART_SIZE : (number + 1) * PART_SIZE]
            message = pack(PartHead(query.statement.id, number, False), part)
            return await self._bus.request(inbox, message, _left(deadline, query))

        for start in range(0, parts - 1, PARTS_IN_FLIGHT):
            await asyncio.gather(*[send(number) for number in range(start, min(start + PARTS_IN_FLIGHT, parts - 1))])
        return await send(parts - 1)

    async def _fetch_parts(self, query: Query, answer: AnswerHead, deadline: float) -> bytes:
        if not 0 < answer.parts <= _part_count(query.max_answer):
            raise _answer_too_large(query)
        inbox = _inbox_of(query, answer)

        async def fetch(number: int) -> bytes:
            message = pack(PartHead(query.statement.id, number, True))
            return await self._bus.request(inbox, message, _left(deadline, query))

        pieces: list[bytes] = []
        try:
            for start in range(0, answer.parts, PARTS_IN_FLIGHT):
                numbers = range(start, min(start + PARTS_IN_FLIGHT, answer.parts))
                pieces += await asyncio.gather(*[fetch(number) for number in numbers])
        except BusLostError:
            raise
        except (NoRespondersError, BusUnavailableError, OverloadedError) as error:
            # The department has acted and answered. To say that nobody is there would invite to try again.
            raise BadAnswerError(
                "answer-complete",
                problem="The adapter went away before its answer was fetched; the department has acted.",
                problem_zh="应答取回之前适配器已断开；部门已经处理。",
            ) from error
        return b"".join(pieces)

    def _check(self, query: Query, sealed: bytes, head: AnswerHead, body: bytes) -> _Evidence:
        """Return what the department said, if it was the department and if it said it to this question."""
        try:
            said = read_answer_statement(head.statement)
            known = self._key_of(said.adapter, query)
            if known is None or known[0] != query.owner:
                raise BadAnswerError(
                    "answer-signer",
                    problem="The answer is not sealed by an adapter registered for the service.",
                    problem_zh="应答不是由该服务登记的适配器签署。",
                )
            self._verifier.check(said.adapter, known[1], head.seal, head.statement)
        except (EnvelopeError, SealError) as error:
            raise BadAnswerError(
                problem="The answer's seal does not verify.", problem_zh="应答的签名验证失败。"
            ) from error
        if said.id != query.statement.id or said.query_digest != hashlib.sha256(sealed).hexdigest():
            raise BadAnswerError(
                "answer-binding", problem="The answer belongs to another question.", problem_zh="应答与请求不对应。"
            )
        block = header_block(head.headers)
        if said.body_digest != content_digest(query.salt, body) or said.headers_digest != content_digest(
            query.salt, block
        ):
            raise BadAnswerError(
                "answer-digest", problem="The answer is not what was sealed.", problem_zh="应答内容与签名不一致。"
            )
        if len(body) > query.max_answer:
            raise _answer_too_large(query)
        if not said.error:
            _check_form(said.status, head.headers, block, body)
        return _Evidence(said, head.statement, head.seal)

    def _key_of(self, adapter: str, query: Query) -> tuple[SubsystemId, PublicKey] | None:
        try:
            return self._adapter_key(adapter)
        except RegistryStaleError as error:
            if query.safe:
                raise
            raise UnconfirmedAnswerError(error.rule, **error.facts) from error

    async def _record(
        self,
        carriage: _Carriage,
        evidence: _Evidence | None,
        error: MeshError | None,
        intended: bool,
    ) -> None:
        now_ms = time.time_ns() // 1_000_000
        query, seal = carriage.query, carriage.seal
        statement = query.statement
        record = Record(
            answer=Raw(evidence.statement) if evidence else UNSET,
            answer_seal=seal_text(evidence.seal) if evidence else UNSET,
            certificate_notes=query.caller.notes or UNSET,
            certificate_serial=query.caller.certificate_serial,
            code=error.code if error else "",
            duration_us=int((time.perf_counter() - query.started) * 1e6),
            ended_at=self._time_text(now_ms),
            id=statement.id,
            outcome=outcome_of(error, carried=seal is not None, safe=query.safe),
            person=query.caller.person or UNSET,
            query=Raw(carriage.sealed),
            query_seal=seal_text(seal) if seal else UNSET,
            rule=error.rule if error else "",
            salt_digest=salt_digest(query.salt),
            source=error.source if error else "",
            status=error.status if error else evidence.said.status if evidence else 0,
        )
        try:
            signature = b"" if intended else query.signature  # with the intent it became durable already
            await self._append(record, statement, query.salt, now_ms, settles_intent=intended, signature=signature)
        except LogUnavailableError as failure:
            if seal is None or query.safe:
                raise
            raise UnrecordedEndError(failure.rule) from failure

    async def _append(
        self,
        record: Record,
        statement: QueryStatement,
        salt: bytes,
        now_ms: int,
        *,
        settles_intent: bool,
        signature: bytes = b"",
    ) -> None:
        await self._log.append(
            record_bytes(record),
            exchange_id=statement.id,
            salt=salt,
            at_ms=now_ms,
            client=statement.client,
            service=statement.service,
            outcome=record.outcome,
            rule=record.rule,
            settles_intent=settles_intent,
            evidence=signature,
        )


def outcome_of(error: MeshError | None, *, carried: bool, safe: bool) -> Outcome:
    """The outcome that an error means, once it is known whether anything was carried that may change something."""
    if error is None:
        return "answered"
    if not carried:
        return "refused"
    if isinstance(error, AnswerTimeoutError | BusLostError):
        return "unknown"
    # An answer that does not count, or could not be checked, says nothing about what was done before it.
    unproven = isinstance(error, BadAnswerError | RegistryStaleError) or type(error) is MeshError
    return "unknown" if unproven and not safe else "failed"


def _check_form(status: int, headers: Headers, block: bytes, body: bytes) -> None:
    """Return if the answer can be written to an HTTP connection as it is; raises BadAnswerError."""
    try:
        check_headers(headers, block)
        if not 200 <= status <= 599 or (body and status in (204, 304)):
            raise EnvelopeError(f"{len(body)} bytes cannot be passed on with status {status}")
    except EnvelopeError as error:
        raise BadAnswerError(
            "answer-form", problem="The answer is not a form of HTTP answer.", problem_zh="应答不是合法的 HTTP 应答。"
        ) from error


async def _check_release(entries: tuple[str, ...], said: AnswerStatement, headers: Headers, body: bytes) -> None:
    """Return if an answer keeps to the terms it was to be released under; raises BadAnswerError."""
    try:
        terms = read_terms(entries)
        await check_answer(terms, said.status, headers, body, withheld=said.withheld, masked=said.masked)
    except ReleaseError as error:
        # The answer is the department's own, so it stands on the record: that is how it is shown what its adapter does.
        raise BadAnswerError(
            "release-terms",
            problem="The answer holds more than the grant releases.",
            problem_zh="应答超出授权允许释放的内容。",
        ) from error


def _inbox_of(query: Query, answer: AnswerHead) -> str:
    """Where the adapter takes and gives parts, if that is a place of the owner's; raises BadAnswerError."""
    # What an adapter writes here becomes a subject of ours: with a space or line break in it, commands to the bus.
    if not re.fullmatch(rf"dt\.i\.{subject_token(query.owner)}\.[A-Za-z0-9_-]{{1,64}}", answer.inbox):
        raise BadAnswerError(
            "answer-inbox",
            problem="The answer names a place on the bus that is not the department's.",
            problem_zh="应答所指的总线地址不属于该部门。",
        )
    return answer.inbox


def _answer_too_large(query: Query) -> BadAnswerError:
    return BadAnswerError(
        "answer-size",
        problem=f"The answer is larger than {query.max_answer} bytes.",
        problem_zh=f"应答超过 {query.max_answer} 字节。",
    )


def _part_count(size: int) -> int:
    return -(-size // PART_SIZE)


def _deadline_ms(query: Query) -> int:
    return time.time_ns() // 1_000_000 + int(query.timeout * 1000)


def _left(deadline: float, query: Query) -> float:
    left = deadline - time.perf_counter()
    if left <= 0:
        raise AnswerTimeoutError(seconds=f"{query.timeout:g}")
    return left


_ADAPTER_ERRORS: dict[str, type[MeshError]] = {
    error.code: error
    for error in (
        BackendError,
        LogUnavailableError,
        OverloadedError,
        QuestionRefusedError,
        UnavailableError,
    )
}


def _error_from_adapter(said: AnswerStatement, query: Query) -> MeshError:
    """The error that an adapter reported under its seal. It says which, never why: details stay in the department."""
    if said.error == AnswerTimeoutError.code:
        return AnswerTimeoutError(seconds=f"{query.timeout:g}")
    if said.error == PayloadTooLargeError.code:
        return _answer_too_large(query)  # the adapter means its own system's answer, not the caller's body
    return _ADAPTER_ERRORS.get(said.error, BackendError)()
