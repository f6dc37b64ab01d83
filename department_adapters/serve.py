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
from department_adapters.sql_source import SqlOperation, SqlSource
from exchange import (
    BusUnavailableError,
    Ledger,
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
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    bus = contract.bus
    identity = load_identity(bus.certificate, bus.key)
    client = await _connected(contract, identity.uri, stop)
    if client is None:
        return
    ledger = await Ledger.open(contract.ledger.folder)
    runner = Runner(
        client=client,
        name=contract.adapter.name,
        version=contract.adapter.version,
        description=contract.adapter.description,
        subsystem=contract.subsystem,
        sources=sources or {code: make_source(service, contract) for code, service in contract.services.items()},
        ledger=ledger,
        key=identity.key,
        fingerprint=identity.fingerprint,
        gateways=load_sealing_keys(bus.gateways),
        concurrency=contract.limits.concurrency,
        queue=contract.limits.queue,
        max_request=contract.limits.max_request,
    )
    await runner.start()
    say(
        f"adapter {contract.adapter.name}: connected outward to {bus.url}, "
        f"{len(contract.services)} services, 0 inbound ports, instance {runner.instance}"
    )
    if ready_file is not None:
        ready_file.write_text(runner.instance)
    await stop.wait()
    await runner.stop()
    await ledger.close()
    await client.close()


def make_source(service: HttpService | SqlService, contract: AdapterContract) -> Source:
    """The source that a service's section declares."""
    if isinstance(service, HttpService):
        return HttpSource(service.base_url, connections=service.connections, max_answer=contract.limits.max_answer)
    operations = [
        SqlOperation(
            path=each.path,
            query=each.query,
            result=each.result,
            optional=tuple(each.optional),
            required=tuple(each.required),
            integers=tuple(each.integers),
            max_rows=each.max_rows,
        )
        for each in service.operations
    ]
    return SqlSource(service.database, operations, connections=service.connections)


async def _connected(contract: AdapterContract, uri: str, stop: asyncio.Event) -> Client | None:
    """A client on the bus, as soon as there is one; None if told to stop before."""
    bus = contract.bus
    tls = bus_tls(bus.certificate, bus.key, bus.trust_anchors)
    while not stop.is_set():
        client = Client()
        try:
            await connect_client(client, bus.url, tls, contract.adapter.name, inbox_prefix(uri))
            return client
        except BusUnavailableError as error:
            events.warning("adapter.waiting_for_bus", url=bus.url, cause=repr(error.__cause__))
        try:
            await asyncio.wait_for(stop.wait(), RETRY_SECONDS)
        except TimeoutError:
            continue
    return None
