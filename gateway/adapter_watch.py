"""What the adapters say of themselves, asked over the bus by the NATS services protocol, where each can only speak for itself.

Rules:
1. Each subsystem's adapters are asked on a subject that only its own certificates may listen on: who answers there is one of
   them, whatever the answer says. (On `$SRV` any adapter could answer for another.)
2. Nobody says how many instances there are. It is waited until all have answered that answered last time, and a moment more
   for new ones; for a second at most.
3. What comes is another department's word: it is bounded, and what is not of its form is left out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import structlog

from exchange import NatsBus, SubsystemId, discovery_nats_subject
from registry import Snapshot

WAIT_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 0.05
_MOST_INSTANCES: Final = 100
"""Of one subsystem."""
_ASKED_AT_ONCE: Final = 64

events = structlog.get_logger("datong.gateway")

_Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_Line = Annotated[str, msgspec.Meta(max_length=500)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]
_Millis = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class ServiceData(msgspec.Struct, frozen=True):
    """What our own adapters add to the statistics of the protocol. Others may leave it out."""

    answered: _Count = 0
    errors: _Count = 0
    refused: _Count = 0
    in_progress: _Count = 0
    p50_ms: _Millis | None = None
    p95_ms: _Millis | None = None
    listening: bool | None = None
    breaker: Literal["closed", "open", "half-open"] | None = None
    breaker_trips: _Count = 0


class ServedService(msgspec.Struct, frozen=True):
    """Statistics of one endpoint."""

    name: _Id
    subject: _Line
    num_requests: _Count = 0
    num_errors: _Count = 0
    last_error: _Line | None = None
    data: ServiceData | None = None


class Metadata(msgspec.Struct, frozen=True):
    """Of an instance."""

    certificate: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    connected: _Line = ""


class Pong(msgspec.Struct, frozen=True):
    """An instance's answer to PING, or the beginning of another answer."""

    id: _Id
    name: _Id
    version: _Line = ""


class Stats(Pong, frozen=True):
    """An instance's answer to STATS."""

    started: _Line = ""
    endpoints: Annotated[list[ServedService], msgspec.Meta(max_length=1000)] = []
    metadata: Metadata = Metadata()


class Info(Pong, frozen=True):
    """An instance's answer to INFO."""

    description: _Line = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer, and how long it took."""

    subsystem: SubsystemId
    answer: Pong
    seconds: float


_FORMS: Final[dict[str, msgspec.json.Decoder[Pong]]] = {
    "PING": msgspec.json.Decoder(Pong),
    "STATS": msgspec.json.Decoder(Stats),
    "INFO": msgspec.json.Decoder(Info),
}


def providers(snapshot: Snapshot) -> list[SubsystemId]:
    """The subsystems that an adapter may answer for now, in order."""
    return sorted({each.subsystem for each in snapshot.certificates() if each.active and each.use == "adapter"})


class AdapterWatch:
    """Asks over a gateway's connection to the bus."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self._known: dict[SubsystemId, frozenset[str]] = {}
        self._turns = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def ask(self, verb: Literal["PING", "STATS", "INFO"], subsystems: Iterable[SubsystemId]) -> list[Heard]:
        """The answers of all instances of these subsystems, ordered by subsystem and identifier.

        Raises:
            BusUnavailableError, OverloadedError: The bus is down, or the connection to it takes no more.
        """
        answers = await asyncio.gather(*[self._ask(verb, each) for each in subsystems])
        return sorted(
            (heard for each in answers for heard in each), key=lambda heard: (heard.subsystem, heard.answer.id)
        )

    async def _ask(self, verb: str, subsystem: SubsystemId) -> list[Heard]:
        known, form = self._known.get(subsystem, frozenset()), _FORMS[verb]
        heard: dict[str, Heard] = {}

        def all_known_answered(replies: Sequence[bytes]) -> bool:
            try:
                answer = form.decode(replies[-1])
            except msgspec.MsgspecError as error:
                events.warning("adapter.strange", subsystem=subsystem, verb=verb, error=str(error))
                return False
            if len(heard) < _MOST_INSTANCES:
                heard.setdefault(answer.id, Heard(subsystem, answer, time.perf_counter() - asked))
            return bool(known) and known <= heard.keys()

        async with self._turns:
            asked = time.perf_counter()
            await self._bus.ask_all(
                discovery_nats_subject(subsystem, verb), b"", WAIT_SECONDS, all_known_answered, settle=SETTLE_SECONDS
            )
        self._known[subsystem] = frozenset(heard)
        return list(heard.values())
