"""Request and reply over NATS.

Rules:
1. Subjects are built from registry-issued tokens (`exchange.identifiers`), never from text of a caller: a wildcard would be
   sent as it is, and a subject over 4 kB makes the server drop the connection for good.
2. All replies of this process arrive in one inbox of its own, under the prefix of its identity, which nobody else may read.
   Processes with one identity (two gateways, or one and its earlier life) never take each other's replies.
3. No adapter listening is known at once (the server says so); an adapter that stays silent is known at the deadline.
4. While the bus is down a request fails at once instead of waiting for its deadline.
5. When the server reads its configuration anew (somebody was registered) it forgets who was asked what: replies under way are
   refused. So whoever waits for longer than a second asks the department's instances once a second for the reply, which
   gives them the right to it again; what was refused before is kept by the adapter, and sent then.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import structlog

from exchange.bus.nats_link import PING_SECONDS, LinkError, NatsLink, Subscription
from exchange.errors import AnswerTimeoutError, BusUnavailableError, OverloadedError
from exchange.identifiers import REPLY_VERB, subject_token

if TYPE_CHECKING:
    from nats.aio.client import Client

MIN_SERVER = (2, 12)
"""Older servers ignore message TTL and batch publishing without an error, so they are refused."""

MAX_PAYLOAD = 1 << 20
RETRY_SECONDS = 0.5
REMIND_SECONDS = 1.0
KEPT_REPLIES, KEPT_BYTES = 4096, 8 << 20
"""What an adapter keeps of its last replies, until it would have been told that one was refused."""
CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 1.0
"""So long a client of nats-py may take to end what it was told to end."""

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
    retry_after: int | None = None  # to try again may be to do it twice


class Bus(Protocol):
    """Carries one message there and one back."""

    @property
    def connected(self) -> bool: ...

    def post(self, nats_subject: str, message: bytes, timeout: float, reply: asyncio.Future[bytes]) -> None:
        """Send a message; the one reply, or why there is none, becomes the result of `reply`.

        `reply` fails with one of:
            NoRespondersError: Nobody listens; nothing was delivered.
            BusUnavailableError, OverloadedError: Nothing was sent. BusLostError: sent, then the connection broke.
            AnswerTimeoutError: No reply within `timeout` seconds.
        """

    def flush(self) -> None:
        """Send now what was posted, not at the end of this turn of the event loop."""

    async def request(self, nats_subject: str, message: bytes, timeout: float) -> bytes:
        """Send a message and return the one reply; raises as `post` says."""


class BusConnection:
    """One `NatsLink` at a time, opened again whenever it breaks: whoever uses the bus may come up before it, and outlive it."""

    def __init__(
        self,
        urls: str,
        tls: ssl.SSLContext,
        name: str,
        subscriptions: Sequence[Subscription],
        *,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        """
        Args:
            urls: NATS servers, comma-separated, `tls://host:port`.
            name: Shown by the server's monitoring.
            ping_seconds: Two pings in a row without an answer, and the server is taken for lost.
        """
        self._servers = itertools.cycle([urlsplit(url.strip()) for url in urls.split(",")])
        self._tls = tls
        self._name = name
        self._subscriptions = list(subscriptions)
        self._ping_seconds = ping_seconds
        self._link: NatsLink | None = None
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._there = asyncio.Event()
        self.server_version = ""
        self.connected_at: datetime | None = None
        """Since when there is the present link, UTC; None without one."""

    @property
    def connected(self) -> bool:
        """Whether there is a link, and the server knows its subscriptions."""
        return self._link is not None

    def start(self) -> None:
        """Connect in the background, again and again."""
        self._keeper = asyncio.create_task(self._keep_connected())

    async def wait_connected(self) -> None:
        """Return when there is a connection."""
        await self._there.wait()

    async def stop(self) -> None:
        """Close the connection, when what waits to be written is written."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._link is not None:
            self._link.close()

    def flush(self) -> None:
        """Send now what was handed over, not at the end of this turn of the event loop."""
        if self._link is not None:
            self._link.flush()

    def on_lost(self) -> None:
        """Called when the connection has ended."""

    def on_unsent(self, subject: bytes) -> None:
        """Called with the subject of a message that the server refused."""

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
            *(self._name, self._subscriptions, self._on_link_lost),
            ping_seconds=self._ping_seconds,
            on_unsent=self.on_unsent,
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
        self.connected_at = datetime.now(UTC)
        self._there.set()

    def _on_link_lost(self, link: NatsLink) -> None:
        if link is not self._link:
            return  # an attempt to connect that was given up; the link in use is another
        self._link = None
        self.connected_at = None
        self._there.clear()
        self._lost.set()
        self.on_lost()


