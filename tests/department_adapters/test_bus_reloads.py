"""The bus reads its configuration anew whenever somebody is registered, and forgets who was asked what: nothing is lost for it."""

from __future__ import annotations

import asyncio
import json

import pytest
import structlog

from department_adapters import SourceAnswer, SourceRequest
from deploy.demo.identities import CIVIL_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import AnswerTimeoutError, ServiceId, SubsystemId
from tests.conftest import Pki, bus_users
from tests.department_adapters.adapter_kit import Carrier, FullDisk, FunctionSource, adapter_on, says, until
from tests.department_adapters.test_runner import Gate

LESS: dict[SubsystemId, tuple[str, ...]] = {TAX_SUBSYSTEM: ("enterprises",), CIVIL_SUBSYSTEM: ("residents",)}
"""Something else is registered: tax is not concerned."""


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("size", [10, 3 << 20], ids=["small", "in-parts"])
async def test_questions_under_way_are_answered_and_recorded_once(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk, method: str, size: int
) -> None:
    gate = Gate()

    async def answer(request: SourceRequest) -> SourceAnswer:
        await gate.source.answer(request)
        return SourceAnswer(200, [], b"x" * size)

    async with adapter_on(nats_server, pki, {"enterprises": FunctionSource(answer)}, ledger):
        asked = [asyncio.create_task(carrier.perform(method, timeout=30)) for _ in range(8)]
        await until(lambda: gate.inside == 8)
        await nats_server.set_users(bus_users(LESS))
        gate.opened.set()
        answers = await asyncio.gather(*asked)
        assert [each.status for each in answers] == [200] * 8
    recorded = [json.loads(record) for record in carrier.log.records]
    assert [each["outcome"] for each in recorded] == ["answered"] * 8
    assert len({each["id"] for each in recorded}) == 8


async def test_registrations_under_load_cost_no_exchange(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    over = asyncio.Event()
    count = 0

    async def keep_asking() -> None:
        nonlocal count
        while not over.is_set():
            assert (await carrier.perform("POST", timeout=30)).status == 200
            count += 1

    async with adapter_on(nats_server, pki, {"enterprises": says(200)}, ledger):
        callers = [asyncio.create_task(keep_asking()) for _ in range(16)]
        for number in range(4):
            await nats_server.set_users(bus_users(LESS if number % 2 else None))
            at = count
            await until(lambda at=at: count > at + 16)  # type: ignore[misc]
        over.set()
        await asyncio.gather(*callers)
    assert {json.loads(record)["outcome"] for record in carrier.log.records} == {"answered"}
    assert len(carrier.log.records) == count


async def test_who_is_reminded_and_is_gone_leaves_the_question_unknown_not_undelivered(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    """The server says that nobody listens to the reminder; that is no answer to the question."""
    gate = Gate()
    with structlog.testing.capture_logs():
        async with adapter_on(nats_server, pki, {"enterprises": gate.source}, ledger, grace=0.0):
            asked = asyncio.create_task(carrier.perform("POST", timeout=2.5))
            await until(lambda: gate.inside == 1)
        with pytest.raises(AnswerTimeoutError):
            await asked
    assert json.loads(carrier.log.records[0])["outcome"] == "unknown"
    assert ServiceId(json.loads(carrier.log.records[0])["query"]["service"]).startswith(TAX_SUBSYSTEM)
