"""What the broker is given, what it gives back, and where it records that."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import msgspec

from exchange.bus.streams import AnswerStream
from exchange.errors import AnswerTimeoutError, LogUnavailableError
from exchange.identifiers import SubsystemId
from exchange.log.record import CallerFacts
from exchange.messages.envelope import Body, Headers, QueryStatement


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
    """Evidence of the caller's own signature, if the request was signed (`exchange.signatures.recorded_signatures`)."""
    certificate: bytes = b""
    """The certificate whose key signed it, DER."""
    at_once: Collection[object] = ()
    """What this process is answering now, this query among it. While there is no other, it waits for none to share work with."""


class Answer(msgspec.Struct, frozen=True):
    """What the department's own system answered."""

    status: int
    headers: Headers
    body: bytes
    stream: AnswerStream | None = None
    """In place of `body`, if that is too large for one message: it must be poured."""


class Log(Protocol):
    """Where records become durable. `exchange.log.log.ExchangeLog` is the one used."""

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
        alone: bool = False,
    ) -> asyncio.Future[int]: ...

    def intend(
        self, exchange_id: str, *, deadline_ms: int, record: bytes, salt: bytes, evidence: bytes = b""
    ) -> asyncio.Future[None]: ...

    def prolong(self, exchange_id: str, deadline_ms: int) -> None: ...


class UnrecordedEndError(LogUnavailableError):
    """An operation that may change something was carried, and what became of it is not on the record."""

    detail = {
        "en": "The request was carried, but the exchange log did not accept the record, so nothing was released. "
        "Whether the department acted is unknown.",
        "zh": "请求已送达，但交换日志未能写入，因此没有返回任何数据；部门是否已处理未知。",
    }
    next = AnswerTimeoutError.next
    retry_after: int | None = None  # to try again would be to do it twice
