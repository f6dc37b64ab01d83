"""An adapter's sources, asked as the mesh would ask them, before there is a mesh: sample calls, and what is seen in the answers.

Rules:
1. Only operations that change nothing are called, unless whoever asks says otherwise.
2. The sources are those that the adapter will run, with their limits, and without the bus.
3. Values that something is found by come from the contract, from the department's own system (`x-datong-sample`), or from
   the list above a record. They are not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from department_adapters.checking.contents import items_in, unlisted
from department_adapters.checking.documents import DocumentedOperation, operations_of
from department_adapters.checking.samples import NoSampleError, Sample, learnt, sample_of
from department_adapters.contract import AdapterContract, read_contract
from department_adapters.files.columns import CellError, read_cell
from department_adapters.files.loading import look
from department_adapters.files.reading import FileError, Form, read_rows
from department_adapters.files.section import FilesService
from department_adapters.scaffold.lookup_contract import SAMPLE
from department_adapters.sdk import Adapter
from department_adapters.section import ContractError, ServiceSection
from department_adapters.soap.openapi import openapi_of
from department_adapters.soap.section import SoapService
from department_adapters.source import Source, SourceAnswer, SourceRequest, ask
from department_adapters.sql.inspection import InspectionError, describe_table, sample
from department_adapters.sql.section import SqlService
from exchange import AnswerBreachError, Contract, ContractDocumentError, MeshError, read_contract_document

SECONDS = 5.0
"""For one call: as long as a gateway waits if nothing else is registered."""
_GIVEN = re.compile(r"([A-Z]+) (/\S*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCall:
    """One operation, and what came of calling it."""

    service: str
    operation: str
    """As the contract writes it: `GET /people/{number}`."""
    target: str = ""
    """What was asked; empty if nothing could be."""
    missing: str = ""
    """What was not known that the operation must be given."""
    status: int | None = None
    """None if nothing was answered."""
    trouble: str = ""
    """Why not, for the department's eyes: it may name its systems."""
    seconds: Sequence[float] = ()
    """How long each call took."""
    body: bytes = field(default=b"", repr=False)
    faults: Sequence[str] = ()
    """Where the answer does not keep to the contract; nothing of its values."""
    unlisted: Sequence[str] = ()
    """Items of the answer that the adapter's file does not list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedService:
    """A service with its source, ready to be asked."""

    code: str
    section: ServiceSection
    source: Source
    tree: Mapping[str, Any] | None
    """Its document; None without one."""
    contract: Contract | None

    def operations(self, *, unsafe: bool) -> list[DocumentedOperation]:
        """Those of the document that may be called."""
        found = operations_of(self.tree) if self.tree is not None else ()
        return [each for each in found if unsafe or each.safe]

    async def ask(self, method: str, sample: Sample, *, safe: bool, timeout: float = SECONDS) -> SourceAnswer:
        """What the source answers; raises MeshError or whatever the source raises."""
        return await ask(
            self.source,
            SourceRequest(
                exchange_id="00000000-0000-7000-8000-000000000000",
                method=method,
                target=sample.target.encode("ascii"),
                headers=[(b"accept", b"application/json"), *sample.headers],
                body=sample.body,
                timeout=timeout,
                safe=safe,
            ),
        )

    def faults_of(self, method: str, target: str, answer: SourceAnswer) -> list[str]:
        """Where an answer does not keep to the contract, in English; empty without a contract."""
        if self.contract is None:
            return []
        path = target.partition("?")[0]
        operation = self.contract.find(method, [unquote(part) for part in path.split("/")[1:]])
        if operation is None:
            return ["the contract describes no such operation"]
        try:
            operation.check_answer(answer.status, answer.headers, answer.body, head=method == "HEAD")
        except AnswerBreachError as error:
            return [f"{each.pointer or '/'} {each.text('en')}" for each in error.faults]
        return []


@asynccontextmanager
async def tried_services(adapter: AdapterContract) -> AsyncIterator[list[TriedService]]:
    """The services of an adapter with their sources started; they are stopped in the end.

    Raises:
        ContractError: A contract cannot be read, or a source cannot be made.
    """
    services = []
    for code, section in adapter.services.items():
        source = section.make_source(max_answer=adapter.limits.max_answer)
        tree = document_of(section, source)
        contract = None if tree is None else _compiled(section, tree)
        services.append(TriedService(code=code, section=section, source=source, tree=tree, contract=contract))
    async with contextlib.AsyncExitStack() as stack:
        for each in services:
            await each.source.start()
            stack.push_async_callback(each.source.stop)
        yield services


def document_of(section: ServiceSection, source: Source) -> dict[str, Any] | None:
    """The service's document: the one that is named, else what its code or WSDL says; None without any. Raises ContractError."""
    if section.contract is None:
        if isinstance(source, Adapter):
            return source.openapi()
        if isinstance(section, SoapService):
            return openapi_of(section.read_wsdl(), [each.operation() for each in section.operations])
        return None
    try:
        return read_contract_document(section.contract.read_bytes())
    except OSError as error:
        raise ContractError(f"{section.contract}: {error.strerror}") from error
    except ContractDocumentError as error:
        raise ContractError(f"{section.contract}: {error}") from error


