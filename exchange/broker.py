"""The straight path of one query: intent, carry, check the answer, record, release.

Rules:
1. An operation that may change something leaves only after its intent is durable.
2. Nothing is believed because it came over the bus: an answer counts only if a certificate registered for the owner's
   subsystem sealed it, for this exchange, for these request bytes; and where an adapter says that parts of a body are to
   be sent or fetched, only addresses on the bus that belong to the owner are used. Under release terms the body is
   gone through again: an adapter that released more is not a way around a grant.
3. Record, then release: the caller gets a byte of the answer only after the record of it is durable. A large answer comes
   piece by piece instead: before the first of them its intent is durable, and the last ones are released when the record is.
   So nobody ever holds a whole answer without a record of it.
4. Exactly one terminal record per attempt, whatever happens. The server does not cancel a request whose caller hangs up;
   an intent orphaned by a crash is settled by `ExchangeLog.recover`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from msgspec import UNSET, Raw

from exchange.envelope import (
    INLINE_BODY,
    PART_SIZE,
    STREAMED,
    AnswerHead,
    AnswerStatement,
    Body,
    EnvelopeError,
    Headers,
    OpeningStatement,
    QueryHead,
    QueryStatement,
    check_headers,
    content_digest,
    header_block,
    pack,
    read_answer_statement,
    read_opening_statement,
    statement_bytes,
    unpack,
)
from exchange.errors import (
    AdapterUnavailableError,
    AnswerBrokenError,
    AnswerTimeoutError,
    BackendError,
    BackendUnavailableError,
    BadAnswerError,
    BusUnavailableError,
    CallerGoneError,
    ContractBrokenError,
    LogUnavailableError,
    MeshError,
    OverloadedError,
    PayloadTooLargeError,
    QuestionRefusedError,
    RegistryStaleError,
    RequestBeyondContractError,
    UnavailableError,
)
from exchange.identifiers import SubsystemId, subject_token
from exchange.moments import Rfc3339
from exchange.record import NOBODY, CallerFacts, Outcome, Record, record_bytes, salt_digest, seal_text
from exchange.release import ReleaseError, check_answer
from exchange.seal import (
    OPENING_CONTEXT,
    QUERY_CONTEXT,
    PrivateKey,
    PublicKey,
    SealError,
    SealVerifier,
    seal_all,
)
from exchange.spool import Spooled
from exchange.streams import (
    HELD_BACK,
    LONGEST_STREAM,
    AnswerStream,
    Fetching,
    Take,
    fetch_parts,
    part_count,
    push_parts,
)
from exchange.terms import read_terms
from exchange.transport import Bus, BusLostError, NoRespondersError
from exchange.turns import Gathering

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
    body: Body
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
    stream: AnswerStream | None = None
    """In place of `body`, if that is too large for one message: it must be poured."""


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
        self.parts = part_count(len(query.body)) if len(query.body) > INLINE_BODY else 0
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

    def prolong(self, exchange_id: str, deadline_ms: int) -> None: ...


AdapterKey = Callable[[str], tuple[SubsystemId, PublicKey] | None]
"""Fingerprint of an adapter certificate -> (the subsystem it is registered for, its key), or None."""


class Broker:
    """Carries queries to departments and records what happened."""

    def __init__(
        self,
        *,
        bus: Bus,
        log: Log,
        sealing_key: PrivateKey,
        verifier: SealVerifier,
        adapter_key: AdapterKey,
        stall: float = 30.0,
        streams: asyncio.Semaphore | None = None,
    ) -> None:
        """
        Args:
            verifier: Of seals of answers (ANSWER_CONTEXT).
            stall: Seconds after which a streamed answer of which nothing more comes is given up; at most 100.
            streams: As many answers are streamed at once as it lets; default: 32.
        """
        self._bus = bus
        self._log = log
        self._sealing_key = sealing_key
        self._leaving = Gathering(self._seal_and_send)
        self._verifier = verifier
        self._opening_verifier = SealVerifier(OPENING_CONTEXT)
        self._adapter_key = adapter_key
        self._stall = stall
        self._streams = streams or asyncio.Semaphore(32)
        self._time_text = Rfc3339()

    async def perform(self, query: Query) -> Answer:
        """Carry one query to its department and back, and record what happened.

        An answer with a `stream` has no record yet: it gets it when the stream is poured, which must be done.

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
            if head.parts == STREAMED:
                opening = self._check_opening(query, sealed, head)
                fetching = Fetching(self._bus, _inbox_of(query, head), statement.id, self._stall)
                try:
                    await self._intend_stream(carriage, opening, intended)
                except BaseException:
                    fetching.abandon()
                    raise
                return self._streamed(carriage, opening, head.headers, fetching)
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
            query.statement.release is UNSET,  # or the whole of it is to be gone through
        )
        carriage.seal = seal
        carriage.deadline = time.perf_counter() + query.timeout
        body = query.body
        message = pack(head, body if isinstance(body, bytes) and not parts else b"")
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
        if answer.parts and answer.parts != STREAMED:
            answer_body = await self._fetch_parts(query, answer, carriage.deadline)
        return answer, answer_body

    async def _send_parts(self, query: Query, inbox: str, parts: int, deadline: float) -> bytes:
        body = query.body

        async def part(number: int) -> bytes:
            start = number * PART_SIZE
            if isinstance(body, Spooled):
                return await body.read(start, PART_SIZE)
            assert isinstance(body, bytes)
            return body[start : start + PART_SIZE]

        return await push_parts(self._bus, inbox, query.statement.id, parts, part, lambda: _left(deadline, query))

    async def _fetch_parts(self, query: Query, answer: AnswerHead, deadline: float) -> bytes:
        if not 0 < answer.parts <= part_count(query.max_answer):
            raise _answer_too_large(query)
        inbox = _inbox_of(query, answer)
        try:
            return await fetch_parts(self._bus, inbox, query.statement.id, answer.parts, lambda: _left(deadline, query))
        except BusLostError:
            raise
        except (NoRespondersError, BusUnavailableError, OverloadedError) as error:
            # The department has acted and answered. To say that nobody is there would invite to try again.
            raise BadAnswerError(
                "answer-complete",
                problem="The adapter went away before its answer was fetched; the department has acted.",
                problem_zh="应答取回之前适配器已断开；部门已经处理。",
            ) from error

    # -- streamed answers

    async def _intend_stream(self, carriage: _Carriage, opening: OpeningStatement, intended: bool) -> None:
        """Return when it is durable that an answer is about to be released, piece by piece.

        Raises:
            LogUnavailableError: It is not. BadAnswerError: the answer is too large.
        """
        query = carriage.query
        if opening.body_size is not UNSET and opening.body_size > query.max_answer:
            raise _answer_too_large(query)
        statement = query.statement
        deadline_ms = time.time_ns() // 1_000_000 + int(LONGEST_STREAM * 1000)
        if not intended:
            await self._log.intend(
                statement.id,
                deadline_ms=deadline_ms,
                record=carriage.sealed,
                salt=query.salt,
                evidence=query.signature,
            )
        self._log.prolong(statement.id, deadline_ms)

    def _streamed(self, carriage: _Carriage, opening: OpeningStatement, headers: Headers, fetching: Fetching) -> Answer:
        size = None if opening.body_size is UNSET else opening.body_size

        async def pour(take: Take) -> None:
            await self._pour(carriage, opening.status, size, headers, fetching, take)

        return Answer(opening.status, headers, b"", AnswerStream(size, pour))

    async def _pour(
        self,
        carriage: _Carriage,
        status: int,
        size: int | None,
        headers: Headers,
        fetching: Fetching,
        take: Take,
    ) -> None:
        """Pass an answer on as it comes, all but its end; that when it is closed, found to be what was sealed, and recorded."""
        query = carriage.query
        digest = hashlib.sha256(query.salt)
        came = passed_on = 0
        held: deque[bytes] = deque()
        evidence: _Evidence | None = None
        failure: MeshError | None = None
        waited = False
        try:
            try:
                async with asyncio.timeout(LONGEST_STREAM):
                    async with asyncio.timeout(self._stall):
                        waited = await self._streams.acquire()
                    async for part in fetching.parts():
                        came += len(part)
                        if came > (query.max_answer if size is None else size):
                            raise _answer_too_large(query) if size is None else _not_as_announced()
                        digest.update(part)
                        held.append(part)
                        if len(held) > HELD_BACK:
                            await take(held.popleft())
                            passed_on = came - sum(map(len, held))
                    head = await fetching.closing()
            finally:
                fetching.leave()
            evidence = self._check_closing(query, carriage.sealed, head, digest.hexdigest(), came)
            if evidence.said.error:
                raise _error_from_adapter(evidence.said, query)
            said = evidence.said
            block = header_block(headers)
            if (said.status, said.headers_digest) != (status, content_digest(query.salt, block)):
                raise _not_as_announced()
            if size is not None and came != size:
                raise _not_as_announced()
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
            failure = AnswerBrokenError("gateway-stays", problem="The gateway was stopped.", problem_zh="网关已停止。")
            fetching.abandon()
            await self._record(carriage, None, failure, intended=True, status=status, passed_on=passed_on)
            raise failure from cancelled
        except Exception as fault:  # noqa: BLE001 - a fault of ours must not lose the record
            events.exception("broker.fault", exchange=query.statement.id, error=repr(fault))
            failure = MeshError()
            failure.__cause__ = fault
        finally:
            if waited:
                self._streams.release()
        if failure is not None:
            if evidence is None:
                fetching.abandon()
            given = status if passed_on else failure.status
            if isinstance(failure, CallerGoneError) and not passed_on:
                given = 0
            await self._record(carriage, evidence, failure, intended=True, status=given, passed_on=passed_on)
            raise failure
        await self._record(carriage, evidence, None, intended=True)
        for part in held:
            await take(part)

    def _check_opening(self, query: Query, sealed: bytes, head: AnswerHead) -> OpeningStatement:
        """Return what the department says of the answer to come, if it may come piece by piece; raises BadAnswerError."""
        try:
            opening = read_opening_statement(head.statement)
            self._check_seal(query, self._opening_verifier, opening.adapter, head)
        except (EnvelopeError, SealError) as error:
            raise _bad_seal() from error
        _check_binding(query, sealed, opening.id, opening.query_digest)
        block = header_block(head.headers)
        if opening.headers_digest != content_digest(query.salt, block):
            raise _not_what_was_sealed()
        if query.statement.release is not UNSET:
            raise BadAnswerError(
                "release-terms",
                problem="An answer under release terms cannot come piece by piece.",
                problem_zh="受释放条件约束的应答不能分段传输。",
            )
        # The body is not here, and there will be one: where there can be none, that is refused now.
        _check_form(opening.status, head.headers, block, b"-")
        if query.statement.method == "HEAD":
            raise _no_answer_form()
        return opening

    def _check_closing(self, query: Query, sealed: bytes, head: AnswerHead, digest: str, size: int) -> _Evidence:
        """Return the department's word on the whole of what came; raises BadAnswerError if that is another whole."""
        try:
            said = read_answer_statement(head.statement)
            self._check_seal(query, self._verifier, said.adapter, head)
        except (EnvelopeError, SealError) as error:
            raise _bad_seal() from error
        _check_binding(query, sealed, said.id, said.query_digest)
        if (said.body_digest, said.body_size) != (digest, size):
            raise _not_what_was_sealed()
        return _Evidence(said, head.statement, head.seal)

    def _check_seal(self, query: Query, verifier: SealVerifier, adapter: str, head: AnswerHead) -> None:
        """Return if an adapter of the owner sealed the statement; raises BadAnswerError or SealError."""
        known = self._key_of(adapter, query)
        if known is None or known[0] != query.owner:
            raise BadAnswerError(
                "answer-signer",
                problem="The answer is not sealed by an adapter registered for the service.",
                problem_zh="应答不是由该服务登记的适配器签署。",
            )
        verifier.check(adapter, known[1], head.seal, head.statement)

    def _check(self, query: Query, sealed: bytes, head: AnswerHead, body: bytes) -> _Evidence:
        """Return what the department said, if it was the department and if it said it to this question."""
        try:
            said = read_answer_statement(head.statement)
            self._check_seal(query, self._verifier, said.adapter, head)
        except (EnvelopeError, SealError) as error:
            raise _bad_seal() from error
        _check_binding(query, sealed, said.id, said.query_digest)
        block = header_block(head.headers)
        if said.body_digest != content_digest(query.salt, body) or said.headers_digest != content_digest(
            query.salt, block
        ):
            raise _not_what_was_sealed()
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
        *,
        status: int | None = None,
        passed_on: int = 0,
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
            passed_on=passed_on or UNSET,
            person=query.caller.person or UNSET,
            query=Raw(carriage.sealed),
            query_seal=seal_text(seal) if seal else UNSET,
            rule=error.rule if error else "",
            salt_digest=salt_digest(query.salt),
            source=error.source if error else "",
            status=status if status is not None else error.status if error else evidence.said.status if evidence else 0,
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
    # An answer that does not count, could not be checked or was not taken says nothing about what was done before it.
    unproven = isinstance(error, _UNPROVEN) or type(error) is MeshError
    return "unknown" if unproven and not safe else "failed"


