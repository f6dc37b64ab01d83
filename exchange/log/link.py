"""The gateway's end of the socket to its log writer: starts the process, sends frames, matches replies, restarts it.

Rules:
1. Replies come in the order of the frames. Whoever waits for a frame gets an answer exactly once: when its reply comes,
   when the writer is lost, or when it has not answered in time.
2. While the writer is away or silent, a frame fails at once: nobody queues behind what may never come.
3. A writer whose database fails stays. A frame without content, a probe, finds out when the database works again.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from exchange.errors import LogUnavailableError
from exchange.log.frames import (
    Annex,
    Certificate,
    Entry,
    Evidence,
    Frame,
    Intent,
    Messages,
    Reply,
    Start,
    Started,
    message,
)
from exchange.log.store import CorruptLogError

_TICK = 0.25
_START_SECONDS = 60.0
_MAX_BACKOFF = 5.0
_BUFFER = 4 << 20

# As `python -m exchange.log.writer`, but of this very installation, wherever the process was started.
_PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from exchange.log.writer import main
sys.exit(main())
"""

events = structlog.get_logger("datong.log")


class Pending(msgspec.Struct, eq=False):
    """What one frame holds, and who waits for its reply. A struct, whose empty lists cost least: there is one for each turn."""

    sent_at: float = 0.0
    entries: list[Entry] = []
    entry_futures: list[asyncio.Future[int]] = []
    settled: list[str] = []
    intents: list[Intent] = []
    dropped: list[str] = []
    done_futures: list[asyncio.Future[None]] = []
    """Of intents and dropped intents."""
    certificates: list[Certificate] = []
    checkpoint_futures: list[asyncio.Future[str]] = []
    probe: bool = False
    evidence: list[Evidence] = []
    annexes: list[Annex] = []

    def __bool__(self) -> bool:
        """Whether there is anything to ask for."""
        return bool(self.entries or self.done_futures or self.certificates or self.checkpoint_futures or self.probe)

    def frame(self) -> Frame:
        """The message that asks for all of it."""
        return Frame(
            self.entries,
            self.settled,
            self.intents,
            self.dropped,
            self.certificates,
            bool(self.checkpoint_futures),
            self.probe,
            self.evidence,
            self.annexes,
        )

    def succeed(self, reply: Reply) -> None:
        """Tell everyone what became of their part."""
        kept = self.entry_futures
        if reply.duplicates:
            left_out = set(reply.duplicates)
            for position in reply.duplicates:
                _fail(kept[position], LogUnavailableError("one-record-per-exchange"))
            kept = [future for position, future in enumerate(kept) if position not in left_out]
        for seq, future in enumerate(kept, reply.first_seq):
            if not future.done():
                future.set_result(seq)
        for done in self.done_futures:
            if not done.done():
                done.set_result(None)
        for wanted in self.checkpoint_futures:
            if not reply.note:
                _fail(wanted, LogUnavailableError("checkpoint-signed"))
            elif not wanted.done():
                wanted.set_result(reply.note)

    def fail(self) -> None:
        """Tell everyone that nothing is known to be durable."""
        futures: list[asyncio.Future[Any]] = [*self.entry_futures, *self.done_futures, *self.checkpoint_futures]
        for future in futures:
            _fail(future, LogUnavailableError())


def _fail(future: asyncio.Future[Any], error: LogUnavailableError) -> None:
    if not future.done():
        future.set_exception(error)


class _Socket(asyncio.Protocol):
    def __init__(self, replied: Callable[[Reply], None]) -> None:
        self._replied = replied
        self._first = Messages(Started)
        self._replies = Messages(Reply)
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[Started] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def data_received(self, data: bytes) -> None:
        if not self.started.done():
            for started in self._first.feed(data):
                self.started.set_result(started)
            return
        for reply in self._replies.feed(data):
            self._replied(reply)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.started.done():
            self.started.set_result(Started("the writer ended before it was ready"))
        if not self.closed.done():
            self.closed.set_result(None)


