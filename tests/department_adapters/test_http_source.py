"""A department's HTTP API as a source: bytes pass as they are, and no request is made twice that may act twice."""

from __future__ import annotations

import asyncio
import gzip
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from department_adapters import HttpSource, SourceAnswer, SourceRequest
from department_adapters.http.link import MAX_HEAD, HttpLink, HttpLinkError
from department_adapters.http.outbound import Outbound
from department_adapters.http.source import DEFAULT_METHODS
from department_adapters.source import ask
from exchange import AnswerTimeoutError, BackendError, Headers, PayloadTooLargeError
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import until

HERE = Outbound(allow_addresses=["127.0.0.0/8"])
"""The servers of these tests are on this machine."""
Scope = dict[str, Any]
SAFE = ("GET", "HEAD", "OPTIONS")
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


def request(
    method: str = "GET",
    target: bytes = b"/",
    headers: Headers | None = None,
    body: bytes = b"",
    timeout: float = 5.0,
    safe: bool | None = None,
) -> SourceRequest:
    return SourceRequest("id", method, target, headers or [], body, timeout, method in SAFE if safe is None else safe)


@asynccontextmanager
async def running(base_url: str, *, trust_anchors: Path | None = None, **options: Any) -> AsyncIterator[HttpSource]:
    outbound = Outbound(allow_addresses=["127.0.0.0/8"], trust_anchors=trust_anchors)
    source = HttpSource(base_url, methods=frozenset({*DEFAULT_METHODS, "OPTIONS"}), outbound=outbound, **options)
    await source.start()
    try:
        yield source
    finally:
        await source.stop()


@asynccontextmanager
async def uvicorn_with(app: App) -> AsyncIterator[str]:
    """A real server; yields its base URL."""
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="off", ws="none", timeout_keep_alive=30)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        await task


