"""A client of the bus that says whatever it is told to say: what libraries refuse to send, an attacker sends."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol


class Listening(Protocol):
    """A server on the loopback address."""

    @property
    def port(self) -> int: ...


class RawClient:
    """One connection. What the server says is kept: `errors`, and `messages` as (subject, reply, content)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.errors: list[str] = []
        self.messages: list[tuple[str, str, bytes]] = []
        self.closed = False

    async def say(self, *lines: bytes) -> None:
        """Send protocol lines, and return when the server has acted on them, or closed the connection."""
        self._writer.write(b"".join(line + b"\r\n" for line in (*lines, b"PING")))
        try:
            await self._writer.drain()
        except OSError:
            self.closed = True
        await self._read(b"PONG")

    async def publish(self, subject: str, content: bytes, *, reply: str = "", headers: bytes = b"") -> None:
        """PUB, or HPUB with headers, then as `say`."""
        head = f"{subject} {reply}".strip()
        if headers:
            block = b"NATS/1.0\r\n" + headers + b"\r\n\r\n"
            line = f"HPUB {head} {len(block)} {len(block) + len(content)}".encode()
            await self.say(line, block + content)
        else:
            await self.say(f"PUB {head} {len(content)}".encode(), content)

    async def heard(self, count: int = 1, within: float = 5.0) -> list[tuple[str, str, bytes]]:
        """The messages so far, when there are at least `count`; raises TimeoutError."""
        async with asyncio.timeout(within):
            while len(self.messages) < count and not self.closed:
                await self._next()
        return self.messages

    async def cut_off(self, within: float) -> None:
        """Return when the server has closed the connection; raises TimeoutError."""
        async with asyncio.timeout(within):
            while not self.closed:
                await self._next()

    def close(self) -> None:
        self._writer.transport.abort()

    async def _read(self, until: bytes) -> None:
        async with asyncio.timeout(10):
            while not self.closed and await self._next() != until:
                pass

    async def _next(self) -> bytes:
        """Take one thing that the server says; returns its first word."""
        try:
            line = await self._reader.readuntil(b"\r\n")
        except (asyncio.IncompleteReadError, OSError):
            self.closed = True
            return b""
        words = line.split()
        if words[0] in (b"MSG", b"HMSG"):
            content = (await self._reader.readexactly(int(words[-1]) + 2))[:-2]
            fixed = 4 if words[0] == b"MSG" else 5
            reply = words[3].decode() if len(words) > fixed else ""
            self.messages.append((words[1].decode(), reply, content))
        elif words[0] == b"-ERR":
            self.errors.append(line[5:].decode().strip().strip("'"))
        elif words[0] == b"PING":
            self._writer.write(b"PONG\r\n")
        return words[0]


@asynccontextmanager
async def raw_client(server: Listening, tls: ssl.SSLContext, **greeting: Any) -> AsyncIterator[RawClient]:
    """A connection that has introduced itself; `greeting` is added to what it says of itself (`user`, say)."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=tls, server_hostname="localhost", limit=1 << 22
    )
    client = RawClient(reader, writer)
    said = {"verbose": False, "headers": True, "no_responders": True, "protocol": 1, **greeting}
    try:
        await client.say(b"CONNECT " + json.dumps(said).encode())
        yield client
    finally:
        client.close()
