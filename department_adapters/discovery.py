"""How an adapter is found: the NATS services protocol ($SRV.PING, INFO, STATS), with what really happened.

Only discovery is left to nats-py. Its own endpoints count wrongly when questions are answered side by side, and send the
text of any exception to the caller.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from nats.aio.client import Client
from nats.micro.service import EndpointInfo, EndpointStats, Service, ServiceConfig, ServiceInfo, ServiceStats

from exchange import ServiceId


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


@dataclass(slots=True)
class ServedEndpoint:
    """One service as discovery shows it."""

    service: ServiceId
    nats_subject: str
    queue_group: str
    counts: ServiceCounts = field(default_factory=ServiceCounts)

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
            },
        )


class Discovery(Service):
    """Answers for the endpoints it is given; taking their questions is not its business."""

    def __init__(self, client: Client, config: ServiceConfig, endpoints: Sequence[ServedEndpoint]) -> None:
        super().__init__(client, config)
        self._served = endpoints

    def info(self) -> ServiceInfo:
        info = super().info()
        info.endpoints = [endpoint.info() for endpoint in self._served]
        return info

    def stats(self) -> ServiceStats:
        stats = super().stats()
        stats.endpoints = [endpoint.stats() for endpoint in self._served]
        return stats