class NatsBus(BusConnection):
    """`Bus`: a gateway's side of it."""

    def __init__(self, urls: str, tls: ssl.SSLContext, identity: str, *, ping_seconds: float = PING_SECONDS) -> None:
        """
        Args:
            identity: The URI in our certificate; the server lets it read the inbox of that name, and nothing else.
        """
        inbox = f"{inbox_prefix(identity)}.{os.urandom(8).hex()}.r"
        super().__init__(urls, tls, identity, [Subscription(f"{inbox}.*", self._on_message)], ping_seconds=ping_seconds)
        self._reply_subject = inbox.encode() + b".%d"
        self._counter = itertools.count(1)
        self._waiting: dict[bytes, tuple[asyncio.Future[bytes], float, float, str]] = {}
        """Reply subject -> who waits, until when by the loop's clock, that is how many seconds, and whom was asked."""
        self._next_expiry: asyncio.TimerHandle | None = None
        """One timer for all: a timer of its own costs a request more than its subject does."""
        self._reminded: frozenset[bytes] = frozenset()
        self._reminder: asyncio.Task[None] | None = None
        self._gathering: dict[bytes, _Gathering] = {}
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        super().start()
        self._reminder = asyncio.create_task(self._remind())

    async def stop(self) -> None:
        if self._reminder is not None:
            self._reminder.cancel()
        await super().stop()
        if self._next_expiry is not None:
            self._next_expiry.cancel()

    async def _remind(self) -> None:
        """Ask for what has been waited for since the last look."""
        waited: frozenset[bytes] = frozenset()
        while True:
            await asyncio.sleep(REMIND_SECONDS)
            link = self._link
            due = waited & self._waiting.keys()
            self._reminded = frozenset(due)
            waited = frozenset(self._waiting)
            for subject in due:
                asked = self._waiting[subject][3].split(".")
                if link is not None and link.writable and asked[0] == "dt":
                    link.publish(f"dt.i.{asked[2]}.srv.{REPLY_VERB}".encode("ascii"), subject, b"")

    def post(self, nats_subject: str, message: bytes, timeout: float, reply: asyncio.Future[bytes]) -> None:
        link = self._link
        if link is None:
            reply.set_exception(BusUnavailableError())
        elif not link.writable:
            reply.set_exception(OverloadedError())
        elif len(message) > MAX_PAYLOAD:
            reply.set_exception(ValueError(f"a message of {len(message)} bytes is more than the bus takes"))
        else:
            subject = self._reply_subject % next(self._counter)
            until = self._loop.time() + timeout
            self._waiting[subject] = reply, until, timeout, nats_subject
            if self._next_expiry is None or until < self._next_expiry.when():
                self._expire_at(until)
            link.publish(nats_subject.encode("ascii"), subject, message)

    async def request(self, nats_subject: str, message: bytes, timeout: float) -> bytes:
        reply: asyncio.Future[bytes] = self._loop.create_future()
        self.post(nats_subject, message, timeout, reply)
        try:
            return await reply
        finally:
            if reply.cancelled():  # given up: nothing may stay behind until the deadline
                for subject in [each for each, (waits, *_) in self._waiting.items() if waits is reply]:
                    del self._waiting[subject]

    async def ask_all(
        self,
        nats_subject: str,
        message: bytes,
        within: float,
        enough: Callable[[Sequence[bytes]], bool],
        *,
        settle: float = 0.0,
    ) -> list[bytes]:
        """Send a message that several may answer; returns their replies in the order they came.

        Args:
            within: Seconds until no more are waited for.
            enough: Asked after each reply; once true, no more are waited for, but those of the next `settle` seconds. If
                nobody listens, nothing is waited for.

        Raises:
            BusUnavailableError, OverloadedError: Nothing was sent, or the connection broke.
        """
        link = self._link
        if link is None:
            raise BusUnavailableError
        if not link.writable:
            raise OverloadedError
        subject = self._reply_subject % next(self._counter)
        gathering = self._gathering[subject] = _Gathering(enough, self._loop.create_future())
        try:
            link.publish(nats_subject.encode("ascii"), subject, message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    if await gathering.done:
                        await asyncio.sleep(settle)
        finally:
            del self._gathering[subject]
        return gathering.replies

    def _on_message(self, subject: bytes, _: bytes, payload: bytes, nobody: bool) -> None:
        waiting = self._waiting.pop(subject, None)
        if waiting is None:
            if gathering := self._gathering.get(subject):
                gathering.take(payload, nobody)
            return  # or too late: its request has been answered for
        reply = waiting[0]
        if nobody and subject in self._reminded:
            self._waiting[subject] = waiting  # nobody is left to be reminded; the question itself was delivered
            return
        if reply.done():
            return  # nobody waits any more
        if nobody:
            reply.set_exception(NoRespondersError())
        else:
            reply.set_result(payload)

    def _expire_at(self, until: float) -> None:
        if self._next_expiry is not None:
            self._next_expiry.cancel()
        self._next_expiry = self._loop.call_at(until, self._expire)

    def _expire(self) -> None:
        """Tell those whose time is over, and come back for the next."""
        self._next_expiry = None
        now = self._loop.time() + 0.001  # a timer may be early by what the loop's clock leaves out
        for subject in [each for each, (_, until, *_) in self._waiting.items() if until <= now]:
            reply, _, timeout, _ = self._waiting.pop(subject)
            if not reply.done():
                reply.set_exception(AnswerTimeoutError(seconds=f"{timeout:g}"))
        if self._waiting:
            self._expire_at(min(until for _, until, *_ in self._waiting.values()))

    def on_lost(self) -> None:
        # The replies awaited can no longer arrive: a new connection has a new subscription.
        waiting, self._waiting = self._waiting, {}
        events.warning("bus.lost", waiting=len(waiting))
        for reply, *_ in waiting.values():
            if not reply.done():
                reply.set_exception(BusLostError())
        for gathering in self._gathering.values():
            if not gathering.done.done():
                gathering.done.set_exception(BusUnavailableError())


class _Gathering:
    """Replies to one message that many may answer."""

    __slots__ = ("done", "enough", "replies")

    def __init__(self, enough: Callable[[Sequence[bytes]], bool], done: asyncio.Future[bool]) -> None:
        self.enough = enough
        self.done = done
        self.replies: list[bytes] = []

    def take(self, reply: bytes, nobody: bool) -> None:
        if not nobody:
            self.replies.append(reply)
        if (nobody or self.enough(self.replies)) and not self.done.done():
            self.done.set_result(not nobody)


class ServingBus(BusConnection):
    """An adapter's side of the bus: it takes what comes on its subjects, and replies."""

    def __init__(
        self,
        urls: str,
        tls: ssl.SSLContext,
        name: str,
        subscriptions: Sequence[Subscription],
        *,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        super().__init__(urls, tls, name, subscriptions, ping_seconds=ping_seconds)
        self._sent: deque[tuple[bytes, bytes]] = deque()
        self._sent_bytes = 0
        self._unsent: dict[bytes, bytes] = {}

    def reply(self, to: bytes, message: bytes) -> None:
        """Send the one reply to a message that was taken.

        Raises:
            BusUnavailableError: The connection is gone, and with it the right to reply. OverloadedError: it takes no more.
            ValueError: The message is more than the bus takes, or nobody waits for a reply.
        """
        link = self._link
        if link is None:
            raise BusUnavailableError
        if not link.writable:
            raise OverloadedError
        if not to or len(message) > MAX_PAYLOAD:
            raise ValueError(f"a message of {len(message)} bytes, with {'a' if to else 'no'} place to reply to")
        link.publish(to, b"", message)
        self._sent.append((to, message))
        self._sent_bytes += len(message)
        while self._sent_bytes > KEPT_BYTES or len(self._sent) > KEPT_REPLIES:
            self._sent_bytes -= len(self._sent.popleft()[1])

    def on_unsent(self, subject: bytes) -> None:
        message = next((message for to, message in reversed(self._sent) if to == subject), None)
        if message is not None:
            self._unsent[subject] = message
            while sum(map(len, self._unsent.values())) > KEPT_BYTES:
                del self._unsent[next(iter(self._unsent))]

    def send_after_all(self, _: bytes, reply_to: bytes, __: bytes, ___: bool) -> None:
        """Take a reminder: who waits for this reply still does. What was refused is sent; what is not there yet will be."""
        message = self._unsent.pop(reply_to, None)
        if message is not None:
            with contextlib.suppress(BusUnavailableError, OverloadedError):
                self.reply(reply_to, message)

    def hears(self, subject: str) -> bool:
        """Whether the server gives us what is sent to one of our subjects now."""
        return self._link is not None and subject not in self._link.refused

    async def join(self, subscription: Subscription) -> None:
        """Take what comes on one more subscription, on later connections, too; returns when the server knows of it."""
        self._subscriptions.append(subscription)
        if self._link is not None:
            with contextlib.suppress(LinkError):
                await self._link.join(subscription)

    async def leave(self, subjects: Collection[str]) -> None:
        """Take no more from the subjects, also on later connections; returns when all that was sent before was taken."""
        self._subscriptions = [each for each in self._subscriptions if each.subject not in subjects]
        if self._link is not None:
            with contextlib.suppress(LinkError):
                await asyncio.gather(*[self._link.leave(subject) for subject in subjects])

    def on_lost(self) -> None:
        events.warning("bus.lost")


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
        BusUnavailableError: No server took us in within CONNECT_SECONDS (its cause is what the last attempt failed of), or it
            is older than 2.12. The client is closed.
    """

    # Loaded for tools only: with what it brings along, it takes 8 MB of a gateway's memory.
    import nats.errors

    async def on_error(error: Exception) -> None:
        # A publish that the server's permissions forbid is told here only, never to the publisher.
        events.error("bus.error", name=name, error=repr(error))

    async def on_disconnected() -> None:
        events.warning("bus.lost", name=name)
        if on_lost is not None:
            await on_lost()

    async def on_reconnected() -> None:
        events.info("bus.back", name=name)

    # Told to reconnect without end, the library also makes its first connection without end. And a cancellation may be lost
    # in it: `asyncio.wait_for` drops one that comes as what it waits for ends (until Python 3.12), which is at every attempt
    # where the server closes each connection at once. So it is not trusted to end when told so once, as by `asyncio.timeout`.
    connecting = asyncio.create_task(
        client.connect(
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
    )
    try:
        await asyncio.wait([connecting], timeout=CONNECT_SECONDS)
        if not connecting.done():
            raise TimeoutError(f"no connection within {CONNECT_SECONDS:g} s")
        connecting.result()
        version = client.connected_server_version
        if (version.major, version.minor) < MIN_SERVER:
            raise BusUnavailableError("bus-version")
    except BaseException as error:
        await _end(connecting)
        closing = asyncio.create_task(client.close())
        await asyncio.wait([closing], timeout=CLOSE_SECONDS)
        await _end(closing)  # it waits for a connection that it lost in the middle of a handshake
        if isinstance(error, nats.errors.Error | OSError):
            raise BusUnavailableError from client.last_error or error
        raise


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended, or does not within CLOSE_SECONDS; what becomes of it is nobody's concern any more."""
    loop = asyncio.get_running_loop()
    until = loop.time() + CLOSE_SECONDS
    while not task.done() and loop.time() < until:
        task.cancel()
        await asyncio.wait([task], timeout=CLOSE_SECONDS / 20)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
