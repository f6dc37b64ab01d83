"""Request and reply over a real NATS server, and what becomes of a request when the server fails."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import structlog
from cryptography import x509
from nats.aio.client import Client
from nats.aio.msg import Msg

from ca_auth import CertificateRequest, DemoCA
from deploy.nats import NatsServer, key_pin
from exchange import (
    AnswerTimeoutError,
    BusUnavailableError,
    NatsBus,
    OverloadedError,
    ServiceId,
    connect_client,
    inbox_prefix,
    service_nats_subject,
)
from exchange.bus.nats_link import MAX_BUFFERED
from exchange.bus.transport import MAX_PAYLOAD, BusLostError, NoRespondersError
from tests.conftest import Pki, bus_users
from tests.exchange.bus_kit import ENTERPRISES, SUBJECT, department, gateway_bus, scripted_server, until


async def echo(message: Msg) -> None:
    await message.respond(message.data)


async def say_nothing(message: Msg) -> None: ...


@pytest.fixture
async def bus(nats_server: NatsServer, pki: Pki) -> AsyncIterator[NatsBus]:
    async with gateway_bus(nats_server.url, pki) as bus:
        yield bus


async def test_a_request_is_answered_by_a_department_that_uses_another_client(
    nats_server: NatsServer, pki: Pki, bus: NatsBus
) -> None:
    async with department(nats_server, pki, echo):
        for message in (b"question", b"", b"\r\nMSG x 1 1\r\n", bytes(range(256)) * 40):
            assert await bus.request(SUBJECT, message, 5) == message
    assert bus.server_version == nats_server.version


async def test_headers_of_a_reply_are_not_part_of_it(nats_server: NatsServer, pki: Pki, bus: NatsBus) -> None:
    async def with_headers(message: Msg) -> None:
        await message._client.publish(message.reply, b"answer", headers={"X": "y"})

    async with department(nats_server, pki, with_headers):
        assert await bus.request(SUBJECT, b"question", 5) == b"answer"


async def test_thousands_in_flight_each_get_their_own_answer(nats_server: NatsServer, pki: Pki, bus: NatsBus) -> None:
    waiting: list[Msg] = []
    released = asyncio.Event()

    async def when_released(message: Msg) -> None:
        waiting.append(message)
        await released.wait()
        await message.respond(b"answer to " + message.data)

    async with department(nats_server, pki, when_released):
        requests = [asyncio.create_task(bus.request(SUBJECT, b"%d" % number, 30)) for number in range(4000)]
        await until(lambda: len(waiting) == 4000, within=30)
        released.set()
        assert await asyncio.gather(*requests) == [b"answer to %d" % number for number in range(4000)]


async def test_messages_up_to_the_servers_limit_pass_both_ways(nats_server: NatsServer, pki: Pki, bus: NatsBus) -> None:
    """They arrive in many reads, among others."""
    bodies = [os.urandom(MAX_PAYLOAD - number) for number in range(6)] + [os.urandom(100) for _ in range(50)]
    async with department(nats_server, pki, echo):
        assert await asyncio.gather(*[bus.request(SUBJECT, body, 20) for body in bodies]) == bodies
        with pytest.raises(ValueError, match="more than the bus takes"):
            await bus.request(SUBJECT, bytes(MAX_PAYLOAD + 1), 5)
        assert await bus.request(SUBJECT, b"still there", 5) == b"still there"


async def test_nobody_listening_is_known_at_once(bus: NatsBus) -> None:
    with pytest.raises(NoRespondersError):
        await asyncio.wait_for(bus.request(SUBJECT, b"question", 60), 5)


async def test_a_department_that_stays_silent_is_known_at_the_deadline(
    nats_server: NatsServer, pki: Pki, bus: NatsBus
) -> None:
    async with department(nats_server, pki, say_nothing):
        with pytest.raises(AnswerTimeoutError, match=r"within 0\.05 s"):
            await bus.request(SUBJECT, b"question", 0.05)


async def test_each_deadline_is_kept_whatever_else_is_waited_for(
    nats_server: NatsServer, pki: Pki, bus: NatsBus
) -> None:
    over: list[float] = []

    async def ask(seconds: float) -> None:
        with pytest.raises(AnswerTimeoutError, match=rf"within {seconds:g} s"):
            await bus.request(SUBJECT, b"question", seconds)
        over.append(seconds)

    async with department(nats_server, pki, say_nothing):
        long = asyncio.create_task(bus.request(SUBJECT, b"question", 60))
        async with asyncio.timeout(10):
            await asyncio.gather(*[ask(seconds) for seconds in (0.4, 0.1, 0.3, 0.1, 0.2)])
        assert over == [0.1, 0.1, 0.2, 0.3, 0.4]
        assert not long.done()
        long.cancel()


async def test_an_answer_after_the_deadline_reaches_nobody(nats_server: NatsServer, pki: Pki, bus: NatsBus) -> None:
    given_up = asyncio.Event()

    async def late(message: Msg) -> None:
        if message.data == b"first":
            await given_up.wait()
        await message.respond(b"answer to " + message.data)

    async with department(nats_server, pki, late):
        with pytest.raises(AnswerTimeoutError):
            await bus.request(SUBJECT, b"first", 0.05)
        given_up.set()
        assert await bus.request(SUBJECT, b"second", 5) == b"answer to second"
    assert not bus._waiting


async def test_a_request_that_is_given_up_leaves_nothing_behind(
    nats_server: NatsServer, pki: Pki, bus: NatsBus
) -> None:
    async with department(nats_server, pki, say_nothing):
        request = asyncio.create_task(bus.request(SUBJECT, b"question", 60))
        await until(lambda: bus._waiting)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert not bus._waiting


async def test_while_the_bus_cannot_take_more_requests_are_refused_at_once(nats_server: NatsServer, pki: Pki) -> None:
    async with gateway_bus(nats_server.url, pki) as bus, department(nats_server, pki, say_nothing):
        os.kill(nats_server.pid, signal.SIGSTOP)
        try:
            requests: list[asyncio.Task[bytes]] = []
            while bus._link is not None and bus._link.writable and len(requests) < 2 * MAX_BUFFERED // MAX_PAYLOAD:
                requests.append(asyncio.create_task(bus.request(SUBJECT, bytes(MAX_PAYLOAD), 60)))
                await asyncio.sleep(0)
            with pytest.raises(OverloadedError):
                await bus.request(SUBJECT, b"question", 5)
        finally:
            os.kill(nats_server.pid, signal.SIGCONT)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)


@pytest.mark.faults
async def test_a_killed_server_fails_what_waits_and_what_comes_and_all_is_well_when_it_is_back(
    nats_server: NatsServer, pki: Pki, bus: NatsBus
) -> None:
    waiting: list[Msg] = []

    async def note(message: Msg) -> None:
        if message.data == b"wait":
            waiting.append(message)
        else:
            await message.respond(message.data)

    async with department(nats_server, pki, note):
        requests = [asyncio.create_task(bus.request(SUBJECT, b"wait", 60)) for _ in range(50)]
        await until(lambda: len(waiting) == 50)
        nats_server.kill()
        for outcome in await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), 5):
            assert isinstance(outcome, BusLostError)
        assert not bus.connected
        with pytest.raises(BusUnavailableError) as raised:
            await bus.request(SUBJECT, b"question", 60)
        assert type(raised.value) is BusUnavailableError  # not lost: it was never sent
        await nats_server.start(bus_users())
        await until(lambda: bus.connected)

        async def works() -> bool:
            try:
                return await bus.request(SUBJECT, b"again", 5) == b"again"
            except NoRespondersError:  # the department is not back yet
                return False

        async with asyncio.timeout(10):
            while not await works():
                await asyncio.sleep(0.02)


@pytest.mark.faults
async def test_a_stopped_server_is_noticed_by_its_silence(nats_server: NatsServer, pki: Pki) -> None:
    async with gateway_bus(nats_server.url, pki, ping_seconds=0.05) as bus, department(nats_server, pki, echo):
        os.kill(nats_server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(BusLostError):
                await asyncio.wait_for(bus.request(SUBJECT, b"question", 60), 5)
            with pytest.raises(BusUnavailableError):
                await bus.request(SUBJECT, b"question", 60)
        finally:
            os.kill(nats_server.pid, signal.SIGCONT)
        await until(lambda: bus.connected)
        assert await bus.request(SUBJECT, b"question", 5) == b"question"


async def test_requests_waiting_when_the_gateway_stops_are_ended(nats_server: NatsServer, pki: Pki) -> None:
    async with department(nats_server, pki, say_nothing):
        async with gateway_bus(nats_server.url, pki) as bus:
            request = asyncio.create_task(bus.request(SUBJECT, b"question", 60))
            await until(lambda: bus._waiting)
        with pytest.raises(BusLostError):
            await asyncio.wait_for(request, 5)


async def test_a_gateway_comes_up_before_its_bus(nats_server: NatsServer, pki: Pki) -> None:
    await nats_server.stop()
    async with gateway_bus(nats_server.url, pki, wait=False) as bus:
        with pytest.raises(BusUnavailableError):
            await bus.request(SUBJECT, b"question", 60)
        await nats_server.start(bus_users())
        await until(lambda: bus.connected)


async def test_the_second_server_of_the_list_is_used_when_the_first_is_absent(
    nats_server: NatsServer, pki: Pki
) -> None:
    async with gateway_bus(f"tls://127.0.0.1:1, {nats_server.url}", pki) as bus, department(nats_server, pki, echo):
        assert await bus.request(SUBJECT, b"question", 5) == b"question"


async def test_a_server_with_the_certificate_of_another_ca_is_not_spoken_to(pki: Pki, nats_server: NatsServer) -> None:
    foreign = DemoCA.create(pki.folder / "foreign-bus")
    issued = foreign.issue("nats", CertificateRequest.for_server())
    spoken: list[bytes] = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(issued.certificate, issued.key)
    tried = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        spoken.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    url = f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with gateway_bus(f"{url},{nats_server.url}", pki) as bus:  # the next one is
            tried.set()
            assert bus.connected
        assert not any(spoken)
    finally:
        server.close()


async def test_a_server_with_a_certificate_of_another_name_is_not_spoken_to(pki: Pki, nats_server: NatsServer) -> None:
    """A department's certificate is of our own CA, and is no server's."""
    greeted: list[bytes] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted.append(await reader.read(100))

    async with scripted_server(pki, greet, certificate="tax") as url, gateway_bus(f"{url},{nats_server.url}", pki):
        pass
    assert not any(greeted)


@pytest.mark.parametrize("version", ["2.9.10", "2.11.99", "1.99", "", "nonsense", "2"])
async def test_an_old_server_is_refused(pki: Pki, nats_server: NatsServer, version: str) -> None:
    left = asyncio.Event()

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"%b","max_payload":1048576}\r\n' % version.encode())
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        await reader.read()
        left.set()

    async with scripted_server(pki, old) as url, gateway_bus(f"{url},{nats_server.url}", pki) as bus:
        await asyncio.wait_for(left.wait(), 5)
        await until(lambda: bus.connected)
        assert bus.server_version == nats_server.version


@pytest.mark.parametrize("manner", ["silent", "gone", "nonsense", "refuses"])
async def test_a_server_that_does_not_greet_is_left_for_the_next(
    pki: Pki, nats_server: NatsServer, manner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.bus.transport.CONNECT_SECONDS", 0.5)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if manner == "silent":
            await reader.read()
        elif manner == "nonsense":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read()
        elif manner == "refuses":
            writer.write(b'INFO {"version":"2.15.1"}\r\n-ERR \'Authorization Violation\'\r\n')
            await writer.drain()

    async with scripted_server(pki, script) as url, gateway_bus(f"{url},{nats_server.url}", pki) as bus:
        assert bus.server_version == nats_server.version


async def test_the_end_of_a_connection_given_up_does_not_disturb_the_one_in_use(
    pki: Pki, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old server that does not let go of us either: its connection ends long after another is in use."""
    let_go = asyncio.Event()
    ended = asyncio.Event()

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"version":"2.9.10"}\r\nPONG\r\n')
        await let_go.wait()
        writer.transport.abort()
        ended.set()

    async with (
        scripted_server(pki, old) as url,
        gateway_bus(f"{url},{nats_server.url}", pki) as bus,
        department(nats_server, pki, echo),
    ):
        let_go.set()
        await ended.wait()
        assert await bus.request(SUBJECT, b"question", 5) == b"question"
        assert bus.connected


