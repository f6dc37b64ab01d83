"""Whether an answer counts: nothing is believed because it came over the bus.

Rules:
1. An answer, an opening or a closing counts only if a certificate registered for the owner's subsystem sealed it, for this
   exchange, for these request bytes.
2. What came is what was sealed, byte for byte, and a form of HTTP answer that can be passed on.
3. Where an adapter says that parts of a body are to be sent or fetched, only addresses on the bus that belong to the owner are
   used.
4. Under release terms the body is gone through again: an adapter that released more is not a way around a grant.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import msgspec
from msgspec import UNSET

from exchange.broker.query import Query
from exchange.errors import (
    AnswerTimeoutError,
    BackendError,
    BackendUnavailableError,
    BadAnswerError,
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
from exchange.messages.envelope import (
    AnswerHead,
    AnswerStatement,
    EnvelopeError,
    Headers,
    OpeningStatement,
    check_headers,
    content_digest,
    header_block,
    read_answer_statement,
    read_opening_statement,
)
from exchange.release.bodies import ReleaseError, check_answer
from exchange.release.terms import read_terms
from exchange.signatures.seal import OPENING_CONTEXT, PublicKey, SealError, SealVerifier

AdapterKey = Callable[[str], tuple[SubsystemId, PublicKey] | None]
"""Fingerprint of an adapter certificate -> (the subsystem it is registered for, its key), or None."""


class Evidence(msgspec.Struct, frozen=True):
    """An answer statement whose seal was verified."""

    said: AnswerStatement
    statement: bytes
    seal: bytes


class UnconfirmedAnswerError(RegistryStaleError):
    """An operation that may change something was carried, and nobody can say now whether the adapter's certificate counts."""

    detail = {
        "en": "The answer cannot be checked: the registry was last confirmed {age} s ago, the limit is {limit} s. "
        "Whether the department acted is unknown.",
        "zh": "无法核验应答：登记信息最近一次确认在 {age} 秒前，上限为 {limit} 秒；部门是否已处理未知。",
    }
    next = AnswerTimeoutError.next
    retry_after: int | None = None


class AnswerChecks:
    """Checks what adapters send under seal, by the certificates that are registered now."""

    def __init__(self, verifier: SealVerifier, adapter_key: AdapterKey) -> None:
        """
        Args:
            verifier: Of seals of answers (ANSWER_CONTEXT).
        """
        self._verifier = verifier
        self._opening_verifier = SealVerifier(OPENING_CONTEXT)
        self._adapter_key = adapter_key

    def check_whole(self, query: Query, sealed: bytes, head: AnswerHead, body: bytes) -> Evidence:
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
            raise answer_too_large(query)
        if not said.error:
            _check_form(said.status, head.headers, block, body)
        return Evidence(said, head.statement, head.seal)

    def check_opening(self, query: Query, sealed: bytes, head: AnswerHead) -> OpeningStatement:
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

    def check_closing(self, query: Query, sealed: bytes, head: AnswerHead, digest: str, size: int) -> Evidence:
        """Return the department's word on the whole of what came; raises BadAnswerError if that is another whole."""
        try:
            said = read_answer_statement(head.statement)
            self._check_seal(query, self._verifier, said.adapter, head)
        except (EnvelopeError, SealError) as error:
            raise _bad_seal() from error
        _check_binding(query, sealed, said.id, said.query_digest)
        if (said.body_digest, said.body_size) != (digest, size):
            raise _not_what_was_sealed()
        return Evidence(said, head.statement, head.seal)

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

    def _key_of(self, adapter: str, query: Query) -> tuple[SubsystemId, PublicKey] | None:
        try:
            return self._adapter_key(adapter)
        except RegistryStaleError as error:
            if query.safe:
                raise
            raise UnconfirmedAnswerError(error.rule, **error.facts) from error


async def check_release(entries: tuple[str, ...], said: AnswerStatement, headers: Headers, body: bytes) -> None:
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


def inbox_of(query: Query, answer: AnswerHead) -> str:
    """Where the adapter takes and gives parts, if that is a place of the owner's; raises BadAnswerError."""
    # What an adapter writes here becomes a subject of ours: with a space or line break in it, commands to the bus.
    if not re.fullmatch(rf"dt\.i\.{subject_token(query.owner)}\.[A-Za-z0-9_-]{{1,64}}", answer.inbox):
        raise BadAnswerError(
            "answer-inbox",
            problem="The answer names a place on the bus that is not the department's.",
            problem_zh="应答所指的总线地址不属于该部门。",
        )
    return answer.inbox


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


def error_from_adapter(said: AnswerStatement, query: Query) -> MeshError:
    """The error that an adapter reported under its seal. It says which, never why: details stay in the department."""
    if said.error == AnswerTimeoutError.code:
        return AnswerTimeoutError(seconds=f"{query.timeout:g}")
    if said.error == PayloadTooLargeError.code:
        return answer_too_large(query)  # the adapter means its own system's answer, not the caller's body
    return _ADAPTER_ERRORS.get(said.error, BackendError)()


def answer_too_large(query: Query) -> BadAnswerError:
    return BadAnswerError(
        "answer-size",
        problem=f"The answer is larger than {query.max_answer} bytes.",
        problem_zh=f"应答超过 {query.max_answer} 字节。",
    )


def _check_form(status: int, headers: Headers, block: bytes, body: bytes) -> None:
    """Return if the answer can be written to an HTTP connection as it is; raises BadAnswerError."""
    try:
        check_headers(headers, block)
        if not 200 <= status <= 599 or (body and status in (204, 304)):
            raise EnvelopeError(f"{len(body)} bytes cannot be passed on with status {status}")
    except EnvelopeError as error:
        raise _no_answer_form() from error


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


def _no_answer_form() -> BadAnswerError:
    return BadAnswerError(
        "answer-form", problem="The answer is not a form of HTTP answer.", problem_zh="应答不是合法的 HTTP 应答。"
    )