class Echo:
    """An ASGI application that notes what it is asked and answers as it is told."""

    def __init__(self, status: int = 200, headers: Headers | None = None, body: bytes | None = None) -> None:
        self.status, self.headers, self.body = status, headers or [], body
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []
        self.clients: set[Any] = set()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.scopes.append(scope)
        self.bodies.append(body)
        self.clients.add(scope["client"])
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": body if self.body is None else self.body})


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """A server that says exactly the bytes it is told, connection by connection."""

    def __init__(self) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self.url = ""

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        """The next request's head, with its body if it has one."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line[15:]))
        return head


@asynccontextmanager
async def raw_server(
    talk: Callable[[RawServer, int], Talk], tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """`talk(server, n)` is the n-th connection's side of the conversation, from 0."""
    raw = RawServer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        number, raw.connections = raw.connections, raw.connections + 1
        try:
            await talk(raw, number)(reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the streams of asyncio would complain of a task that was cancelled
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    raw.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield raw
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def always(*answers: bytes) -> Callable[[RawServer, int], Talk]:
    """Each connection gives these answers, one to each request, and ends."""

    def talk(raw: RawServer, _: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for answer in answers:
                await raw.head(reader)
                writer.write(answer)
                await writer.drain()

        return converse

    return talk


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
async def test_methods_targets_headers_and_bodies_pass_as_they_are(method: str) -> None:
    backend = Echo(
        headers=[(b"X-Name", "姓名".encode()), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-empty", b"")]
    )
    body = b"" if method in ("GET", "HEAD") else bytes(range(256))
    sent = [(b"x-b", b"2"), (b"x-a", b"1"), (b"x-b", b"3"), (b"x-utf8", "é姓".encode()), (b"accept-encoding", b"br")]
    async with uvicorn_with(backend) as url, running(url) as source:
        answer = await ask(source, request(method, b"/a%2Fb/%E5%90%8D?x=%20+&y=[1]&z={}|^`\\%", sent, body))
    scope = backend.scopes[0]
    assert scope["method"] == method
    assert (scope["raw_path"], scope["query_string"]) == (b"/a%2Fb/%E5%90%8D", b"x=%20+&y=[1]&z={}|^`\\%")
    assert backend.bodies == [body]
    got = scope["headers"]
    assert [pair for pair in got if pair[0].startswith((b"x-", b"accept"))] == sent
    lengths = [value for name, value in got if name == b"content-length"]
    assert lengths == ([b"256"] if body else [])
    # And nothing of our own: no User-Agent, no Accept, no Content-Type.
    assert {name for name, _ in got} <= {b"x-a", b"x-b", b"x-utf8", b"accept-encoding", b"host", b"content-length"}
    assert answer.status == 200
    assert answer.body == (b"" if method == "HEAD" else body)
    assert [pair for pair in answer.headers if pair[0].startswith((b"x-", b"set"))] == [
        (b"x-name", "姓名".encode()),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"x-empty", b""),
    ]


@pytest.mark.parametrize(
    ("base", "target", "path"),
    [
        ("", b"", b"/"),
        ("", b"?q=1", b"/?q=1"),
        ("/", b"", b"/"),
        ("/", b"/x", b"/x"),
        ("/api/v1", b"", b"/api/v1"),
        ("/api/v1/", b"/x?y", b"/api/v1/x?y"),
        ("/api/v1", b"?y", b"/api/v1?y"),
        ("/api", b"/../admin", b"/api/../admin"),  # as it is: the gateway lets no such path through
        ("/api", b"//evil.example/x", b"/api//evil.example/x"),
    ],
)
async def test_the_target_extends_the_base_and_nothing_else(base: str, target: bytes, path: bytes) -> None:
    async with raw_server(always(OK)) as server, running(server.url + base) as source:
        assert (await ask(source, request("GET", target))).body == b"ok"
    assert server.heads[0].split(b"\r\n")[0] == b"GET %b HTTP/1.1" % path
    assert server.heads[0].split(b"\r\n")[1] == b"host: " + server.url.removeprefix("http://").encode()


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", b"@evil.example/", []),
        ("GET", b":80@evil.example/", []),
        ("GET", b"x", []),
        ("GET", b"/x y", []),
        ("GET", b"/x\r\nx: y", []),
        ("GET", b"/x\tHTTP/1.1", []),
        ("GET", b"/x#y", []),
        ("GET", b"/x\0", []),
        ("GET", "/名".encode(), []),
        ("GET", b"/x", [(b"x", b"1\r\ny: 2")]),
        ("GET", b"/x", [(b"x", b"1\ny: 2")]),
        ("GET", b"/x", [(b"x\r\ny", b"2")]),
    ],
)
async def test_what_would_be_read_as_another_request_is_not_sent(method: str, target: bytes, headers: Headers) -> None:
    async with raw_server(always(OK)) as server, running(server.url) as source:
        with pytest.raises(BackendError):
            await ask(source, request(method, target, headers))
        assert server.connections == 0


@pytest.mark.parametrize("method", ["GET /x HTTP/1.1\r\nx:", "get", "", "TRACE", "CONNECT", "DELETE"])
async def test_a_method_that_is_not_offered_is_answered_and_the_system_not_asked(method: str) -> None:
    offered = frozenset({"POST", "GET"})
    async with raw_server(always(OK)) as server:
        source = HttpSource(server.url, methods=offered, outbound=HERE)
        answer = await ask(source, request(method))
        assert (answer.status, dict(answer.headers)[b"allow"]) == (405, b"GET, POST")
        assert b"GET, POST" in answer.body
        assert (await ask(source, request("HEAD"))).body == b""
        assert (await ask(source, request("GET"))).status == 200
        assert [head.split(b" ")[0] for head in server.heads] == [b"GET"]
        await source.stop()
    with pytest.raises(ValueError, match="a method is a word"):
        HttpSource(server.url, methods=frozenset({"GET /x"}), outbound=HERE)


