"""Large bodies to and from a department's HTTP API: piece by piece, at the pace of the slower side."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from department_adapters import HttpSource, SourceAnswer
from department_adapters.http.link import READ_AHEAD
from exchange import AnswerTimeoutError, BackendError, MeshError, PayloadTooLargeError, Spool, Spooled
from tests.department_adapters.adapter_kit import until
from tests.department_adapters.test_http_source import request, running

BODY = os.urandom(3 << 20)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(serve: Serve, **options: int) -> AsyncIterator[HttpSource]:
    """A source before a server that a test writes by hand."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side has seen enough
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 20)
    try:
        async with running(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", **options) as source:
            yield source
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answers(*lines: bytes, body: bytes = BODY, chunked: bool = False, cut: int | None = None) -> Serve:
    """Answers each request on a connection with the same."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
            writer.write(b"\r\n".join([b"HTTP/1.1 200 OK", framing, *lines, b"", b""]))
            sent = body if cut is None else body[:cut]
            for start in range(0, len(sent), 100_000):
                piece = sent[start : start + 100_000]
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await writer.drain()
            if cut is not None:
                return
            if chunked:
                writer.write(b"0\r\n\r\n")

    return serve


async def ask(source: HttpSource, method: str = "GET", **options: bool) -> SourceAnswer:
    return await source.answer(structs.replace(request(method, **options), streams=True))


async def read(answer: SourceAnswer) -> bytes:
    assert answer.stream is not None
    return b"".join([piece async for piece in answer.stream])


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_large_answer_streams_and_its_connection_is_used_again(chunked: bool) -> None:
    async with served(answers(b"X-A: b", chunked=chunked)) as source:
        for _ in range(2):
            answer = await ask(source)
            assert (answer.status, answer.body, answer.size) == (200, b"", None if chunked else len(BODY))
            assert (b"x-a", b"b") in answer.headers
            assert source._busy == 1
            assert await read(answer) == BODY
            assert (len(source._idle), source._busy) == (1, 0)


async def test_who_asks_for_no_stream_gets_a_body() -> None:
    async with served(answers()) as source:
        answer = await source.answer(request())
        assert (answer.stream, answer.body) == (None, BODY)


async def test_a_small_answer_is_a_body() -> None:
    async with served(answers(body=b"x" * (512 << 10), chunked=True)) as source:
        answer = await ask(source)
        assert (answer.stream, len(answer.body)) == (None, 512 << 10)


async def test_a_compressed_answer_passes_as_it_is() -> None:
    packed = gzip.compress(BODY)
    async with served(answers(b"Content-Encoding: gzip", body=packed)) as source:
        answer = await ask(source)
        assert (b"content-encoding", b"gzip") in answer.headers
        assert await read(answer) == packed


async def test_a_body_that_ends_with_its_connection_streams() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
        await writer.drain()

    async with served(serve) as source:
        assert await read(await ask(source)) == BODY
        assert source._idle == []


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(("method", "error"), [("GET", BackendError), ("POST", AnswerTimeoutError)])
async def test_an_answer_that_is_cut_short_is_never_taken_for_whole(
    method: str, error: type[MeshError], chunked: bool
) -> None:
    async with served(answers(chunked=chunked, cut=2 << 20)) as source:
        answer = await ask(source, method)
        with pytest.raises(error):
            await read(answer)
        assert (source._idle, source._busy) == ([], 0)


async def test_more_than_may_be_passed_on_is_broken_off() -> None:
    async with served(answers(chunked=True), max_answer=2 << 20) as source:
        answer = await ask(source)
        with pytest.raises(PayloadTooLargeError):
            await read(answer)
    async with served(answers(), max_answer=2 << 20) as source:
        with pytest.raises(PayloadTooLargeError):
            await ask(source)


async def test_a_server_is_read_no_faster_than_its_answer_is_taken() -> None:
    sent = 0
    everything = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        for _ in range(64):
            writer.write(bytes(1 << 20))
            await writer.drain()
            sent += 1
        everything.set()

    async with served(serve) as source:
        answer = await ask(source)
        stream = answer.stream
        assert stream is not None
        await anext(stream)
        await until(lambda: stream._paused)  # type: ignore[attr-defined]
        assert stream._size < 4 * READ_AHEAD  # type: ignore[attr-defined]
        assert not everything.is_set()
        rest = sum([len(piece) async for piece in stream])
        assert 0 < rest < 64 << 20
        assert everything.is_set()


async def test_who_reads_no_further_gives_the_connection_up() -> None:
    async with served(answers(body=bytes(64 << 20)), connections=1) as source:
        for _ in range(2):
            answer = await ask(source)
            assert answer.stream is not None
            await anext(answer.stream)
            await answer.stream.aclose()  # type: ignore[attr-defined]
            assert (source._idle, source._busy) == ([], 0)


async def spooled(body: bytes) -> Spooled:
    kept = Spool().open(len(body))
    await kept.add(body)
    await kept.finish()
    return kept


async def test_a_large_request_is_sent_from_its_file() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            digest = hashlib.sha256(await reader.readexactly(len(BODY))).hexdigest().encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + digest)

    async with served(serve) as source:
        body = await spooled(BODY)
        for _ in range(2):
            answer = await source.answer(structs.replace(request("POST"), spooled=body))
            assert answer.body == hashlib.sha256(BODY).hexdigest().encode()
            assert len(source._idle) == 1
        body.close()
    assert all(b"content-length: %d\r\n" % len(BODY) in head for head in heads)


async def test_a_server_that_answers_before_it_has_read_all_is_heard() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await asyncio.Event().wait()

    async with served(serve) as source:
        body = await spooled(bytes(32 << 20))
        answer = await source.answer(structs.replace(request("POST"), spooled=body))
        assert (answer.status, answer.body) == (403, b"no")
        assert source._idle == [], "the rest of that request must not stand before the next one"
        body.close()


async def test_a_server_may_answer_while_it_reads() -> None:
    """An echo: neither side waits for the other to be done."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        left = len(BODY)
        while left:
            piece = await reader.read(65536)
            left -= len(piece)
            writer.write(piece)
            await writer.drain()

    async with served(serve) as source:
        body = await spooled(BODY)
        answer = await source.answer(structs.replace(request("POST"), spooled=body, streams=True))
        assert await read(answer) == BODY
        assert len(source._idle) == 1
        body.close()
