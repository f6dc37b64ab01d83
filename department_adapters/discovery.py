"""How an adapter is found: the NATS services protocol ($SRV.PING, INFO, STATS), with what really happened.

The forms are nats-py's. Its service is not used: it counts wrongly when questions are answered side by side, and sends the
text of any exception to the caller.

On `$SRV` any adapter can say that it is another one. So the same is told on subjects that only this subsystem's certificate
may listen on: what comes from there is its own word.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nats.micro.service import EndpointInfo, EndpointStats, ServiceConfig, ServiceInfo, ServicePing, ServiceStats

from department_adapters.guard import Breaker
from department_adapters.latencies import Latencies
from exchange import ServiceId, SubsystemId, discovery_nats_subject


@dataclass(slots=True)
class ServiceCounts:
    """What happened to the questions to one service since the start."""

    received: int = 0
    """Of these `refused` did not count, `in_progress` are not done, and the others are answered."""
    refused: int = 0
    answered: int = 0
    errors: int = 0
    """Of the answered: those with an error of the mesh in place of the system's answer."""
    in_progress: int = 0
    busy_ns: int = 0
    """Sum, over the answered ones, of the time from arrival to the sealed answer."""
    last_error: str = ""
    """Code of the last error or refusal: never a text, which might name a person."""
    latencies: Latencies = field(default_factory=Latencies)

    def note_answer(self, arrived: float, now: float) -> None:
        """Count a question that was answered; both are time.perf_counter() seconds."""
        took = int((now - arrived) * 1e9)
        self.answered += 1
        self.busy_ns += took
        self.latencies.note(took, now)


@dataclass(slots=True)
class ServedEndpoint:
    """One service as discovery shows it."""

    service: ServiceId
    nats_subject: str
    queue_group: str
    counts: ServiceCounts = field(default_factory=ServiceCounts)
    breaker: Breaker | None = None
    hears: Callable[[str], bool] = lambda nats_subject: True
    """Whether the bus gives us what is sent to a subject: it does not before the service is registered."""

    @property
    def name(self) -> str:
        """The service code, of the characters that discovery takes; the whole identifier is in the metadata."""
        return re.sub(r"[^A-Za-z0-9_-]", "_", self.service.rsplit("/", 1)[1])

    def info(self) -> EndpointInfo:
        return EndpointInfo(
            name=self.name,
            subject=self.nats_subject,
            queue_group=self.queue_group,
            metadata={"service": self.service},
        )

    def stats(self) -> EndpointStats:
        counts = self.counts
        now = time.perf_counter()
        return EndpointStats(
            name=self.name,
            subject=self.nats_subject,
            queue_group=self.queue_group,
            num_requests=counts.received,
            num_errors=counts.errors + counts.refused,
            processing_time=counts.busy_ns,
            average_processing_time=counts.busy_ns // counts.answered if counts.answered else 0,
            last_error=counts.last_error,
            data={
                "answered": counts.answered,
                "errors": counts.errors,
                "refused": counts.refused,
                "in_progress": counts.in_progress,
                "p50_ms": counts.latencies.quantile(0.50, now),
                "p95_ms": counts.latencies.quantile(0.95, now),
                "listening": self.hears(self.nats_subject),
                "breaker": self.breaker.state if self.breaker else "closed",
                "breaker_trips": self.breaker.trips if self.breaker else 0,
            },
        )


class Discovery:
    """Answers for the endpoints it is given; taking their questions is not its business."""

    def __init__(
        self,
        config: ServiceConfig,
        subsystem: SubsystemId,
        endpoints: Collection[ServedEndpoint],
        facts: Callable[[], Mapping[str, str]],
    ) -> None:
        """
        Args:
            subsystem: Whose adapter this is.
            endpoints: Those it has now: the collection may change.
            facts: Metadata that change while it runs.
        """
        self._config = config
        self._subsystem = subsystem
        self._served = endpoints
        self._facts = facts
        self._started = datetime.now(UTC)
        self.id = secrets.token_hex(11)
        """Of this instance."""

    def subjects(self) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """Every subject to answer on, and what makes the answer."""
        name = self._config.name
        for verb, answer in (("PING", self.ping), ("INFO", self.info), ("STATS", self.stats)):
            for subject in (f"$SRV.{verb}", f"$SRV.{verb}.{name}", f"$SRV.{verb}.{name}.{self.id}"):
                yield subject, answer
            yield discovery_nats_subject(self._subsystem, verb), answer

    def ping(self) -> bytes:
        return _json(ServicePing(self.id, self._config.name, self._config.version, self._metadata()))

    def info(self) -> bytes:
        config = self._config
        endpoints = [endpoint.info() for endpoint in self._served]
        return _json(
            ServiceInfo(config.name, self.id, config.version, config.description, endpoints, metadata=self._metadata())
        )

    def stats(self) -> bytes:
        config = self._config
        endpoints = [endpoint.stats() for endpoint in self._served]
        return _json(
            ServiceStats(self.id, config.name, config.version, self._started, endpoints, metadata=self._metadata())
        )

    def _metadata(self) -> dict[str, str]:
        return {**(self._config.metadata or {}), **self._facts()}


def _json(answer: ServicePing | ServiceInfo | ServiceStats) -> bytes:
    return json.dumps(answer.to_dict()).encode()
