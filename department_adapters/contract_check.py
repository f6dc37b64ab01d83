"""A source whose requests and answers are held against the department's own contract, an OpenAPI document beside `adapter.toml`.

Rules:
1. A request that the contract does not describe never reaches the system, whatever the gateway let pass.
2. An answer that breaks the contract does not leave. The gateway is told only that; what is wrong stands in this log, by JSON
   pointers and keywords, without a value of the answer.
3. It is checked what the system answered, before release terms are applied: what they mask and withhold is still to be right.
4. An answer that is compressed is read to be checked, so no other encoding than gzip is asked for; nor is a part of an answer
   unless the contract describes one.
5. A failure of the system (5xx) that the contract does not describe stays inside, with its body: of an operation that changes
   nothing, it is a failed backend.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

import structlog
from msgspec import structs

from department_adapters.guard import FAILING
from department_adapters.section import ContractError
from department_adapters.source import Source, SourceAnswer, SourceRequest, UnusableAnswerError, begun, close_stream
from exchange import (
    LARGEST_CHECKED,
    AnswerBreachError,
    BackendError,
    Contract,
    ContractBreachError,
    ContractBrokenError,
    ContractDocumentError,
    Headers,
    OperationContract,
    RequestBeyondContractError,
    read_contract_document,
)

_OF_A_PART: Final = frozenset((b"range", b"if-range", b"a-im"))

events = structlog.get_logger("datong.adapter")


def read_kept_contract(file: Path) -> Contract:
    """The contract in a file, compiled.

    Raises:
        ContractError: It cannot be read, or is no OpenAPI document that could be checked against.
    """
    try:
        return Contract.of(read_contract_document(file.read_bytes()))
    except OSError as error:
        raise ContractError(f"{file}: {error.strerror}") from error
    except ContractDocumentError as error:
        raise ContractError(f"{file}: {error}") from error


class ContractKept:
    """A source behind its contract. It is a source itself."""

    def __init__(self, source: Source, contract: Contract) -> None:
        self.source = source
        self._contract = contract

    @property
    def takes_spooled(self) -> bool:
        """As the source's."""
        return getattr(self.source, "takes_spooled", False)

    async def start(self) -> None:
        """As the source's."""
        await self.source.start()

    async def stop(self) -> None:
        """As the source's."""
        await self.source.stop()

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        """The source's answer.

        Raises:
            RequestBeyondContractError: The request breaks the contract; the system was not asked.
            ContractBrokenError: The answer does.
            BackendError: The system failed in a way that the contract does not describe.
            Whatever the source raises.
        """
        operation = await self._check_request(request)
        if operation.answers_json():
            request = structs.replace(request, headers=_asking_for_readable(operation, request.headers))
        answer = await self.source.answer(request)
        if answer.stream is not None and operation.answers_json():
            answer = await begun(answer, LARGEST_CHECKED)
        try:
            operation.check_answer(
                answer.status,
                answer.headers,
                answer.body if answer.stream is None else None,
                head=request.method == "HEAD",
            )
        except AnswerBreachError as breach:
            await close_stream(answer)
            events.error("adapter.contract_broken", status=answer.status, **_told(request, operation, breach))
            if answer.status >= 500 and request.safe:
                raise (BackendError if answer.status in FAILING else UnusableAnswerError) from breach
            raise ContractBrokenError from breach
        except BaseException:
            await close_stream(answer)
            raise
        return answer

    async def _check_request(self, request: SourceRequest) -> OperationContract:
        path, _, query = request.target.partition(b"?")
        segments = tuple(unquote_to_bytes(each).decode("utf-8", "replace") for each in path.split(b"/")[1:])
        operation = self._contract.find(request.method, segments)
        if operation is None:
            events.warning("adapter.beyond_contract", exchange=request.exchange_id, reason="no such operation")
            raise RequestBeyondContractError
        body: bytes | None = request.body
        spooled = request.spooled
        if spooled is not None:
            body = await spooled.read(0, len(spooled)) if len(spooled) <= LARGEST_CHECKED else None
        try:
            operation.check_request(segments, query, request.headers, body)
        except ContractBreachError as breach:
            events.warning("adapter.beyond_contract", **_told(request, operation, breach))
            raise RequestBeyondContractError from breach
        return operation


def _asking_for_readable(operation: OperationContract, headers: Headers) -> Headers:
    """A request's headers so that the answer can be checked."""
    gzip = any(name == b"accept-encoding" and b"gzip" in value.lower() for name, value in headers)
    dropped = {b"accept-encoding"} if operation.describes(206) else {b"accept-encoding", *_OF_A_PART}
    return [
        *(pair for pair in headers if pair[0] not in dropped),
        (b"accept-encoding", b"gzip" if gzip else b"identity"),
    ]


def _told(
    request: SourceRequest, operation: OperationContract, breach: ContractBreachError | AnswerBreachError
) -> dict[str, object]:
    return {
        "exchange": request.exchange_id,
        "operation": f"{operation.method} {operation.path}",
        "faults": [f"{each.part} {each.pointer or '/'}: {each.text('en')}" for each in breach.faults],
    }