async def test_a_server_that_drops_us_at_once_is_not_asked_as_fast_as_it_can_drop(pki: Pki) -> None:
    taken = 0

    async def take_and_drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        taken += 1
        writer.write(b'INFO {"version":"2.15.1"}\r\nPONG\r\n')
        await writer.drain()

    loop = asyncio.get_running_loop()
    began = loop.time()
    async with scripted_server(pki, take_and_drop) as url, gateway_bus(url, pki, wait=False):
        await until(lambda: taken == 3)
        assert loop.time() - began > 0.9  # twice RETRY_SECONDS


async def test_a_gateway_gets_no_inbox_but_that_of_its_certificate(nats_server: NatsServer, pki: Pki) -> None:
    with structlog.testing.capture_logs() as told:
        async with gateway_bus(nats_server.url, pki, wait=False, identity="datong:CN/GOV/0/other") as bus:
            await until(lambda: any(each["event"] == "bus.unreachable" for each in told))
            assert not bus.connected
    assert any("Permissions Violation for Subscription" in each.get("reason", "") for each in told)


async def test_a_subject_that_no_gateway_may_ask_ends_at_the_deadline_and_harms_nobody(
    nats_server: NatsServer, pki: Pki, bus: NatsBus
) -> None:
    async with department(nats_server, pki, echo):
        with pytest.raises(AnswerTimeoutError):
            await bus.request("$SYS.REQ.SERVER.PING", b"", 0.1)
        assert await bus.request(SUBJECT, b"question", 5) == b"question"


