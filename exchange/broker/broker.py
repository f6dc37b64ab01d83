"""The straight path of one query: intent, carry, check the answer, record, release.

Rules:
1. An operation that may change something leaves only after its intent is durable.
2. Nothing is believed because it came over the bus: what makes an answer count stands in `exchange.broker.answer_checks`.
3. Record, then release: the caller gets a byte of the answer only after the record of it is durable. A large answer comes
   piece by piece instead: before the first of them its intent is durable, and the last ones are released when the record is.
   So nobody ever holds a whole answer without a record of it.
4. Exactly one terminal record per attempt, whatever happens. The server does not cancel a request whose caller hangs up;
   an intent orphaned by a crash is settled by `ExchangeLog.recover`.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from msgspec import UNSET, Raw

from exchange.broker.answer_checks import (
    AdapterKey,
    AnswerChecks,
    Evidence,
    answer_too_large,
    check_release,
    error_from_adapter,
    inbox_of,
)
from exchange.broker.carriage import Carriage
from exchange.broker.pouring import Pouring
from exchange.broker.query import Answer, Log, Query, UnrecordedEndError
from exchange.bus.streams import LONGEST_STREAM, AnswerStream, Fetching, Take
from exchange.bus.transport import Bus, BusLostError, NoRespondersError
from exchange.errors import (
    AdapterUnavailableError,
    AnswerTimeoutError,
    BadAnswerError,
    CallerGoneError,
    ContractBrokenError,
    LogUnavailableError,
    MeshError,
    RegistryStaleError,
)
from exchange.log.record import NOBODY, CallerFacts, Outcome, Record, record_bytes, salt_digest, seal_text
from exchange.messages.envelope import (
    STREAMED,
    AnswerHead,
    EnvelopeError,
    OpeningStatement,
    QueryHead,
    QueryStatement,
    pack,
    statement_bytes,
    unpack,
)
from exchange.moments import Rfc3339
from exchange.signatures.seal import QUERY_CONTEXT, PrivateKey, SealVerifier, seal_all
from exchange.turns import Gathering

events = structlog.get_logger("datong.broker")


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
        self._checks = AnswerChecks(verifier, adapter_key)
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
        carriage = Carriage(query, sealed)
        evidence: Evidence | None = None
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
                opening = self._checks.check_opening(query, sealed, head)
                fetching = Fetching(self._bus, inbox_of(query, head), statement.id, self._stall)
                try:
                    await self._intend_stream(carriage, opening, intended)
                except BaseException:
                    fetching.abandon()
                    raise
                pouring = Pouring(query, sealed, opening, head.headers, fetching, self._checks, self._stall)
                return self._streamed(carriage, pouring)
            evidence = self._checks.check_whole(query, sealed, head, body)
            if evidence.said.error:
                raise error_from_adapter(evidence.said, query)
            if statement.release is not UNSET:
                await check_release(statement.release, evidence.said, head.headers, body)
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

    def _seal_and_send(self, together: list[Carriage]) -> None:
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
        self._bus.flush()

    def _send(self, carriage: Carriage, seal: bytes) -> None:
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

    async def _carry(self, carriage: Carriage) -> tuple[AnswerHead, bytes]:
        """Send the question, its body in parts if it is large, and fetch the answer, likewise."""
        query = carriage.query
        self._leaving.add(carriage, alone=len(query.at_once) == 1)
        try:
            message = await carriage.reply
            answer, answer_body = unpack(AnswerHead, message)
            if carriage.parts and answer.inbox and not answer.statement:
                # The adapter that took the head waits for the parts; the answer comes as the reply to the last one.
                inbox = inbox_of(query, answer)
                message = await carriage.send_parts(self._bus, inbox)
                answer, answer_body = unpack(AnswerHead, message)
        except NoRespondersError as error:
            raise AdapterUnavailableError(owner=query.owner) from error
        except EnvelopeError as error:
            raise BadAnswerError(
                "answer-form", problem="The answer is not an envelope.", problem_zh="应答报文格式不正确。"
            ) from error
        if answer.parts and answer.parts != STREAMED:
            answer_body = await carriage.fetch_parts(self._bus, answer)
        return answer, answer_body

    async def _intend_stream(self, carriage: Carriage, opening: OpeningStatement, intended: bool) -> None:
        """Return when it is durable that an answer is about to be released, piece by piece.

        Raises:
            LogUnavailableError: It is not. BadAnswerError: the answer is too large.
        """
        query = carriage.query
        if opening.body_size is not UNSET and opening.body_size > query.max_answer:
            raise answer_too_large(query)
        statement = query.statement
        if not intended:
            # Durable with the deadline that any question has: should its record fail, it is settled as soon as another's.
            await self._log.intend(
                statement.id,
                deadline_ms=_deadline_ms(query),
                record=carriage.sealed,
                salt=query.salt,
                evidence=query.signature,
            )
        self._log.prolong(statement.id, time.time_ns() // 1_000_000 + int(LONGEST_STREAM * 1000))

    def _streamed(self, carriage: Carriage, pouring: Pouring) -> Answer:
        async def pour(take: Take) -> None:
            await self._pour(carriage, pouring, take)

        return Answer(pouring.status, pouring.headers, b"", AnswerStream(pouring.size, pour))

    async def _pour(self, carriage: Carriage, pouring: Pouring, take: Take) -> None:
        """Pass an answer on as it comes, all but its end; that when it is closed, found to be what was sealed, and recorded."""
        try:
            await pouring.pass_on(take, self._streams)
        except MeshError as error:
            told, passed_on = pouring.told(error), pouring.passed_on
            await self._record(carriage, pouring.evidence, error, intended=True, status=told, passed_on=passed_on)
            raise
        await self._record(carriage, pouring.evidence, None, intended=True)
        while pouring.held:
            await take(pouring.held.popleft())

    async def _record(
        self,
        carriage: Carriage,
        evidence: Evidence | None,
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
            alone = len(query.at_once) == 1
            await self._append(
                record, statement, query.salt, now_ms, settles_intent=intended, signature=signature, alone=alone
            )
        except LogUnavailableError as failure:
            if seal is None or query.safe:
                raise
            raise UnrecordedEndError(failure.rule) from failure

    def _append(
        self,
        record: Record,
        statement: QueryStatement,
        salt: bytes,
        now_ms: int,
        *,
        settles_intent: bool,
        signature: bytes = b"",
        alone: bool = False,
    ) -> asyncio.Future[int]:
        return self._log.append(
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
            alone=alone,
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


def _deadline_ms(query: Query) -> int:
    return time.time_ns() // 1_000_000 + int(query.timeout * 1000)


_UNPROVEN = (BadAnswerError, CallerGoneError, ContractBrokenError, RegistryStaleError)
