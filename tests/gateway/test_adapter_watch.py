"""What gateways believe of what adapters say of themselves: who says it, and nothing that is not of its form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deploy.demo.identities import CIVIL_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import BusUnavailableError, NatsBus, discovery_nats_subject
from gateway.adapter_watch import AdapterWatch, Stats
from tests.conftest import Pki
from tests.deploy.raw_bus import raw_client
from tests.exchange.bus_kit import gateway_bus

STATS = discovery_nats_subject(TAX_SUBSYSTEM, "STATS")
GOOD: dict[str, Any] = {
    "id": "abc",
    "name": "tax",
    "version": "1.0.0",
    "started": "2026-11-23T08:00:00Z",
    "metadata": {"subsystem": CIVIL_SUBSYSTEM, "certificate": "0f" * 32, "connected": "2026-11-23T08:00:01Z"},
    "endpoints": [
        {
            "name": "enterprises",
            "subject": "dt.q.x.y",
            "num_requests": 9,
            "num_errors": 1,
            "last_error": "",
            "data": {"answered": 8, "p50_ms": 1.5, "p95_ms": None, "breaker": "half-open", "later": {"more": True}},
            "later": [1],
        }
    ],
}


@pytest.fixture
async def bus(nats_server: NatsServer, pki: Pki) -> AsyncIterator[NatsBus]:
    async with gateway_bus(nats_server.url, pki) as bus:
        yield bus


@asynccontextmanager
async def tax_says(server: NatsServer, pki: Pki, *answers: object) -> AsyncIterator[None]:
    """Instances of the tax bureau, each with one answer to whatever it is asked: bytes as they are, anything else as JSON."""
    tasks = []

    async def answer(said: object, there: asyncio.Event) -> None:
        content = said if isinstance(said, bytes) else json.dumps(said).encode()
        async with raw_client(server, pki.bus_tls("tax")) as client:
            await client.say(f"SUB {STATS} 1".encode())
            there.set()
            for number in range(1, 100):
                await client.heard(number, within=60)
                await client.publish(client.messages[-1][1], content)

    for said in answers:
        there = asyncio.Event()
        tasks.append(asyncio.create_task(answer(said, there)))
        await asyncio.wait_for(there.wait(), 10)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_what_an_adapter_says_is_read_and_who_it_is_is_known_from_where_it_was_asked(
    nats_server: NatsServer, pki: Pki, bus: NatsBus
) -> None:
    """It claims to be of another subsystem; nobody listens to that."""
    async with tax_says(nats_server, pki, GOOD):
        (heard,) = await AdapterWatch(bus).ask("STATS", [TAX_SUBSYSTEM, CIVIL_SUBSYSTEM])
    said = heard.answer
    assert isinstance(said, Stats)
    assert (heard.subsystem, said.id, said.name) == (TAX_SUBSYSTEM, "abc", "tax")
    (service,) = said.endpoints
    assert service.data is not None
    assert (service.num_requests, service.data.answered, service.data.breaker) == (9, 8, "half-open")
    assert (service.data.p50_ms, service.data.p95_ms, service.data.listening) == (1.5, None, None)


@pytest.mark.parametrize(
    "strange",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        [],
        {**GOOD, "id": "<script>"},
        {**GOOD, "name": "x" * 65},
        {**GOOD, "version": "x" * 501},
        {**GOOD, "metadata": {"certificate": "no"}},
        {**GOOD, "endpoints": [{**GOOD["endpoints"][0], "num_requests": -1}]},
        {**GOOD, "endpoints": [{**GOOD["endpoints"][0], "num_requests": 1 << 70}]},
        {**GOOD, "endpoints": [{**GOOD["endpoints"][0], "data": {"breaker": "on fire"}}]},
        {**GOOD, "endpoints": [GOOD["endpoints"][0]] * 1001},
    ],
    ids=lambda said: str(said)[:30],
)
async def test_what_is_not_of_its_form_is_left_out_and_spoils_nothing(
    nats_server: NatsServer, pki: Pki, bus: NatsBus, strange: object
) -> None:
    async with tax_says(nats_server, pki, strange, {**GOOD, "id": "honest"}):
        watch = AdapterWatch(bus)
        watch._known[TAX_SUBSYSTEM] = frozenset({"honest"})  # so that no second is waited for more
        heard = await watch.ask("STATS", [TAX_SUBSYSTEM])
    assert [each.answer.id for each in heard] == ["honest"]


async def test_an_instance_that_says_it_is_many_is_not_counted_without_end(
    nats_server: NatsServer, pki: Pki, bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.adapter_watch._MOST_INSTANCES", 2)
    async with tax_says(nats_server, pki, *[{**GOOD, "id": f"i{number}"} for number in range(4)]):
        assert len(await AdapterWatch(bus).ask("STATS", [TAX_SUBSYSTEM])) == 2


async def test_without_a_bus_it_says_so(pki: Pki) -> None:
    async with gateway_bus("tls://127.0.0.1:1", pki, wait=False) as bus:
        with pytest.raises(BusUnavailableError):
            await AdapterWatch(bus).ask("PING", [TAX_SUBSYSTEM])
