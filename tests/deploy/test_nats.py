"""The bus as the server enforces it: real server, real certificates, each forbidden thing tried."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from ca_auth import CertificateRequest, DemoCA, identity_uri
from deploy.demo.identities import CIVIL_SUBSYSTEM, OPERATOR_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import BusServerError, NatsServer, nats_server_version
from exchange import ServiceId, bus_tls, inbox_prefix, service_nats_subject
from tests.conftest import Pki, bus_users
from tests.waiting import until

ENTERPRISES = service_nats_subject(ServiceId(f"{TAX_SUBSYSTEM}/enterprises"))
ARREARS = service_nats_subject(ServiceId(f"{TAX_SUBSYSTEM}/arrears"))
RESIDENTS = service_nats_subject(ServiceId(f"{CIVIL_SUBSYSTEM}/residents"))
GATEWAY_INBOX = inbox_prefix(identity_uri(OPERATOR_SUBSYSTEM))


class Seen:
    """What the server told a client outside of any call."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.lost = asyncio.Event()
        self.back = asyncio.Event()

    async def on_error(self, error: Exception) -> None:
        self.errors.append(str(error).lower())

    async def on_lost(self) -> None:
        self.lost.set()

    async def on_back(self) -> None:
        self.back.set()

    async def violation(self, what: str, nats_subject: str) -> None:
        """Return when the server has refused `what` on the subject."""
        expected = f'permissions violation for {what} "{nats_subject.lower()}"'
        await until(lambda: any(expected in each for each in self.errors))


async def settled(client: Client) -> None:
    """Return when the server has acted on everything the client was told to send."""
    await client.flush()
    await client.flush()  # nats-py writes the first one's ping ahead of what waits to be written


@asynccontextmanager
async def connected(
    server: NatsServer, tls: ssl.SSLContext, inbox: str = "_INBOX"
) -> AsyncIterator[tuple[Client, Seen]]:
    client, seen = Client(), Seen()
    await client.connect(
        servers=[server.url],
        tls=tls,
        tls_handshake_first=True,
        inbox_prefix=inbox.encode(),
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,  # type: ignore[arg-type]  # seconds; whole ones are not required
        error_cb=seen.on_error,
        disconnected_cb=seen.on_lost,
        reconnected_cb=seen.on_back,
    )
    try:
        yield client, seen
    finally:
        await client.close()


@pytest.fixture
async def gateway(nats_server: NatsServer, pki: Pki) -> AsyncIterator[Client]:
    async with connected(nats_server, pki.bus_tls("gateway"), GATEWAY_INBOX) as (client, _):
        yield client


@pytest.fixture
async def tax(nats_server: NatsServer, pki: Pki) -> AsyncIterator[tuple[Client, Seen]]:
    async with connected(nats_server, pki.bus_tls("tax")) as pair:
        yield pair


async def answer(message: Msg) -> None:
    await message.respond(b"answered")


async def test_an_adapter_answers_for_its_own_service(gateway: Client, tax: tuple[Client, Seen]) -> None:
    await tax[0].subscribe(ENTERPRISES, queue="adapters", cb=answer)
    await settled(tax[0])
    assert (await gateway.request(ENTERPRISES, b"question", timeout=5)).data == b"answered"
    assert not tax[1].errors


async def test_nobody_listening_is_known_at_once(gateway: Client) -> None:
    with pytest.raises(nats.errors.NoRespondersError):
        await gateway.request(ENTERPRISES, b"question", timeout=5)


@pytest.mark.parametrize(
    "nats_subject",
    [
        RESIDENTS,
        ">",
        "dt.>",
        "dt.q.>",
        "dt.q.*.*",
        "dt.i.>",
        "_INBOX.>",
        f"{GATEWAY_INBOX}.>",
        "$SYS.>",
        "$SRV.>",
        "$JS.API.>",
    ],
)
async def test_an_adapter_hears_nothing_that_is_not_its_own(tax: tuple[Client, Seen], nats_subject: str) -> None:
    await tax[0].subscribe(nats_subject)
    await tax[1].violation("subscription to", nats_subject)


