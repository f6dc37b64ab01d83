"""A source written in Python: an operation is a function with types.

    adapter = Adapter()

    @adapter.get("/people/{number}")
    async def person(number: str, year: int | None = None) -> Person | None: ...

`docs/sources/python.md` explains all of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog

from department_adapters.code.operations import Method, Operation
from department_adapters.replies import CallerError, not_allowed, path_of, problem_answer, without_body
from department_adapters.source import SourceAnswer, SourceRequest, close_stream

Function = TypeVar("Function", bound=Callable[..., Any])

events = structlog.get_logger("datong.adapter")


class Adapter:
    """Operations of one service. It is a `Source`: it takes part in the mesh as any other."""

    def __init__(self, title: str = "", *, version: str = "1.0.0", description: str = "", threads: int = 16) -> None:
        """
        Args:
            title, version, description: Of the contract that `openapi` gives.
            threads: Functions that are not `async` at once; more wait for their turn.
        """
        self.title, self.version, self.description = title, version, description
        self._operations: list[Operation] = []
        self._starting: list[Callable[[], Any]] = []
        self._stopping: list[Callable[[], Any]] = []
        self._most_threads = threads
        self._threads: ThreadPoolExecutor | None = None
        self._services = 0

    def get(self, path: str, *, status: int = 200) -> Callable[[Function], Function]:
        """Answer GET, and HEAD, with the decorated function.

        Args:
            path: Template, `/people/{number}`. Of several operations that match, the one declared first answers.
            status: Of its answers.

        Raises:
            TypeError, ValueError: The function's signature cannot be served (when it is decorated).
        """
        return self._operation("GET", path, safe=True, status=status)

    def post(self, path: str, *, safe: bool = False, status: int = 200) -> Callable[[Function], Function]:
        """Answer POST; `safe` says that it changes nothing, a search for instance. Raises as `get` does."""
        return self._operation("POST", path, safe=safe, status=status)

    def put(self, path: str, *, status: int = 200) -> Callable[[Function], Function]:
        """Answer PUT. Raises as `get` does."""
        return self._operation("PUT", path, safe=False, status=status)

    def patch(self, path: str, *, status: int = 200) -> Callable[[Function], Function]:
        """Answer PATCH. Raises as `get` does."""
        return self._operation("PATCH", path, safe=False, status=status)

    def delete(self, path: str, *, status: int = 200) -> Callable[[Function], Function]:
        """Answer DELETE. Raises as `get` does."""
        return self._operation("DELETE", path, safe=False, status=status)

    def on_start(self, function: Function) -> Function:
        """Call the decorated function before the first question. If it raises, the adapter does not start."""
        self._starting.append(function)
        return function

    def on_stop(self, function: Function) -> Function:
        """Call the decorated function after the last question, the one declared last first. What it raises is logged."""
        self._stopping.append(function)
        return function

    def openapi(self) -> dict[str, Any]:
        """The contract: an OpenAPI 3.1 document from the types and docstrings of the operations.

        Raises:
            TypeError: Two different types have the same name.
        """
        from department_adapters.code.openapi import openapi

        return openapi(self.title or "Adapter", self.version, self.description, self._operations)

    def run(self, contract: str | Path = "adapter.toml") -> None:
        """Serve until SIGINT or SIGTERM, as `datong adapter run` does, but without renewing the certificate.

        Services of the contract with `source = "python"` whose module is the program that runs are answered by this adapter,
        the others as they are declared. Ends the process with status 2 if the contract cannot be used.
        """
        from department_adapters.code.running import run

        run(self, Path(contract))

    # -- a source

    async def start(self) -> None:
        """Call what `on_start` named, once for however many services. Raises what these raise."""
        self._services += 1
        if self._services > 1:
            return
        self._threads = ThreadPoolExecutor(self._most_threads, thread_name_prefix="operation")
        for function in self._starting:
            await _called(function)

    async def stop(self) -> None:
        """Call what `on_stop` named, at the last service; functions that still run in threads are not waited for."""
        self._services -= 1
        if self._services > 0:
            return
        for function in reversed(self._stopping):
            try:
                await _called(function)
            except Exception as error:  # noqa: BLE001  # the others are to be stopped, too
                events.exception("adapter.not_stopped", error=repr(error))
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        """The answer of the operation that is asked for.

        Raises:
            Exception: What the function raised; the runner tells callers that the system failed, and nothing of why.
        """
        answer = await self._answer(request)
        if request.method != "HEAD":
            return answer
        await close_stream(answer)
        return without_body(answer)

    async def _answer(self, request: SourceRequest) -> SourceAnswer:
        assert self._threads is not None, "start() comes first"
        path = path_of(request)
        wanted = "GET" if request.method == "HEAD" else request.method
        allowed: list[str] = []
        for operation in self._operations:
            match = operation.pattern.fullmatch(path)
            if match is None:
                continue
            if operation.method != wanted:
                allowed += ["GET", "HEAD"] if operation.method == "GET" else [operation.method]
                continue
            try:
                return await operation.answer(request, match.groups(), self._threads)
            except CallerError as error:
                return problem_answer(request, error)
        if allowed:
            return not_allowed(request, ", ".join(dict.fromkeys(allowed)))
        return problem_answer(request, CallerError(404, "There is no such operation.", "没有这个操作。"))

    def _operation(self, method: Method, path: str, *, safe: bool, status: int) -> Callable[[Function], Function]:
        def declare(function: Function) -> Function:
            self._operations.append(Operation(method, path, function, safe=safe, status=status))
            return function

        return declare


async def _called(function: Callable[[], Any]) -> None:
    result = function()
    if inspect.isawaitable(result):
        await result
