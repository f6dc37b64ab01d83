"""OCSP: answers that count, answers that do not, and responders that are not there."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import secrets
import ssl
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from ca_auth.profiles.trust import Anchor, Trust
from ca_auth.revocation import ocsp_book
from ca_auth.revocation.ocsp_client import NoAnswerError, _question, address_in, ask, read_answer
from ca_auth.revocation.public_addresses import is_public
from ca_auth.revocation.revocation_feed import RevocationFeed
from ca_auth.validation.path_certificate import PathCertificate
from tests.ca_auth.revocation_world import (
    DAY,
    HOUR,
    Request,
    Responder,
    Response,
    Server,
    World,
    always,
    drip,
    hang,
    http_server,
)
from tests.waiting import until

GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def responder(world: World) -> Responder:
    return Responder(world.root, [world.leaf, world.sub.certificate], lambda: world.at)


def only_ocsp(world: World, server: Server, **revocation: object) -> Anchor:
    return world.anchor(crl_paths=(), ocsp=server.url, **revocation)


def fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def kinds(feed: RevocationFeed) -> list[str]:
    return sorted(alarm.kind for alarm in feed.alarms())


async def prepared(feed: RevocationFeed, world: World, leaf: x509.Certificate, anchor: Anchor) -> str:
    """As a caller does it: the rule or the way after `prepare`, which must be quick."""
    began = time.monotonic()
    if feed.needs_preparing(fingerprint(leaf)):
        await feed.prepare(leaf, [world.sub.certificate])
    assert time.monotonic() - began < 2.0
    return world.rule(feed, anchor, leaf)


# Answers


@pytest.mark.parametrize(
    ("status", "rule"), [(GOOD, "ocsp"), (REVOKED, "certificate-revoked"), (UNKNOWN, "ocsp-unknown")]
)
async def test_what_the_responder_says_is_what_counts(
    world: World, responder: Responder, status: ocsp.OCSPCertStatus, rule: str
) -> None:
    responder.status = status
    async with http_server(responder) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            assert world.rule(feed, anchor, world.leaf) == "crl-missing"
            assert feed.needs_preparing(fingerprint(world.leaf))
            changes = world.changes
            assert await prepared(feed, world, world.leaf, anchor) == rule
            assert world.changes == changes + 1
            assert not feed.needs_preparing(fingerprint(world.leaf))
            assert responder.asked == [world.leaf.serial_number]
            (request,) = server.requests
            assert request.method == "POST"
            assert request.headers["content-type"] == "application/ocsp-request"


async def test_an_answer_is_asked_for_once_while_it_is_fresh(world: World, responder: Responder) -> None:
    async with http_server(responder) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            for _ in range(5):
                assert await prepared(feed, world, world.leaf, anchor) == "ocsp"
                await feed.prepare(world.leaf, [], anchor)
            assert len(responder.asked) == 1
            world.clock.pass_time(DAY + timedelta(seconds=1))
            assert feed.needs_preparing(fingerprint(world.leaf))
            assert await prepared(feed, world, world.leaf, anchor) == "ocsp"
            assert len(responder.asked) >= 2


async def test_a_responder_with_a_certificate_of_its_own_may_answer(world: World, responder: Responder) -> None:
    responder.by = world.root.delegate(world.at)
    async with http_server(responder) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.leaf, anchor) == "ocsp"


async def test_many_callers_share_one_question(world: World, responder: Responder) -> None:
    responder.delay = 0.2
    async with http_server(responder) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            await asyncio.gather(*(feed.prepare(world.leaf, [], anchor) for _ in range(50)))
            assert len(responder.asked) == 1
            assert world.rule(feed, anchor, world.leaf) == "ocsp"


async def test_the_sub_ca_is_asked_about_too_unless_its_ca_has_a_list(world: World) -> None:
    of_root = Responder(world.root, [world.sub.certificate], lambda: world.at)
    of_sub = Responder(world.sub, [world.sub_leaf], lambda: world.at)

    async def both(request: Request, writer: asyncio.StreamWriter) -> Response:
        serial = ocsp.load_der_ocsp_request(request.body).serial_number
        return await (of_root if serial == world.sub.certificate.serial_number else of_sub)(request, writer)

    async with http_server(both) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.sub_leaf, anchor) == "ocsp"
            assert (len(of_root.asked), len(of_sub.asked)) == (1, 1)
        world.drop("root.crl", world.root.crl(1, world.at))
        anchor = world.anchor(ocsp=server.url)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.sub_leaf, anchor) == "ocsp"
            assert (len(of_root.asked), len(of_sub.asked)) == (1, 2)
            of_sub.status = REVOKED
            world.drop("root.crl", world.root.crl(2, world.at, [world.sub.certificate]))
            await until(lambda: world.rule(feed, anchor, world.sub_leaf) == "certificate-revoked")


async def test_a_revocation_bites_by_itself_while_the_certificate_is_in_use(
    world: World, responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocsp_book, "_EVERY", 0.1)
    monkeypatch.setattr(ocsp_book, "_SHORTEST", 0.1)
    async with http_server(responder) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.leaf, anchor) == "ocsp"
            await until(lambda: len(responder.asked) >= 3)
            responder.status = REVOKED
            world.clock.pass_time(timedelta(minutes=1))
            changes = world.changes
            await until(lambda: world.rule(feed, anchor, world.leaf) == "certificate-revoked")
            await until(lambda: world.changes > changes)


async def test_an_old_good_answer_played_back_does_not_hide_a_revocation(
    world: World, responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocsp_book, "_EVERY", 0.1)
    monkeypatch.setattr(ocsp_book, "_SHORTEST", 0.1)
    old = world.root.ocsp_answer(world.leaf, world.at - HOUR)
    responder.status = REVOKED
    async with http_server(responder) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.leaf, anchor) == "certificate-revoked"
            server.answer = always(old)
            await until(lambda: kinds(feed) == ["ocsp-rejected"])
            assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"


# What does not count


async def test_an_answer_without_nonce_counts_and_one_with_another_does_not(world: World, responder: Responder) -> None:
    responder.nonce = lambda sent: None
    async with http_server(responder) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.leaf, anchor) == "ocsp"
        responder.nonce = lambda sent: bytes(32)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.leaf, anchor) == "crl-missing"
            await until(lambda: kinds(feed) == ["ocsp-rejected"])
            assert "nonce" in feed.alarms()[0].text


async def test_a_forged_answer_is_not_kept_and_the_genuine_one_comes_in_later(
    world: World, responder: Responder
) -> None:
    responder.forged = True
    responder.life = 300 * DAY
    async with http_server(responder) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.leaf, anchor) == "crl-missing"
            await until(lambda: kinds(feed) == ["ocsp-rejected"])
            responder.forged = False
            feed.set_trust(Trust(anchors=(replace(anchor),)))  # an operator need not wait for the next attempt
            await until(lambda: feed.needs_preparing(fingerprint(world.leaf)))
            assert await prepared(feed, world, world.leaf, anchor) == "ocsp"
            await until(lambda: not feed.alarms())


def test_answers_that_are_no_answer_are_refused_with_their_reason(world: World) -> None:
    leaf, issuer = PathCertificate.of(world.leaf), PathCertificate.of(world.root.certificate)
    other = world.root.leaf(world.at)
    nonce = secrets.token_bytes(32)
    unauthorised = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
    for content, said in {
        b"<html></html>": "no OCSP answer",
        b"\x30\x03\x02\x01\x01": "cannot be used",
        unauthorised.public_bytes(Encoding.DER): "unauthorized",
        world.root.ocsp_answer(other, world.at): "another certificate",
        world.root.ocsp_answer(world.leaf, world.at, nonce=bytes(32)): "another nonce",
        world.root.ocsp_answer(world.leaf, world.at, nonce=nonce, forged=True): "not signed",
        world.root.ocsp_answer(
            world.leaf, world.at, nonce=nonce, by=world.root.delegate(world.at, may_answer=False)
        ): "lacks OCSPSigning",
        world.root.ocsp_answer(world.leaf, world.at, nonce=nonce, by=world.sub.delegate(world.at)): "did not issue",
        world.root.ocsp_answer(world.leaf, world.at - 2 * DAY, nonce=nonce): "ended",
        world.root.ocsp_answer(world.leaf, world.at + HOUR, nonce=nonce): "begins in the future",
    }.items():
        with pytest.raises(NoAnswerError) as error:
            read_answer(content, nonce, leaf, issuer, world.clock())
        assert said in error.value.problem
        assert error.value.problem_zh
    good = read_answer(world.root.ocsp_answer(world.leaf, world.at, nonce=nonce), nonce, leaf, issuer, world.clock())
    assert good.until == world.at + DAY


# Responders that are not there


async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
    await drip(request, writer)


async def close(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def flood(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    for _ in range(100):
        writer.write(b"0" * (1 << 20))
        await writer.drain()


@pytest.mark.parametrize("bad", [hang, slow, close, flood, Response(b"no", status="500 Oops"), Response(b"<html>")])
async def test_a_responder_that_does_not_answer_holds_nobody_up(
    world: World, responder: Responder, bad: object
) -> None:
    answer = always(bad) if isinstance(bad, Response) else bad
    others = [world.root.leaf(world.at) for _ in range(5)]
    async with http_server(answer) as server:  # type: ignore[arg-type]
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.leaf, anchor) == "crl-missing"
            began = time.monotonic()
            for leaf in [world.leaf, *others]:  # it is left alone now
                assert await prepared(feed, world, leaf, anchor) == "crl-missing"
            assert time.monotonic() - began < 0.5
            assert len(server.requests) == 1
            await until(lambda: kinds(feed) == ["ocsp-unreachable"])


async def test_all_callers_of_a_hanging_responder_get_away_in_time(world: World) -> None:
    leaves = [world.root.leaf(world.at) for _ in range(20)]
    async with http_server(hang) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            assert set(await asyncio.gather(*(prepared(feed, world, leaf, anchor) for leaf in leaves))) == {
                "crl-missing"
            }
            responder = feed._book._responders[server.url]
            assert responder.failures == 1  # they all failed once, together


async def test_a_responder_that_is_back_is_found_by_one_and_used_by_all(
    world: World, responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocsp_book, "_FIRST_RETRY", 0.3)
    async with http_server(close) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.leaf, anchor) == "crl-missing"
            server.answer = responder
            await until(lambda: feed.needs_preparing(fingerprint(world.leaf)))
            assert await prepared(feed, world, world.leaf, anchor) == "ocsp"
            await until(lambda: not feed.alarms())


async def test_a_slow_answer_is_there_for_the_next_request(world: World, responder: Responder) -> None:
    responder.delay = 2.0
    async with http_server(responder) as server:
        anchor = only_ocsp(world, server)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.leaf, anchor) == "crl-missing"
            await until(lambda: world.rule(feed, anchor, world.leaf) == "ocsp")
            assert len(responder.asked) == 1


async def test_an_answer_outlives_its_responder_until_its_end_and_through_the_grace_period(
    world: World, responder: Responder
) -> None:
    async with http_server(responder) as server:
        anchor = only_ocsp(world, server, grace=HOUR)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.leaf, anchor) == "ocsp"
            server.answer = close
            world.clock.pass_time(DAY - HOUR)
            assert await prepared(feed, world, world.leaf, anchor) == "ocsp"
            world.clock.pass_time(HOUR + HOUR / 2)
            assert await prepared(feed, world, world.leaf, anchor) == "grace"
            await until(lambda: kinds(feed) == ["in-grace", "ocsp-unreachable"])
            world.clock.pass_time(HOUR)
            assert await prepared(feed, world, world.leaf, anchor) == "ocsp-stale"


async def test_a_list_that_covers_the_certificate_makes_up_for_a_responder_that_is_down(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at))
    async with http_server(close) as server:
        anchor = world.anchor(ocsp=server.url)
        async with world.feed(anchor) as feed:
            assert await prepared(feed, world, world.leaf, anchor) == "crl"


# Addresses from certificates


async def test_the_address_in_the_certificate_is_asked_if_it_may_be(world: World) -> None:
    responder = Responder(world.root, [], lambda: world.at)
    async with http_server(responder) as server:
        leaf = world.root.leaf(world.at, ocsp_url=server.url.replace("127.0.0.1", "localhost"))
        responder.certificates.append(leaf)
        anchor = world.anchor(crl_paths=(), ocsp="aia")
        async with world.feed(anchor) as feed:  # loopback: not for an address from a certificate
            assert await prepared(feed, world, leaf, anchor) == "crl-missing"
            await until(lambda: kinds(feed) == ["ocsp-unreachable"])
            assert "not a public one" in feed.alarms()[0].text
            assert server.requests == []
        local = ipaddress.ip_address("127.0.0.1")
        async with world.feed(anchor, allowed=lambda address: address in (local, ipaddress.ip_address("::1"))) as feed:
            assert await prepared(feed, world, leaf, anchor) == "ocsp"
            assert server.requests[0].headers["host"] == f"localhost:{server.port}"


async def test_nothing_is_asked_for_a_certificate_that_leads_to_no_anchor(world: World) -> None:
    async with http_server(hang) as server:
        stranger = World.stranger(world.at).leaf(world.at, ocsp_url=server.url)
        forged = replace(world.root, key=world.forger).leaf(world.at, ocsp_url=server.url)
        anchor = world.anchor(crl_paths=(), ocsp="aia")
        async with world.feed(anchor, allowed=lambda address: True) as feed:
            for leaf in (stranger, forged, world.leaf):  # the last names no responder
                await feed.prepare(leaf, [world.sub.certificate])
                assert not feed.needs_preparing(fingerprint(leaf))
            assert server.requests == []


def test_only_http_addresses_are_taken_from_certificates(world: World) -> None:
    for url, taken in {
        "http://ocsp.example/": True,
        "HTTPS://ocsp.example/": True,
        "ldap://ocsp.example/": False,
        "file:///etc/passwd": False,
        "ftp://ocsp.example/": False,
    }.items():
        leaf = PathCertificate.of(world.root.leaf(world.at, ocsp_url=url))
        assert address_in(leaf) == (url if taken else None)
    assert address_in(PathCertificate.of(world.leaf)) is None


@pytest.mark.parametrize(
    "url", ["http://user@ocsp.example/", "http:///", "http://[::1", "gopher://x/", "http://\udcff/"]
)
async def test_an_address_that_is_none_is_no_answer(world: World, url: str) -> None:
    leaf, issuer = PathCertificate.of(world.leaf), PathCertificate.of(world.root.certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(NoAnswerError):
        await ask(url, leaf, issuer, tls=tls, clock=world.clock, seconds=1.0, allowed=is_public)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "0.0.0.0",
        "192.0.0.192",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
    ],
)
def test_addresses_that_are_not_public_are_told(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "114.114.114.114", "2400:3200::1", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_told(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_the_request_names_the_certificate_by_sha1_and_carries_32_octets(world: World) -> None:
    leaf, issuer = PathCertificate.of(world.leaf), PathCertificate.of(world.root.certificate)
    question = ocsp.load_der_ocsp_request(_question(leaf, issuer, bytes(range(32))))
    assert isinstance(question.hash_algorithm, hashes.SHA1)
    assert question.serial_number == world.leaf.serial_number
    nonce = question.extensions.get_extension_for_class(x509.OCSPNonce)
    assert nonce.value.nonce == bytes(range(32))
    assert not nonce.critical
