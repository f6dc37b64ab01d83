"""The exchange face `/r1`: X-Road's message protocol for REST, answered by the mesh.

A plain ASGI callable: this is the hot path, and a framework's routing and validation cost more here than the exchange.
It reads from top to bottom: who, may they, what, carry, release. Every attempt ends on the record.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any

import structlog
from msgspec import UNSET, UnsetType, structs

from ca_auth import (
    REFUSAL_KEY,
    Authenticator,
    CallerKey,
    HandshakeRefusal,
    NonceStore,
    Principal,
    Refusal,
    RequestSignature,
    carries_our_signature,
    signature_missing,
    signature_of_person,
    verify_request,
)
from exchange import (
    INLINE_BODY,
    METASERVICES,
    Answer,
    AnswerStream,
    Body,
    Broker,
    CallerGoneError,
    ClientMismatchError,
    Entropy,
    ExchangeLog,
    Headers,
    HeadersTooLargeError,
    InvalidRequestError,
    LogUnavailableError,
    MeshError,
    OverloadedError,
    PayloadTooLargeError,
    Query,
    QueryStatement,
    RequestTimeoutError,
    Rfc3339,
    ServiceId,
    Spool,
    SubjectKeys,
    SubsystemId,
    TooManyRequestsError,
    UnauthenticatedError,
    carriage_seconds,
    check_query,
    evidence_digest,
    parse_path,
    request_digest,
    to_wire,
    uuid7,
)
from gateway.attempt import Attempt, request_hash, text_of, traceparent_of
from gateway.contract_check import Asked, ContractChecks, at_hand
from gateway.metaservices import Metaservices
from gateway.problems import EXPIRES, render
from gateway.quota_headers import NAMES, quota_headers
from gateway.vouching import Vouching
from registry import Decision, QuotaStore, RegistryMirror

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "PATCH", "DELETE"})
CLOSING = frozenset({401, 413})
"""After these the connection is closed: its certificate no longer counts, or its body was not read."""
RECHECK_MS = 250
"""After a body or a database that took longer, the grant is looked at again."""
SET_BY_US = frozenset(
    b"x-road-id x-road-client x-road-service x-road-request-id x-road-request-hash x-road-error datong-receipt "
    b"datong-certificate-expires connection content-length transfer-encoding keep-alive server".split()
)

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
        self._nonces = nonces
        self._quotas = quotas
        self._metaservices = metaservices
        self._remembered: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gateway = gateway_fingerprint
        self._subjects = subjects
        self._vouching = vouching
        self._receipt_url = f"{public_url}/v1/exchanges/%s/receipt"
        self._max_body = max_body
        self._max_in_progress = max_in_progress
        self._max_per_client = max_in_progress_per_client
        self._body_rate = body_rate
        self._spool = spool
        self._stall = stall
        self._contracts = contracts
        self._in_progress = 0
        self._by_client: Counter[SubsystemId] = Counter()
        self._by_owner: Counter[str] = Counter()
        self._entropy = Entropy()
        self._time_text = Rfc3339()
        self._http_date = HttpDate()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        asked_ms = time.time_ns() // 1_000_000
        attempt = Attempt(uuid7(asked_ms, self._entropy), scope["method"], asked_ms, started)
        try:
            query, request_hash = await self._query(attempt, scope, receive)
        except MeshError as error:
            self._leave(attempt)
            await self._refuse(attempt, error, send)
            return
        except Exception as fault:  # noqa: BLE001 - a fault of ours must not lose the record of the attempt
            # The caller learns nothing but its number.
            events.exception("exchange.fault", exchange=attempt.id, error=repr(fault))
            self._leave(attempt)
            await self._refuse(attempt, MeshError(), send)
            return
        try:
            answer = await (
                self._answer_here(attempt, query) if isinstance(query, Answer) else self._broker.perform(query)
            )
            if answer.stream is not None:
                headers = self._headers(attempt, answer, request_hash)
                if answer.stream.size is not None:
                    headers.append((b"content-length", b"%d" % answer.stream.size))
                await self._pour(scope, answer.stream, answer.status, headers, receive, send)
                return
        except MeshError as error:
            await self._tell(attempt, error, send)
            return
        finally:
            self._leave(attempt)
        headers = self._headers(attempt, answer, request_hash)
        body = answer.body
        if answer.status != 304 and answer.status != 204 and attempt.method != "HEAD":
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _headers(self, attempt: Attempt, answer: Answer, request_hash: bytes) -> Headers:
        """The headers of an answer, but for what tells its length."""
        headers = [pair for pair in answer.headers if pair[0] not in SET_BY_US]
        headers += (
            (b"x-road-id", attempt.noted.get(b"x-road-id") or attempt.message_id.encode()),
            (b"x-road-client", attempt.noted[b"x-road-client"]),
            (b"x-road-service", _wire(attempt.service)),
            (b"x-road-request-id", attempt.id.encode()),
            (b"x-road-request-hash", request_hash),
            (b"datong-receipt", (self._receipt_url % attempt.id).encode()),
        )
        if attempt.quota is not None:
            headers = [pair for pair in headers if pair[0] not in NAMES]
            headers += quota_headers(attempt.quota)
        if attempt.principal is not None and attempt.principal.expires_soon:
            headers.append((EXPIRES, attempt.principal.expires_soon))
        if not any(name == b"date" for name, _ in headers):
            headers.append((b"date", self._http_date(attempt.asked_ms // 1000)))
        return headers

    async def _pour(
        self, scope: Scope, stream: AnswerStream, status: int, headers: Headers, receive: Receive, send: Send
    ) -> None:
        """Pass a streamed answer on as fast as the caller reads it.

        One that breaks after it began ends with the connection, so that nobody takes it for whole.

        Raises:
            MeshError: It broke before anything of it was passed on.
        """
        gone = asyncio.ensure_future(receive())  # whose body is read: nothing comes but the end of the connection
        begun = False

        async def take(piece: bytes) -> None:
            nonlocal begun
            if gone.done():
                raise CallerGoneError
            try:
                async with asyncio.timeout(self._stall):
                    if not begun:
                        begun = True
                        await send({"type": "http.response.start", "status": status, "headers": headers})
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TimeoutError as error:
                raise CallerGoneError("caller-reads") from error
            if gone.done():
                raise CallerGoneError

        try:
            await stream.pour(take)
            async with asyncio.timeout(self._stall):
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:  # it is on the record as answered; the caller does not take the last of it
            scope["state"]["abort"]()
        except MeshError as error:
            if not begun:
                raise
            events.warning("exchange.broke_off", code=error.code, rule=error.rule, cause=repr(error.__cause__))
            scope["state"]["abort"]()
            await asyncio.wait([gone])
        finally:
            gone.cancel()

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
            self._enter(attempt)
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
        self._enter(attempt)
        body = await self._body(attempt, scope, receive, min(self._max_body, decision.service.max_request_bytes))
        ready_ms = time.time_ns() // 1_000_000
        signature: RequestSignature | None = None
        if decision.grant.signed_requests or b"signature-input" in attempt.noted:
            signature = await self._signature(attempt, decision, scope, body, principal, ready_ms / 1000)
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

    async def _signature(
        self, attempt: Attempt, decision: Decision, scope: Scope, body: Body, principal: Principal, now: float
    ) -> RequestSignature | None:
        """The caller's own signature, verified and its nonce spent; None if there is none and none is demanded.

        Raises:
            RequestSignatureError: It is missing, or not one of this request.
            InvalidRequestError: It cannot be read.
            NoncesUnavailableError: The nonce could not be made durable.
        """
        headers = scope["headers"]
        if not (decision.grant.signed_requests or carries_our_signature(headers)):
            return None
        if principal.person is not None:
            raise signature_of_person()
        signature = verify_request(
            method=attempt.method,
            path=scope["raw_path"],
            query=scope["query_string"],
            headers=headers,
            body=body,
            caller=CallerKey.of(principal.der),
            # A large body takes its time; what was signed before it left was signed for when it began.
            now=now if isinstance(body, bytes) else attempt.asked_ms / 1000,
            # What a caller signs names its purpose: one that the grant implies would be the gateway's word.
            also_covered=("datong-purpose",),
        )
        if isinstance(body, bytes):
            await self._nonces.spend(signature)
        else:
            await self._nonces.spend(signature, until=now + len(body) / self._body_rate)
        return signature

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

    def _enter(self, attempt: Attempt) -> None:
        """Count the attempt as in progress until `_leave`: from before its body, which takes memory and time to arrive.

        Raises:
            OverloadedError: There are as many as may be.
        """
        owner = attempt.service.rpartition("/")[0]
        if self._in_progress >= self._max_in_progress or self._by_client[attempt.client] >= self._max_per_client:
            raise OverloadedError
        # A department whose answers are slow leaves room for the others: it has no more in progress than there are places
        # free. One such has half of all at most, two have a third each, and so on.
        if self._by_owner.get(owner, 0) >= self._max_in_progress - self._in_progress:
            raise OverloadedError("owner-limit")
        self._in_progress += 1
        self._by_client[attempt.client] += 1
        self._by_owner[owner] += 1
        attempt.entered = True

    def _leave(self, attempt: Attempt) -> None:
        if attempt.entered:
            self._in_progress -= 1
            self._by_client[attempt.client] -= 1
            owner = attempt.service.rpartition("/")[0]
            self._by_owner[owner] -= 1
            if not self._by_owner[owner]:
                del self._by_owner[owner]  # or names that callers make up would stay
        if attempt.spooled is not None:
            attempt.spooled.close()

    async def _body(self, attempt: Attempt, scope: Scope, receive: Receive, limit: int) -> Body:
        """The whole body; the edge sees to it that it arrives in time."""
        length = attempt.noted.get(b"content-length")
        if length is not None and int(length) > limit:
            raise PayloadTooLargeError(limit=limit)
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _cut_short(scope["state"].get(REFUSAL_KEY))
            piece = message.get("body", b"")
            size += len(piece)
            if size > limit:
                raise PayloadTooLargeError(limit=limit)
            more = message.get("more_body", False)
            if size > INLINE_BODY:
                return await self._spooled(attempt, scope, receive, limit, [*pieces, piece], more)
            if not more:
                return b"".join((*pieces, piece)) if pieces else piece
            pieces.append(piece)

    async def _spooled(
        self, attempt: Attempt, scope: Scope, receive: Receive, limit: int, pieces: list[bytes], more: bool
    ) -> Body:
        """The whole body, on disk: `pieces` of it and the rest, read no faster than it is written."""
        size = sum(map(len, pieces))
        attempt.spooled = body = self._spool.open(int(attempt.noted.get(b"content-length", size)))
        for piece in pieces:
            await body.add(piece)
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _cut_short(scope["state"].get(REFUSAL_KEY))
            piece, more = message.get("body", b""), message.get("more_body", False)
            size += len(piece)
            if size > limit:
                raise PayloadTooLargeError(limit=limit)
            await body.add(piece)
        await body.finish()
        return body

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

    async def _refuse(self, attempt: Attempt, error: MeshError, send: Send) -> None:
        """Record a refusal, then tell it."""
        try:
            await self._broker.refuse(self._statement(attempt), error, started=attempt.started, caller=attempt.caller)
        except LogUnavailableError as failure:
            error = failure
        await self._tell(attempt, error, send)

    async def _tell(self, attempt: Attempt, error: MeshError, send: Send) -> None:
        events.warning(
            "exchange.refused" if error.status < 500 else "exchange.failed",
            exchange=attempt.id,
            client=attempt.client,
            service=attempt.service,
            method=attempt.method,
            status=error.status,
            code=error.code,
            rule=error.rule,
            traceparent=traceparent_of(attempt.noted),
            cause=repr(error.__cause__) if error.__cause__ else None,
        )
        noted = attempt.noted
        headers, body = render(
            error,
            exchange_id=attempt.id,
            accept=noted.get(b"accept", b""),
            accept_language=noted.get(b"accept-language", b""),
        )
        headers.append((b"date", self._http_date(attempt.asked_ms // 1000)))
        if attempt.principal is not None and attempt.principal.expires_soon:
            headers.append((EXPIRES, attempt.principal.expires_soon))
        if error.status in CLOSING:
            headers.append((b"connection", b"close"))
        if attempt.method == "HEAD":
            body = b""
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class HttpDate:
    """The Date header's value, made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def __call__(self, second: int) -> bytes:
        if second != self._second:
            self._text = formatdate(second, usegmt=True).encode()
            self._second = second
        return self._text


@lru_cache(4096)
def _wire(service: ServiceId) -> bytes:
    return to_wire(service).encode()


def _cut_short(refusal: Refusal | None) -> MeshError:
    """Why the rest of a body never comes: the edge refused it, or the caller left."""
    if refusal is not None:
        return edge_error(refusal.rule, refusal.status)
    return InvalidRequestError(
        "body-complete",
        problem="The caller left before the body was complete.",
        problem_zh="请求体未传完调用方即断开。",
    )


def edge_error(rule: str, status: int) -> MeshError:
    """A refusal of the edge as an error of the mesh."""
    kinds: dict[int, type[MeshError]] = {
        408: RequestTimeoutError,
        429: TooManyRequestsError,
        431: HeadersTooLargeError,
    }
    if status in kinds:
        return kinds[status](rule)
    return InvalidRequestError(rule, problem="Not a valid HTTP request.", problem_zh="不是合法的 HTTP 请求。")
