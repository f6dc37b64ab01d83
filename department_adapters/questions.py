"""Which questions count: whatever comes over the bus is tried here before anything is done for it.

A question counts if a gateway that the department trusts sealed it, it is for the service it came to, its content is what
was sealed, its time is not over, its exchange was not asked before, the terms its answer is to be released under can be read, and,
if its caller signed it or has to, that signature is right (`department_adapters.signed_questions`). What is remembered of
earlier exchanges is lost when the process ends; the time in which a copy of a question would count is short.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from department_adapters.release import terms_of
from department_adapters.signed_questions import SignatureDesk, UnsignedQuestionError
from exchange import (
    QUERY_CONTEXT,
    Body,
    PublicKey,
    QueryHead,
    QueryStatement,
    SealError,
    SealVerifier,
    ServiceId,
    carriage_seconds,
    parse_rfc3339,
    request_digest,
)

CLOCK_SKEW = 60_000
"""Milliseconds by which two machines' clocks may differ."""
LONGEST_TIMEOUT = 120_000
"""Milliseconds: the bus lets an adapter answer no later."""
_MINUTE = 60_000


class RefusedQuestionError(Exception):
    """The question does not count. The gateway is told so under our seal; the reason stays in our log."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class QuestionDesk:
    """Tries questions, and remembers which exchanges were asked."""

    def __init__(
        self,
        gateways: Mapping[str, PublicKey],
        max_request: int,
        clock_ms: Callable[[], int] = _now_ms,
        signatures: SignatureDesk | None = None,
        limit_of: Callable[[ServiceId], int | None] = lambda service: None,
    ) -> None:
        """
        Args:
            gateways: Fingerprint -> public key of the gateways whose seals count.
            max_request: Largest request body in bytes.
            signatures: Tries signatures of callers; default: one that trusts no caller and demands nothing.
            limit_of: Service -> its own largest request body, if it has one.
        """
        self._signatures = signatures or SignatureDesk()
        self._gateways = gateways
        self._max_request = max_request
        self._limit_of = limit_of
        self._clock_ms = clock_ms
        self._verifier = SealVerifier(QUERY_CONTEXT)
        # Minute of the deadline -> exchanges. A copy of a question has the deadline of the original, so one look is
        # enough; and a minute is forgotten as a whole when no copy with such a deadline would count any more.
        self._asked: dict[int, set[str]] = {}

    def check(self, service: ServiceId, statement: QueryStatement, head: QueryHead, body: Body | None) -> float:
        """Try a question that came to `service`, and take its exchange for asked.

        Args:
            body: None while it is still to come, in parts: then the exchange stays open for another `check` with it.

        Returns:
            The seconds in which an answer is of use.

        Raises:
            RefusedQuestionError: The question does not count.
        """
        key = self._gateways.get(statement.gateway)
        if key is None:
            raise RefusedQuestionError(f"gateway {statement.gateway} is not trusted")
        try:
            self._verifier.check(statement.gateway, key, head.seal, head.statement)
            deadline = parse_rfc3339(statement.deadline)
        except SealError as error:
            raise RefusedQuestionError(f"gateway's seal: {error}") from error
        except ValueError as error:
            raise RefusedQuestionError(f"deadline: {error}") from error
        if statement.service != service:
            raise RefusedQuestionError(f"the question is for {statement.service}")
        left = deadline + CLOCK_SKEW - self._clock_ms()
        if left <= 0:
            raise RefusedQuestionError("the deadline has passed")
        longest = LONGEST_TIMEOUT + 1000 * carriage_seconds(statement.request_size)
        if left > longest + 2 * CLOCK_SKEW:
            raise RefusedQuestionError("the deadline is too far away")
        max_request = self._limit_of(service) or self._max_request
        if statement.request_size > max_request:
            raise RefusedQuestionError(f"the body is larger than {max_request} bytes")
        try:
            terms_of(statement)
        except ValueError as error:
            # Terms of a later form, perhaps. To answer without them would be to release what the grant withholds.
            raise RefusedQuestionError(f"release terms: {error}") from error
        minute = deadline // _MINUTE
        asked = self._asked.get(minute)
        if asked is not None and statement.id in asked:
            raise RefusedQuestionError(f"exchange {statement.id} was asked before")
        try:
            signed = self._signatures.check(service, statement, head, body)
        except UnsignedQuestionError as error:
            raise RefusedQuestionError(str(error)) from error
        if body is not None:
            digest = request_digest(head.salt, statement.method, head.target, head.headers, body)
            if statement.request_digest != digest or statement.request_size != len(body):
                raise RefusedQuestionError("the content is not what was sealed")
            if asked is None:
                asked = self._begin(minute)
            asked.add(statement.id)
            if signed is not None:
                self._signatures.spend(signed)
        # The budget needs no clocks that agree, but is not sealed; the deadline bounds it.
        return min(head.budget_ms, left, longest) / 1000

    def _begin(self, minute: int) -> set[str]:
        over = self._clock_ms() - CLOCK_SKEW
        self._asked = {each: ids for each, ids in self._asked.items() if (each + 1) * _MINUTE > over}
        begun: set[str] = set()
        self._asked[minute] = begun
        return begun
