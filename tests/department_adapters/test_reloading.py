"""`adapter.toml` is taken up while its adapter runs, and nobody who asks meanwhile notices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from department_adapters import (
    AdapterContract,
    Runner,
    Source,
    SourceAnswer,
    SourceRequest,
    read_contract,
    serve_adapter,
)
from department_adapters.reloading import Reloading
from deploy.demo.identities import CIVIL_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import ServiceId
from tests.conftest import Pki, bus_users
from tests.department_adapters.adapter_kit import FullDisk, FunctionSource, Gateway, adapter_on, until

LOOK = 0.02


def text(*services: tuple[str, str], bus: str = "tls://127.0.0.1:1", more: str = "") -> str:
    """An adapter.toml whose services say the last part of their address."""
    sections = "".join(
        f'[services.{code}]\nsource = "http"\nbase_url = "http://127.0.0.1:1/{says}"\nallow_addresses = ["127.0.0.1"]\n'
        for code, says in services
    )
    return f"""
[adapter]
name = "tax"
subsystem = "{TAX_SUBSYSTEM}"
[bus]
url = "{bus}"
certificate = "tax.crt"
key = "tax.key"
trust_anchors = "ca.pem"
gateways = "gateway.crt"
{more}
{sections}"""


class Adapter:
    """A runner that follows a file; its sources are in code, and say what the file tells them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.made: list[FunctionSource] = []
        self.gate = asyncio.Event()
        self.inside = 0
        self.reloading: Reloading

    def write(self, content: str) -> None:
        """As editors do: a new file in the place of the old."""
        draft = self.file.with_suffix(".new")
        draft.write_text(content, encoding="utf-8")
        draft.replace(self.file)

    def make(self, code: str, contract: AdapterContract) -> Source:
        says = str(contract.services[code].base_url).rpartition("/")[2]  # type: ignore[union-attr]

        async def answer(request: SourceRequest) -> SourceAnswer:
            if says == "slow":
                self.inside += 1
                await self.gate.wait()
            return SourceAnswer(200, [], says.encode())

        source = FunctionSource(answer)
        if says == "broken":

            async def fail() -> None:
                raise OSError("password=hunter2 is wrong")

            source.start = fail  # type: ignore[method-assign]
        self.made.append(source)
        return source


@asynccontextmanager
async def following(
    server: NatsServer, pki: Pki, ledger: FullDisk, tmp_path: Path, content: str
) -> AsyncIterator[tuple[Adapter, Runner]]:
    adapter = Adapter(tmp_path / "adapter.toml")
    adapter.write(content)
    contract = read_contract(adapter.file)
    sources = {code: adapter.make(code, contract) for code in contract.services}
    async with adapter_on(server, pki, sources, ledger) as runner:
        adapter.reloading = Reloading(adapter.file, contract, runner, adapter.make)
        task = asyncio.create_task(adapter.reloading.follow(LOOK))
        try:
            yield adapter, runner
        finally:
            task.cancel()


async def says(gateway: Gateway, code: str = "enterprises") -> bytes:
    service = ServiceId(f"{TAX_SUBSYSTEM}/{code}")
    return (await gateway.send(await gateway.question(service=service), service=service)).body


def told(events: list[Any], event: str) -> list[Any]:
    return [each for each in events if each["event"] == event]


async def test_a_changed_source_takes_over_and_the_old_one_ends_when_it_has_answered(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, tmp_path: Path
) -> None:
    async with following(nats_server, pki, ledger, tmp_path, text(("enterprises", "slow"))) as (adapter, _):
        asked = [asyncio.create_task(says(gateway)) for _ in range(5)]
        await until(lambda: adapter.inside == 5)
        with structlog.testing.capture_logs() as events:
            adapter.write(text(("enterprises", "new")))
            await until(lambda: told(events, "adapter.reloaded"))
        assert told(events, "adapter.reloaded")[0]["changed"] == ["enterprises"]
        assert await says(gateway) == b"new"
        old, new = adapter.made
        assert (old.stopped, new.started) == (0, 1)
        adapter.gate.set()
        assert await asyncio.gather(*asked) == [b"slow"] * 5
        await until(lambda: old.stopped)
        assert (old.stopped, new.stopped) == (1, 0)
    assert new.stopped == 1


