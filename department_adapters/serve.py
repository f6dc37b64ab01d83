"""The adapter program: one contract, one connection outward, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509

from department_adapters.contract import AdapterContract
from department_adapters.gateway_keys import GatewayKeys
from department_adapters.guard import Guarded
from department_adapters.reloading import Reloading
from department_adapters.runner import Runner
from department_adapters.section import ServiceSection
from department_adapters.source import Source
from exchange import (
    IdentityError,
    Ledger,
    PublicKey,
    ServingBus,
    SigningIdentity,
    Spool,
    bus_tls,
    load_identity,
)

Beside = Callable[[Callable[[], Awaitable[None]]], Coroutine[Any, Any, None]]
"""Runs while the adapter serves. It is handed what loads the adapter's certificate anew when its files have changed."""


async def serve_adapter(
    contract: AdapterContract,
    *,
    file: Path | None = None,
    sources: Mapping[str, Source] | None = None,
    ready_file: Path | None = None,
    say: Callable[[str], None] = print,
    beside: Beside | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is in progress.

    Args:
        file: Where the contract was read from: its changes are followed (`department_adapters.reloading`).
        sources: Service code -> source, in place of those the contract declares (for sources written in code).
        ready_file: Written once questions are taken.
        beside: Work that goes with it.

    Raises:
        IdentityError: A certificate or key of the contract cannot be used.
        LedgerError: The ledger cannot be opened.
    """
    identity = load_identity(contract.bus.certificate, contract.bus.key)
    gateways = GatewayKeys(contract.bus.gateways)
    tls = bus_tls(contract.bus.certificate, contract.bus.key, contract.bus.trust_anchors)
    # Told to stop while the ledger is read is told to stop.
    with _told_to_stop() as stop:
        ledger = await Ledger.open(contract.ledger.folder, contract.subsystem, contract.ledger.key)
        try:
            runner = _runner(contract, tls, identity, gateways, ledger, sources)

            async def reload() -> None:
                await _reload(contract, tls, runner)

            tasks = [asyncio.create_task(gateways.follow())]
            tasks += [asyncio.create_task(beside(reload))] if beside is not None else []
            try:
                await runner.start()
                if file is not None and sources is None:
                    reloading = Reloading(file, contract, runner, _make)
                    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloading.asked.set)
                    tasks.append(asyncio.create_task(reloading.follow()))
                if await _first_of(runner.wait_connected(), stop.wait()) == 0:
                    say(
                        f"adapter {contract.adapter.name}: connected outward to {contract.bus.url}, "
                        f"{_offered(contract)}, 0 inbound ports, instance {runner.instance}"
                    )
                    if runner.unheard:
                        say(
                            f"adapter {contract.adapter.name}: the registry does not know these services as yours: "
                            f"{', '.join(runner.unheard)}; they answer as soon as it does"
                        )
                    if ready_file is not None:
                        ready_file.write_text(runner.instance)
                    await stop.wait()
            finally:
                for task in tasks:
                    task.cancel()
                await runner.stop()
        finally:
            await ledger.close()


def _make(code: str, contract: AdapterContract) -> Source:
    return guarded(code, make_source(contract.services[code], contract), contract)


def make_source(service: ServiceSection, contract: AdapterContract) -> Source:
    """The source that a service's section declares."""
    return service.make_source(max_answer=service.max_answer or contract.limits.max_answer)


def guarded(code: str, source: Source, contract: AdapterContract) -> Source:
    """A service's source behind the contract, turns, breaker and repeats that its section declares; raises ContractError."""
    service, limits = contract.services.get(code), contract.limits
    if service is None or isinstance(source, Guarded):
        return source
    kept = service.keeping_contract(source)
    return service.guarded(kept, code, concurrency=limits.concurrency, queue=limits.queue)


async def _reload(contract: AdapterContract, tls: ssl.SSLContext, runner: Runner) -> None:
    """Take up the certificate that is in the files now: for the next connection to the bus, and, a little later, for seals.

    Gateways count a seal once they have read in the registry of its certificate; one that has not for 30 seconds refuses
    everything. So nothing is lost if we wait as long.
    """
    bus = contract.bus
    identity = await asyncio.to_thread(load_identity, bus.certificate, bus.key)
    tls.load_cert_chain(bus.certificate, bus.key, password="")
    await asyncio.sleep(bus.certificate_settle)
    runner.seal_as(identity.key, identity.fingerprint)


def _runner(
    contract: AdapterContract,
    tls: ssl.SSLContext,
    identity: SigningIdentity,
    gateways: Mapping[str, PublicKey],
    ledger: Ledger,
    sources: Mapping[str, Source] | None,
) -> Runner:
    bus = contract.bus
    made = sources or {code: make_source(service, contract) for code, service in contract.services.items()}
    return Runner(
        bus=lambda subscriptions: ServingBus(bus.url, tls, contract.adapter.name, subscriptions),
        name=contract.adapter.name,
        version=contract.adapter.version,
        description=contract.adapter.description,
        subsystem=contract.subsystem,
        sources={code: guarded(code, source, contract) for code, source in made.items()},
        ledger=ledger,
        key=identity.key,
        fingerprint=identity.fingerprint,
        gateways=gateways,
        concurrency=contract.limits.concurrency,
        queue=contract.limits.queue,
        max_request=contract.limits.max_request,
        max_answer=contract.limits.max_answer,
        max_whole=contract.limits.max_whole,
        spool=Spool(contract.limits.spool_folder),
        callers=_callers(bus.callers or bus.trust_anchors),
        signed=[code for code, service in contract.services.items() if service.signed_requests],
    )


def _callers(bundle: Path) -> list[x509.Certificate]:
    """The CAs whose certificates sign requests; raises IdentityError."""
    try:
        return x509.load_pem_x509_certificates(bundle.read_bytes())
    except (OSError, ValueError) as error:
        raise IdentityError(f"{bundle}: {error}") from error


def _offered(contract: AdapterContract) -> str:
    """How many services, and operations where their sections list them."""
    services = _counted(len(contract.services), "service")
    operations = [len(getattr(service, "operations", ())) for service in contract.services.values()]
    return f"{_counted(sum(operations), 'operation')} in {services}" if all(operations) else services


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


class _told_to_stop:  # noqa: N801  # used like a function
    """An event that SIGINT and SIGTERM set."""

    def __enter__(self) -> asyncio.Event:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return stop

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)


async def _first_of(*waits: Coroutine[Any, Any, object]) -> int:
    """The position of the wait that ended first; the others are given up."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return min(map(tasks.index, done))
    finally:
        for task in tasks:
            task.cancel()
