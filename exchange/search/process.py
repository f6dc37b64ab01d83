"""The process that searches the exchange log: python -m exchange.search.process --fd N, a child of the gateway.

Rules:
1. A heavy question holds up neither the gateway's event loop nor, by its priority, its processor time. Questions take turns
   here; one that is called off ends.
2. It makes the index of its log, unless another process does: then it tries again from time to time.
3. It lives as long as the socket: when the gateway closes it or dies, the process ends. What it had not finished is made
   again by the next one.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import structlog
import uvloop

from exchange.errors import InvalidRequestError, MeshError, UnavailableError
from exchange.events import configure_events
from exchange.log.frames import Messages
from exchange.search.filters import RecordFilter
from exchange.search.frames import NOTHING, Question, Result, packed
from exchange.search.index_store import IndexUnavailableError
from exchange.search.log_search import LogSearch

_FOLLOW_SECONDS = 1.0
"""How often the log is looked at. What it grew by meanwhile is searched in the records."""
_AGAIN_SECONDS = 5.0
"""After a failure, or while another process makes the index."""

events = structlog.get_logger("datong.search")
_encode = msgspec.msgpack.Encoder().encode


class _Link(asyncio.Protocol):
    """The socket to the gateway."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.begin: asyncio.Future[Question] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._questions = Messages(Question)
        self._transport: asyncio.Transport | None = None
        self._search: LogSearch | None = None
        self._waiting: list[Question] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class

    def data_received(self, data: bytes) -> None:
        for question in self._questions.feed(data):
            self._take(question)

    def connection_lost(self, error: Exception | None) -> None:
        for task in self._tasks.values():
            task.cancel()
        if not self.begin.done():
            self.begin.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    def answer_with(self, search: LogSearch) -> None:
        """Answer what was asked and will be."""
        self._search = search
        waiting, self._waiting = self._waiting, []
        for question in waiting:
            self._take(question)

    def _take(self, question: Question) -> None:
        if question.act == "begin":
            self.begin.set_result(question)
        elif question.act == "call_off":
            self._waiting = [each for each in self._waiting if each.number != question.number]
            if task := self._tasks.get(question.number):
                task.cancel()
        elif self._search is None:
            self._waiting.append(question)
        else:
            task = asyncio.get_running_loop().create_task(self._answer(self._search, question))
            self._tasks[question.number] = task
            task.add_done_callback(lambda _: self._tasks.pop(question.number, None))

    async def _answer(self, search: LogSearch, question: Question) -> None:
        try:
            result = Result(question.number, msgspec.Raw(_encode(await _content(search, question))))
        except InvalidRequestError as error:
            facts = error.facts
            refusal = (error.code, error.rule, str(facts["problem"]), str(facts["problem_zh"]))
            result = Result(question.number, NOTHING, refusal)
        except MeshError as error:
            events.error("search_failed", act=question.act, problem=str(error.__cause__ or error))
            result = Result(question.number, NOTHING, (error.code, error.rule, "", ""))
        except Exception as fault:  # noqa: BLE001 - a fault of ours must not leave the gateway waiting
            events.exception("search_fault", act=question.act, error=repr(fault))
            unavailable = UnavailableError("search-available")
            result = Result(question.number, NOTHING, (unavailable.code, unavailable.rule, "", ""))
        if self._transport is not None:
            self._transport.write(packed(result))


async def _content(search: LogSearch, question: Question) -> Any:
    """What is answered, as msgpack can carry it."""
    arguments = question.arguments
    if question.act == "status":
        return await search.status()
    wanted = RecordFilter.from_plain(arguments["wanted"])
    if question.act == "statistics":
        return await search.statistics(wanted, step=arguments["step"])
    if question.act == "chunk":
        entries, after = await search.chunk(wanted, arguments["first"], arguments["end"], arguments["limit"])
        return entries, after
    if question.act == "numbers":
        return await search.numbers(wanted, below=arguments["below"], limit=arguments["limit"])
    return await search.page(wanted, arguments["cursor"], arguments["limit"])


async def serve(connection: socket.socket) -> int:
    """Search for the gateway at the other end of `connection` until it closes; the process's exit code."""
    transport, link = await asyncio.get_running_loop().create_unix_connection(_Link, sock=connection)
    try:
        begin = (await link.begin).arguments
    except asyncio.CancelledError:
        return 0
    search: LogSearch | None = None
    indexing: asyncio.Task[None] | None = None
    try:
        search = await LogSearch.open(begin["log"], begin["search"])
        indexing = asyncio.create_task(_index(search))
        link.answer_with(search)
        await link.closed
    except UnavailableError:
        return 1  # our events say why; the gateway starts another one
    finally:
        transport.abort()
        if indexing is not None:
            indexing.cancel()
            await asyncio.gather(indexing, return_exceptions=True)
        if search is not None:
            await search.close()
    return 0


async def _index(search: LogSearch) -> None:
    """Make the index as the log grows, whenever no other process does."""
    failing, begun = False, 0
    while True:
        try:
            pause = _AGAIN_SECONDS
            if await search.indexer.take():
                entries = await search.indexer.catch_up()
                pause = _FOLLOW_SECONDS
                if search.indexer.begun != begun:
                    begun = search.indexer.begun
                    events.info("search_index_made_anew", entries=entries)
            if failing:
                events.info("search_index_recovered")
            failing = False
        except IndexUnavailableError as error:
            if not failing:
                events.error("search_index_failing", problem=str(error))
            failing = True
        await asyncio.sleep(pause)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m exchange.search.process", description="Searches the log; started by a gateway."
    )
    parser.add_argument("--fd", type=int, required=True, help="inherited socket to the gateway")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    configure_events()
    connection = socket.socket(fileno=options.fd)
    connection.setblocking(False)
    return uvloop.run(serve(connection))


if __name__ == "__main__":
    sys.exit(main())