async def test_services_come_and_go(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, tmp_path: Path
) -> None:
    """What stays the same keeps its source, and its counts."""
    users = bus_users({TAX_SUBSYSTEM: ("enterprises", "refunds"), CIVIL_SUBSYSTEM: ()})
    await nats_server.set_users(users)
    one, other = ("enterprises", "first"), ("refunds", "second")
    async with following(nats_server, pki, ledger, tmp_path, text(one)) as (adapter, runner):
        with structlog.testing.capture_logs() as events:
            adapter.write(text(one, other))
            await until(lambda: told(events, "adapter.reloaded"))
            assert (await says(gateway), await says(gateway, "refunds")) == (b"first", b"second")
            assert runner.sources["enterprises"] is adapter.made[0]
            adapter.write(text(other))
            await until(lambda: len(told(events, "adapter.reloaded")) == 2)
        assert [(each["added"], each["removed"]) for each in told(events, "adapter.reloaded")] == [
            (["refunds"], []),
            ([], ["enterprises"]),
        ]
        assert await says(gateway, "refunds") == b"second"
        await until(lambda: adapter.made[0].stopped)
        assert list(runner.counts()) == [ServiceId(f"{TAX_SUBSYSTEM}/refunds")]
        with structlog.testing.capture_logs() as events:
            adapter.write(text(one, other))
            await until(lambda: told(events, "adapter.reloaded"))
        assert await says(gateway) == b"first"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[adapter", "not TOML"),
        (text(("enterprises", "new"), more="[limits]\nconcurrency = 0"), "limits.concurrency"),
        (text(("enterprises", "broken")), "OSError"),
        (text(("enterprises", "new"), ("refunds", "broken")), "OSError"),
    ],
    ids=["no-toml", "wrong-value", "does-not-start", "one-of-two-does-not-start"],
)
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_told(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, tmp_path: Path, content: str, reason: str
) -> None:
    async with following(nats_server, pki, ledger, tmp_path, text(("enterprises", "old"))) as (adapter, runner):
        with structlog.testing.capture_logs() as events:
            adapter.write(content)
            await until(lambda: told(events, "adapter.not_reloaded"))
            assert reason in told(events, "adapter.not_reloaded")[0]["reason"]
            assert "hunter2" not in str(events)
            assert await says(gateway) == b"old"
            assert list(runner.sources.values()) == adapter.made[:1]
            assert all(each.stopped for each in adapter.made[1:] if each.started)
            adapter.write(text(("enterprises", "mended")))
            await until(lambda: told(events, "adapter.reloaded"))
        assert await says(gateway) == b"mended"


async def test_a_missing_file_changes_nothing(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, tmp_path: Path
) -> None:
    async with following(nats_server, pki, ledger, tmp_path, text(("enterprises", "old"))) as (adapter, _):
        with structlog.testing.capture_logs() as events:
            adapter.file.unlink()
            await until(lambda: told(events, "adapter.not_reloaded"))
        assert await says(gateway) == b"old"


async def test_what_is_read_at_the_start_only_is_told_and_the_rest_counts(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, tmp_path: Path
) -> None:
    async with following(nats_server, pki, ledger, tmp_path, text(("enterprises", "old"))) as (adapter, _):
        with structlog.testing.capture_logs() as events:
            adapter.write(text(("enterprises", "new"), bus="tls://elsewhere:1", more="[limits]\nmax_answer = 9"))
            await until(lambda: told(events, "adapter.reloaded"))
        assert told(events, "adapter.restart_needed")[0]["keys"] == ["bus.url", "limits.max_answer"]
        assert await says(gateway) == b"new"


async def test_a_hangup_has_every_source_made_anew(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, tmp_path: Path
) -> None:
    """The program itself, with its own sources: its system is not there, and the department says so before and after."""
    content = text(("enterprises", "x"), bus=nats_server.url)
    for name, path in {
        "tax.crt": pki.certificate("tax"),
        "tax.key": pki.key("tax"),
        "ca.pem": pki.trust_anchors,
        "gateway.crt": pki.certificate("gateway"),
    }.items():
        (tmp_path / name).symlink_to(path)
    (tmp_path / "adapter.toml").write_text(content)
    ready, said = tmp_path / "ready", list[str]()
    contract = read_contract(tmp_path / "adapter.toml")
    task = asyncio.create_task(
        serve_adapter(contract, file=tmp_path / "adapter.toml", ready_file=ready, say=said.append)
    )
    await until(ready.exists)
    with structlog.testing.capture_logs() as events:
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: told(events, "adapter.reloaded"))
    assert told(events, "adapter.reloaded")[0]["changed"] == ["enterprises"]
    assert (await gateway.ask()).statement.error == "backend-failed"
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 10)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
