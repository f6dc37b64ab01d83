"""What leaves the department: the headers that may, and the statement that the department seals."""

from __future__ import annotations

import hashlib
import time

from exchange import (
    ANSWER_CONTEXT,
    AnswerStatement,
    Headers,
    PrivateKey,
    QueryHead,
    QueryStatement,
    Rfc3339,
    Sealer,
    content_digest,
    header_block,
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


class AnswerDesk:
    """Seals what the department vouches for."""

    def __init__(self, key: PrivateKey, fingerprint: str) -> None:
        """
        Args:
            key, fingerprint: The registered adapter certificate's key and SHA-256.
        """
        self._sealer = Sealer(key, ANSWER_CONTEXT)
        self._fingerprint = fingerprint
        self._time_text = Rfc3339()

    async def seal(
        self, statement: QueryStatement, head: QueryHead, status: int, headers: Headers, body: bytes, error: str
    ) -> tuple[bytes, bytes]:
        """The bytes of the statement on the answer to a question, and their seal.

        Args:
            error: Empty, or the code of the mesh error that stands in place of the system's answer.
        """
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
