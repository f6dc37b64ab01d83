"""The adapter program: comes up in any order with its bus, stays, and leaves in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors
import pytest

from department_adapters import AdapterContract, Source, SourceAnswer, SourceRequest, read_contract, serve_adapter
from deploy.demo.identities import CIVIL_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import IdentityError, Ledger, LedgerError, read_ledger
from tests.conftest import Pki, bus_users
from tests.department_adapters.adapter_kit import ENTERPRISES, FunctionSource, Gateway, echo, gateway_on, until
from tests.department_adapters.test_runner import Gate

OWNER = TAX_SUBSYSTEM


def contract(folder: Path, pki: Pki, url: str, **changes: str) -> AdapterContract:
    files = {
        "certificate": pki.certificate("tax"),
        "key": pki.key("tax"),
        "trust_anchors": pki.trust_anchors,
        "gateways": pki.certificate("gateway"),
    } | changes
    lines = "\n".join(f'{name} = "{path}"' for name, path in files.items())
    text = f"""
[adapter]
name = "tax"
subsystem = "{TAX_SUBSYSTEM}"
[bus]
url = "{url}"
{lines}
[services.enterprises]
source = "http"
base_url = "http://127.0.0.1:1"
allow_addresses = ["127.0.0.1"]
"""
    (folder / "adapter.toml").write_text(text, encoding="utf-8")
    return read_contract(folder / "adapter.toml")


@asynccontextmanager
async def serving(
    contract: AdapterContract, source: Source | None = None
) -> AsyncIterator[tuple[asyncio.Task[None], list[str], Path]]:
    """The program, in this process; ended by a signal if it still runs."""
    said: list[str] = []
    ready = contract.ledger.folder.parent / "ready"
    ready.unlink(missing_ok=True)
    task = asyncio.create_task(
        serve_adapter(contract, sources={"enterprises": source or echo()}, ready_file=ready, say=said.append)
    )
    try:
        yield task, said, ready
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, 15)


async def answers(gateway: Gateway, within: float = 10) -> bool:
    async with asyncio.timeout(within):
        while True:
            try:
                return (await gateway.ask()).body == b"GET /x"
            except nats.errors.NoRespondersError:
                await asyncio.sleep(0.02)


async def test_an_adapter_says_what_it_serves_and_serves_it(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, tmp_path: Path
) -> None:
    async with serving(contract(tmp_path, pki, nats_server.url)) as (task, said, ready):
        await until(ready.exists)
        assert (await gateway.ask()).body == b"GET /x"  # at once: ready means ready
        assert said == [
            f"adapter tax: connected outward to {nats_server.url}, 1 service, 0 inbound ports,"
            f" instance {ready.read_text()}"
        ]
        assert not task.done()
    assert [line.kind for line in read_ledger(tmp_path / "ledger")] == ["answer"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_it_finish_what_it_has_begun(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, tmp_path: Path, number: signal.Signals
) -> None:
    gate = Gate()
    async with serving(contract(tmp_path, pki, nats_server.url), gate.source) as (task, _, ready):
        await until(ready.exists)
        asked = asyncio.create_task(gateway.ask("POST", body=b"x"))
        await until(lambda: gate.inside == 1)
        os.kill(os.getpid(), number)
        assert not task.done()
        gate.opened.set()
        assert (await asked).statement.status == 200
        await asyncio.wait_for(task, 10)
    assert gate.source.stopped == 1
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # the process is as it was
    # And let go of its ledger.
    await (await Ledger.open(tmp_path / "ledger", OWNER)).close()


async def test_an_adapter_comes_up_before_its_bus(nats_server: NatsServer, pki: Pki, tmp_path: Path) -> None:
    await nats_server.stop()
    async with serving(contract(tmp_path, pki, nats_server.url)) as (task, said, _):
        await asyncio.sleep(0)
        await nats_server.start(bus_users())
        async with gateway_on(nats_server, pki) as gateway:
            assert await answers(gateway)
        assert len(said) == 1
        assert not task.done()


async def test_an_adapter_that_waits_for_its_bus_can_be_stopped(pki: Pki, tmp_path: Path) -> None:
    async with serving(contract(tmp_path, pki, "tls://127.0.0.1:1")) as (task, said, _):
        await until(lambda: (tmp_path / "ledger" / "lock").exists())
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 3)
    assert said == []


@pytest.mark.faults
async def test_an_adapter_is_back_by_itself_after_its_bus_was_killed(
    nats_server: NatsServer, pki: Pki, tmp_path: Path
) -> None:
    async with serving(contract(tmp_path, pki, nats_server.url)) as (task, _, ready):
        await until(ready.exists)
        nats_server.kill()
        await nats_server.start(bus_users())
        async with gateway_on(nats_server, pki) as gateway:
            assert await answers(gateway)
        assert not task.done()


async def test_an_adapter_that_was_removed_is_back_when_it_is_registered_again(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, tmp_path: Path
) -> None:
    async with serving(contract(tmp_path, pki, nats_server.url)) as (task, _, ready):
        await until(ready.exists)
        assert await answers(gateway)
        await nats_server.set_users(bus_users({CIVIL_SUBSYSTEM: ("residents",)}))

        async def is_gone() -> bool:
            try:
                await gateway.ask()
            except nats.errors.NoRespondersError:
                return True
            return False

        async with asyncio.timeout(10):
            while not await is_gone():
                await asyncio.sleep(0.02)
        await nats_server.set_users(bus_users())
        assert await answers(gateway)
        assert not task.done()


Spoil = Callable[[Path, Pki], dict[str, str]]


@pytest.mark.parametrize("name", ["certificate", "key", "trust_anchors", "gateways"])
async def test_a_file_that_cannot_be_used_ends_it_at_once(pki: Pki, tmp_path: Path, name: str) -> None:
    with pytest.raises(IdentityError, match=r"absent\.pem"):
        async with serving(contract(tmp_path, pki, "tls://127.0.0.1:1", **{name: "absent.pem"})) as (task, _, _):
            await asyncio.wait_for(task, 5)


async def test_a_ledger_that_another_process_has_open_ends_it_at_once(pki: Pki, tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger", OWNER)
    with pytest.raises(LedgerError, match="another adapter process"):
        async with serving(contract(tmp_path, pki, "tls://127.0.0.1:1")) as (task, _, _):
            await asyncio.wait_for(task, 5)
    await ledger.close()


async def test_the_sources_of_a_contract_are_used_when_no_others_are_given(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, tmp_path: Path
) -> None:
    """Its HTTP system is not there, and the department says so."""
    task = asyncio.create_task(serve_adapter(contract(tmp_path, pki, nats_server.url), ready_file=tmp_path / "ready"))
    await until((tmp_path / "ready").exists)
    assert (await gateway.ask()).statement.error == "backend-failed"
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 10)
    assert ENTERPRISES.endswith("enterprises")


async def test_a_source_that_cannot_start_ends_it(nats_server: NatsServer, pki: Pki, tmp_path: Path) -> None:
    class Broken(FunctionSource):
        async def start(self) -> None:
            raise OSError("no such device")

    async def never(request: SourceRequest) -> SourceAnswer:
        raise AssertionError

    with pytest.raises(OSError, match="no such device"):
        async with serving(contract(tmp_path, pki, nats_server.url), Broken(never)) as (task, _, _):
            await asyncio.wait_for(task, 5)
    await (await Ledger.open(tmp_path / "ledger", OWNER)).close()