async def call_samples(
    service: TriedService, *, unsafe: bool = False, times: int = 1, given: Sequence[str] = ()
) -> list[SampleCall]:
    """Each operation called once, or more often, with values that something is found by.

    Args:
        unsafe: Also those that may change something.
        times: How often each is called, one after the other.
        given: Calls to be made in place of those that would be made up: `GET /people/7`.
    """
    operations = service.operations(unsafe=unsafe)
    calls: dict[str, SampleCall] = {}
    answers: dict[str, Any] = {}
    wanted = _given(service, given)
    # Those with fewer values in their paths first: what they answer may tell the values of the others.
    for operation in sorted(operations, key=lambda each: each.path.count("{")):
        try:
            made = wanted.get(operation.name) or await _sample(service, operation, answers)
        except NoSampleError as error:
            calls[operation.name] = SampleCall(service=service.code, operation=operation.name, missing=str(error))
            continue
        call = await _called(service, operation, made, times)
        calls[operation.name] = call
        if operation.method == "GET" and call.status == 200:
            with contextlib.suppress(ValueError, RecursionError):
                answers[operation.path.rstrip("/")] = json.loads(call.body)
    return [calls[operation.name] for operation in operations]


async def sample_calls(file: Path) -> list[SampleCall]:
    """Each operation of an adapter that changes nothing, called once: for the adapter's own tests.

    Args:
        file: `adapter.toml`.

    Raises:
        ContractError: The file or a contract cannot be read.
    """
    async with tried_services(read_contract(file)) as services:
        return [call for service in services for call in await call_samples(service)]


def _compiled(section: ServiceSection, document: Mapping[str, Any]) -> Contract:
    try:
        return Contract.of(document)
    except ContractDocumentError as error:
        raise ContractError(f"{section.contract}: {error}") from error


def _given(service: TriedService, given: Sequence[str]) -> dict[str, Sample]:
    """Operation -> the call that was given for it; those of other services are passed over."""
    found: dict[str, Sample] = {}
    for text in given:
        match = _GIVEN.fullmatch(text)
        if match is None:
            raise ContractError(f"{text!r} is not METHOD /path?query, percent-encoded")
        segments = [unquote(part) for part in match[2].partition("?")[0].split("/")[1:]]
        operation = None if service.contract is None else service.contract.find(match[1], segments)
        if operation is not None:
            found[f"{operation.method} {operation.path}"] = Sample(target=match[2], headers=[], body=b"")
    return found


async def _sample(service: TriedService, operation: DocumentedOperation, answers: Mapping[str, Any]) -> Sample:
    assert service.tree is not None
    try:
        # The system's own first: an example of the contract may name what was never there.
        return sample_of(service.tree, operation, await _found(service, operation))
    except NoSampleError:
        return sample_of(service.tree, operation, learnt(operation, answers))


async def _found(service: TriedService, operation: DocumentedOperation) -> dict[str, Any]:
    """Parameter -> value, from the department's own system where the contract says what to look at."""
    places = {str(each["name"]): each[SAMPLE] for each in operation.parameters if isinstance(each.get(SAMPLE), dict)}
    if not places:
        return {}
    columns = {name: str(place.get("column", "")) for name, place in places.items()}
    row: Mapping[str, Any] = {}
    if isinstance(service.section, SqlService):
        table = str(next(iter(places.values())).get("table", ""))
        with contextlib.suppress(InspectionError):  # the call itself will tell
            described = await describe_table(service.section.database, table)
            rows = await sample(service.section.database, described, list(columns.values()))
            row = next((each for each in rows if all(value is not None for value in each.values())), {})
    elif isinstance(service.section, FilesService):
        row = await asyncio.to_thread(_first_row, service.section, list(columns.values()))
    return {name: row[column] for name, column in columns.items() if column in row}


def _first_row(section: FilesService, columns: Sequence[str]) -> dict[str, Any]:
    """The first row of the files that has a value in each of these columns."""
    names = section.columns if isinstance(section.columns, dict) else {name: name for name in section.columns}
    form = Form(
        encoding=section.encoding or "", delimiter=section.delimiter or "", sheet=section.sheet, header=section.header
    )
    if not set(columns) <= set(names):
        return {}
    readers = [read_cell(section.types.get(column, "text")) for column in columns]
    try:
        for mark in look(section.files):
            for _, cells in read_rows(Path(mark.path), [names[each] for each in columns], form, section.max_bytes):
                values = [read(cell) for read, cell in zip(readers, cells, strict=True)]
                if all(value is not None for value in values):
                    return dict(zip(columns, values, strict=True))
    except (FileError, CellError, OSError):
        pass  # the call itself will tell
    return {}


async def _called(service: TriedService, operation: DocumentedOperation, made: Sample, times: int) -> SampleCall:
    call = SampleCall(service=service.code, operation=operation.name, target=made.target)
    seconds: list[float] = []
    for _ in range(times):
        begun = time.perf_counter()
        try:
            answer = await service.ask(operation.method, made, safe=operation.safe)
        except Exception as error:  # noqa: BLE001  # whatever a source raises is what is to be told
            return replace(call, trouble=trouble_of(error), seconds=seconds)
        seconds.append(time.perf_counter() - begun)
    found = items_in(answer.body) if 200 <= answer.status < 300 else {}
    return replace(
        call,
        status=answer.status,
        seconds=seconds,
        body=answer.body,
        faults=service.faults_of(operation.method, made.target, answer),
        unlisted=unlisted(service.section.items, found) if service.section.items else (),
    )


def trouble_of(error: BaseException) -> str:
    """Why nothing was answered, in one line: our own words, and behind them the system's."""
    said = str(error) if isinstance(error, MeshError) else f"{type(error).__name__}: {error}"
    cause = error.__cause__
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    if cause is not None:
        said += f" ({type(cause).__name__}: {' '.join(str(cause).split())[:300]})"
    return said