class WriterLink:
    """Keeps one log writer running.

    Args:
        start: What the writer is to know.
        timeout: Seconds in which it has to answer a frame.
        finished: Called with every frame when it is over, and whether it is durable, before anyone who waits is told.
    """

    def __init__(self, start: Start, *, timeout: float, finished: Callable[[Pending, bool], None]) -> None:
        self._start = start
        self._timeout = timeout
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._sent: deque[Pending] = deque()
        self._failing = False
        self._stalled = False
        self._tasks: list[asyncio.Task[None]] = []
        self.vkey = ""
        """The public key of the log."""

    @property
    def ready(self) -> bool:
        """Whether what is sent now is expected to become durable."""
        return self._transport is not None and not self._failing and not self._stalled

    @property
    def pid(self) -> int | None:
        """Process id of the writer, None while there is none."""
        return self._process.pid if self._process is not None and self._transport is not None else None

    async def open(self) -> None:
        """Start the writer, and from then on start it again when it dies.

        Raises:
            CorruptLogError: The log contradicts itself or what was signed.
            LogUnavailableError: The writer did not become ready; our events say why.
        """
        writer = await self._start_writer()
        self._tasks = [asyncio.create_task(self._keep(writer)), asyncio.create_task(self._watch())]

    async def close(self) -> None:
        """Wait for the frames on their way, then let the writer end."""
        deadline = self._loop.time() + self._timeout
        while self._sent and self._transport is not None and self._loop.time() < deadline:
            await asyncio.sleep(0.002)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._end_writer()
        self._fail_all()

    def send(self, pending: Pending) -> None:
        """Ask the writer for all that is pending; it fails at once if the writer is away or silent."""
        if self._transport is None or self._stalled:
            self._finished(pending, False)
            pending.fail()
            return
        pending.sent_at = self._loop.time()
        self._sent.append(pending)
        self._transport.write(message(pending.frame()))

    def _replied(self, reply: Reply) -> None:
        pending = self._sent.popleft()
        self._stalled = False
        if bool(reply.problem) != self._failing:
            self._failing = not self._failing
            events.error("log_failing", problem=reply.problem) if self._failing else events.info("log_recovered")
        if reply.problem:
            self._finished(pending, False)
            pending.fail()
        else:
            self._finished(pending, True)
            pending.succeed(reply)

    def _fail_all(self) -> None:
        lost, self._sent = self._sent, deque()
        for pending in lost:
            self._finished(pending, False)
            pending.fail()

    async def _start_writer(self) -> _Socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _PROGRAM, str(Path(__file__).parents[2]), "--fd", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            ours.close()
            raise LogUnavailableError from error
        finally:
            theirs.close()
        transport, writer = await self._loop.create_unix_connection(lambda: _Socket(self._replied), sock=ours)
        transport.write(message(self._start))
        try:
            async with asyncio.timeout(_START_SECONDS):
                started = await asyncio.shield(writer.started)
        except TimeoutError:
            started = Started("the writer did not become ready in time")
        if started.problem:
            transport.abort()
            await self._end_writer()
            events.error("log_writer_refused", problem=started.problem)
            raise CorruptLogError(started.problem) if started.fatal else LogUnavailableError
        self.vkey = started.vkey
        self._transport = transport
        self._stalled = self._failing = False
        return writer

    async def _keep(self, writer: _Socket) -> None:
        """When the writer dies, fail who waits, and start another one until it works."""
        while True:
            await writer.closed
            self._transport = None
            events.error("log_writer_lost", frames=len(self._sent))
            self._fail_all()
            await self._end_writer()
            backoff = 0.05
            while True:
                try:
                    writer = await self._start_writer()
                    break
                except (LogUnavailableError, CorruptLogError):
                    await asyncio.sleep(backoff)
                    backoff = min(2 * backoff, _MAX_BACKOFF)
            events.info("log_writer_started_again")

    async def _watch(self) -> None:
        """Notice a writer that does not answer; find out when a failing database works again."""
        while True:
            await asyncio.sleep(_TICK)
            now = self._loop.time()
            if self._sent and now - self._sent[0].sent_at > self._timeout:
                if not self._stalled:
                    events.error("log_stalled", seconds=self._timeout)
                self._stalled = True
                # The frames stay where they are: their replies still have to be matched.
                for pending in self._sent:
                    self._finished(pending, False)
                    pending.fail()
            elif self._failing and not self._sent:
                self.send(Pending(probe=True))

    async def _end_writer(self) -> None:
        """Close the socket, at which the writer ends by itself, and see it gone."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
