"""What leaves the department: the headers that may, and the statement that the department seals."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec
from msgspec import UNSET

from exchange import (
    ANSWER_CONTEXT,
    OPENING_CONTEXT,
    Answered,
    AnswerStatement,
    Gathering,
    Headers,
    LogUnavailableError,
    OpeningStatement,
    PrivateKey,
    QueryHead,
    QueryStatement,
    Rfc3339,
    Told,
    content_digest,
    header_block,
    seal_all,
    statement_bytes,
)

MAX_HEAD = 128 << 10
"""Bytes of an answer's headers: with an inline body beside them, a message stays within what the bus takes."""

NOT_PASSED_ON = frozenset(
    b"transfer-encoding keep-alive proxy-authenticate proxy-authorization te trailer upgrade connection "
    b"user-agent host content-length server expect x-road-id x-road-client x-road-service x-road-request-id "
    b"x-road-request-hash x-road-error".split()
)
"""Headers of the department's system that are its own business, or that only the mesh may set."""


class Ledger(Protocol):
    """The adapter's own record of what it was asked and what it released. `exchange.Ledger` is the one used."""

    async def intend(self, query: bytes, query_seal: bytes) -> None:
        """Return when the question is durable; raises LogUnavailableError."""

    def answered(self, answers: Sequence[Answered]) -> None:
        """Return when the answers are written, so that they survive this process; raises LogUnavailableError."""


def passed_on(headers: Headers) -> Headers:
    """Without what belongs to the connection it came over, and what only the mesh may set; names in lower case.

    Raises:
        ValueError: There are more than a message can hold.
    """
    kept: Headers = []
    named: set[bytes] = set()
    size = 0
    for name, value in headers:
        name = name.lower()
        if name == b"connection":
            named = {each.strip() for each in value.lower().split(b",")}
        if name not in NOT_PASSED_ON and not name.startswith(b"datong-"):
            kept.append((name, value))
            size += len(name) + len(value)
    if size > MAX_HEAD:
        raise ValueError(f"the headers are larger than {MAX_HEAD} bytes")
    return [pair for pair in kept if pair[0] not in named] if named else kept


class Release(msgspec.Struct, frozen=True, gc=False):
    """An answer about to leave, and what is to be done when it may."""

    query: bytes
    query_seal: bytes
    sealed: bytes
    """The bytes of the statement on the answer."""
    then: Callable[[bytes | None], None]
    """Called with the seal when the ledger holds the answer, or with None if it does not take it."""


class AnswerDesk:
    """Seals what the department vouches for, and puts it on the ledger: both for several answers at once."""

    def __init__(
        self,
        key: PrivateKey,
        fingerprint: str,
        ledger: Ledger,
        *,
        at_once: Collection[object] = (),
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            key, fingerprint: The registered adapter certificate's key and SHA-256.
            at_once: What is being answered now. While that is one, it waits for no other to share work with.
            flush: Sends what was let go.
        """
        self._key = key
        self._fingerprint = fingerprint
        self._ledger = ledger
        self._leaving = Gathering(self._release_all)
        self._at_once = at_once
        self._flush = flush
        self._time_text = Rfc3339()

    def statement(
        self,
        statement: QueryStatement,
        head: QueryHead,
        status: int,
        headers: Headers,
        body_digest: str,
        body_size: int,
        error: str,
        withheld: Told = UNSET,
        masked: Told = UNSET,
    ) -> bytes:
        """The bytes of the statement on the answer to a question.

        Args:
            body_digest: `content_digest` of the body, which may not be here any more.
            error: Empty, or the code of the mesh error that stands in place of the system's answer.
            withheld, masked: What release terms did to the system's answer (`department_adapters.release`).
        """
        return statement_bytes(
            AnswerStatement(
                adapter=self._fingerprint,
                answered_at=self._time_text(time.time_ns() // 1_000_000),
                body_digest=body_digest,
                body_size=body_size,
                error=error,
                headers_digest=content_digest(head.salt, header_block(headers)),
                id=statement.id,
                masked=masked,
                query_digest=hashlib.sha256(head.statement).hexdigest(),
                status=status,
                withheld=withheld,
            )
        )

    def opening(
        self, statement: QueryStatement, head: QueryHead, status: int, headers: Headers, size: int | None
    ) -> tuple[bytes, bytes]:
        """The statement that opens a streamed answer, and its seal.

        Args:
            size: Bytes of the body, if that is known.
        """
        sealed = statement_bytes(
            OpeningStatement(
                adapter=self._fingerprint,
                body_size=UNSET if size is None else size,
                headers_digest=content_digest(head.salt, header_block(headers)),
                id=statement.id,
                opened_at=self._time_text(time.time_ns() // 1_000_000),
                query_digest=hashlib.sha256(head.statement).hexdigest(),
                status=status,
            )
        )
        return sealed, seal_all(self._key, OPENING_CONTEXT, [sealed])[0]

    def seal(self, sealed: bytes) -> bytes:
        """The seal of a statement that discloses nothing, and so needs no line on the ledger."""
        return seal_all(self._key, ANSWER_CONTEXT, [sealed])[0]

    def release(self, release: Release) -> None:
        """Seal, put on the ledger, and then let go: within this turn of the event loop."""
        self._leaving.add(release, alone=len(self._at_once) == 1)

    def _release_all(self, together: list[Release]) -> None:
        seals = seal_all(self._key, ANSWER_CONTEXT, [each.sealed for each in together])
        try:
            self._ledger.answered(
                [(each.query, each.query_seal, each.sealed, seal) for each, seal in zip(together, seals, strict=True)]
            )
        except LogUnavailableError:
            for each in together:
                each.then(None)
            return
        for each, seal in zip(together, seals, strict=True):
            each.then(seal)
        self._flush()
