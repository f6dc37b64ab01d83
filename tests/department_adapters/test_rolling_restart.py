"""Several instances of an adapter share its questions, and are restarted one after the other without losing any."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from department_adapters import Runner, SourceAnswer, SourceRequest
from deploy.demo.identities import TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import read_ledger
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import Carrier, FullDisk, FunctionSource, adapter_on, until

CALLERS = 16


class Instance:
    """One instance, which can be stopped and started again."""

    def __init__(self, server: NatsServer, pki: Pki, folder: Path) -> None:
        self._server = server
        self._pki = pki
        self.folder = folder
        self.answered = 0
        self._running = AsyncExitStack()

    async def start(self) -> None:
        await self._running.enter_async_context(self._run())

    async def stop(self) -> None:
        await self._running.aclose()

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[Runner]:
        ledger = await FullDisk.open(self.folder, TAX_SUBSYSTEM)
        try:
            source = FunctionSource(self._answer)
            async with adapter_on(self._server, self._pki, {"enterprises": source}, ledger) as runner:
                yield runner
        finally:
            await ledger.close()

    async def _answer(self, request: SourceRequest) -> SourceAnswer:
        await asyncio.sleep(
            0.002
        )  # a system of its own takes its time, so that questions are under way at every moment
        self.answered += 1
        return SourceAnswer(200, [], request.target)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_rolling_restart_under_load_answers_and_records_every_exchange_once(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, tmp_path: Path, method: str
) -> None:
    instances = [Instance(nats_server, pki, tmp_path / name) for name in ("one", "two")]
    for instance in instances:
        await instance.start()
    over = asyncio.Event()
    asked: list[str] = []

    async def keep_asking(caller: int) -> None:
        while not over.is_set():
            target = f"/{caller}/{len(asked)}"
            asked.append(target)
            answer = await carrier.perform(method, target.encode())
            assert (answer.status, answer.body) == (200, target.encode())

    callers = [asyncio.create_task(keep_asking(number)) for number in range(CALLERS)]
    try:
        for instance in (*instances, *instances):
            before = instance.answered
            await until(lambda at=before, each=instance: each.answered > at + CALLERS)  # type: ignore[misc]
            await instance.stop()
            stopped_at = instance.answered
            others = [each for each in instances if each is not instance]
            at = others[0].answered
            await until(lambda at=at, each=others[0]: each.answered > at + CALLERS)  # type: ignore[misc]
            assert instance.answered == stopped_at
            await instance.start()
        for instance in instances:  # both have their share again
            at = instance.answered
            await until(lambda at=at, each=instance: each.answered > at)  # type: ignore[misc]
    finally:
        over.set()
        await asyncio.gather(*callers)
        for instance in instances:
            await instance.stop()
    recorded = [json.loads(record)["id"] for record in carrier.log.records]
    assert len(recorded) == len(set(recorded)) == len(asked) > 4 * CALLERS
    assert Counter(each for each in carrier.log.happened if each != "intent") == {"answered": len(asked)}
    released = [line for instance in instances for line in read_ledger(instance.folder) if line.kind == "answer"]
    assert len(released) == len(asked) == sum(instance.answered for instance in instances)
