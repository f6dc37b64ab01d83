"""What an adapter listens on comes and goes with the registry; and what several adapters answer is gathered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from deploy.demo.identities import CIVIL_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import (
    BusUnavailableError,
    NatsBus,
    ServiceId,
    ServingBus,
    Subscription,
    SubsystemId,
    discovery_nats_subject,
    service_nats_subject,
)
from exchange.bus.nats_link import FIRST_RETRY
from tests.conftest import Pki, bus_users
from tests.exchange.bus_kit import SUBJECT, gateway_bus, until

REFUNDS = service_nats_subject(ServiceId(f"{TAX_SUBSYSTEM}/refunds"))
WITH_REFUNDS: dict[SubsystemId, tuple[str, ...]] = {
    TAX_SUBSYSTEM: ("enterprises", "refunds"),
    CIVIL_SUBSYSTEM: ("divisions", "residents"),
}
PING = discovery_nats_subject(TAX_SUBSYSTEM, "PING")


@pytest.fixture
async def bus(nats_server: NatsServer, pki: Pki) -> AsyncIterator[NatsBus]:
    async with gateway_bus(nats_server.url, pki) as bus:
        yield bus


class Department:
    """An adapter's side: answers every message with its name."""

    def __init__(self, server: NatsServer, pki: Pki, name: bytes, *subscribed: str, needed: bool = False) -> None:
        self.name = name
        subscriptions = [Subscription(each, self.take, needed=needed) for each in subscribed]
        self.bus = ServingBus(server.url, pki.bus_tls("tax"), "tax", subscriptions)

    def take(self, _: bytes, reply_to: bytes, __: bytes, ___: bool) -> None:
        self.bus.reply(reply_to, self.name)


@asynccontextmanager
async def department(
    server: NatsServer, pki: Pki, *subscribed: str, name: bytes = b"tax", needed: bool = False
) -> AsyncIterator[Department]:
    made = Department(server, pki, name, *subscribed, needed=needed)
    made.bus.start()
    try:
        if not needed:
            await asyncio.wait_for(made.bus.wait_connected(), 10)
        yield made
    finally:
        await made.bus.stop()


async def test_a_service_that_is_registered_later_is_heard_then(
    nats_server: NatsServer, pki: Pki, bus: NatsBus
) -> None:
    """And again when it was withdrawn and has come back; what is registered is heard all the time."""
    async with department(nats_server, pki, SUBJECT, REFUNDS) as tax:
        for _ in range(2):
            assert (tax.bus.hears(SUBJECT), tax.bus.hears(REFUNDS)) == (True, False)
            assert await bus.request(SUBJECT, b"", 5) == b"tax"
            await nats_server.set_users(bus_users(WITH_REFUNDS))
            await until(lambda: tax.bus.hears(REFUNDS))
            assert await bus.request(REFUNDS, b"", 5) == b"tax"
            await nats_server.set_users(bus_users())
            await until(lambda: not tax.bus.hears(REFUNDS))


async def test_a_link_that_lacks_what_it_needs_is_none(nats_server: NatsServer, pki: Pki) -> None:
    async with department(nats_server, pki, REFUNDS, needed=True) as tax:
        assert not tax.bus.connected
        await nats_server.set_users(bus_users(WITH_REFUNDS))
        await asyncio.wait_for(tax.bus.wait_connected(), 10)
        assert tax.bus.hears(REFUNDS)


async def test_a_subscription_is_added_and_given_up_while_the_link_is_up(
    nats_server: NatsServer, pki: Pki, bus: NatsBus
) -> None:
    await nats_server.set_users(bus_users(WITH_REFUNDS))
    async with department(nats_server, pki, SUBJECT) as tax:
        await tax.bus.join(Subscription(REFUNDS, tax.take))
        assert await bus.request(REFUNDS, b"", 5) == b"tax"
        await tax.bus.leave([REFUNDS])
        assert await bus.ask_all(REFUNDS, b"", 30, lambda _: True) == []
        assert await bus.request(SUBJECT, b"", 5) == b"tax"


async def test_what_was_given_up_is_not_asked_for_again(nats_server: NatsServer, pki: Pki, bus: NatsBus) -> None:
    async with department(nats_server, pki, SUBJECT, REFUNDS) as tax:
        assert not tax.bus.hears(REFUNDS)
        await tax.bus.leave([REFUNDS])
        await nats_server.set_users(bus_users(WITH_REFUNDS))
        await asyncio.sleep(2 * FIRST_RETRY)  # when it would have been asked for
        assert await bus.ask_all(REFUNDS, b"", 30, lambda _: True) == []


def first(count: int) -> Callable[[Sequence[bytes]], bool]:
    return lambda replies: len(replies) >= count


async def test_every_instance_is_heard_and_nobody_else(nats_server: NatsServer, pki: Pki, bus: NatsBus) -> None:
    async with (
        department(nats_server, pki, PING, name=b"one"),
        department(nats_server, pki, PING, name=b"two"),
    ):
        assert sorted(await bus.ask_all(PING, b"", 30, first(2))) == [b"one", b"two"]
        # Long enough for the second, though one was enough.
        assert len(await bus.ask_all(PING, b"", 30, first(1), settle=0.5)) == 2
        assert len(await bus.ask_all(PING, b"", 0.3, first(3))) == 2
    assert await bus.ask_all(discovery_nats_subject(CIVIL_SUBSYSTEM, "PING"), b"", 30, first(1)) == []


@pytest.mark.faults
async def test_a_bus_that_goes_down_ends_the_gathering(nats_server: NatsServer, pki: Pki, bus: NatsBus) -> None:
    async with department(nats_server, pki, PING):
        asking = asyncio.create_task(bus.ask_all(PING, b"", 30, first(2)))
        await bus.request(PING, b"", 5)
        nats_server.kill()
        with pytest.raises(BusUnavailableError):
            await asyncio.wait_for(asking, 10)
        await until(lambda: not bus.connected)
        with pytest.raises(BusUnavailableError):
            await bus.ask_all(PING, b"", 30, first(1))