async def test_nats_py_is_refused_an_old_server_too(pki: Pki) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576,"proto":1,"headers":true}\r\n')
        while await reader.readuntil(b"PING\r\n"):
            writer.write(b"PONG\r\n")

    async with scripted_server(pki, old) as url:
        client = Client()
        with pytest.raises(BusUnavailableError) as raised:
            await connect_client(client, url, pki.bus_tls("tax"), "tax", "_INBOX")
        assert raised.value.rule == "bus-version"
        assert client.is_closed


async def test_a_client_that_finds_no_server_says_so_in_time(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.bus.transport.CONNECT_SECONDS", 0.3)
    client = Client()
    with pytest.raises(BusUnavailableError):
        await asyncio.wait_for(connect_client(client, "tls://127.0.0.1:1", pki.bus_tls("tax"), "tax", "_INBOX"), 5)
    assert client.is_closed


async def test_a_client_whose_key_the_bus_does_not_know_is_told_so_in_time(
    nats_server: NatsServer, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever its time is over: the server closes each connection at once, so that the library is always about to try again."""
    gateway = x509.load_pem_x509_certificate(pki.certificate("gateway").read_bytes())
    await nats_server.set_users(replace(bus_users(), keys=frozenset({key_pin(gateway)})))
    clients = [Client() for _ in range(60)]
    connecting = []
    for number, client in enumerate(clients):
        monkeypatch.setattr("exchange.bus.transport.CONNECT_SECONDS", 0.3 + 0.005 * number)
        connecting.append(
            asyncio.create_task(connect_client(client, nats_server.url, pki.bus_tls("tax"), "tax", "_INBOX"))
        )
        await asyncio.sleep(0)  # it looks at its time
    await asyncio.wait(connecting, timeout=10)
    assert [each for each in connecting if not each.done()] == []
    assert {type(each.exception()) for each in connecting} == {BusUnavailableError}
    assert all(client.is_closed for client in clients)
    assert "empty response from server" in str(connecting[-1].exception().__cause__)  # type: ignore[union-attr]


async def test_a_client_is_told_in_time_of_a_server_that_stays_silent(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.bus.transport.CONNECT_SECONDS", 0.3)
    client = Client()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"tls://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BusUnavailableError):
            await asyncio.wait_for(connect_client(client, url, pki.bus_tls("tax"), "tax", "_INBOX"), 5)
    assert client.is_closed


async def test_a_client_that_is_thrown_out_for_good_is_told_of(nats_server: NatsServer, pki: Pki) -> None:
    closed = asyncio.Event()

    async def on_closed() -> None:
        closed.set()

    client = Client()
    await connect_client(client, nats_server.url, pki.bus_tls("tax"), "tax", "_INBOX", on_closed=on_closed)
    await client.publish("x" * 5000, b"")  # longer than the server reads; nothing of ours makes such a subject
    await asyncio.wait_for(closed.wait(), 10)
    assert client.is_closed


def test_a_service_has_a_subject_of_its_own() -> None:
    subjects = {service_nats_subject(ServiceId(f"{ENTERPRISES}{end}")) for end in ("", "1", "2")}
    assert len(subjects) == 3
    assert all(subject.startswith("dt.q.") for subject in subjects)


def test_inboxes_of_two_identities_are_apart() -> None:
    assert inbox_prefix("datong:a") != inbox_prefix("datong:b")
