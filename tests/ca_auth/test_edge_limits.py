"""What the edge lets through, what it refuses, and that a refused request is never executed."""

from __future__ import annotations

import json
import random
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ca_auth import EDGE_REFUSALS, EdgeLimits
from tests.ca_auth.edge_world import TIMEOUT, Edge, Pki, running_edge

HOST = b"Host: localhost\r\n"


def head_of(size: int, *, method: str = "GET") -> bytes:
    """A valid head of exactly `size` bytes."""
    start = f"{method} / HTTP/1.1\r\nHost: localhost\r\nX-Filler: ".encode()
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


MALFORMED = {
    "no-host": (b"GET / HTTP/1.1\r\n\r\n", "host-header"),
    "two-hosts": (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n", "host-header"),
    "the-same-host-twice": (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "host-header"),
    "empty-host": (b"GET / HTTP/1.1\r\nHost: \r\n\r\n", "host-header"),
    "host-with-path": (b"GET / HTTP/1.1\r\nHost: localhost/evil\r\n\r\n", "host-header"),
    "host-with-user": (b"GET / HTTP/1.1\r\nHost: user@localhost\r\n\r\n", "host-header"),
    "host-with-space": (b"GET / HTTP/1.1\r\nHost: local host\r\n\r\n", "host-header"),
    "host-list": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "host-header"),
    "http-0.9": (b"GET /\r\n\r\n", "http-version"),
    "http-1.0": (b"GET / HTTP/1.0\r\n" + HOST + b"\r\n", "http-version"),
    "http-1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", "http-"),
    "http-2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", "http-"),
    "http-3.0": (b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", "http-"),
    "http-2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http-syntax"),
    "transfer-encoding-on-1.0": (
        b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "http-version",
    ),
    "length-and-chunked": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "",
    ),
    "chunked-and-length": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "",
    ),
    "two-lengths": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na", ""),
    "same-length-twice": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", ""),
    "length-list": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\na", "http-syntax"),
    "negative-length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", "http-syntax"),
    "signed-length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na", "http-syntax"),
    "hexadecimal-length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\na", "http-syntax"),
    "huge-length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\n", "http-syntax"),
    "identity-coding": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: identity\r\n\r\n", "message-length"),
    "two-codings": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "message-length",
    ),
    "chunked-twice": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "",
    ),
    "chunked-misspelt": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "message-length",
    ),
    "space-before-colon": (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", "http-syntax"),
    "folded-line": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: one\r\n two\r\n\r\n", "http-syntax"),
    "folded-first-line": (b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n", "http-syntax"),
    "bare-line-feed": (b"GET / HTTP/1.1\nHost: localhost\n\n", "http-syntax"),
    "bare-carriage-return": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\rb\r\n\r\n", "http-syntax"),
    "nul-in-value": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\x00b\r\n\r\n", "http-syntax"),
    "nul-in-name": (b"GET / HTTP/1.1\r\n" + HOST + b"X\x00A: ab\r\n\r\n", "http-syntax"),
    "line-without-colon": (b"GET / HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n", "http-syntax"),
    "empty-name": (b"GET / HTTP/1.1\r\n" + HOST + b": value\r\n\r\n", "http-syntax"),
    "unknown-method": (b"G=T / HTTP/1.1\r\n" + HOST + b"\r\n", "http-syntax"),
    "space-in-target": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", "http-syntax"),
    "control-in-target": (b"GET /a\x01b HTTP/1.1\r\n" + HOST + b"\r\n", "http-syntax"),
    "non-ascii-target": ("GET /税务 HTTP/1.1\r\n".encode() + HOST + b"\r\n", "http-syntax"),
    "authority-form": (b"CONNECT localhost:443 HTTP/1.1\r\n" + HOST + b"\r\n", "request-target"),
    "asterisk-form": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", "request-target"),
    "absolute-form-of-another": (b"GET http://other/ HTTP/1.1\r\n" + HOST + b"\r\n", "request-target"),
    "no-target": (b"GET HTTP/1.1\r\n" + HOST + b"\r\n", "http-syntax"),
    "plain-nonsense": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "http-syntax"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_answered_400_recorded_and_never_executed(edge: Edge, name: str) -> None:
    data, rule = MALFORMED[name]
    with edge.connect(edge.pki.tax) as caller:
        caller.send(data)
        answer = caller.answer()
        assert caller.is_closed()
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-road-error"].startswith("server.")
    assert answer.headers["connection"] == "close"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "rule", "next", "source"}
    assert problem["rule"].startswith(rule)
    assert edge.refused.get(timeout=TIMEOUT) == (problem["rule"], 400, edge.pki.tax.fingerprint)
    assert edge.refused.empty()
    assert edge.executed == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"-1\r\nx\r\n0\r\n\r\n", id="negative-size"),
        pytest.param(b"0x1\r\nx\r\n0\r\n\r\n", id="prefixed-size"),
        pytest.param(b"1\nx\r\n0\r\n\r\n", id="bare-line-feed"),
        pytest.param(b"1\r\nxy\r\n0\r\n\r\n", id="chunk-longer-than-its-size"),
        pytest.param(b"fffffffffffffffff\r\nx\r\n", id="overflowing-size"),
        pytest.param(b"1 \r\nx\r\n0\r\n\r\n", id="space-after-size"),
    ],
)
def test_a_body_with_broken_chunks_ends_the_request_without_an_answer_of_the_application(
    edge: Edge, data: bytes
) -> None:
    with edge.connect(edge.pki.tax) as caller:
        caller.send(b"POST /chunks HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + data)
        answer = caller.answer()
        assert caller.is_closed()
    assert (answer.status, answer.json()["rule"]) == (400, "http-syntax")


WELL_FORMED = {
    "plain": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "leading-empty-line": b"\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "port": b"GET / HTTP/1.1\r\nHost: localhost:8443\r\n\r\n",
    "ipv4": b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n",
    "ipv6": b"GET / HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n",
    "absolute-form": b"GET https://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "repeated-list-header": b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: a\r\nAccept: b\r\n\r\n",
    "chunked-upper-case": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    "latin-1-value": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: \xe9\r\n\r\n",
}


@pytest.mark.parametrize("name", WELL_FORMED)
def test_a_well_formed_request_reaches_the_application(edge: Edge, name: str) -> None:
    with edge.connect(edge.pki.tax) as caller:
        for _ in range(3):  # and the connection stays usable
            caller.send(WELL_FORMED[name])
            assert caller.answer().status == 200
    assert edge.refused.empty()


@pytest.mark.parametrize("pieces", [1, 2, 7])
@pytest.mark.parametrize(("size", "status"), [(16384, 200), (16385, 431), (40_000, 431), (300_000, 431)])
def test_a_head_may_have_16_kibibytes_however_it_arrives(edge: Edge, size: int, status: int, pieces: int) -> None:
    head = head_of(size)
    with edge.connect(edge.pki.tax) as caller:
        for at in range(0, size, size // pieces + 1):
            caller.send(head[at : at + size // pieces + 1])
        answer = caller.answer()
        assert answer.status == status
        if status == 431:
            assert answer.json()["rule"] == "head-size"
            assert caller.is_closed()
            assert edge.refused.get(timeout=TIMEOUT) == ("head-size", 431, edge.pki.tax.fingerprint)
            assert edge.executed == []


def test_a_head_of_8_mebibytes_is_answered_before_it_is_read(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Endless: ")
        sent = 0
        while sent < 8 << 20 and not caller.hears_within(0.01):
            caller.send(b"x" * 16384)
            sent += 16384
        assert caller.answer().status == 431
    assert sent < 8 << 20
    assert edge.executed == []


def test_a_caller_that_does_not_stop_after_a_refusal_is_cut_off(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        caller.send(head_of(20_000))
        with pytest.raises((ConnectionError, ssl.SSLError)):
            caller.send_for_ever(b"x" * 16384)


@pytest.mark.parametrize(("lines", "status"), [(64, 200), (65, 431), (4000, 431)])
def test_a_head_may_have_64_lines(edge: Edge, lines: int, status: int) -> None:
    with edge.connect(edge.pki.tax) as caller:
        caller.send(b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"a:\r\n" for _ in range(lines - 1)) + b"\r\n")
        answer = caller.answer()
    assert answer.status == status
    if status == 431:
        assert answer.json()["rule"] == "header-lines"


def test_a_large_body_in_the_same_read_as_its_head_is_not_counted_as_head(edge: Edge) -> None:
    size = 13 << 20
    with edge.connect(edge.pki.tax) as caller:
        for _ in range(2):
            caller.send(
                f"POST /big HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size
            )
            assert caller.answer().json()["received"] == size


def test_a_head_behind_another_request_in_the_same_read_is_counted_too(edge: Edge) -> None:
    for first in (b"GET /first HTTP/1.1\r\n" + HOST + b"\r\n", head_of(14_000), head_of(16_384)):
        edge.executed.clear()
        with edge.connect(edge.pki.tax) as caller:
            caller.send(first + head_of(20_000).replace(b"GET / ", b"GET /second "))
            assert caller.answer().status == 200
            assert caller.answer().status == 431
            assert caller.is_closed()
        assert "/second" not in edge.executed


def test_a_head_behind_a_body_in_the_same_read_is_counted_too(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        caller.send(b"POST /first HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n")
        caller.send(b"x" * 100_000 + head_of(20_000).replace(b"GET / ", b"GET /second "))
        assert caller.answer().json()["received"] == 100_000
        assert caller.answer().status == 431
    assert edge.executed == ["/first"]


def test_requests_in_a_row_are_answered_in_order_however_they_are_cut(edge: Edge) -> None:
    rows = [
        b"GET /0 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST /1 HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
        b"POST /2 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n",
        head_of(16_384).replace(b"GET / ", b"GET /3 ").replace(b"xxx", b"", 1)[:-5] + b"\r\n\r\n",
        b"GET /4 HTTP/1.1\r\n" + HOST + b"\r\n",
    ]
    stream, chance = b"".join(rows), random.Random(9112)
    for _ in range(20):
        cuts = sorted(chance.sample(range(1, len(stream)), chance.randint(0, 30)))
        with edge.connect(edge.pki.tax) as caller:
            for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
                caller.send(stream[start:end])
            assert [caller.answer().json()["path"] for _ in rows] == ["/0", "/1", "/2", "/3", "/4"]
    assert edge.refused.empty()


def test_a_broken_request_behind_a_good_one_waits_for_its_turn_and_is_not_executed(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        caller.send(
            b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET /evil HTTP/1.1\r\n\r\n" + b"GET /after HTTP/1.1\r\n"
        )
        edge.refused.get(timeout=TIMEOUT)
        edge.release.set()
        assert caller.answer().json()["path"] == "/wait"
        assert caller.answer().json()["rule"] == "host-header"
        assert caller.is_closed()
    assert edge.executed == ["/wait"]


def test_a_request_with_a_broken_body_behind_a_good_one_never_starts(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        caller.send(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")
        caller.send(b"POST /evil HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        edge.release.set()
        assert caller.answer().json()["path"] == "/wait"
        last = caller.answer()
        assert (last.status, last.json()["rule"]) == (400, "http-syntax")
        assert caller.is_closed()


def test_only_so_many_requests_may_wait_for_their_turn(edge: Edge) -> None:
    request = b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n"
    with edge.connect(edge.pki.tax) as caller:
        caller.send(request * 1000)
        assert edge.refused.get(timeout=TIMEOUT) == ("pipeline-depth", 429, edge.pki.tax.fingerprint)
        edge.release.set()
        statuses = [caller.answer().status for _ in range(18)]
        assert caller.is_closed()
    assert statuses == [200] * 17 + [429]
    assert len(edge.executed) == 17


def test_trailers_never_become_headers(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        caller.send(
            b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Road-Client: CN/GOV/x/y\r\n\r\n"
        )
        assert caller.answer().json()["headers"] == ["host", "transfer-encoding"]


def test_endless_trailers_are_refused(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        caller.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Endless: ")
        sent = 0
        while sent < 8 << 20 and not caller.hears_within(0.01):
            caller.send(b"x" * 16384)
            sent += 16384
        assert caller.answer().json()["rule"] == "head-size"
    assert sent < 8 << 20


def test_an_upgrade_is_answered_as_an_ordinary_request_and_ends_the_connection(edge: Edge) -> None:
    for protocol in (b"websocket", b"h2c"):
        edge.executed.clear()
        with edge.connect(edge.pki.tax) as caller:
            caller.send(
                b"GET /up HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
                b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
            )
            answer = caller.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert caller.is_closed()
        assert edge.executed == ["/up"]


def test_an_answer_given_before_the_body_was_read_is_the_only_one(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        caller.send(b"POST /early HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        assert caller.answer().status == 200
        caller.send(b"nonsense\r\n")
        assert caller.is_closed()


def test_the_refusal_speaks_the_callers_language(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        answer = caller.get(more="Host: localhost\r\nAccept-Language: zh-CN,zh;q=0.9\r\n")
    assert answer.headers["content-language"] == "zh-CN"
    assert "Host" in answer.json()["detail"]
    assert answer.json()["title"] == "请求格式不正确"


def test_every_refusal_is_complete_in_both_languages() -> None:
    for refusal in EDGE_REFUSALS:
        for text in (refusal.title, refusal.detail, refusal.next):
            assert text["en"]
            assert text["zh"]
    assert len({refusal.rule for refusal in EDGE_REFUSALS}) == len(EDGE_REFUSALS)


@pytest.fixture(scope="module")
def hasty(pki: Pki) -> Iterator[Edge]:
    """A server with no patience."""
    with running_edge(pki, EdgeLimits(head_seconds=0.6, body_seconds=0.6, idle_seconds=0.6)) as edge:
        yield edge


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["first", "second"])
def test_a_slow_head_is_answered_408_and_closed_although_bytes_keep_coming(hasty: Edge, first: bytes) -> None:
    with hasty.connect(hasty.pki.tax) as caller:
        if first:
            caller.send(first)
            assert caller.answer().status == 200
        began = time.monotonic()
        caller.send(b"GET / HTTP/1.1\r\nX-Slow: ")
        while not caller.hears_within(0.05):
            caller.send(b"x")
        answer = caller.answer()
        assert caller.is_closed()
    assert (answer.status, answer.json()["rule"]) == (408, "head-deadline")
    assert 0.5 < time.monotonic() - began < TIMEOUT / 2
    assert hasty.refused.get(timeout=TIMEOUT) == ("head-deadline", 408, hasty.pki.tax.fingerprint)


def test_a_slow_head_behind_a_request_in_the_same_read_has_the_same_deadline(hasty: Edge) -> None:
    with hasty.connect(hasty.pki.tax) as caller:
        caller.send(b"GET /one HTTP/1.1\r\n" + HOST + b"\r\nGET /two HTTP/1.1\r\n")
        assert caller.answer().status == 200
        assert caller.answer().status == 408
        assert caller.is_closed()
    hasty.refused.get(timeout=TIMEOUT)


def test_a_slow_body_is_answered_408_and_closed(hasty: Edge) -> None:
    with hasty.connect(hasty.pki.tax) as caller:
        caller.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nx")
        answer = caller.answer()
        assert caller.is_closed()
    assert (answer.status, answer.json()["rule"]) == (408, "body-deadline")
    # The application is told: it has the request, and puts the one attempt on the record.
    assert hasty.cut_short.get(timeout=TIMEOUT).rule == "body-deadline"
    assert hasty.refused.empty()


def test_a_body_that_keeps_coming_may_take_longer_and_one_that_drips_may_not(pki: Pki) -> None:
    with running_edge(pki, EdgeLimits(head_seconds=0.5, body_seconds=0.5, body_rate=1000)) as edge:
        for piece, status in ((b"x" * 400, 200), (b"x", 408)):
            with edge.connect(pki.tax) as caller:
                caller.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (8 * len(piece)))
                for _ in range(8):
                    caller.send(piece)
                    if caller.hears_within(0.15):
                        break
                assert caller.answer().status == status


def test_slow_callers_are_closed_within_15_seconds_and_take_nothing_from_honest_ones(pki: Pki) -> None:
    """With the limits as they are by default: half of the slow ones drip heads, the others bodies."""
    heads = (b"GET / HTTP/1.1\r\nX-Slow: ", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n")
    with running_edge(pki) as edge, ExitStack() as held, edge.connect(pki.tax) as honest:
        slow = [held.enter_context(edge.connect(pki.tax)) for _ in range(200)]
        for number, each in enumerate(slow):
            each.send(heads[number % 2])
        last = time.monotonic()
        slowest, asked, left = 0.0, 0, list(slow)
        while left and time.monotonic() < last + 15:
            for each in list(left):
                began = time.monotonic()
                assert honest.get().status == 200
                slowest, asked = max(slowest, time.monotonic() - began), asked + 1
                if each.hears_within(0.01):
                    assert each.answer().status == 408
                    left.remove(each)
                else:
                    each.send(b"x")
        assert not left
        assert asked > 400
        assert slowest < 5  # served all the while, not after the slow ones
    while not edge.refused.empty():
        edge.refused.get()


def test_a_connection_without_a_byte_is_closed_without_an_answer(hasty: Edge) -> None:
    with hasty.connect(hasty.pki.tax) as caller:
        assert caller.is_closed()
    with hasty.connect(None) as caller:
        assert caller.is_closed()
    assert hasty.refused.empty()


def test_an_idle_connection_is_closed_without_an_answer(hasty: Edge) -> None:
    with hasty.connect(hasty.pki.tax) as caller:
        assert caller.get().status == 200
        assert caller.is_closed()
    assert hasty.refused.empty()


def test_a_request_in_progress_is_not_idle(hasty: Edge) -> None:
    """Nothing but the application decides how long its answer takes."""
    hasty.release.clear()
    with hasty.connect(hasty.pki.tax) as caller:
        caller.send(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")
        assert not caller.hears_within(1.8)  # three times the longest patience
        hasty.release.set()
        assert caller.answer().status == 200


def test_a_certificate_may_hold_only_so_many_connections(pki: Pki) -> None:
    with running_edge(pki, EdgeLimits(connections_per_certificate=2)) as edge:
        with edge.connect(pki.tax) as first, edge.connect(pki.tax) as second:
            assert first.get().status == 200
            assert second.get().status == 200
            with edge.connect(pki.tax) as third:
                answer = third.get("/third")
                assert (answer.status, answer.json()["rule"]) == (429, "connection-limit")
                assert int(answer.headers["retry-after"]) > 0
                assert third.is_closed()
            with edge.connect(pki.member) as other:
                assert other.get().status == 200
            assert first.get().status == 200
        assert edge.refused.get(timeout=TIMEOUT) == ("connection-limit", 429, pki.tax.fingerprint)
        assert "/third" not in edge.executed
        # Closed connections make room; how soon depends on when the server sees them go.
        deadline = time.monotonic() + TIMEOUT
        while True:
            with edge.connect(pki.tax) as again:
                if again.get().status == 200:
                    break
            assert time.monotonic() < deadline


def test_a_refusal_carries_no_text_of_the_caller(edge: Edge) -> None:
    with edge.connect(edge.pki.tax) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: <script>alert</script>\r\n\r\n")
        assert "script" not in json.dumps(caller.answer().json())