@pytest.mark.parametrize("nats_subject", [ENTERPRISES, RESIDENTS, f"{GATEWAY_INBOX}.1", "$SRV.PING", "anything"])
async def test_an_adapter_says_nothing_unasked(tax: tuple[Client, Seen], nats_subject: str) -> None:
    await tax[0].publish(nats_subject, b"unasked")
    await tax[1].violation("publish to", nats_subject)


async def test_an_adapter_answers_once(gateway: Client, tax: tuple[Client, Seen]) -> None:
    async def answer_twice(message: Msg) -> None:
        await message.respond(b"first")
        await message.respond(b"second")

    await tax[0].subscribe(ENTERPRISES, cb=answer_twice)
    await settled(tax[0])
    answers = await gateway.subscribe(f"{GATEWAY_INBOX}.mine")
    await gateway.publish(ENTERPRISES, b"question", reply=f"{GATEWAY_INBOX}.mine")
    assert (await answers.next_msg(timeout=5)).data == b"first"
    await tax[1].violation("publish to", f"{GATEWAY_INBOX}.mine")
    # A second exchange is answered, and its answer is the next thing that arrives: the forbidden one never did.
    await gateway.publish(ENTERPRISES, b"question", reply=f"{GATEWAY_INBOX}.mine")
    assert (await answers.next_msg(timeout=5)).data == b"first"


async def test_an_answer_after_the_time_for_answers_is_refused(
    nats_server: NatsServer, gateway: Client, tax: tuple[Client, Seen], data_dir: Path
) -> None:
    """With the two minutes of the configuration shortened, so that the test need not wait for them."""
    config = data_dir / "nats" / "nats.conf"
    config.write_text(config.read_text().replace('"120s"', '"1ms"'))
    os.kill(nats_server.pid, 1)
    log = data_dir / "run" / "nats-server.log"
    await until(lambda: "Reloaded server configuration" in log.read_text())
    released = asyncio.Event()

    async def answer_late(message: Msg) -> None:
        await released.wait()
        await message.respond(b"late")

    await tax[0].subscribe(ENTERPRISES, cb=answer_late)
    await settled(tax[0])
    await gateway.publish(ENTERPRISES, b"question", reply=f"{GATEWAY_INBOX}.mine")
    await settled(gateway)
    # A round trip to the server and back on each connection takes longer than a millisecond or two.
    for _ in range(20):
        await settled(tax[0])
    released.set()
    await tax[1].violation("publish to", f"{GATEWAY_INBOX}.mine")


async def test_a_gateway_does_not_serve_and_reads_no_other_inbox(nats_server: NatsServer, pki: Pki) -> None:
    async with connected(nats_server, pki.bus_tls("gateway"), GATEWAY_INBOX) as (client, seen):
        for nats_subject in (ENTERPRISES, "_INBOX.>", ">"):
            await client.subscribe(nats_subject)
            await seen.violation("subscription to", nats_subject)


async def refusal(server: NatsServer, tls: ssl.SSLContext) -> str:
    """What a client is told that the server does not take in."""
    client, seen = Client(), Seen()
    # Whether the library passes on what ended the connection, or wraps it, depends on when it noticed.
    with pytest.raises((nats.errors.Error, OSError)) as raised:
        await client.connect(
            servers=[server.url],
            tls=tls,
            tls_handshake_first=True,
            allow_reconnect=False,
            error_cb=seen.on_error,
        )
    await client.close()
    return "\n".join([*seen.errors, repr(raised.value).lower()])


async def test_a_certificate_that_is_not_registered_is_refused(nats_server: NatsServer, pki: Pki) -> None:
    assert "authorization violation" in await refusal(nats_server, pki.bus_tls("housing"))


async def test_a_certificate_of_a_foreign_ca_is_refused(nats_server: NatsServer, pki: Pki, tmp_path: Path) -> None:
    """Even one that says it is the tax bureau."""
    foreign = DemoCA.create(tmp_path / "foreign")
    tax = foreign.issue("tax", CertificateRequest.for_subsystem(TAX_SUBSYSTEM))
    said = await refusal(nats_server, bus_tls(tax.certificate, tax.key, pki.trust_anchors))
    assert "alert" in said or "reset" in said or "eof" in said, said
    assert "authorization violation" not in said


async def test_no_certificate_is_refused(nats_server: NatsServer, pki: Pki) -> None:
    anonymous = ssl.create_default_context(cafile=pki.trust_anchors)
    assert "certificate" in await refusal(nats_server, anonymous)


