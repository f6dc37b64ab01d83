"""Answers of the edge: the same bytes as uvicorn's, in one call or in pieces, and never more than a slow caller takes."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import inspect
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from ca_auth import EdgeLimits, edge_protocol
from ca_auth.edge.cycle import Cycle
from tests.ca_auth.edge_world import TIMEOUT, Application, Pki, running_edge

Headers = list[tuple[bytes, bytes]]

LENGTH_5: Headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
REQUEST = b"GET /a%20b?c=d HTTP/1.1\r\nHost: localhost\r\n\r\n"

ANSWERS: dict[str, tuple[bytes, int, Headers, bytes]] = {
    "whole": (b"GET", 200, LENGTH_5, b"hello"),
    "head": (b"HEAD", 200, LENGTH_5, b""),
    "head-with-a-body": (b"HEAD", 200, LENGTH_5, b"hello"),
    "head-without-length": (b"HEAD", 200, [], b""),
    "no-length": (b"GET", 200, [(b"x-a", b"1")], b"hello"),
    "no-length-and-empty": (b"GET", 404, [], b""),
    "empty": (b"GET", 200, [(b"content-length", b"0")], b""),
    "no-content": (b"GET", 204, [(b"x-a", b"1")], b""),
    "not-modified": (b"GET", 304, [(b"etag", b'"1"')], b""),
    "not-modified-with-length": (b"HEAD", 304, [(b"content-length", b"5")], b""),
    "chunked-by-the-application": (b"GET", 200, [(b"Transfer-Encoding", b"Chunked")], b"hello"),
    "length-and-chunked": (b"GET", 200, [(b"content-length", b"9"), (b"transfer-encoding", b"chunked")], b"hello"),
    "chunked-and-length": (b"GET", 200, [(b"transfer-encoding", b"chunked"), (b"content-length", b"9")], b"hello"),
    "two-lengths": (b"GET", 200, [(b"content-length", b"5"), (b"content-length", b"7")], b"hello"),
    "close": (b"GET", 401, [*LENGTH_5, (b"connection", b"close")], b"hello"),
    "close-in-a-list": (b"GET", 200, [*LENGTH_5, (b"Connection", b"x, Close ")], b"hello"),
    "keep-alive": (b"GET", 200, [*LENGTH_5, (b"connection", b"keep-alive")], b"hello"),
    "names-in-upper-case": (b"GET", 200, [(b"Content-Length", b"5"), (b"X-A", b"B")], b"hello"),
    "same-name-twice": (b"GET", 200, [*LENGTH_5, (b"set-cookie", b"a"), (b"set-cookie", b"b")], b"hello"),
    "tab-and-latin-1": (b"GET", 200, [*LENGTH_5, (b"x-a", b"a\tb\xe9")], b"hello"),
    "empty-value": (b"GET", 200, [*LENGTH_5, (b"x-a", b"")], b"hello"),
    "unusual-status": (b"GET", 599, LENGTH_5, b"hello"),
    "large": (b"GET", 200, [(b"content-length", b"300000")], bytes(300_000)),
    "large-without-length": (b"GET", 200, [], bytes(300_000)),
}
BROKEN: dict[str, tuple[Headers, bytes]] = {
    "line-end-in-value": ([*LENGTH_5, (b"x-a", b"1\r\nx-b: 2")], b"hello"),
    "line-feed-in-value": ([*LENGTH_5, (b"x-a", b"1\nx-b: 2")], b"hello"),
    "nul-in-value": ([*LENGTH_5, (b"x-a", b"\x00")], b"hello"),
    "delete-in-value": ([*LENGTH_5, (b"x-a", b"\x7f")], b"hello"),
    "space-in-name": ([*LENGTH_5, (b"x a", b"1")], b"hello"),
    "line-end-in-name": ([*LENGTH_5, (b"x-a: 1\r\nx-b", b"1")], b"hello"),
    "colon-in-name": ([*LENGTH_5, (b"x-a:", b"1")], b"hello"),
    "longer-than-it-says": (LENGTH_5, b"hello!"),
    "shorter-than-it-says": (LENGTH_5, b"hell"),
    "body-without-content": ([(b"content-length", b"0")], b"x"),
}


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and takes it as slowly as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.writes = 0
        self.closed = False
        self.reading = True
        self.here: Any = ("127.0.0.1", 8443)
        self.there: Any = ("127.0.0.2", 50000)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self
        return {"sockname": self.here, "peername": self.there}.get(name, default)

    def getsockname(self) -> Any:
        return self.here

    def getpeername(self) -> Any:
        return self.there

    def write(self, data: Any) -> None:
        self.written += data
        self.writes += 1

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0


def in_pieces(status: int, headers: Headers, body: bytes) -> Application:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application


def in_one_call(status: int, headers: Headers, body: bytes) -> Application:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["respond"](status, headers, body)

    return application


class Spoken:
    """A connection without a network, and the server behind it."""

    def __init__(
        self,
        application: Application,
        *,
        ours: bool = True,
        default: Headers | None = None,
        limits: EdgeLimits | None = None,
        root_path: str = "",
        addresses: tuple[Any, Any] | None = None,
    ) -> None:
        http = edge_protocol(limits or EdgeLimits(), lambda *_: None) if ours else httptools_impl.HttpToolsProtocol
        config = uvicorn.Config(
            application,
            http=http,
            interface="asgi3",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            root_path=root_path,
        )
        self.server = ServerState()
        self.server.default_headers = default or []
        config.load()
        self.wire = Wire()
        if addresses is not None:
            self.wire.here, self.wire.there = addresses
        self.protocol: Any = config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=self.server, app_state={}, _loop=asyncio.get_running_loop()
        )
        self.protocol.connection_made(self.wire)

    async def hear(self, data: bytes) -> None:
        self.protocol.data_received(data)
        await self.settle()

    async def settle(self) -> None:
        """Until nothing moves any more without news from outside."""
        for _ in range(20):
            await asyncio.sleep(0)

    def leave(self) -> None:
        self.wire.closed = True
        self.protocol.connection_lost(None)


async def told(
    application: Application, request: bytes, *, ours: bool, default: Headers | None = None
) -> tuple[bytes, bool, int]:
    """What is written, whether the connection is closed then, and how many requests that were."""
    spoken = Spoken(application, ours=ours, default=default)
    await spoken.hear(request)
    result = bytes(spoken.wire.written), spoken.wire.closed, spoken.server.total_requests
    spoken.leave()
    return result


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"], ids=["keep-alive", "close"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_has_the_same_bytes_as_uvicorns(name: str, more: bytes) -> None:
    method, status, headers, body = ANSWERS[name]
    request = method + b" / HTTP/1.1\r\nHost: localhost\r\n" + more + b"\r\n"
    for default in ([], [(b"Server", b"x")]):
        expected = await told(in_pieces(status, headers, body), request, ours=False, default=default)
        assert expected[0]
        assert await told(in_pieces(status, headers, body), request, ours=True, default=default) == expected
        assert await told(in_one_call(status, headers, body), request, ours=True, default=default) == expected


TARGETS = [
    *(b"/a" + bytes([byte]) + b"b?c" + bytes([byte]) + b"d" for byte in range(256)),
    *(b"/ // //a/b /? /?? /a?b?c /a#b /a#b?c /a?b#c?d /%E7%A8%8E /%zz /%00?%00 /a;b=c http://localhost/a?b#c".split()),
    *(b"/" + b"a" * (size - 1) for size in (65_535, 65_536)),
    *(b"http://localhost http://localhost? https://localhost:1/%41".split()),
]


@pytest.mark.parametrize("root_path", ["", "/under"])
async def test_a_request_is_told_to_the_application_as_uvicorn_tells_it(root_path: str) -> None:
    heard: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        heard.append({name: value for name, value in scope.items() if name not in ("state", "extensions")})
        heard[-1]["received"] = await receive()
        await in_pieces(200, LENGTH_5, b"hello")(scope, receive, send)

    for target in TARGETS:
        host = b"localhost:1" if b"://localhost:1" in target else b"localhost"
        request = b"POST " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nX-A: B\r\nContent-Length: 2\r\n\r\nhi"
        for ours in (False, True):
            spoken = Spoken(application, ours=ours, root_path=root_path, limits=EdgeLimits(head_bytes=1 << 20))
            await spoken.hear(request)
            if b" 200 " not in spoken.wire.written:
                heard.append({})
            spoken.leave()
        by_uvicorn, by_us = heard[-2:]
        assert by_us == by_uvicorn, target
    assert len(heard) == 2 * len(TARGETS)
    assert sum(each != {} for each in heard) > len(TARGETS) / 2


@pytest.mark.parametrize(
    "addresses",
    [
        (("127.0.0.1", 8443), ("127.0.0.2", 50000)),
        (("::1", 8443, 0, 0), ("fe80::1%2", 50000, 0, 2)),
        ("/run/terminator.sock", ""),
        (None, None),
    ],
    ids=["ipv4", "ipv6", "unix", "unknown"],
)
async def test_the_addresses_are_those_that_uvicorn_tells(addresses: tuple[Any, Any]) -> None:
    told_of: list[tuple[Any, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        told_of.append((scope["server"], scope["client"]))

    for ours in (False, True):
        spoken = Spoken(application, ours=ours, addresses=addresses)
        await spoken.hear(REQUEST)
        spoken.leave()
    assert told_of[0] == told_of[1]


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_ends_the_connection_and_is_not_begun(name: str) -> None:
    headers, body = BROKEN[name]
    in_one = await told(in_one_call(200, headers, body), REQUEST, ours=True)
    assert in_one == (b"", True, 0)
    expected = await told(in_pieces(200, headers, body), REQUEST, ours=False)
    assert expected[1]
    assert await told(in_pieces(200, headers, body), REQUEST, ours=True) == expected


async def test_what_an_application_forgets_is_answered_like_uvicorn_does() -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def raises(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError

    async def begins(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": LENGTH_5})

    async def says_something(scope: Any, receive: Any, send: Any) -> Any:
        return "done"

    async def without_a_head(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.body", "body": b"hello"})

    async def twice(scope: Any, receive: Any, send: Any) -> None:
        await in_pieces(200, LENGTH_5, b"hello")(scope, receive, send)
        await send({"type": "http.response.body", "body": b"hello"})

    for application in (nothing, raises, begins, says_something, without_a_head, twice):
        expected = await told(application, REQUEST, ours=False)
        assert await told(application, REQUEST, ours=True) == expected


@pytest.mark.parametrize("second", [in_one_call, in_pieces])
async def test_a_second_answer_is_an_error_and_never_sent(second: Callable[..., Application]) -> None:
    raised: list[type[Exception]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await in_one_call(200, LENGTH_5, b"hello")(scope, receive, send)
        try:
            await second(200, LENGTH_5, b"again")(scope, receive, send)
        except RuntimeError as error:
            raised.append(type(error))

    written, closed, requests = await told(application, REQUEST, ours=True)
    assert written.endswith(b"\r\n\r\nhello")
    assert (closed, requests, raised) == (False, 1, [RuntimeError])


@pytest.mark.parametrize("answer", [in_one_call, in_pieces])
async def test_nobody_is_answered_who_has_left(answer: Callable[..., Application]) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await answer(200, LENGTH_5, b"hello")(scope, receive, send)

    spoken = Spoken(application)
    await spoken.hear(REQUEST)
    assert len(spoken.server.tasks) == 1
    spoken.leave()
    await spoken.settle()
    assert not spoken.wire.written
    assert not spoken.server.tasks


async def test_a_small_answer_is_one_write_and_a_large_one_is_not_copied() -> None:
    for size, writes in ((5, 1), (300_000, 2)):
        spoken = Spoken(in_one_call(200, [(b"content-length", str(size).encode())], bytes(size)))
        spoken.protocol.data_received(REQUEST)
        await spoken.settle()
        assert spoken.wire.writes == writes
        spoken.leave()


async def test_a_whole_answer_stays_behind_what_was_written_before() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            await receive()  # writes 100 Continue, which leaves at the end of the turn
        scope["state"]["respond"](200, LENGTH_5, b"hello")

    written, _, _ = await told(
        application,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx" + REQUEST,
        ours=True,
    )
    assert written.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert written.count(b"HTTP/1.1 200 OK") == 2


async def test_an_answer_leaves_nothing_for_the_collector() -> None:
    spoken = Spoken(in_one_call(200, LENGTH_5, b"hello"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await spoken.hear(REQUEST)
        cycles = [each for each in gc.get_objects() if type(each) is Cycle]
        assert cycles == [spoken.protocol.cycle]
        del cycles
        spoken.leave()
        await spoken.settle()
        assert not [each for each in gc.get_objects() if type(each) is Cycle]
        assert not spoken.server.tasks
    finally:
        gc.enable()


# A caller that reads slowly


def counting(executed: list[str], size: int) -> Application:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        executed.append(scope["path"])
        scope["state"]["respond"](200, [(b"content-length", str(size).encode())], bytes(size))

    return application


async def test_while_a_caller_does_not_read_nothing_more_is_read_from_it_or_begun() -> None:
    executed: list[str] = []
    spoken = Spoken(counting(executed, 5))
    spoken.protocol.pause_writing()
    await spoken.hear(REQUEST * 3)
    assert len(executed) == 1
    assert not spoken.wire.reading
    spoken.protocol.resume_writing()
    await spoken.settle()
    assert len(executed) == 3
    assert spoken.wire.reading
    spoken.leave()


async def test_a_refusal_behind_an_answer_that_nobody_reads_waits_for_its_turn() -> None:
    executed: list[str] = []
    spoken = Spoken(counting(executed, 5))
    spoken.protocol.pause_writing()
    await spoken.hear(REQUEST * 2 + b"GET /evil HTTP/1.1\r\n\r\n")
    assert b"host-header" not in spoken.wire.written
    spoken.protocol.resume_writing()
    await spoken.settle()
    assert len(executed) == 2
    assert spoken.wire.written.rindex(b"host-header") > spoken.wire.written.rindex(b"HTTP/1.1 200")
    assert spoken.wire.closed
    spoken.leave()


@pytest.mark.parametrize("behind", [b"", REQUEST, REQUEST[:20]], ids=["nothing", "a-request", "half-a-request"])
async def test_a_caller_that_never_reads_is_closed_when_its_patience_ends(behind: bytes) -> None:
    executed: list[str] = []
    spoken = Spoken(counting(executed, 5), limits=EdgeLimits(head_seconds=0.05, body_seconds=0.05, idle_seconds=0.2))
    spoken.protocol.pause_writing()
    await spoken.hear(REQUEST + behind)
    async with asyncio.timeout(TIMEOUT):
        while not spoken.wire.closed:
            await asyncio.sleep(0.01)
    assert b"408" not in spoken.wire.written  # it could not have sent more
    assert len(executed) == 1
    spoken.leave()


async def test_a_request_that_could_not_go_on_meanwhile_has_its_time_afterwards() -> None:
    executed: list[str] = []
    spoken = Spoken(counting(executed, 5), limits=EdgeLimits(head_seconds=0.2))
    spoken.protocol.pause_writing()
    await spoken.hear(REQUEST + REQUEST[:20])
    late = asyncio.get_running_loop().time() + 0.25
    while asyncio.get_running_loop().time() < late:
        await asyncio.sleep(0.01)
    spoken.protocol.resume_writing()
    spoken.protocol._look_at_the_clock()
    await spoken.hear(REQUEST[20:])
    assert b"408" not in spoken.wire.written
    assert len(executed) == 2
    spoken.leave()


# The real server

SIZE = 12 << 20


def test_answers_in_one_call_arrive_over_tls_in_order_and_whole(pki: Pki) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        size = int(scope["path"][1:])
        await asyncio.sleep(0.001 * (size % 3))
        scope["state"]["respond"](200, [(b"content-length", str(size).encode())], bytes([size % 251]) * size)

    sizes = [0, 5, 70_000, 1, 3 << 20, 7, 65_536, 2]
    with running_edge(pki, application=application) as edge, edge.connect(pki.tax) as caller:
        for _ in range(3):
            caller.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % size for size in sizes))
            for size in sizes:
                assert caller.answer().body == bytes([size % 251]) * size
        assert caller.get("/4", more="Connection: close\r\n").headers["connection"] == "close"
        assert caller.is_closed()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_caller_that_does_not_read_over_tls_is_begun_no_further_request(pki: Pki, loop: Any) -> None:
    executed: list[str] = []
    begun = threading.Semaphore(0)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        executed.append(scope["path"])
        scope["state"]["respond"](200, [(b"content-length", str(SIZE).encode())], bytes(SIZE))
        begun.release()

    with running_edge(pki, application=application, loop=loop) as edge, edge.connect(pki.tax) as caller:
        caller.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number for number in range(4)))
        assert begun.acquire(timeout=TIMEOUT)
        begun.acquire(timeout=0.3)  # TLS and TCP have a buffer each, and each is filled once before it says so
        assert not begun.acquire(timeout=0.3)
        with edge.connect(pki.tax) as other:  # the server is not waiting for the slow one
            other.send(b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert begun.acquire(timeout=TIMEOUT)
        for _ in range(4):
            assert len(caller.answer().body) == SIZE
    assert [path for path in executed if path != "/other"] == ["/0", "/1", "/2", "/3"]


def test_a_request_in_progress_is_answered_in_one_call_while_the_server_stops(pki: Pki) -> None:
    stopping = threading.Event()
    begun = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await asyncio.get_running_loop().run_in_executor(None, stopping.wait, TIMEOUT)
        await asyncio.sleep(0.3)  # the server looks ten times a second whether it is to stop
        scope["state"]["respond"](200, LENGTH_5, b"hello")

    with running_edge(pki, application=application) as edge, edge.connect(pki.tax) as caller:
        caller.send(REQUEST)
        assert begun.wait(TIMEOUT)
        edge.stop()
        stopping.set()
        answer = caller.answer()
        assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
        assert caller.is_closed()


def test_the_connection_is_gone_at_once_when_an_answer_is_cut_off(pki: Pki) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(0.01)
        scope["state"]["abort"]()

    with running_edge(pki, application=application) as edge, edge.connect(pki.tax) as caller:
        caller.send(REQUEST)
        read = b""
        try:
            while piece := caller.tls.recv(65536):
                read += piece
        except (ConnectionError, ssl.SSLError):
            pass
        assert read.endswith(b"4\r\nhalf\r\n")


REPLACED = {
    httptools_impl.RequestResponseCycle: "e67d470d435dcc1ce6de9773841524a4439a06afd3a7243e458dc7f7c952b310",
    httptools_impl.HttpToolsProtocol: "18fdf324b11bf160e38739eed01a48516b460be9e88f1e20e4546e7363fd9232",
    FlowControl: "126debcdaa894c83ed9491b41cb3b99c97469f00520f2483d2a5d1f53de91fa4",
}


@pytest.mark.parametrize("replaced", REPLACED, ids=lambda each: each.__name__)
def test_uvicorn_is_the_one_that_our_protocol_follows(replaced: type) -> None:
    """uvicorn has changed? Compare `ca_auth/edge/cycle.py` and `http_protocol.py` with it, then note the new hash."""
    assert hashlib.sha256(inspect.getsource(replaced).encode()).hexdigest() == REPLACED[replaced]