def _check_form(status: int, headers: Headers, block: bytes, body: bytes) -> None:
    """Return if the answer can be written to an HTTP connection as it is; raises BadAnswerError."""
    try:
        check_headers(headers, block)
        if not 200 <= status <= 599 or (body and status in (204, 304)):
            raise EnvelopeError(f"{len(body)} bytes cannot be passed on with status {status}")
    except EnvelopeError as error:
        raise _no_answer_form() from error


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


def _bad_seal() -> BadAnswerError:
    return BadAnswerError(problem="The answer's seal does not verify.", problem_zh="应答的签名验证失败。")


def _check_binding(query: Query, sealed: bytes, exchange_id: str, query_digest: str) -> None:
    if exchange_id != query.statement.id or query_digest != hashlib.sha256(sealed).hexdigest():
        raise BadAnswerError(
            "answer-binding", problem="The answer belongs to another question.", problem_zh="应答与请求不对应。"
        )


def _not_what_was_sealed() -> BadAnswerError:
    return BadAnswerError(
        "answer-digest", problem="The answer is not what was sealed.", problem_zh="应答内容与签名不一致。"
    )


def _not_as_announced() -> BadAnswerError:
    return BadAnswerError(
        "answer-opening",
        problem="The answer is not the one that was announced.",
        problem_zh="应答与开头所述不一致。",
    )


def _no_answer_form() -> BadAnswerError:
    return BadAnswerError(
        "answer-form", problem="The answer is not a form of HTTP answer.", problem_zh="应答不是合法的 HTTP 应答。"
    )


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
        BackendUnavailableError,
        ContractBrokenError,
        LogUnavailableError,
        OverloadedError,
        QuestionRefusedError,
        RequestBeyondContractError,
        UnavailableError,
    )
}
_UNPROVEN = (BadAnswerError, CallerGoneError, ContractBrokenError, RegistryStaleError)


def _error_from_adapter(said: AnswerStatement, query: Query) -> MeshError:
    """The error that an adapter reported under its seal. It says which, never why: details stay in the department."""
    if said.error == AnswerTimeoutError.code:
        return AnswerTimeoutError(seconds=f"{query.timeout:g}")
    if said.error == PayloadTooLargeError.code:
        return _answer_too_large(query)  # the adapter means its own system's answer, not the caller's body
    return _ADAPTER_ERRORS.get(said.error, BackendError)()
