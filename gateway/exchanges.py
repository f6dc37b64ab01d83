"""The exchange face `/r1`: X-Road's message protocol for REST, answered by the mesh.

A plain ASGI callable: this is the hot path, and a framework's routing and validation cost more here than the exchange.
It reads from top to bottom: who, may they, what, carry, release. Every attempt ends on the record.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from msgspec import UNSET, UnsetType, structs
from starlette.types import Receive, Scope, Send

from ca_auth import Authenticator, HandshakeRefusal, NonceStore, RequestSignature, Respond, signature_missing
from exchange import (
    METASERVICES,
    Answer,
    Broker,
    ClientMismatchError,
    Entropy,
    ExchangeLog,
    Headers,
    InvalidRequestError,
    LogUnavailableError,
    MeshError,
    Query,
    QueryStatement,
    Rfc3339,
    Spool,
    SubjectKeys,
    UnauthenticatedError,
    carriage_seconds,
    check_query,
    evidence_digest,
    parse_path,
    request_digest,
    uuid7,
)
from gateway.admission import Admission
from gateway.attempt import Attempt, request_hash, text_of
from gateway.contract_check import Asked, ContractChecks, at_hand
from gateway.metaservices import Metaservices
from gateway.problems import edge_error
from gateway.request_bodies import read_body
from gateway.responses import Responses
from gateway.signed_requests import SignedRequests
from gateway.vouching import Vouching
from registry import Decision, QuotaStore, RegistryMirror

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "PATCH", "DELETE"})
RECHECK_MS = 250
"""After a body or a database that took longer, the grant is looked at again."""

events = structlog.get_logger("datong.exchange")


class ExchangeFace:
    """ASGI application for every path under `/r1`."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        registry: RegistryMirror,
        broker: Broker,
        log: ExchangeLog,
        nonces: NonceStore,
        quotas: QuotaStore,
        metaservices: Metaservices,
        gateway_fingerprint: str,
        subjects: SubjectKeys,
        vouching: Vouching,
        public_url: str,
        max_body: int,
        max_in_progress: int,
        max_in_progress_per_client: int,
        body_rate: int,
        spool: Spool,
        stall: float,
        contracts: ContractChecks,
    ) -> None:
        """
        Args:
            body_rate: Bytes a second at which a large request may come at least.
            spool: Where large requests wait until they are whole.
            stall: Seconds in which the caller must take a piece of a streamed answer.
        """
        self._authenticator = authenticator
        self._registry = registry
        self._broker = broker
        self._log = log
        self._signed = SignedRequests(nonces, body_rate)
        self._quotas = quotas
        self._metaservices = metaservices
        self._remembered: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gateway = gateway_fingerprint
        self._subjects = subjects
        self._vouching = vouching
        self._responses = Responses(public_url=public_url, stall=stall)
        self._max_body = max_body
        self._admission = Admission(most=max_in_progress, most_per_client=max_in_progress_per_client)
        self._spool = spool
        self._contracts = contracts
        self._entropy = Entropy()
        self._time_text = Rfc3339()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        asked_ms = time.time_ns() // 1_000_000
        attempt = Attempt(uuid7(asked_ms, self._entropy), scope["method"], asked_ms, started)
        try:
            query, request_hash = await self._query(attempt, scope, receive)
        except MeshError as error:
            self._leave(attempt)
            await self._refuse(attempt, error, scope["state"]["respond"])
            return
        except Exception as fault:  # noqa: BLE001 - a fault of ours must not lose the record of the attempt
            # The caller learns nothing but its number.
            events.exception("exchange.fault", exchange=attempt.id, error=repr(fault))
            self._leave(attempt)
            await self._refuse(attempt, MeshError(), scope["state"]["respond"])
            return
        try:
            answer = await (
                self._answer_here(attempt, query) if isinstance(query, Answer) else self._broker.perform(query)
            )
            if answer.stream is not None:
                headers = self._responses.headers(attempt, answer, request_hash)
                if answer.stream.size is not None:
                    headers.append((b"content-length", b"%d" % answer.stream.size))
                await self._responses.pour(scope, answer.stream, answer.status, headers, receive, send)
                return
        except MeshError as error:
            self._responses.tell(attempt, error, scope["state"]["respond"])
            return
        finally:
            self._leave(attempt)
        headers = self._responses.headers(attempt, answer, request_hash)
        body = answer.body
        if answer.status != 304 and answer.status != 204 and attempt.method != "HEAD":
            headers.append((b"content-length", b"%d" % len(body)))
        scope["state"]["respond"](answer.status, headers, body)

    def seal_as(self, gateway_fingerprint: str, broker: Broker) -> None:
        """Seal with another certificate from now on; `broker` holds its key. What is on its way keeps the old one."""
        # Both at once: between the making of a statement and `Broker.perform`, nothing else runs.
        self._gateway, self._broker = gateway_fingerprint, broker

    def record_edge_refusal(self, rule: str, status: int, peer: str | None) -> None:
        """Put on the record a request that was answered `status` before it reached this application."""
        self._record_stray(edge_error(rule, status), status, peer)

    def record_handshake_refusal(self, refusal: HandshakeRefusal) -> None:
        """Put on the record a connection whose handshake was refused; nobody was told more than TLS tells."""
        self._record_stray(UnauthenticatedError(refusal.rule, problem=refusal.reason), 0, None)

    def _record_stray(self, error: MeshError, status: int, peer: str | None) -> None:
        asked_ms = time.time_ns() // 1_000_000
        attempt = Attempt(uuid7(asked_ms, self._entropy), "", asked_ms, time.perf_counter())
        attempt.certificate = peer or ""
        task = asyncio.get_running_loop().create_task(self._refuse_stray(attempt, error, status))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refuse_stray(self, attempt: Attempt, error: MeshError, status: int) -> None:
        events.warning("exchange.refused", exchange=attempt.id, status=status, rule=error.rule, detail=str(error))
        try:
            await self._broker.refuse(self._statement(attempt), error, status=status, started=attempt.started)
        except LogUnavailableError:
            events.error("exchange.not_recorded", exchange=attempt.id, rule=error.rule)

    async def _query(self, attempt: Attempt, scope: Scope, receive: Receive) -> tuple[Query | Answer, bytes]:
        """Read the request; returns it ready to be carried, with X-Road's hash of it. Raises the refusal.

        A metaservice is answered at once: then it returns the answer.
        """
        forwarded = attempt.read_headers(scope["headers"])
        state = scope["state"]
        attempt.certificate = state["peer"] or ""
        now = attempt.asked_ms / 1000
        principal = self._authenticator.known(state, now) or await self._authenticator.caller(state, now)
        attempt.principal = principal
        attempt.caller = principal.facts
        if principal.person is not None:
            attempt.caller = structs.replace(
                principal.facts, person=await self._subjects.hash_of_person(principal.person)
            )
        if principal.fingerprint not in self._remembered and principal.person is None:
            # The record names the certificate by fingerprint; a receipt must be able to show it years later.
            self._log.remember_certificate(principal.fingerprint, principal.der)
            self._remembered.add(principal.fingerprint)
        subject = attempt.read_notes()
        if subject:
            attempt.subject = self._subjects.known(subject) or await self._subjects.hash_of(subject)
        if attempt.method not in METHODS:
            raise InvalidRequestError("method", problem="The method is not one of HTTP's.", problem_zh="不支持该方法。")
        attempt.service, segments, path = parse_path(scope["raw_path"])
        query_string = scope["query_string"]
        target = path
        if query_string:
            check_query(query_string)
            target = b"%b?%b" % (path, query_string)
        client = attempt.read_client(principal)
        self._authenticator.check_pin(client, principal.fingerprint)
        if attempt.service.rpartition("/")[2] in METASERVICES:
            self._admission.enter(attempt)
            answer = await self._metaservices.answer(
                self._registry.current(time.monotonic()),
                client,
                attempt.service,
                method=attempt.method,
                segments=segments,
                query_string=query_string,
                now=now,
            )
            forwarded = self._numbered(attempt, forwarded)
            return answer, request_hash(attempt.method, scope["raw_path"], query_string, forwarded, b"")
        decision = self._decide(attempt, segments, attempt.asked_ms)
        self._admission.enter(attempt)
        limit = min(self._max_body, decision.service.max_request_bytes)
        body = await read_body(attempt, scope, receive, limit, self._spool)
        ready_ms = time.time_ns() // 1_000_000
        signature: RequestSignature | None = None
        if decision.grant.signed_requests or b"signature-input" in attempt.noted:
            signature = await self._signed.verify(attempt, decision, scope, body, principal, ready_ms / 1000)
            ready_ms = time.time_ns() // 1_000_000
        if decision.service.document:
            whole = body if isinstance(body, bytes) else await at_hand(body)
            checking = self._contracts.check(
                Asked(attempt.id, decision.service, attempt.method, segments, query_string, forwarded, whole)
            )
            if checking is not None:
                await checking
                ready_ms = time.time_ns() // 1_000_000
        if ready_ms - attempt.asked_ms > RECHECK_MS:
            # The body took its time. What counts is who they are and what they may now.
            await self._authenticator.caller(state, ready_ms / 1000)
            decision = self._decide(attempt, segments, ready_ms)
            if signature is None and decision.grant.signed_requests:
                raise signature_missing()
        if refusal := self._vouching.refusal():
            raise refusal
        service, grant = decision.service, decision.grant
        if grant.quota_per_second or grant.quota_per_day:
            # Last of all that may refuse: what is not carried must not use up the quota.
            attempt.quota = await self._quotas.take(
                grant.id, per_second=grant.quota_per_second, per_day=grant.quota_per_day
            )
            taken_ms = time.time_ns() // 1_000_000
            if taken_ms - ready_ms > RECHECK_MS:
                self._decide(attempt, segments, taken_ms)
            ready_ms = taken_ms

        forwarded = self._numbered(attempt, forwarded)
        salt = self._entropy.draw(16)
        timeout = service.timeout if isinstance(body, bytes) else service.timeout + carriage_seconds(len(body))
        statement = self._statement(
            attempt,
            purpose=decision.purpose,
            deadline=self._time_text(ready_ms + int(timeout * 1000)),
            digest=request_digest(salt, attempt.method, target, forwarded, body),
            size=len(body),
            release=grant.release or UNSET,
            signature_digest=evidence_digest(salt, signature.evidence) if signature else UNSET,
        )
        query = Query(
            statement=statement,
            owner=service.owner,
            nats_subject=service.nats_subject,
            salt=salt,
            target=target,
            headers=forwarded,
            body=body,
            safe=statement.safe,
            timeout=timeout,
            max_answer=service.max_answer_bytes,
            caller=attempt.caller,
            started=attempt.started,
            signature=signature.evidence if signature else b"",
            certificate=principal.der if signature else b"",
            at_once=state["requests"],
        )
        return query, request_hash(attempt.method, scope["raw_path"], query_string, forwarded, body)

    def _numbered(self, attempt: Attempt, forwarded: Headers) -> Headers:
        """What is forwarded, with the exchange's number and a message id, if its caller gave none."""
        if not attempt.message_id:
            attempt.message_id = f"{attempt.client.split('/', 1)[0]}-{attempt.id}"
            if b"x-road-id" in attempt.noted:  # there, and empty
                forwarded = [pair for pair in forwarded if pair[0] != b"x-road-id"]
            forwarded.append((b"x-road-id", attempt.message_id.encode()))
        forwarded.append((b"x-road-request-id", attempt.id.encode()))
        return forwarded

    async def _answer_here(self, attempt: Attempt, answer: Answer) -> Answer:
        """Record an answer of the gateway's own, then release it; raises LogUnavailableError."""
        statement = self._statement(attempt)
        await self._broker.note_answer(statement, answer.status, started=attempt.started, caller=attempt.caller)
        return answer

    def _decide(self, attempt: Attempt, segments: tuple[str, ...], now_ms: int) -> Decision:
        """Return what permits the attempt now, and note it; raises the refusal."""
        snapshot = self._registry.current(time.monotonic())
        if snapshot.subsystem(attempt.client) is None:
            raise ClientMismatchError(
                "client-registered",
                problem="The client is not a registered subsystem.",
                problem_zh="X-Road-Client 不是已登记的子系统。",
            )
        purpose = text_of(attempt.noted, b"datong-purpose") or None
        attempt.decision = None
        decision = snapshot.decide(
            attempt.client, attempt.service, attempt.method, segments, purpose, now_ms / 1000, attempt.case
        )
        attempt.decision = decision
        return decision

    def _leave(self, attempt: Attempt) -> None:
        self._admission.leave(attempt)
        if attempt.spooled is not None:
            attempt.spooled.close()

    def _statement(
        self,
        attempt: Attempt,
        *,
        purpose: str = "",
        deadline: str = "",
        digest: str = "",
        size: int = 0,
        signature_digest: str | UnsetType = UNSET,
        release: tuple[str, ...] | UnsetType = UNSET,
    ) -> QueryStatement:
        decision = attempt.decision
        return QueryStatement(
            asked_at=self._time_text(attempt.asked_ms),
            case=attempt.case,
            certificate=attempt.certificate,
            channel=attempt.channel,
            client=attempt.client,
            deadline=deadline,
            gateway=self._gateway,
            grant=f"{decision.grant.id}@{decision.grant.version}" if decision else "",
            id=attempt.id,
            message_id=attempt.message_id,
            method=attempt.method,
            path_template=decision.operation.path if decision else "",
            purpose=purpose,
            release=release,
            represented=attempt.represented,
            request_digest=digest,
            request_size=size,
            safe=decision.operation.safe if decision else False,
            service=attempt.service,
            signature_digest=signature_digest,
            subject=attempt.subject,
            user=attempt.user,
        )

    async def _refuse(self, attempt: Attempt, error: MeshError, respond: Respond) -> None:
        """Record a refusal, then tell it."""
        try:
            await self._broker.refuse(self._statement(attempt), error, started=attempt.started, caller=attempt.caller)
        except LogUnavailableError as failure:
            error = failure
        self._responses.tell(attempt, error, respond)
