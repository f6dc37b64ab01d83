"""The gateway's end of the socket to its search process: starts it, asks it, starts it again when it ends.

Rules:
1. A gateway carries exchanges whether or not it can search: the process starts aside, and whoever asks while it is away is
   told so.
2. No more than so many questions are asked at once; the others wait, and no more than so many wait. A question whose asker
   has gone is called off.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import structlog

from exchange.errors import InvalidRequestError, UnavailableError
from exchange.log.frames import Messages
from exchange.log.reader import Page, StoredEntry
from exchange.search.filters import RecordFilter
from exchange.search.frames import Act, Question, Result, packed
from exchange.search.statistics import IndexStatus, Statistics, Step

_AT_ONCE: Final = 8
_MOST_WAITING: Final = 64
_DELAY_SECONDS: Final = 3.0
"""The process starts so long after its gateway, or when it is asked first: a start takes the processor for most of a second,
and exchanges come first."""
_START_SECONDS: Final = 10.0
"""How long a question waits for a process that is starting."""
_ANSWER_SECONDS: Final = 60.0
_END_SECONDS: Final = 5.0
_MAX_BACKOFF: Final = 30.0
_CHUNK: Final = 500

# As `python -m exchange.search.process`, but of this very installation, wherever the gateway was started. It is nice before it
# imports anything: that alone takes the processor for half a second.
_PROGRAM: Final = """
import os, sys
os.nice(10)
sys.path.insert(0, sys.argv.pop(1))
from exchange.search.process import main
sys.exit(main())
"""

_T = TypeVar("_T")

events = structlog.get_logger("datong.search")


class _Socket(asyncio.Protocol):
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.asked: dict[int, asyncio.Future[Result]] = {}
        self._results = Messages(Result)

    def data_received(self, data: bytes) -> None:
        for result in self._results.feed(data):
            future = self.asked.pop(result.number, None)
            if future is not None and not future.done():
                # The content is a view of what was received, which does not last.
                future.set_result(Result(result.number, msgspec.Raw(bytes(result.content)), result.refusal))

    def connection_lost(self, error: Exception | None) -> None:
        asked, self.asked = self.asked, {}
        for future in asked.values():
            if not future.done():
                future.set_exception(UnavailableError("search-available"))
        if not self.closed.done():
            self.closed.set_result(None)


class SearchProcess:
    """Keeps one search process running, and asks it; `start` makes one. Any number of tasks may ask at once.

    Every question raises UnavailableError (rule `search-available`) while the process is away, too slow or too busy.
    """

    def __init__(self, log_database: str, search_database: str) -> None:
        self._begin = {"log": log_database, "search": search_database}
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._connected = asyncio.Event()
        self._wanted = asyncio.Event()
        self._socket: _Socket | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, *, log_database: str, search_database: str = "") -> SearchProcess:
        """Have the process started soon, without waiting until it answers.

        Args:
            log_database: URL of the log.
            search_database: URL of its index; default: where `search_url_of` says.
        """
        search = cls(log_database, search_database)
        search._keeping = asyncio.create_task(search._keep())
        return search

    @property
    def ready(self) -> bool:
        """Whether there is a process to be asked."""
        return self._transport is not None

    @property
    def pid(self) -> int | None:
        """Process id, None while there is none."""
        return self._process.pid if self._process is not None and self._transport is not None else None

    async def stop(self) -> None:
        """Let the process end."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self._end()

    async def page(self, wanted: RecordFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
        """Up to `limit` records, newest first; raises InvalidRequestError if the cursor is none of ours."""
        return await self._ask("page", {"cursor": cursor, "limit": limit}, Page, wanted)

    async def numbers(self, wanted: RecordFilter, *, below: int | None = None, limit: int) -> list[int]:
        """Numbers of up to `limit` records, the newest first, of those with numbers under `below`."""
        return await self._ask("numbers", {"below": below, "limit": limit}, list[int], wanted)

    async def iterate(self, wanted: RecordFilter, size: int) -> AsyncIterator[StoredEntry]:
        """All records among the first `size` entries, in order of their numbers; as fast as they are taken."""
        first = 0
        while first < size:
            arguments = {"first": first, "end": size, "limit": _CHUNK}
            entries, first = await self._ask("chunk", arguments, tuple[list[StoredEntry], int], wanted)
            for entry in entries:
                yield entry

    async def statistics(self, wanted: RecordFilter, *, step: Step) -> Statistics:
        """Figures over all records that the filter finds; raises InvalidRequestError if the series would be too long."""
        return await self._ask("statistics", {"step": step}, Statistics, wanted)

    async def status(self) -> IndexStatus:
        """How far the index is."""
        return await self._ask("status", {}, IndexStatus)

    async def _ask(
        self, act: Act, arguments: dict[str, Any], answer: type[_T], wanted: RecordFilter | None = None
    ) -> _T:
        if wanted is not None:
            arguments["wanted"] = wanted.to_plain()
        if self._waiting >= _MOST_WAITING:
            raise UnavailableError("search-available")
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            result = await self._result(act, arguments)
        finally:
            self._turns.release()
        if result.refusal is not None:
            code, rule, problem, problem_zh = result.refusal
            if code == InvalidRequestError.code:
                raise InvalidRequestError(rule, problem=problem, problem_zh=problem_zh)
            raise UnavailableError("search-available")
        return msgspec.msgpack.decode(result.content, type=answer)

    async def _result(self, act: Act, arguments: dict[str, Any]) -> Result:
        if self._keeping is None or self._keeping.done():
            raise UnavailableError("search-available")
        self._wanted.set()
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._connected.wait()
        except TimeoutError:
            raise UnavailableError("search-available") from None
        link, transport = self._socket, self._transport
        if link is None or transport is None:
            raise UnavailableError("search-available")
        number = next(self._numbers)
        future = link.asked[number] = self._loop.create_future()
        transport.write(packed(Question(number, act, arguments)))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                result: Result = await future
                return result
        except TimeoutError:
            events.error("search_slow", act=act, seconds=_ANSWER_SECONDS)
            raise UnavailableError("search-available") from None
        finally:
            if link.asked.pop(number, None) is not None:
                transport.write(packed(Question(number, "call_off")))

    async def _keep(self) -> None:
        """Start the process, and again whenever it ends: soon after it worked for a while, then less and less soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DELAY_SECONDS):
                await self._wanted.wait()
        backoff = 0.1
        while True:
            started = self._loop.time()
            try:
                link = await self._start()
                await link.closed
                events.error("search_process_lost")
            except OSError as error:
                events.error("search_process_not_started", problem=str(error))
            self._connected.clear()
            await self._end()
            if self._loop.time() - started > _MAX_BACKOFF:
                backoff = 0.1
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _MAX_BACKOFF)

    async def _start(self) -> _Socket:
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _PROGRAM, str(Path(__file__).parents[2]), "--fd", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        transport, link = await self._loop.create_unix_connection(_Socket, sock=ours)
        self._socket, self._transport = link, transport
        # It reads what is asked when it has opened the log; until then questions wait there.
        transport.write(packed(Question(0, "begin", self._begin)))
        self._connected.set()
        return link

    async def _end(self) -> None:
        """Close the socket, at which the process ends by itself, and see it gone."""
        transport, self._transport, self._socket = self._transport, None, None
        if transport is not None:
            transport.close()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
