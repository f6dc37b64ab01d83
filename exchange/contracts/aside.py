"""Checking and reading contracts in a process of its own, under a clock: for what could take long.

Rules:
1. What others wrote, a document or a body for it, never holds up a gateway: what is not known to be quick is done here, and ends
   with the process when its time is over. The next task gets a new process.
2. The process gets bytes and gives bytes. It has no environment of ours, opens nothing and fetches nothing.
3. One task at a time; a few may wait, more are told to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from exchange.contracts.contract import Contract, read_plan
from exchange.contracts.faults import ContractBreachError, Fault
from exchange.contracts.planning import plan_of
from exchange.contracts.reading import read_contract_document
from exchange.contracts.schemas import ContractDocumentError
from exchange.errors import OverloadedError
from exchange.messages.envelope import Headers

PLAN_SECONDS: Final = 60.0
MAX_MEMORY: Final = 1 << 30
MAX_WAITING: Final = 32
_KEPT: Final = 16
"""Contracts that the process keeps compiled."""
_LENGTH: Final = struct.Struct(">I")
_LARGEST_ANSWER: Final = 256 << 20
_PROGRAM: Final = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from exchange.contracts.aside import main
sys.exit(main())
"""


class _PlanTask(msgspec.Struct, tag="plan"):
    document: bytes


class _CheckTask(msgspec.Struct, tag="check"):
    key: str
    plan: bytes
    """As JSON, which takes integers of any size; empty if the process has it already."""
    method: str
    segments: tuple[str, ...]
    query: bytes
    headers: Headers
    body: bytes | None


_Task = _PlanTask | _CheckTask


class _Planned(msgspec.Struct, tag="planned"):
    plan: bytes
    problem: str = ""


class _Checked(msgspec.Struct, tag="checked"):
    faults: tuple[Fault, ...] = ()


class TooLongError(Exception):
    """The time was over, or the process ended for want of memory."""


class Aside:
    """A process that does such tasks. It is started when the first one comes."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._given: list[str] = []
        """Keys of the contracts that the process keeps, the one used longest ago first."""
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def plan(self, document: bytes, *, seconds: float = PLAN_SECONDS) -> bytes:
        """What is checked of a document (`plan_of`): a `Plan`, as JSON.

        Raises:
            ContractDocumentError: It is no document that could be checked against.
            TooLongError: That took longer than it may, or more memory.
            OverloadedError: Too much is waiting.
        """
        answer = await self._done(lambda: _PlanTask(document), seconds)
        result = msgspec.msgpack.decode(answer, type=_Planned)
        if not result.plan:
            raise ContractDocumentError(result.problem)
        return result.plan

    async def check_request(
        self,
        key: str,
        plan: bytes,
        *,
        method: str,
        segments: Sequence[str],
        query: bytes,
        headers: Headers,
        body: bytes | None,
        seconds: float,
    ) -> None:
        """`OperationContract.check_request` of the operation that the request is.

        Args:
            key: What tells the contract from others.
            plan: As `plan` gave it.

        Raises:
            ContractBreachError: The request does not keep to the contract, or it took too long to find out.
            OverloadedError: Too much is waiting.
        """

        def task() -> _CheckTask:
            known = key in self._given
            if known:
                self._given.remove(key)
            self._given = [*self._given, key][-_KEPT:]
            return _CheckTask(key, b"" if known else plan, method, tuple(segments), query, headers, body)

        try:
            answer = await self._done(task, seconds)
        except TooLongError as error:
            raise ContractBreachError([Fault("body" if body else "query", "", "limit")]) from error
        faults = msgspec.msgpack.decode(answer, type=_Checked).faults
        if faults:
            raise ContractBreachError(faults)

    async def stop(self) -> None:
        """End the process."""
        process, self._process, self._given = self._process, None, []
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _done(self, task: Callable[[], _Task], seconds: float) -> bytes:
        if self._waiting >= MAX_WAITING:
            raise OverloadedError("contract-checkers")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._asked(task, seconds)
        finally:
            self._waiting -= 1

    async def _asked(self, task: Callable[[], _Task], seconds: float) -> bytes:
        if self._process is None or self._process.returncode is not None:
            self._process, self._given = await _started(), []
        streams = self._process.stdin, self._process.stdout
        assert streams[0] is not None
        assert streams[1] is not None
        message = msgspec.msgpack.encode(task())
        answered = False
        try:
            async with asyncio.timeout(seconds):
                streams[0].write(_LENGTH.pack(len(message)) + message)
                await streams[0].drain()
                (size,) = _LENGTH.unpack(await streams[1].readexactly(_LENGTH.size))
                if size > _LARGEST_ANSWER:
                    raise TooLongError
                answer = await streams[1].readexactly(size)
                answered = True
                return answer
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            raise TooLongError from error
        finally:
            if not answered:  # also when the one who asked has gone: the answer would be taken for the next one's
                await self.stop()


async def _started() -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-c", _PROGRAM, str(Path(__file__).parents[2])),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            cwd="/",
        )
    except OSError as error:  # no process is to be had now
        raise OverloadedError("contract-checkers") from error


def main() -> int:
    """What the process does: tasks on standard input, results on standard output, until there are no more."""
    _bound_memory()
    contracts: dict[str, Contract] = {}
    tasks = msgspec.msgpack.Decoder(_PlanTask | _CheckTask)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while (message := _next(source)) is not None:
        task = tasks.decode(message)
        result = _planned(task) if isinstance(task, _PlanTask) else _checked(task, contracts)
        answer = msgspec.msgpack.encode(result)
        sink.write(_LENGTH.pack(len(answer)) + answer)
        sink.flush()
    return 0


def _next(source: BinaryIO) -> bytes | None:
    head = source.read(_LENGTH.size)
    return source.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else None


def _planned(task: _PlanTask) -> _Planned:
    try:
        plan = plan_of(read_contract_document(task.document))
        Contract(plan)  # so that what cannot be compiled is found here
    except ContractDocumentError as error:
        return _Planned(b"", str(error))
    return _Planned(msgspec.json.encode(plan))


def _checked(task: _CheckTask, contracts: dict[str, Contract]) -> _Checked:
    contract = contracts.pop(task.key, None)
    if contract is None:
        contract = Contract(read_plan(task.plan))
    contracts[task.key] = contract
    while len(contracts) > _KEPT:
        del contracts[next(iter(contracts))]
    operation = contract.find(task.method, task.segments)
    try:
        if operation is not None:
            operation.check_request(task.segments, task.query, task.headers, task.body)
    except ContractBreachError as error:
        return _Checked(error.faults)
    return _Checked()


def _bound_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    except (ImportError, OSError, ValueError):
        pass  # not on every system; the clock still holds
