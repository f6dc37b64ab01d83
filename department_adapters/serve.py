"""The adapter program: one contract, one connection outward, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from nats.aio.client import Client

from department_adapters.contract import AdapterContract, HttpService, SqlService
from department_adapters.http_source import HttpSource
from department_adapters.runner import Runner
from department_adapters.source import Source
from department_adapters.sql_source import SqlSource
from exchange import (
    BusUnavailableError,
    Ledger,
    PublicKey,
    SigningIdentity,
    bus_tls,
    connect_client,
    inbox_prefix,
    load_identity,
    load_sealing_keys,
)

RETRY_SECONDS = 0.5

events = structlog.get_logger("datong.adapter")


async def serve_adapter(
    contract: AdapterContract,
    *,
    sources: Mapping[str, Source] | None = None,
    ready_file: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is in progress.

    Args:
        sources: Service code -> source, in place of those the contract declares (for sources written in code).
        ready_file: Written once questions are taken.

    Raises:
        IdentityError: A certificate or key of the contract cannot be used.
        LedgerError: The ledger cannot be opened.
    """
    identity = load_identity(contract.bus.certificate, contract.bus.key)
    gateways = load_sealing_keys(contract.bus.gateways)
    ledger = await Ledger.open(contract.ledger.folder)
    try:
        with _told_to_stop() as stop:
            while not stop.is_set():
                closed = asyncio.Event()
                client = await _connect(contract, identity.uri, stop, closed)
                if client is None:
                    return
                try:
                    runner = _runner(contract, client, identity, gateways, ledger, sources)
                    await runner.start()
                    say(
                        f"adapter {contract.adapter.name}: connected outward to {contract.bus.url}, "
                        f"{len(contract.services)} services, 0 inbound ports, instance {runner.instance}"
                    )
                    if ready_file is not None:
                        ready_file.write_text(runner.instance)
                    await _either(stop, closed)
                    await runner.stop()
                finally:
                    await _close(client)
                # A client that has given up does not come back; another one, from the start, does.
                if not stop.is_set():
                    events.error("adapter.thrown_out", url=contract.bus.url)
                    await _either(stop, within=RETRY_SECONDS)
    finally:
        await ledger.close()


def make_source(service: HttpService | SqlService, contract: AdapterContract) -> Source:
    """The source that a service's section declares."""
    if isinstance(service, HttpService):
        return HttpSource(
            service.base_url,
            connections=service.connections,
            max_answer=contract.limits.max_answer,
            trust_anchors=service.trust_anchors,
        )
    operations = [each.operation() for each in service.operations]
    return SqlSource(service.database, operations, connections=service.connections)


def _runner(
    contract: AdapterContract,
    client: Client,
    identity: SigningIdentity,
    gateways: Mapping[str, PublicKey],
    ledger: Ledger,
    sources: Mapping[str, Source] | None,
) -> Runner:
    return Runner(
        client=client,
        name=contract.adapter.name,
        version=contract.adapter.version,
        description=contract.adapter.description,
        subsystem=contract.subsystem,
        sources=sources or {code: make_source(service, contract) for code, service in contract.services.items()},
        ledger=ledger,
        key=identity.key,
        fingerprint=identity.fingerprint,
        gateways=gateways,
        concurrency=contract.limits.concurrency,
        queue=contract.limits.queue,
        max_request=contract.limits.max_request,
        max_answer=contract.limits.max_answer,
    )


class _told_to_stop:  # noqa: N801  # used like a function
    """An event that SIGINT and SIGTERM set."""

    def __enter__(self) -> asyncio.Event:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return stop

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)


async def _either(*any_of: asyncio.Event, within: float | None = None) -> None:
    """Return when one of the events is set, or after `within` seconds."""
    waits = [asyncio.create_task(event.wait()) for event in any_of]
    try:
        await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _connect(contract: AdapterContract, uri: str, stop: asyncio.Event, closed: asyncio.Event) -> Client | None:
    """A client on the bus, as soon as there is one; None if told to stop before. Sets `closed` when it has given up."""
    bus = contract.bus
    tls = bus_tls(bus.certificate, bus.key, bus.trust_anchors)

    async def on_closed() -> None:
        closed.set()

    while not stop.is_set():
        client = Client()
        connecting = asyncio.create_task(
            connect_client(client, bus.url, tls, contract.adapter.name, inbox_prefix(uri), on_closed=on_closed)
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([connecting, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not connecting.done():
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await _close(client)
            return None
        try:
            await connecting
        except BusUnavailableError as error:
            closed.clear()
            events.warning("adapter.waiting_for_bus", url=bus.url, cause=repr(error.__cause__))
            await _either(stop, within=RETRY_SECONDS)
        else:
            return client
    return None


async def _close(client: Client) -> None:
    try:
        await client.close()
    except Exception as error:  # noqa: BLE001  # with the bus down, nats-py lets through what its closed transport raises
        events.warning("adapter.left_without_a_word", cause=repr(error))