async def test_clear_text_gets_no_word(nats_server: NatsServer) -> None:
    """The server says nothing about itself before the handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
    writer.write(b'CONNECT {"user":"tax"}\r\nPING\r\n')
    said = await asyncio.wait_for(reader.read(), 10)
    assert b"INFO" not in said
    writer.close()


async def test_tls_1_2_is_refused(nats_server: NatsServer, pki: Pki) -> None:
    old = pki.bus_tls("tax")
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        await asyncio.open_connection("127.0.0.1", nats_server.port, ssl=old)


async def test_a_removed_adapter_is_cut_off_at_once_and_others_notice_nothing(
    nats_server: NatsServer, pki: Pki, gateway: Client, tax: tuple[Client, Seen]
) -> None:
    async with connected(nats_server, pki.bus_tls("civil")) as (civil, seen):
        for client, nats_subject in ((tax[0], ENTERPRISES), (civil, RESIDENTS)):
            await client.subscribe(nats_subject, cb=answer)
            await settled(client)
        assert await nats_server.set_users(bus_users({CIVIL_SUBSYSTEM: ("divisions", "residents")}))
        await asyncio.wait_for(tax[1].lost.wait(), 5)
        with pytest.raises(nats.errors.NoRespondersError):
            await gateway.request(ENTERPRISES, b"question", timeout=5)
        assert (await gateway.request(RESIDENTS, b"question", timeout=5)).data == b"answered"
        assert not seen.lost.is_set()
        # And it is back, by itself, with what it served, when it is registered again.
        assert await nats_server.set_users(bus_users())
        await asyncio.wait_for(tax[1].back.wait(), 10)
        assert (await gateway.request(ENTERPRISES, b"question", timeout=5)).data == b"answered"


async def test_services_come_and_go_without_a_new_connection(
    nats_server: NatsServer, gateway: Client, tax: tuple[Client, Seen]
) -> None:
    await nats_server.set_users(bus_users({TAX_SUBSYSTEM: ("enterprises", "arrears")}))
    await tax[0].subscribe(ARREARS, cb=answer)
    await settled(tax[0])
    assert (await gateway.request(ARREARS, b"question", timeout=5)).data == b"answered"
    await nats_server.set_users(bus_users())
    await until(lambda: any("subscription" in each for each in tax[1].errors))
    with pytest.raises(nats.errors.NoRespondersError):
        await gateway.request(ARREARS, b"question", timeout=5)
    assert not tax[1].lost.is_set()


async def test_the_same_users_are_no_change(nats_server: NatsServer) -> None:
    assert not await nats_server.set_users(bus_users())


@pytest.mark.faults
async def test_clients_find_the_server_again_after_it_was_killed(
    nats_server: NatsServer, gateway: Client, tax: tuple[Client, Seen]
) -> None:
    await tax[0].subscribe(ENTERPRISES, cb=answer)
    port = nats_server.port
    nats_server.kill()
    await asyncio.wait_for(tax[1].lost.wait(), 5)
    await nats_server.start(bus_users())
    assert nats_server.port == port
    await asyncio.wait_for(tax[1].back.wait(), 10)
    await until(lambda: gateway.is_connected)
    await settled(tax[0])
    assert (await gateway.request(ENTERPRISES, b"question", timeout=5)).data == b"answered"


async def test_an_old_server_is_refused_by_name(tmp_path: Path) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho 'nats-server: v2.9.10'\n")
    old.chmod(0o755)
    with pytest.raises(BusServerError, match=r"version v2\.9\.10; NATS 2\.12 or newer is needed"):
        await nats_server_version(old)


async def test_a_configuration_the_server_does_not_take_never_replaces_a_good_one(
    nats_server: NatsServer, data_dir: Path, gateway: Client
) -> None:
    config = data_dir / "nats" / "nats.conf"
    before = config.read_text()
    users = bus_users()
    broken = type(users)(gateways=users.gateways | {"datong:\x01"}, adapters=users.adapters, keys=None)
    with pytest.raises(BusServerError, match="failed"):
        await nats_server.set_users(broken)
    assert config.read_text() == before
    assert gateway.is_connected
