"""Examining a document in a process of its own: read, checked, validated, described, compared with the one before.

Rules:
1. What a document makes us do is bounded by a clock and by memory, and never by its author: a pattern that takes for ever to
   try, a thousand ways to read one schema, a megabyte of brackets end with the process, not with the gateway.
2. The process gets bytes and gives back what it found as JSON. It has no environment of the gateway's, opens nothing and
   fetches nothing.
3. A few documents are examined at once; others are told to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from exchange import OverloadedError, UnprocessableError
from registry.descriptions.difference import Alteration, Difference, difference
from registry.descriptions.document import Document, Format, refusal, sha256_of
from registry.descriptions.operations import Description, check_paths, describe
from registry.descriptions.reading import read_document
from registry.descriptions.references import References
from registry.descriptions.servers import without_hosts
from registry.descriptions.syntax import MAX_BYTES
from registry.descriptions.validation import validate

SECONDS = 120.0
MAX_MEMORY = 1 << 30
AT_ONCE = 2

_STACK = 64 << 20
_FRAMES = 10_000
# As `python -m registry.descriptions.examination`, but of this very installation, wherever the process was started.
_PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from registry.descriptions.examination import main
sys.exit(main())
"""


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a document."""

    format: Format
    openapi: str
    sha256: str
    description: Description
    difference: Difference
    """Against the document before; without one, everything is added."""
    shown: str | None
    """The text as callers are shown it (`registry.descriptions.servers`), if it is another."""


class _Task(msgspec.Struct):
    new: bytes
    old: bytes | None


class _Refusal(msgspec.Struct):
    rule: str
    problem: str
    problem_zh: str
    pointer: str


class _Result(msgspec.Struct):
    examination: Examination | None = None
    refusal: _Refusal | None = None


def examined(new: bytes, old: bytes | None = None) -> Examination:
    """Examine a document here and now, without a bound of time: for what is known to be harmless.

    Raises:
        UnprocessableError: What is wrong with it, and where.
    """
    document = read_document(new)
    references = References(document)
    check_paths(document)
    validate(document, references)
    return Examination(
        format=document.format,
        openapi=document.version,
        sha256=sha256_of(document.text),
        description=describe(document, references),
        difference=_against(old, document, references),
        shown=without_hosts(document),
    )


def _against(old: bytes | None, document: Document, references: References) -> Difference:
    if old is None:
        return difference(None, (document, references))
    try:
        before = read_document(old)
        return difference((before, References(before)), (document, references))
    except UnprocessableError:
        # Our rules grew stricter since it was registered. What it changes for whom, nobody can tell.
        return Difference.of([Alteration.of_all("breaking", "document-unreadable")])


class Examiner:
    """Examines documents, each in a process of its own."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._running = 0

    async def examine(self, new: bytes, old: bytes | None = None) -> Examination:
        """Return what is found in a document.

        Raises:
            UnprocessableError: What is wrong with it, and where; or that it could not be examined in bounds.
            OverloadedError: As many as may be are being examined.
        """
        if len(new) > MAX_BYTES:
            read_document(new)  # says so
        if self._running >= AT_ONCE:
            raise OverloadedError("description-examiners")
        self._running += 1
        try:
            answer = await self._asked(msgspec.msgpack.encode(_Task(new, old)))
        finally:
            self._running -= 1
        if answer is None:
            raise refusal(
                "description-limit",
                (),
                f"The document could not be examined in {self._seconds:g} s; it is too large or too intricate.",
                f"文档在 {self._seconds:g} 秒内无法检查完毕，过大或过于复杂。",
            )
        result = msgspec.json.decode(answer, type=_Result)
        if result.refusal is not None:
            found = result.refusal
            raise UnprocessableError(
                found.rule, problem=found.problem, problem_zh=found.problem_zh, pointer=found.pointer
            )
        assert result.examination is not None
        return result.examination

    async def _asked(self, task: bytes) -> bytes | None:
        """What the process answers, None if it ended without."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-c", _PROGRAM, str(Path(__file__).parents[2])),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},
                cwd="/",
            )
        except OSError as error:  # no process is to be had now
            raise OverloadedError("description-examiners") from error
        try:
            async with asyncio.timeout(self._seconds):
                answer, _ = await process.communicate(task)
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return answer if process.returncode == 0 else None


def main() -> int:
    """What the process does: a task on standard input, a result on standard output."""
    _bound_memory()
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Task)
    results: list[_Result] = []
    # Deeply nested documents lead validators through many frames; only a thread can be given a stack for them.
    threading.stack_size(_STACK)
    sys.setrecursionlimit(_FRAMES)
    worker = threading.Thread(target=lambda: results.append(_result(task)))
    worker.start()
    worker.join()
    if not results:
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(results[0]))
    sys.stdout.buffer.flush()
    return 0


def _result(task: _Task) -> _Result:
    try:
        return _Result(examination=examined(task.new, task.old))
    except UnprocessableError as error:
        facts: dict[str, Any] = error.facts
        return _Result(refusal=_Refusal(error.rule, facts["problem"], facts["problem_zh"], error.pointer))


def _bound_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        os.nice(10)
    except (ImportError, OSError, ValueError):
        pass  # not on every system; the clock still holds
