"""The services of an adapter: what answers each, in whose turn, and how another takes its place while questions are asked.

Rules:
1. Whoever asks while a source is replaced notices nothing: what was taken is answered, by the old source or the new one.
2. A source is closed when every question that it may have got is answered. One that does not start replaces none.
3. Each service has turns of its own (`department_adapters.guard`), and may have limits of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog
from cryptography import x509

from department_adapters.discovery import ServedEndpoint
from department_adapters.guard import Breaker, Guarded, Turns
from department_adapters.signed_questions import SignatureDesk
from department_adapters.source import Source
from exchange import ServiceId, ServingBus, Subscription, SubsystemId, service_nats_subject

QUEUE_GROUP = "adapters"

events = structlog.get_logger("datong.adapter")


class Services:
    """What one subsystem serves, now."""

    def __init__(
        self,
        subsystem: SubsystemId,
        sources: Mapping[str, Source],
        *,
        hears: Callable[[str], bool],
        concurrency: int,
        queue: int,
        callers: Sequence[x509.Certificate],
        signed: Collection[str],
    ) -> None:
        """
        Args:
            sources, concurrency, queue, callers, signed: As `department_adapters.runner.Runner` takes them.
            hears: Whether the bus gives us what is sent to a subject of ours now.
        """
        self._subsystem = subsystem
        self._hears = hears
        self._concurrency, self._queue = concurrency, queue
        self.sources = {self.id_of(code): source for code, source in sources.items()}
        self.turns = {service: self._turns_of(source) for service, source in self.sources.items()}
        self.endpoints = {
            service: ServedEndpoint(
                service, service_nats_subject(service), QUEUE_GROUP, breaker=_breaker(source), hears=hears
            )
            for service, source in self.sources.items()
        }
        self.signatures = SignatureDesk(callers, [self.id_of(code) for code in signed])
        self._closing: set[asyncio.Task[None]] = set()

    def id_of(self, code: str) -> ServiceId:
        return ServiceId(f"{self._subsystem}/{code}")

    def max_request(self, service: ServiceId) -> int | None:
        """The largest request body in bytes, if the service has a limit of its own."""
        own: int | None = getattr(self.sources.get(service), "max_request", None)
        return own

    async def start(self) -> None:
        """Open the sources."""
        for source in self.sources.values():
            await source.start()

    async def answer_from(
        self,
        sources: Mapping[str, Source],
        signed: Collection[str],
        *,
        bus: ServingBus,
        subscribed: Callable[[ServedEndpoint], Subscription],
        answering: Collection[asyncio.Task[None]],
    ) -> None:
        """Answer from these sources from now on, as `department_adapters.runner.Runner.answer_from` promises.

        Args:
            sources, signed: All of them, as at the start.
            bus: What has given us questions until now.
            subscribed: What takes the questions of a service.
            answering: The tasks that answer questions now, also those that have not looked up their source.

        Raises:
            Exception: What the start of a new source raises. Then all is as before.
        """
        wanted = {self.id_of(code): source for code, source in sources.items()}
        before = dict(self.sources)
        begun: list[Source] = []
        try:
            for service, source in wanted.items():
                if before.get(service) is not source:
                    begun.append(source)
                    await source.start()
        except BaseException:
            for source in begun:
                with contextlib.suppress(Exception):
                    await source.stop()
            raise
        gone = [service for service in before if service not in wanted]
        await bus.leave([self.endpoints[service].nats_subject for service in gone])
        self.signatures.demand([self.id_of(code) for code in signed])
        for service in gone:
            # Questions that were taken before we left are still tasks that have not looked up their source.
            self.endpoints.pop(service)
        added = []
        for service, source in wanted.items():
            if before.get(service) is not source:
                self.sources[service], self.turns[service] = source, self._turns_of(source)
            if service in self.endpoints:
                self.endpoints[service].breaker = _breaker(source)
            else:
                self.endpoints[service] = endpoint = ServedEndpoint(
                    service, service_nats_subject(service), QUEUE_GROUP, breaker=_breaker(source), hears=self._hears
                )
                added.append(subscribed(endpoint))
        old = [(service, source) for service, source in before.items() if wanted.get(service) is not source]
        self._close_after(old, set(answering))
        for subscription in added:
            await bus.join(subscription)

    def _close_after(self, old: Sequence[tuple[ServiceId, Source]], asked: set[asyncio.Task[None]]) -> None:
        """Close sources when the questions that may have gone to them are answered."""

        async def close() -> None:
            if asked:
                await asyncio.wait(asked)
            for service, source in old:
                if self.sources.get(service) is source:  # the service is gone, and nothing has taken its place
                    del self.sources[service], self.turns[service]
                try:
                    await source.stop()
                except Exception as error:  # noqa: BLE001  # nobody waits for it; the others are closed all the same
                    events.exception("adapter.fault", service=service, error=repr(error))

        if old:
            task = asyncio.create_task(close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def stop(self) -> None:
        """Close the sources, those first that were replaced."""
        while self._closing:
            await asyncio.wait(self._closing)
        for source in self.sources.values():
            await source.stop()

    def _turns_of(self, source: Source) -> Turns:
        return source.turns if isinstance(source, Guarded) else Turns(self._concurrency, self._queue)


def _breaker(source: Source) -> Breaker | None:
    return source.breaker if isinstance(source, Guarded) else None
