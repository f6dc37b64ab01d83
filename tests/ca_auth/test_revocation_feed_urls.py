"""CRLs that are fetched: from servers that work, and from those that hang, drip, flood, redirect and lie."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ca_auth.profiles.trust import Trust
from ca_auth.revocation.crl_url import Pace
from ca_auth.revocation.revocation_feed import RevocationFeed
from tests.ca_auth.revocation_world import (
    DAY,
    HOUR,
    Request,
    Response,
    World,
    always,
    drip,
    hang,
    http_server,
    with_revocation,
)
from tests.waiting import until

QUICK = Pace(crl_every=0.1, crl_shortest=0.05, first_retry=0.05, longest_retry=0.1, crl_seconds=1.0, step_seconds=0.5)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def kinds(feed: RevocationFeed) -> list[str]:
    return sorted(alarm.kind for alarm in feed.alarms())


async def flood(request: Request, writer: asyncio.StreamWriter) -> None:
    """100 MB, said or unsaid."""
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    for _ in range(100):
        writer.write(b"0" * (1 << 20))
        await writer.drain()


async def close(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_a_list_is_fetched_kept_and_used_after_a_restart_without_network(world: World) -> None:
    async with http_server(world.root.crl(1, world.at, [world.leaf])) as server:
        anchor = world.anchor(crl_paths=(), crl_urls=(server.url,))
        async with world.feed(anchor) as feed:
            await until(lambda: world.rule(feed, anchor, world.leaf) == "certificate-revoked")
            assert len(server.requests) == 1
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
        await until(lambda: kinds(feed) == ["crl-unreachable"])
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"


async def test_the_fetched_list_of_a_ca_that_is_not_known_is_used_after_a_restart_too(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at))
    async with http_server(world.sub.crl(1, world.at, [world.sub_leaf])) as server:
        anchor = world.anchor(crl_urls=(server.url,))
        async with world.feed(anchor) as feed:
            await until(lambda: world.rule(feed, anchor, world.sub_leaf) == "certificate-revoked")
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.sub_leaf) == "certificate-revoked"


async def test_a_new_list_is_noticed_and_an_unchanged_one_is_not_sent_again(world: World) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> Response:
        if request.headers.get("if-none-match") == '"1"':
            return Response(status="304 Not Modified")
        return Response(
            world.root.crl(1, world.at), headers=('ETag: "1"', "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT")
        )

    async with http_server(answer) as server:
        anchor = world.anchor(crl_paths=(), crl_urls=(server.url,))
        async with world.feed(anchor, pace=QUICK) as feed:
            await until(lambda: len(server.requests) >= 3)
            assert [each.headers.get("if-none-match") for each in server.requests[:3]] == [None, '"1"', '"1"']
            assert server.requests[1].headers["if-modified-since"] == "Mon, 01 Jan 2024 00:00:00 GMT"
            assert world.rule(feed, anchor, world.leaf) == "crl"
            assert world.changes <= 2
            server.answer = always(world.root.crl(2, world.at, [world.leaf]))
            await until(lambda: world.rule(feed, anchor, world.leaf) == "certificate-revoked")
        asked = len(server.requests)
        server.answer = answer
        async with world.feed(anchor, pace=QUICK):
            await until(lambda: len(server.requests) > asked)
            assert "if-none-match" not in server.requests[asked].headers  # the last answer had none


async def test_a_kept_list_that_was_changed_on_disk_is_fetched_in_full(world: World) -> None:
    answer = Response(world.root.crl(1, world.at), headers=('ETag: "1"',))
    async with http_server(answer) as server:
        anchor = world.anchor(crl_paths=(), crl_urls=(server.url,))
        async with world.feed(anchor) as feed:
            await until(lambda: world.rule(feed, anchor, world.leaf) == "crl")
        (kept,) = (world.state / "fetched").glob("*.crl")
        kept.write_bytes(b"rubbish")
        async with world.feed(anchor) as feed:
            await until(lambda: len(server.requests) == 2)
            assert "if-none-match" not in server.requests[1].headers


@pytest.mark.parametrize(("life", "later"), [(HOUR / 60, HOUR / 240), (DAY, HOUR)])
async def test_a_list_is_fetched_again_in_time(world: World, life: timedelta, later: timedelta) -> None:
    """By the clock of the feed: after a quarter of what is left, an hour at most."""
    async with http_server(world.root.crl(1, world.at, life=life)) as server:
        anchor = world.anchor(crl_paths=(), crl_urls=(server.url,))
        async with world.feed(anchor, pace=Pace(crl_shortest=1.0)) as feed:
            await until(lambda: world.rule(feed, anchor, world.leaf) == "crl")
            world.clock.pass_time(later)
            await until(lambda: len(server.requests) == 2)


BAD: dict[str, tuple[Callable[[Request, asyncio.StreamWriter], Awaitable[Response | None]] | Response, str]] = {
    "hangs": (hang, "crl-unreachable"),
    "drips": (drip, "crl-unreachable"),
    "floods": (flood, "crl-unreachable"),
    "closes": (close, "crl-unreachable"),
    "says much": (Response(b"0", length=1 << 40), "crl-unreachable"),
    "redirects": (Response(status="302 Found", headers=("Location: http://127.0.0.1:1/",)), "crl-unreachable"),
    "fails": (Response(b"no", status="503 Service Unavailable"), "crl-unreachable"),
    "encodes": (Response(b"\x1f\x8b", headers=("Content-Encoding: gzip",)), "crl-unreachable"),
    "nothing": (Response(b""), "crl-rejected"),
    "a page": (Response(b"<html>please log in</html>"), "crl-rejected"),
    "cut off": (Response(bytes.fromhex("3082ffff00")), "crl-rejected"),
}


@pytest.mark.parametrize("how", BAD)
async def test_whatever_a_server_does_the_good_list_stays_and_the_feed_goes_on(world: World, how: str) -> None:
    bad, kind = BAD[how]
    async with http_server(world.root.crl(1, world.at, [world.leaf])) as server:
        anchor = world.anchor(crl_paths=(), crl_urls=(server.url,))
        async with world.feed(anchor, pace=QUICK) as feed:
            await until(lambda: world.rule(feed, anchor, world.leaf) == "certificate-revoked")
            server.answer = bad if not isinstance(bad, Response) else always(bad)
            await until(lambda: kinds(feed) == [kind])
            assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
            other = world.root.leaf(world.at)
            assert world.rule(feed, anchor, other) == "crl"
            server.answer = always(world.root.crl(2, world.at, [world.leaf, other]))
            await until(lambda: world.rule(feed, anchor, other) == "certificate-revoked")
            await until(lambda: not feed.alarms())


@pytest.mark.parametrize("how", ["hangs", "drips", "floods", "closes"])
async def test_the_start_does_not_wait_for_an_address_and_files_are_followed_meanwhile(world: World, how: str) -> None:
    bad, _ = BAD[how]
    assert not isinstance(bad, Response)
    async with http_server(bad) as server:
        anchor = world.anchor(crl_urls=(server.url, "http://127.0.0.1:1/", "http://no.such.host.invalid/x"))
        began = time.monotonic()
        async with world.feed(anchor) as feed:
            assert time.monotonic() - began < 2.0
            assert world.rule(feed, anchor, world.leaf) == "crl-missing"
            world.drop("root.crl", world.root.crl(1, world.at, [world.leaf]))
            await until(lambda: world.rule(feed, anchor, world.leaf) == "certificate-revoked", within=3.0)
        assert time.monotonic() - began < 6.0


async def test_a_list_of_more_than_the_limit_is_not_read(world: World) -> None:
    async with http_server(flood) as server:
        anchor = world.anchor(crl_paths=(), crl_urls=(server.url,))
        async with world.feed(anchor) as feed:
            await until(lambda: kinds(feed) == ["crl-missing", "crl-unreachable"])
            (alarm,) = (alarm for alarm in feed.alarms() if alarm.kind == "crl-unreachable")
            assert str(64 << 20) in alarm.text


async def test_a_forged_or_older_list_from_an_address_changes_nothing(world: World) -> None:
    async with http_server(world.root.crl(5, world.at, [world.leaf])) as server:
        anchor = world.anchor(crl_paths=(), crl_urls=(server.url,))
        async with world.feed(anchor, pace=QUICK) as feed:
            await until(lambda: world.rule(feed, anchor, world.leaf) == "certificate-revoked")
            server.answer = always(world.root.crl(10**20, world.at, key=world.forger))
            await until(lambda: kinds(feed) == ["crl-rejected"])
            assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
            server.answer = always(world.root.crl(4, world.at - HOUR))
            await until(lambda: any("goes back" in alarm.text for alarm in feed.alarms()))
            assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
        async with world.feed(anchor, pace=QUICK) as feed:
            assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"


async def test_an_address_that_is_down_is_asked_less_and_less(world: World) -> None:
    pace = Pace(first_retry=0.05, longest_retry=60.0)
    async with http_server(close) as server:
        anchor = world.anchor(crl_paths=(), crl_urls=(server.url,))
        moments: list[float] = []

        async def note(request: Request, writer: asyncio.StreamWriter) -> None:
            moments.append(time.monotonic())
            writer.close()

        server.answer = note
        async with world.feed(anchor, pace=pace, look_seconds=0.01):
            await until(lambda: len(moments) == 6)
    waits = [after - before for before, after in itertools.pairwise(moments)]
    assert waits[-1] > 3 * waits[0]


async def test_two_anchors_with_one_address_ask_it_once(world: World) -> None:
    async with http_server(world.root.crl(1, world.at, [world.leaf])) as server:
        one = world.anchor(crl_paths=(), crl_urls=(server.url,))
        two = replace(one, name="two", certificates=(world.sub.certificate,))
        async with world.feed(one) as feed:
            feed.set_trust(Trust(anchors=(one, two)))
            await until(
                lambda: feed.data(two) is not None and world.rule(feed, one, world.leaf) == "certificate-revoked"
            )
            assert len(server.requests) == 1


async def test_an_address_that_is_no_longer_wanted_is_not_asked(world: World) -> None:
    async with http_server(hang) as server:
        anchor = world.anchor(crl_urls=(server.url,))
        async with world.feed(anchor, pace=QUICK) as feed:
            await until(lambda: server.requests)
            feed.set_trust(Trust(anchors=(with_revocation(anchor, crl_urls=()),)))
            await until(lambda: kinds(feed) == ["crl-missing"])
            asked = len(server.requests)
            world.drop("root.crl", world.root.crl(1, world.at))
            await until(lambda: not feed.alarms())
            assert len(server.requests) == asked