async def test_the_connections_own_headers_are_ours(tmp_path: Any) -> None:
    forged: Headers = [
        (b"host", b"evil.example"),
        (b"content-length", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
        (b"expect", b"100-continue"),
        (b"upgrade", b"h2c"),
        (b"x-own", b"1"),
    ]
    async with raw_server(always(OK)) as server, running(server.url) as source:
        assert (await ask(source, request("POST", b"/", forged, b"body"))).body == b"ok"
    lines = server.heads[0].rstrip().split(b"\r\n")[1:]
    assert lines == [
        b"host: " + server.url.removeprefix("http://").encode(),
        b"x-own: 1",
        b"content-length: 4",
    ]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_request_without_a_body_says_so_where_one_is_expected(method: str) -> None:
    async with raw_server(always(OK)) as server, running(server.url) as source:
        await ask(source, request(method))
    assert b"content-length: 0\r\n" in server.heads[0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_passed_on_and_not_followed(status: int) -> None:
    backend = Echo(status, [(b"location", b"http://127.0.0.1:1/elsewhere")], b"moved")
    async with uvicorn_with(backend) as url, running(url) as source:
        answer = await ask(source, request("POST", b"/x", [], b"y"))
    assert (answer.status, answer.body) == (status, b"moved")
    assert (b"location", b"http://127.0.0.1:1/elsewhere") in answer.headers
    assert len(backend.scopes) == 1


async def test_13_megabytes_pass_both_ways() -> None:
    body = os.urandom(13_000_000)
    async with uvicorn_with(Echo()) as url, running(url) as source:
        assert (await ask(source, request("POST", b"/", [], body, 30))).body == body


async def test_compressed_bytes_stay_compressed() -> None:
    packed = gzip.compress(b"text" * 1000)
    backend = Echo(headers=[(b"content-encoding", b"gzip")], body=packed)
    async with uvicorn_with(backend) as url, running(url) as source:
        answer = await ask(source, request())
    assert answer.body == packed
    assert (b"content-encoding", b"gzip") in answer.headers


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with raw_server(always(OK)) as server, running(server.url) as source:
        assert (await ask(source, request())).body == b"ok"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;ext=1\r\nabcde\r\n0\r\nx-trailer: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nabcde",  # a body that ends with the connection
        b"HTTP/1.0 200 OK\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nabcde",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 \xe5\xa5\xbd\r\ncontent-length: 5\r\n\r\nabcde",
    ],
)
async def test_every_form_of_answer_is_read(raw: bytes) -> None:
    """In one piece, and byte by byte."""

    def talk(server: RawServer, number: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.head(reader)
            for at in range(len(raw)) if number else [0]:
                writer.write(raw[at : at + 1] if number else raw)
                await writer.drain()
                await asyncio.sleep(0)

        return converse

    async with raw_server(talk) as server, running(server.url) as source:
        for _ in range(2):
            answer = await ask(source, request())
            assert (answer.status, answer.body) == (200, b"abcde")
            assert all(name in (b"transfer-encoding", b"content-length", b"connection") for name, _ in answer.headers)
        assert server.connections == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx : y\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 600 What\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 99 What\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (MAX_HEAD + 1) + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * (MAX_HEAD // 2) + b"content-length: 0\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
async def test_what_is_no_answer_is_a_failure_of_the_backend(raw: bytes) -> None:
    def talk(server: RawServer, _: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.head(reader)
            writer.write(raw)
            await writer.drain()

        return converse

    async with raw_server(talk) as server, running(server.url) as source:
        with pytest.raises(BackendError):
            await ask(source, request())
        with pytest.raises(AnswerTimeoutError):  # whether it acted, nobody knows
            await ask(source, request("POST", body=b"pay"))
        assert server.connections == 2  # neither was tried again
        assert source._idle == []


@pytest.mark.parametrize(
    "head",
    [b"content-length: 1001\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n", b"connection: close\r\n\r\n"],
)
async def test_an_answer_over_the_limit_is_given_up_before_it_is_all_there(head: bytes) -> None:
    def talk(server: RawServer, _: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n" + head)
            if b"length" not in head:
                while True:  # without end
                    piece = b"x" * 100
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if b"chunked" in head else piece)
                    await writer.drain()
            await reader.read()

        return converse

    async with raw_server(talk) as server, running(server.url, max_answer=1000) as source:
        with pytest.raises(PayloadTooLargeError):
            await ask(source, request())
        assert source._idle == []


async def test_the_largest_answer_passes() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n"
    plain = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 1000
    async with raw_server(always(chunked, plain)) as server, running(server.url, max_answer=1000) as source:
        for _ in range(2):
            assert len((await ask(source, request())).body) == 1000


async def test_a_head_answer_has_a_length_and_no_body_and_the_connection_is_kept() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 5000000000\r\n\r\n"
    async with raw_server(always(head, head, OK)) as server, running(server.url, max_answer=1000) as source:
        for _ in range(2):
            answer = await ask(source, request("HEAD"))
            assert (answer.status, answer.body) == (200, b"")
            assert (b"content-length", b"5000000000") in answer.headers
        assert (await ask(source, request())).body == b"ok"
        assert server.connections == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_has_no_body_leaves_the_connection_usable(status: int) -> None:
    bare = b"HTTP/1.1 %d X\r\netag: 1\r\n\r\n" % status
    async with raw_server(always(bare, OK)) as server, running(server.url) as source:
        assert (await ask(source, request())).status == status
        assert (await ask(source, request())).body == b"ok"
        assert server.connections == 1


async def test_connections_are_kept_and_used_again() -> None:
    backend = Echo(body=b"ok")
    async with uvicorn_with(backend) as url, running(url, connections=4) as source:
        for _ in range(20):
            await ask(source, request())
        assert len(backend.clients) == 1
        await asyncio.gather(*[ask(source, request("POST", body=b"x")) for _ in range(50)])
        assert len(backend.scopes) == 70
        assert len(backend.clients) <= 5


async def test_no_more_connections_than_allowed_are_open() -> None:
    open_now = most = 0
    go = asyncio.Event()

    def talk(server: RawServer, _: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            try:
                while await server.head(reader):
                    await go.wait()
                    writer.write(OK)
            finally:
                open_now -= 1

        return converse

    async with raw_server(talk) as server, running(server.url, connections=3) as source:
        asked = [asyncio.create_task(ask(source, request("POST", body=b"x"))) for _ in range(20)]
        await until(lambda: open_now == 3)
        go.set()
        await asyncio.gather(*asked)
        # Connections that are too long idle for an unsafe request make room for new ones.
        for link in source._idle:
            link.idle_since -= 10
        await asyncio.gather(*[ask(source, request("POST", body=b"x")) for _ in range(3)])
        await until(lambda: open_now <= 3)
    assert most <= 6


def closes_after_the_first(answer: bytes = OK) -> Callable[[RawServer, int], Talk]:
    """The first connection answers once, reads the next request, and hangs up on it."""

    def talk(server: RawServer, number: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.head(reader)
            writer.write(answer)
            await server.head(reader)
            if number == 0:
                writer.transport.abort()
                return
            writer.write(answer)

        return converse

    return talk


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_kept_connection_that_breaks_is_replaced_once_for_a_request_that_changes_nothing(method: str) -> None:
    empty = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    async with raw_server(closes_after_the_first(empty)) as server, running(server.url) as source:
        for _ in range(2):
            assert (await ask(source, request(method))).status == 200
        assert server.connections == 2
        assert len(server.heads) == 3


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_request_that_may_act_is_sent_once_whatever_happens(method: str) -> None:
    async with raw_server(closes_after_the_first()) as server, running(server.url) as source:
        assert (await ask(source, request(method))).status == 200
        with pytest.raises(AnswerTimeoutError, match="Whether the department acted is unknown"):
            await ask(source, request(method, body=b"pay"))
        assert len(server.heads) == 2


@pytest.mark.parametrize(("method", "safe"), [("GET", False), ("POST", True)])
async def test_whether_a_request_may_be_repeated_is_what_is_declared_and_not_the_method(
    method: str, safe: bool
) -> None:
    async with raw_server(closes_after_the_first()) as server, running(server.url) as source:
        await ask(source, request(method, safe=safe))
        if safe:
            assert (await ask(source, request(method, safe=safe))).body == b"ok"
        else:
            with pytest.raises(AnswerTimeoutError):
                await ask(source, request(method, safe=safe))
        assert len(server.heads) == (3 if safe else 2)


async def test_a_second_break_is_not_tried_again() -> None:
    async with raw_server(always(OK)) as server, running(server.url) as source:
        assert (await ask(source, request())).body == b"ok"

        def hang_up(raw: RawServer, _: int) -> Talk:
            async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await raw.head(reader)

            return converse

    async with raw_server(hang_up) as server, running(server.url) as source:
        with pytest.raises(BackendError):
            await ask(source, request())
        assert server.connections == 1


async def test_an_answer_that_breaks_off_is_not_asked_for_again() -> None:
    def talk(server: RawServer, _: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.head(reader)
            writer.write(OK)
            await server.head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
            await writer.drain()

        return converse

    async with raw_server(talk) as server, running(server.url) as source:
        assert (await ask(source, request())).body == b"ok"
        with pytest.raises(BackendError):
            await ask(source, request())
        assert len(server.heads) == 2


async def test_an_unsafe_request_does_not_take_a_connection_that_may_be_about_to_close() -> None:
    async with raw_server(always(OK, OK)) as server, running(server.url) as source:
        await ask(source, request())
        source._idle[0].idle_since -= 2
        await ask(source, request("POST"))
        assert server.connections == 2
        await ask(source, request("POST"))  # this one was in use a moment ago
        assert server.connections == 2


async def test_connections_idle_for_long_are_closed() -> None:
    ended = asyncio.Event()

    def talk(server: RawServer, number: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await server.head(reader):
                    writer.write(OK)
            finally:
                if number == 0:
                    ended.set()

        return converse

    async with raw_server(talk) as server, running(server.url) as source:
        await asyncio.gather(ask(source, request()), ask(source, request()))
        first = next(link for link in source._idle)
        first.idle_since -= 100
        await ask(source, request())
        assert len(source._idle) == 1
        if source._idle[0] is not first:
            await until(lambda: server.connections == 2)


async def test_a_second_answer_nobody_asked_for_never_meets_another_request() -> None:
    """Or one person's data would be handed to another."""
    smuggled = OK + b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled"
    async with raw_server(always(smuggled, OK)) as server, running(server.url) as source:
        for _ in range(5):
            assert (await ask(source, request())).body == b"ok"
        assert server.connections == 5


async def test_bytes_that_come_while_nothing_is_asked_end_the_connection() -> None:
    say_more = asyncio.Event()

    def talk(server: RawServer, number: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.head(reader)
            writer.write(OK)
            if number == 0:
                await say_more.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled")
            await reader.read()

        return converse

    async with raw_server(talk) as server, running(server.url) as source:
        assert (await ask(source, request())).body == b"ok"
        say_more.set()
        await until(lambda: not source._idle[0].reusable)
        assert (await ask(source, request())).body == b"ok"


async def test_a_body_after_a_head_answer_never_meets_another_request() -> None:
    wrong = b"HTTP/1.1 200 OK\r\ncontent-length: 46\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled"

    def talk(raw: RawServer, number: int) -> Talk:
        return always(OK if number else wrong)(raw, number)

    async with raw_server(talk) as server, running(server.url) as source:
        assert (await ask(source, request("HEAD"))).body == b""
        assert (await ask(source, request())).body == b"ok"
        assert server.connections == 2


async def test_an_answer_before_the_request_was_read_ends_the_connection() -> None:
    """What of the request is still on its way must not stand before the next one."""

    def talk(server: RawServer, number: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
            await asyncio.Event().wait()

        return converse

    async with raw_server(talk) as server, running(server.url) as source:
        assert (await ask(source, request("POST", body=bytes(30_000_000)))).status == 413
        assert source._idle == []


async def test_a_backend_that_is_down_is_known_at_once() -> None:
    async with running("http://127.0.0.1:1") as source:
        for method in ("GET", "POST"):  # nothing was sent, so it did not act
            with pytest.raises(BackendError):
                await ask(source, request(method))


async def test_a_backend_that_comes_back_is_found_again() -> None:
    async with raw_server(always(OK)) as server, running(server.url) as source:
        assert (await ask(source, request())).body == b"ok"
    async with running(server.url) as source:
        with pytest.raises(BackendError):
            await ask(source, request())


async def test_a_slow_backend_is_given_up_at_the_deadline_and_its_late_answer_reaches_nobody() -> None:
    late = asyncio.Event()

    def talk(server: RawServer, number: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.head(reader)
            if number == 0:
                await late.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")
            writer.write(OK)

        return converse

    async with raw_server(talk) as server, running(server.url) as source:
        with pytest.raises(AnswerTimeoutError):
            await ask(source, request(timeout=0.05))
        late.set()
        assert (await ask(source, request())).body == b"ok"
        assert (source._busy, len(source._idle)) == (0, 1)


async def test_those_who_wait_for_a_connection_are_given_up_at_the_deadline_too() -> None:
    def talk(server: RawServer, _: int) -> Talk:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        return converse

    async with raw_server(talk) as server, running(server.url, connections=1) as source:
        asked = [ask(source, request(timeout=0.1)) for _ in range(5)]
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(outcome, AnswerTimeoutError)
        assert source._busy == 0
        assert not source._slots.locked()


async def test_a_backend_behind_tls_is_checked(pki: Pki) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.certificate("server"), pki.key("server"))
    async with raw_server(always(OK, OK), tls) as server:
        async with running(server.url, trust_anchors=pki.trust_anchors) as source:
            for _ in range(2):
                assert (await ask(source, request())).body == b"ok"
            assert server.connections == 1
        async with running(server.url) as source:  # this machine trusts no demo CA
            with pytest.raises(BackendError):
                await ask(source, request())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.certificate("tax"), pki.key("tax"))  # of the right CA, for nobody's host name
    async with raw_server(always(OK), tls) as server, running(server.url, trust_anchors=pki.trust_anchors) as source:
        with pytest.raises(BackendError):
            await ask(source, request())


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "127.0.0.1:80",
        "ftp://host/",
        "http://",
        "http:///path",
        "http://user:secret@host/",
        "http://host/?x=1",
        "http://host/#x",
        "http://host/a b",
        "http://host/名",
        "http://主机/",
        "http://host:port/",
        "http://host:99999/",
    ],
)
def test_what_is_no_base_url_is_refused_and_its_password_not_told(base_url: str) -> None:
    with pytest.raises(ValueError, match=r"base URL|[Pp]ort") as raised:
        HttpSource(base_url)
    assert "secret" not in str(raised.value)


class Wire(asyncio.Transport):
    """Where a link writes to, in these tests: nowhere."""

    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def abort(self) -> None: ...
    def get_write_buffer_size(self) -> int:
        return 0


ANSWERS = st.lists(
    st.tuples(
        st.sampled_from([200, 201, 301, 404, 500, 599]),
        st.lists(
            st.tuples(st.sampled_from([b"x-a", b"x-b"]), st.from_regex(rb"[!-~]{0,9}", fullmatch=True)), max_size=3
        ),
        st.binary(max_size=300),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@given(answers=ANSWERS, data=st.data())
async def test_answers_are_read_the_same_in_whatever_pieces_they_arrive(
    answers: list[tuple[int, Headers, bytes, bool]], data: st.DataObject
) -> None:
    link = HttpLink(1 << 20)
    link.connection_made(Wire())
    for status, headers, body, chunked in answers:
        lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        if chunked:
            framed = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
            raw = b"HTTP/1.1 %d X\r\n%btransfer-encoding: chunked\r\n\r\n%b" % (status, lines, framed)
        else:
            raw = b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (status, lines, len(body), body)
        answer = link.ask("GET", b"", b"")
        cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            if start < end:
                link.data_received(raw[start:end])
        got = await answer
        assert (got.status, got.body) == (status, body)
        assert [pair for pair in got.headers if pair[0].startswith(b"x-")] == headers
        assert link.reusable


@given(raw=st.binary(max_size=300), cut=st.integers(0, 300))
async def test_nonsense_from_a_backend_is_an_error_or_waited_for(raw: bytes, cut: int) -> None:
    link = HttpLink(1000)
    link.connection_made(Wire())
    answer = link.ask("GET", b"", b"")
    for piece in (raw[:cut], raw[cut:]):
        if piece:
            link.data_received(piece)
    link.eof_received()
    link.connection_lost(None)
    with suppress(HttpLinkError, PayloadTooLargeError):
        assert isinstance(await answer, SourceAnswer)
