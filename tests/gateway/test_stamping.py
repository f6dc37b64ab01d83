"""Checkpoints are stamped off the path of exchanges; authorities that fail are seen, and stop nothing unless they should."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from structlog.testing import capture_logs

from exchange import ExchangeLog, StampConfig, StampError, StampTime, check_token, read_stamped, waiting_since
from exchange.log.tables import entries, stamps
from exchange.storage.database import create_engine, writing
from gateway.stamp_client import StampClient
from gateway.stamping import AuthorityAwayError, Stamping, StampsOverdueError, longest_wait_ms
from tests.conftest import Pki
from tests.exchange.log_kit import Place, attempt, until
from tests.exchange.tsa_kit import DAY, Issuer
from tests.gateway.tsa_server import TsaServer, tsa_server

INTERVAL = 0.05


@pytest.fixture
async def server() -> AsyncIterator[TsaServer]:
    async with tsa_server() as server:
        yield server


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[ExchangeLog]:
    async with Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path).log(checkpoint_interval=0.02) as log:
        yield log


def config(*servers: TsaServer, **changes: Any) -> StampConfig:
    authorities = tuple([server.authority(f"a{number}") for number, server in enumerate(servers)])
    return StampConfig(**{"authorities": authorities, "interval": INTERVAL, **changes})


@asynccontextmanager
async def stamping(log: ExchangeLog, config: StampConfig) -> AsyncIterator[Stamping]:
    running = Stamping(log, log.reader, config)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


async def append(log: ExchangeLog) -> int:
    """One more entry, under a signed checkpoint. Returns the size of the tree."""
    size = 1 + await attempt().append_to(log)
    await log.checkpoint()
    return size


def stamped(log: ExchangeLog, size: int, *authorities: str) -> Callable[[], Any]:
    """Whether all these authorities have stamped the checkpoint of a size."""

    async def look() -> bool:
        return (await log.reader.stamps(size)).keys() >= set(authorities or ["a0"])

    return look


# What is stamped


async def test_every_authority_stamps_what_is_new_and_nothing_twice(database_url: str, tmp_path: Path) -> None:
    """Tokens are stored beside the checkpoint, with their own time, and verify over its text; and they stay when the log grows."""
    async with (
        Place(database_url, tmp_path).log(checkpoint_interval=0.02) as log,
        tsa_server() as one,
        tsa_server() as two,
        stamping(log, config(one, two)) as running,
    ):
        first = await append(log)
        await until(stamped(log, first, "a0", "a1"))
        await until(lambda: all(each.waiting_since_ms is None for each in running.state().authorities))
        asked = one.requests
        third = await append(log) and await append(log)
        await until(stamped(log, third, "a0", "a1"))
        assert one.requests - asked in (1, 2)  # 2 if a stamp came between the two entries
        for size in (first, third):
            (checkpoint,) = await log.reader.checkpoints_from(size, 1)
            text = checkpoint.note.partition("\n\n")[0].encode() + b"\n"
            times = await log.reader.stamp_times(above=size - 1, below=size + 1, limit=10)
            tokens = await log.reader.stamps(size)
            for server, time_of in zip((one, two), times, strict=True):
                stamp = check_token(tokens[time_of.authority], text, [server.issuer.certificate])
                assert time_of == (size, time_of.authority, stamp.gen_ms)
        assert [size for size, _ in await log.reader.stamped_from(0, 100)] == sorted(
            size for size, *_ in await log.reader.stamp_times(limit=100)
        )
        assert not running.state().gaps
        assert running.refusal() is None
        assert b"content-type: application/timestamp-query" in one.headers


async def test_an_authority_that_is_silent_delays_no_other_and_is_caught_up_with(log: ExchangeLog) -> None:
    with capture_logs() as told:
        async with tsa_server() as good, tsa_server() as silent:
            silent.away()
            authorities = (silent.authority("silent", timeout=0.1), good.authority("good"))
            async with stamping(log, config(authorities=authorities)) as running:
                for _ in range(3):
                    await until(stamped(log, await append(log), "good"))
                state, _ = running.state().authorities
                assert state.name == "silent"
                await until(lambda: running.state().authorities[0].failing_since_ms)
                state = running.state().authorities[0]
                assert state.problem == "no answer within 0.1 s"
                assert state.problem_zh
                assert state.waiting_since_ms is not None
                silent.answers.set()
                size, _ = await log.reader.size()
                await until(stamped(log, size, "silent"))
                await until(lambda: running.state().authorities[0].failing_since_ms is None)
                assert running.state().authorities[0].problem == ""
    names = [each["event"] for each in told if each.get("authority") == "silent"]
    assert names == ["stamps.authority_failing", "stamps.authority_back"]


async def test_after_a_restart_only_what_is_new_is_stamped(log: ExchangeLog, server: TsaServer) -> None:
    size = await append(log)
    async with stamping(log, config(server)):
        await until(stamped(log, size))
    asked = server.requests
    async with stamping(log, config(server)) as running:
        assert running.state().authorities[0].last == (await log.reader.stamp_times(limit=1))[0]
        await until(stamped(log, await append(log)))
    assert server.requests == asked + 1


async def test_of_two_gateways_at_one_log_one_stamps(log: ExchangeLog, server: TsaServer) -> None:
    """The other sees that it was done, and takes over when the first is gone."""
    second, client = Stamping(log, log.reader, config(server)), StampClient(server.authority("a0"))
    try:
        (state,) = second._states.values()
        await second._turn(client, state)  # there is nothing yet
        async with stamping(log, config(server)):
            await until(stamped(log, await append(log)))
        asked = server.requests
        size = await append(log)
        await second._turn(client, state)
        assert server.requests == asked
        assert state.last is not None
        assert state.last.size < size
        await second._turn(client, state)
        assert server.requests == asked + 1
        assert (await log.reader.stamps(size)).keys() == {"a0"}
    finally:
        await client.close()


# What is not believed


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"nonce": "other"}, "does not hold the nonce"),
        ({"text": b"something else"}, "not over this text"),
        ({"policy": "1.2.3"}, "not accepted"),
        ({"status": "rejection"}, "refused (rejection): timeNotAvailable: 今天不盖章?"),
        ({"clock": -6 * DAY / 1440}, "its clock and ours are more than 5 minutes apart"),
        ({"clock": 6 * DAY / 1440}, "its clock and ours are more than 5 minutes apart"),
        ({"keep_certificates": False}, "does not hold its signer's certificate"),
        ({"key": Issuer.root().key}, "does not verify"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, dict) else "",
)
async def test_what_an_authority_does_wrong_is_told_and_not_kept(
    server: TsaServer, fault: dict[str, Any], said: str
) -> None:
    for name, value in fault.items():
        setattr(server.tsa, name, value)
    client = StampClient(server.authority(policy="1.2.156.10197.9.9"))
    try:
        with pytest.raises(StampError, match=re.escape(said)) as told:
            await client.stamp(b"text\n")
    finally:
        await client.close()
    assert told.value.zh != str(told.value)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "it cannot be reached"),
        (b"\xff\xfe garbage\r\n\r\n", "it cannot be reached"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "not a time-stamp response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0", "it cannot be reached"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "status 500"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n" + bytes(90000), "its answer is larger than 69632 bytes"),
    ],
    ids=["nothing", "garbage", "a-page", "cut-off", "redirect", "error", "too-large"],
)
async def test_what_is_no_answer_of_an_authority_is_told(server: TsaServer, raw: bytes, said: str) -> None:
    server.raw = raw
    client = StampClient(server.authority())
    try:
        with pytest.raises((StampError, AuthorityAwayError), match=said):
            await client.stamp(b"text\n")
    finally:
        await client.close()


async def test_an_answer_that_trickles_in_is_not_waited_for(server: TsaServer) -> None:
    server.drips = True
    client = StampClient(server.authority(timeout=0.2))
    begin = time.monotonic()
    try:
        with pytest.raises(AuthorityAwayError, match=r"no answer within 0.2 s"):
            await client.stamp(b"text\n")
    finally:
        await client.close()
    assert time.monotonic() - begin < 20


async def test_nothing_secret_of_an_address_is_told(log: ExchangeLog) -> None:
    """Many authorities want a password, which stands in the address."""
    async with tsa_server() as server:
        url = server.url.replace("http://", "http://user:geheim@")
        client = StampClient(server.authority(url=url))
        try:
            await client.stamp(b"text\n")
            assert any(line.startswith(b"authorization: basic") for line in server.headers)
        finally:
            await client.close()
    with capture_logs() as told:
        await append(log)
        async with stamping(log, config(authorities=(server.authority(url=url),))) as running:
            await until(lambda: running.state().authorities[0].problem)
            assert "geheim" not in repr(running.state())
    assert "geheim" not in repr(told)


async def test_an_https_address_is_checked_with_the_anchors_of_the_file(pki: Pki) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pki.certificate("server"), pki.key("server"))
    async with tsa_server(tls=tls) as server:
        for tls_anchors in (pki.trust_anchors, None):
            client = StampClient(replace(server.authority(), tls_anchors=tls_anchors))
            try:
                if tls_anchors is None:  # those of the system do not know the mesh's CA
                    with pytest.raises(AuthorityAwayError, match="ConnectError"):
                        await client.stamp(b"text\n")
                else:
                    assert await client.stamp(b"text\n")
            finally:
                await client.close()


async def test_a_bad_token_is_not_kept_and_another_try_is_made(log: ExchangeLog, server: TsaServer) -> None:
    server.tsa.nonce = "other"
    size = await append(log)
    async with stamping(log, config(server)) as running:
        await until(lambda: server.requests > 2)
        assert await log.reader.stamps(size) == {}
        assert "nonce" in running.state().authorities[0].problem
        server.tsa.nonce = "same"
        await until(stamped(log, size))


# When stamps are demanded


async def test_exchanges_are_refused_only_when_all_authorities_are_late_and_stamps_are_demanded(
    log: ExchangeLog, server: TsaServer
) -> None:
    async with tsa_server(server.issuer) as other:
        server.away()
        other.away()
        authorities = (server.authority("a0", timeout=0.1), other.authority("a1", timeout=0.1))
        demanding = config(authorities=authorities, required=True, patience=0.3)
        async with (
            stamping(log, config(authorities=authorities, patience=0.3)) as easy,
            stamping(log, demanding) as strict,
        ):
            assert strict.refusal() is None  # there is nothing to stamp yet
            size = await append(log)
            with capture_logs() as told:
                await until(strict.refusal)
                refusal = strict.refusal()
            assert [each["event"] for each in told if "overdue" in each["event"]] == ["stamps.overdue"]
            assert isinstance(refusal, StampsOverdueError)
            assert (refusal.rule, refusal.status) == ("time-stamped", 503)
            assert time.strftime("%Y-", time.gmtime()) in refusal.detail_in("zh")
            assert strict.state().refusing
            assert easy.refusal() is None
            other.answers.set()
            await until(stamped(log, size, "a1"))
            await until(lambda: strict.refusal() is None)
            assert not strict.state().refusing
            assert strict.state().authorities[0].waiting_since_ms is not None


async def test_a_restart_forgets_no_gap_and_tries_before_it_refuses(log: ExchangeLog, server: TsaServer) -> None:
    await append(log)
    first = await log.reader.entered_at(0, 1)
    demanding = config(server, required=True, patience=INTERVAL)
    await until(lambda: first is not None and time.time() * 1000 > first + 100)
    server.raw = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    async with stamping(log, demanding) as running:
        assert isinstance(running.refusal(), StampsOverdueError)
        assert running.state().authorities[0].waiting_since_ms == first
    server.raw = None
    async with stamping(log, demanding) as running:
        assert running.refusal() is None


async def test_a_start_that_fails_leaves_nothing_behind(log: ExchangeLog, server: TsaServer, tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    broken = Place(f"sqlite:///{tmp_path / 'none.db'}", tmp_path)
    async with broken.reader() as reader:
        running = Stamping(log, reader, config(server))
        with pytest.raises(SQLAlchemyError):
            await running.start()
    assert asyncio.all_tasks() == before


# Gaps


async def test_gaps_are_found_in_what_is_stored_however_it_is_paged(database_url: str, tmp_path: Path) -> None:
    """What waits more than 100 s is a gap. Times are in seconds."""
    place = Place(database_url, tmp_path)
    await place.fill(9, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    entered = [10, 20, 1000, 1010, 1500, 1600, 1700, 1800, 1990]
    stored = [(1, "a", 15), (2, "a", 90), (3, "a", 1050), (5, "a", 1505), (8, "a", 1805), (2, "b", 400), (9, "b", 1991)]
    await rewrite_times(place, entered, stored)
    for limit, expected_pages in {1: 6, 2: 4, 3: 3, 100: 1}.items():
        found: list[StampTime] = []
        gaps: list[tuple[object, ...]] = []
        below, pages = None, 0
        async with place.reader() as reader:
            while pages == 0 or below is not None:
                page = await read_stamped(
                    reader, authorities=["a", "c"], longest_ms=100_000, now_ms=2_200_000, below=below, limit=limit
                )
                found += page.stamps
                gaps += [(each.authority, each.size, each.since_ms, each.until_ms) for each in page.gaps]
                below, pages = page.below, pages + 1
        in_order = sorted(stored, key=lambda one: (-one[0], one[1]))
        assert found == [StampTime(size, authority, at * 1000) for size, authority, at in in_order]
        assert sorted(gaps, key=str) == [
            # Not a's from 90 to 1050: there was nothing new until 1000.
            ("a", 3, 1_050_000, 1_505_000),  # entry 3 was there before the stamp on the three before it
            ("a", 5, 1_600_000, 1_805_000),
            ("a", 8, 1_990_000, None),
            ("b", 0, 10_000, 400_000),
            ("b", 2, 1_000_000, 1_991_000),
            ("c", 0, 10_000, None),
        ]
        assert pages == expected_pages, limit
    async with place.reader() as reader:
        page = await read_stamped(reader, authorities=["c"], longest_ms=100_000, now_ms=2_200_000)
        assert [each.authority for each in page.gaps if each.until_ms is None] == ["c"]  # nobody expects a's any more


async def test_nothing_waits_where_nothing_is_new(tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    await place.fill(0, [])
    async with place.reader() as reader:
        assert await waiting_since(reader, None, 0) is None
        page = await read_stamped(reader, authorities=["a"], longest_ms=1, now_ms=10**12)
        assert (page.stamps, page.gaps, page.below) == ((), (), None)


async def rewrite_times(place: Place, entered: list[int], stored: list[tuple[int, str, int]]) -> None:
    """Put entries and stamps where a test wants them in time; seconds."""
    engine = create_engine(place.database)
    async with writing(engine) as connection:
        for seq, at in enumerate(entered):
            await connection.execute(sa.update(entries).where(entries.c.seq == seq).values(at_ms=at * 1000))
        rows = [{"size": size, "authority": name, "at_ms": at * 1000, "token": b"x"} for size, name, at in stored]
        await connection.execute(sa.insert(stamps), rows)
    await engine.dispose()


def test_what_counts_as_a_gap_depends_on_the_interval(server_config: StampConfig) -> None:
    assert longest_wait_ms(server_config) == 130_000


@pytest.fixture
def server_config() -> StampConfig:
    issuer = Issuer.root()
    server = TsaServer(issuer, tsa=None)  # type: ignore[arg-type]
    return StampConfig(
        authorities=(
            server.authority("a", url="http://a/", timeout=10),
            server.authority("b", url="http://b/", timeout=5),
        )
    )
