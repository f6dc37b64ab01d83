"""The renewal keeper: in time, again after a failure, loud before the end, and never in the way of the process."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from ca_auth import (
    HeldCertificate,
    IssuingCA,
    RenewalKeeper,
    expiry_alarm,
    load_certificate,
    renewal_due,
    server_context,
)
from tests.ca_auth.enrolment_server import CaServer, ca_server
from tests.ca_auth.issuing_world import DAY, REQUEST, Clock, make_ca, new_key, pem
from tests.waiting import until


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[IssuingCA, CaServer]]:
    folder = tmp_path_factory.mktemp("keeper")
    make_ca(folder / "ca", Clock()).close()
    ca = IssuingCA.open(folder / "ca", clock=time.time)
    with ca_server(folder / "ca", folder) as server:
        yield ca, server
    ca.close()


@pytest.fixture
def held(world: tuple[IssuingCA, CaServer], tmp_path: Path) -> HeldCertificate:
    ca = world[0]
    key = new_key()
    held = HeldCertificate(tmp_path / "client.crt", tmp_path / "client.key")
    held.install(key, ca.issue(REQUEST, key.public_key(), by="test").pem())
    (tmp_path / "ca.pem").write_bytes(pem(ca.root))
    return held


@asynccontextmanager
async def running(keeper: RenewalKeeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def keeper(held: HeldCertificate, clock: Clock, url: str | None, loaded: list[x509.Certificate]) -> RenewalKeeper:
    return RenewalKeeper(
        "gateway",
        held,
        url=url,
        trust_anchors=held.certificate.with_name("ca.pem"),
        on_renewed=lambda: loaded.append(held.read()),
        clock=clock,
        look_every=0.01,
    )


def named(events: list[MutableMapping[str, Any]], name: str) -> list[MutableMapping[str, Any]]:
    return [each for each in events if each["event"] == name]


def test_renewal_is_due_between_half_and_three_fifths_of_life_and_not_for_all_at_once(
    world: tuple[IssuingCA, CaServer],
) -> None:
    certificates = [world[0].issue(REQUEST, new_key().public_key(), by="test").certificate for _ in range(20)]
    parts = []
    for each in certificates:
        begin, end = each.not_valid_before_utc.timestamp(), each.not_valid_after_utc.timestamp()
        parts.append((renewal_due(each) - begin) / (end - begin))
        assert renewal_due(each) == renewal_due(each)
    assert all(0.5 <= part <= 0.6 for part in parts)
    assert max(parts) - min(parts) > 0.02


async def test_it_renews_in_time_and_the_process_loads_what_came(
    world: tuple[IssuingCA, CaServer], held: HeldCertificate
) -> None:
    """Nothing happens before it is due; then a new pair is there, and the callback has been called once."""
    first = held.read()
    clock = Clock(renewal_due(first) - 5)
    loaded: list[x509.Certificate] = []
    with capture_logs() as events:
        async with running(keeper(held, clock, world[1].url, loaded)):
            await asyncio.sleep(0)
            assert held.read() == first
            clock.now += 10
            await until(lambda: loaded)
    assert loaded == [held.read()]
    assert loaded[0] != first
    assert loaded[0].subject == first.subject
    assert len(named(events, "certificate.renewed")) == 1


async def test_what_somebody_else_replaced_is_loaded_too(
    world: tuple[IssuingCA, CaServer], held: HeldCertificate
) -> None:
    loaded: list[x509.Certificate] = []
    ca = world[0]
    watch = keeper(held, Clock(), None, loaded)
    async with running(watch):
        await until(lambda: watch._loaded)
        key = new_key()
        issued = ca.issue(REQUEST, key.public_key(), by="test")
        held.install(key, issued.pem())
        await until(lambda: loaded)
    assert loaded == [issued.certificate]


async def test_a_process_that_cannot_load_is_told_again(
    world: tuple[IssuingCA, CaServer], held: HeldCertificate
) -> None:
    calls = []

    def stumble() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("not now")

    watch = RenewalKeeper(
        "x", held, url=None, trust_anchors=held.certificate, on_renewed=stumble, clock=Clock(), look_every=0.01
    )
    with capture_logs() as events:
        async with running(watch):
            await until(lambda: watch._loaded)
            key = new_key()
            held.install(key, world[0].issue(REQUEST, key.public_key(), by="test").pem())
            await until(lambda: named(events, "certificate.loaded"))
    assert len(calls) == 3
    assert len(named(events, "certificate.not_loaded")) == 2


async def test_a_failure_is_said_and_retried_later_and_later(held: HeldCertificate) -> None:
    """Nobody listens there. After each failure nothing is tried before the wait is over."""
    clock = Clock(renewal_due(held.read()) + 1)
    waits = []
    with capture_logs() as events:
        async with running(keeper(held, clock, "https://localhost:1", [])):
            for count in range(1, 5):
                await until(lambda count=count: len(named(events, "certificate.renewal_failed")) >= count)  # type: ignore[misc]
                waits.append(named(events, "certificate.renewal_failed")[-1]["retry_in"])
                clock.now += waits[-1] + 1
    failures = named(events, "certificate.renewal_failed")
    assert {each["rule"] for each in failures} == {"unreachable"}
    assert waits == sorted(waits)
    assert 45 <= waits[0] <= 60
    assert 8 * 45 <= waits[3] <= 8 * 60


async def test_it_warns_at_30_7_and_1_days_and_at_the_end_once_each(held: HeldCertificate) -> None:
    end = held.read().not_valid_after_utc.timestamp()
    clock = Clock(end - 31 * DAY)
    with capture_logs() as events:
        async with running(keeper(held, clock, None, [])):
            for days in (29.5, 29.0, 6.5, 6.4, 0.5, 0.4, -0.1):
                clock.now = end - days * DAY
                seen = len(events)
                expected = days in (29.5, 6.5, 0.5, -0.1)
                if expected:
                    await until(lambda seen=seen: len(events) > seen)  # type: ignore[misc]
    expiring = named(events, "certificate.expiring")
    assert [(each["log_level"], each["days"]) for each in expiring] == [
        ("warning", 29.5),
        ("error", 6.5),
        ("critical", 0.5),
    ]
    assert [each["log_level"] for each in named(events, "certificate.expired")] == ["critical"]


@pytest.mark.parametrize(
    ("life", "left", "alarm"),
    [
        (90, 45, None),
        (90, 29, 30),
        (90, 7, 7),
        (90, 1, 1),
        (90, -1, 0),
        (7, 6, None),
        (7, 2, 7),
        (1, 0.9, None),
        (1, 0.1, 1),
    ],
)
def test_alarms_go_by_days_left_and_by_the_life_behind(life: float, left: float, alarm: int | None) -> None:
    assert expiry_alarm(0, life * DAY, (life - left) * DAY) == alarm


async def test_a_missing_file_is_said_and_does_not_end_the_watch(
    world: tuple[IssuingCA, CaServer], held: HeldCertificate
) -> None:
    content = held.certificate.read_bytes()
    with capture_logs() as events:
        watch = keeper(held, Clock(), None, [])
        async with running(watch):
            held.certificate.unlink()
            await until(lambda: named(events, "certificate.unreadable"))
            held.certificate.write_bytes(content)
            await until(lambda: watch._loaded)


async def test_a_tls_server_serves_on_while_its_certificate_is_renewed(
    world: tuple[IssuingCA, CaServer], held: HeldCertificate
) -> None:
    """An open connection goes on; the next handshake shows the new certificate."""
    anchors = held.certificate.with_name("ca.pem")
    context = server_context(held.certificate, held.key, anchors, on_handshake_refused=lambda refusal: None)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE  # a caller's certificate serves nobody by name; only which one is shown counts
    clock = Clock(renewal_due(held.read()) + 1)
    loaded: list[int] = []

    def load() -> None:
        load_certificate(context, held.certificate, held.key)
        loaded.append(1)

    watch = RenewalKeeper(
        "server", held, url=world[1].url, trust_anchors=anchors, on_renewed=load, clock=clock, look_every=0.01
    )
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=anyone)
        return reader, writer, writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    reader, writer, shown = await connect()
    async with running(watch):
        await until(lambda: loaded)
    writer.write(b"still here\n")
    assert await reader.readline() == b"still here\n"
    _, other, shown_next = await connect()
    assert shown_next != shown
    for each in (writer, other):
        each.close()
    server.close()
