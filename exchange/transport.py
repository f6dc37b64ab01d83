"""Request and reply over NATS.

Rules:
1. Subjects are built from registry-issued tokens (`exchange.identifiers`), never from text of a caller: a wildcard would be
   sent as it is, and a subject over 4 kB makes the server drop the connection for good.
2. All replies of this process arrive in one inbox of its own, under the prefix of its identity, which nobody else may read.
   Processes with one identity (two gateways, or one and its earlier life) never take each other's replies.
3. No adapter listening is known at once (the server says so); an adapter that stays silent is known at the deadline.
4. While the bus is down a request fails at once instead of waiting for its deadline.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import urlsplit

import nats.errors
import structlog
from nats.aio.client import Client

from exchange.errors import AnswerTimeoutError, BusUnavailableError, OverloadedError
from exchange.identifiers import subject_token
from exchange.nats_link import PING_SECONDS, LinkError, NatsLink

MIN_SERVER = (2, 12)
"""Older servers ignore message TTL and batch publishing without an error, so they are refused."""

MAX_PAYLOAD = 1 << 20
RETRY_SECONDS = 0.5
CONNECT_SECONDS = 5.0

events = structlog.get_logger("datong.bus")


class NoRespondersError(Exception):
    """Nobody listens on the subject."""


class BusLostError(BusUnavailableError):
    """The connection broke while the reply was awaited: whether the request arrived is unknown."""

    code, rule_name = "bus-lost", "bus-kept"
    title = {"en": "The bus was lost", "zh": "消息总线中断"}
    detail = {
        "en": "The bus was lost while the answer was awaited. Whether the department acted is unknown.",
        "zh": "等待应答期间消息总线中断，部门是否已处理未知。",
    }
    next = AnswerTimeoutError.next
    retry_after = None  # to try again may be to do it twice


class Bus(Protocol):
    """Carries one message there and one back."""

    @property
    def connected(self) -> bool: ...

    async def request(self, nats_subject: str, message: bytes, timeout: float) -> bytes:
        """Return the one reply.

        Raises:
            NoRespondersError: Nobody listens; nothing was delivered.
            BusUnavailableError: Not connected; nothing was sent. BusLostError: sent, then the connection broke.
            AnswerTimeoutError: No reply within `timeout` seconds.
        """


class NatsBus:
    """`Bus` on one `NatsLink` at a time: a gateway's side of the bus."""

    def __init__(self, urls: str, tls: ssl.SSLContext, identity: str, *, ping_seconds: float = PING_SECONDS) -> None:
        """
        Args:
            urls: NATS servers, comma-separated, `tls://host:port`.
            identity: The URI in our certificate; the server lets it read the inbox of that name, and nothing else.
            ping_seconds: Two pings in a row without an answer, and the server is taken for lost.
        """
        self._servers = itertools.cycle([urlsplit(url.strip()) for url in urls.split(",")])
        self._tls = tls
        self._identity = identity
        self._ping_seconds = ping_seconds
        self._inbox = f"{inbox_prefix(identity)}.{os.urandom(8).hex()}".encode()
        self._link: NatsLink | None = None
        self._lost = asyncio.Event()
        self._counter = itertools.count(1)
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self.server_version = ""

    @property
    def connected(self) -> bool:
        return self._link is not None

    def start(self) -> None:
        """Connect in the background, again and again: a gateway may come up before its bus, and outlive it."""
        self._keeper = asyncio.create_task(self._keep_connected())

    async def stop(self) -> None:
        """Close the connection; requests still waiting fail with BusLostError."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._link is not None:
            self._link.close()

    async def request(self, nats_subject: str, message: bytes, timeout: float) -> bytes:
        link = self._link
        if link is None:
            raise BusUnavailableError
        if not link.writable:
            raise OverloadedError
        if len(message) > MAX_PAYLOAD:
            raise ValueError(f"a message of {len(message)} bytes is more than the bus takes")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        reply = b"%b.r.%d" % (self._inbox, next(self._counter))
        self._waiting[reply] = future
        timer = loop.call_later(timeout, self._expire, reply, timeout)
        try:
            link.publish(nats_subject.encode("ascii"), reply, message)
            return await future
        finally:
            timer.cancel()
            self._waiting.pop(reply, None)

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            server = next(self._servers)
            try:
                await self._open(server.hostname or "localhost", server.port or 4222)
            except (OSError, LinkError, TimeoutError) as error:
                events.warning("bus.unreachable", server=server.netloc, cause=repr(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            since = loop.time()
            events.info("bus.connected", server=server.netloc, version=self.server_version)
            await self._lost.wait()
            if loop.time() - since < RETRY_SECONDS:
                # A server that takes us in and drops us at once must not be asked as fast as it can drop.
                await asyncio.sleep(RETRY_SECONDS)

    async def _open(self, host: str, port: int) -> None:
        """Return when there is a link in use."""
        link = NatsLink(
            self._identity, self._inbox, self._on_message, self._on_link_lost, ping_seconds=self._ping_seconds
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().create_connection(
                    lambda: link, host, port, ssl=self._tls, server_hostname=host
                )
                await link.ready
            version = str(link.info.get("version", "0"))
            if _version(version) < MIN_SERVER:
                raise LinkError(f"NATS {version} is too old, {MIN_SERVER[0]}.{MIN_SERVER[1]} is needed")
            if not link.writable:
                raise LinkError("the connection was closed as soon as it was there")
        except BaseException:
            link.abort()
            raise
        self.server_version = version
        self._lost.clear()
        self._link = link

    def _on_message(self, subject: bytes, payload: bytes, nobody: bool) -> None:
        future = self._waiting.get(subject)
        if future is None or future.done():
            return  # too late: its request has been answered for
        if nobody:
            future.set_exception(NoRespondersError())
        else:
            future.set_result(payload)

    def _expire(self, reply: bytes, timeout: float) -> None:
        future = self._waiting.get(reply)
        if future is not None and not future.done():
            future.set_exception(AnswerTimeoutError(seconds=f"{timeout:g}"))

    def _on_link_lost(self, link: NatsLink) -> None:
        if link is not self._link:
            return  # an attempt to connect that was given up; the link in use is another
        self._link = None
        self._lost.set()
        events.warning("bus.lost", waiting=len(self._waiting))
        # The replies awaited can no longer arrive: a new connection has a new subscription.
        for future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(BusLostError())


def _version(text: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def inbox_prefix(identity: str) -> str:
    """The inbox prefix that belongs to an identity on the bus."""
    return f"_INBOX.{subject_token(identity)}"


async def connect_client(
    client: Client,
    urls: str,
    tls: ssl.SSLContext,
    name: str,
    inbox: str,
    *,
    on_lost: Callable[[], Awaitable[None]] | None = None,
    on_closed: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Connect over mTLS, for good: reconnects without end, reports refusals of the server, refuses servers too old.

    Args:
        on_lost: Called at each loss of the connection.
        on_closed: Called when the client has given up for good, which it does when the server tells it of an error
            that it does not know, or throws it out: only a new client helps.

    Raises:
        BusUnavailableError: No server could be reached, or it is older than 2.12. The client is closed.
    """

    async def on_error(error: Exception) -> None:
        # A publish that the server's permissions forbid is told here only, never to the publisher.
        events.error("bus.error", name=name, error=repr(error))

    async def on_disconnected() -> None:
        events.warning("bus.lost", name=name)
        if on_lost is not None:
            await on_lost()

    async def on_reconnected() -> None:
        events.info("bus.back", name=name)

    try:
        # Told to reconnect without end, the library also makes its first connection without end.
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.connect(
                servers=urls.split(","),
                tls=tls,
                tls_handshake_first=True,
                name=name,
                inbox_prefix=inbox.encode(),
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type]  # seconds; only passed to sleep
                connect_timeout=5,
                ping_interval=10,
                max_outstanding_pings=2,
                pending_size=16 << 20,
                error_cb=on_error,
                disconnected_cb=on_disconnected,
                reconnected_cb=on_reconnected,
                closed_cb=on_closed,
            )
    except (nats.errors.Error, OSError) as error:
        await client.close()
        raise BusUnavailableError from error
    version = client.connected_server_version
    if (version.major, version.minor) < MIN_SERVER:
        await client.close()
        raise BusUnavailableError("bus-version")
