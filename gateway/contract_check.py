"""Requests checked against the registered OpenAPI document of their service, before they leave.

Rules:
1. The document that counts is the one that the registry holds now: a new one is enforced as soon as the registry is read again.
2. A document is read and compiled when the first request comes that it speaks of, beside the event loop and under a clock; the
   request waits for it. Requests of other services do not.
3. A document that cannot be compiled in bounds checks nothing, and an event says so: it was registered, and the service is not
   to fail for it. A registry that cannot be asked for the document refuses the request.
4. What may take long is checked in a process of its own (`exchange.contracts.aside`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from exchange import LARGEST_CHECKED as LARGEST
from exchange import QUICK_CHECK as QUICK
from exchange import (
    Body,
    Contract,
    ContractBreachError,
    ContractDocumentError,
    Headers,
    MeshError,
    OverloadedError,
    ServiceId,
    Spooled,
)
from exchange import ContractsAside as Aside
from exchange import ContractTooLongError as TooLongError
from exchange import read_contract_plan as read_plan
from gateway.api.changing import consulting
from registry import Descriptions, Service

Mode = Literal["enforce", "report", "off"]
MAX_NODES = 150_000
"""Schemas that all contracts together may hold; those loaded longest ago go first."""

events = structlog.get_logger("datong.contract")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it would leave."""

    exchange_id: str
    service: Service
    method: str
    segments: Sequence[str]
    """Decoded, of the path after the service code."""
    query: bytes
    headers: Headers
    """As they are handed on, names in lower case."""
    body: bytes | None
    """None if it is not at hand as a whole."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A document that was read."""

    contract: Contract | None
    """None if nothing can be checked against it."""
    plan: bytes = b""

    @property
    def nodes(self) -> int:
        return self.contract.nodes if self.contract is not None else 1


class ContractChecks:
    """Checks requests. `stop` it at the end."""

    def __init__(self, mode: Mode, descriptions: Descriptions, *, seconds: float = 2.0) -> None:
        """
        Args:
            mode: `report` lets requests pass that break a contract, and tells of them in an event; `off` checks nothing.
            descriptions: Where the documents are.
            seconds: So long a check may take that is not known to be quick.
        """
        self._mode = mode
        self._descriptions = descriptions
        self._seconds = seconds
        self._known: dict[str, _Known] = {}
        """By the document's digest, the one loaded longest ago first."""
        self._loading: dict[str, asyncio.Task[_Known]] = {}
        self._aside = Aside()

    def check(self, asked: Asked) -> Awaitable[None] | None:
        """Return None if a request keeps to its service's contract, or what will tell.

        Raises:
            ContractBreachError: It does not. What is returned raises that, too, and also
            RegistryUnavailableError, OverloadedError: Nobody can tell now.
        """
        if self._mode == "off":
            return None
        known = self._known.get(asked.service.document)
        return self._after_loading(asked) if known is None else self._check(known, asked)

    async def stop(self) -> None:
        """End the process, and what is being loaded."""
        loading = [*self._loading.values()]
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        await self._aside.stop()

    def _check(self, known: _Known, asked: Asked) -> Awaitable[None] | None:
        operation = known.contract.find(asked.method, asked.segments) if known.contract is not None else None
        if operation is None:  # declared in the registry and not in the document: what it takes is not known
            return None
        if operation.effort(asked.query, asked.headers, asked.body) > QUICK:
            return self._check_aside(known.plan, asked)
        try:
            operation.check_request(asked.segments, asked.query, asked.headers, asked.body)
        except ContractBreachError as breach:
            self._tell(asked, breach)
        return None

    async def _check_aside(self, plan: bytes, asked: Asked) -> None:
        try:
            await self._aside.check_request(
                asked.service.document,
                plan,
                method=asked.method,
                segments=asked.segments,
                query=asked.query,
                headers=asked.headers,
                body=asked.body,
                seconds=self._seconds,
            )
        except ContractBreachError as breach:
            self._tell(asked, breach)
        except OverloadedError:
            if self._mode == "enforce":
                raise

    async def _after_loading(self, asked: Asked) -> None:
        digest = asked.service.document
        task = self._loading.get(digest)
        if task is None:
            task = self._loading[digest] = asyncio.create_task(self._load(asked.service.id))
            task.add_done_callback(lambda done: self._loaded(digest, done))
        try:
            known = await asyncio.shield(task)  # one who waits may go; the others still wait
        except MeshError:
            if self._mode == "enforce":
                raise
            return
        later = self._check(known, asked)
        if later is not None:
            await later

    def _loaded(self, digest: str, done: asyncio.Task[_Known]) -> None:
        self._loading.pop(digest, None)
        if not done.cancelled():
            done.exception()  # those who wait hear of it; if they have all gone, nobody needs to

    async def _load(self, service: ServiceId) -> _Known:
        async with consulting():
            document = await self._descriptions.document(service)
        known = await _compiled(service, document.text)
        # Under its own digest: another one may have been registered meanwhile.
        self._known[document.sha256] = known
        while len(self._known) > 1 and sum(each.nodes for each in self._known.values()) > MAX_NODES:
            del self._known[next(iter(self._known))]
        return known

    def _tell(self, asked: Asked, breach: ContractBreachError) -> None:
        """Raise what breaks a contract, or only tell of it."""
        if self._mode == "enforce":
            raise breach
        faults = [f"{each.part} {each.pointer} {each.rule}" for each in breach.faults]
        events.warning(
            "exchange.contract_broken",
            exchange=asked.exchange_id,
            service=asked.service.id,
            rule=breach.rule,
            faults=faults,
        )


async def at_hand(body: Body) -> bytes | None:
    """A body as a whole, if it is small enough to be checked; one that waits on disk is read."""
    if isinstance(body, Spooled):
        return await body.read(0, len(body)) if len(body) <= LARGEST else None
    return body if isinstance(body, bytes) else None


async def _compiled(service: ServiceId, text: str) -> _Known:
    reader = Aside()
    try:
        plan = await reader.plan(text.encode())
        contract = await asyncio.to_thread(lambda: Contract(read_plan(plan)))
    except (ContractDocumentError, TooLongError) as error:
        events.error("contract.not_checked", service=service, reason=str(error) or "it takes too long to read")
        return _Known(None)
    finally:
        await reader.stop()
    events.info("contract.loaded", service=service, size=len(text), unchecked=list(contract.unchecked[:20]))
    return _Known(contract, plan)
