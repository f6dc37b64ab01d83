"""Requests made up from a contract, put to a source: does it answer each as the contract says? Bounded in time and number.

Rules:
1. The requests are such as the contract allows and the gateway would pass on. Only operations that change nothing are asked,
   unless whoever asks says otherwise.
2. A failure to answer is one (a database that breaks on a strange value), and so is an answer that the contract does not allow.
3. One at a time: it is the department's real system.
4. schemathesis makes up the requests; it is brought by an extra (`pip install 'datong[check]'`).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from department_adapters.checking.documents import DocumentedOperation
from department_adapters.checking.samples import Sample
from department_adapters.checking.trying import SECONDS, TriedService, trouble_of
from exchange import Headers, MeshError, check_query, parse_path

MOST_CASES = 200
"""Requests to one operation."""
_SERVICE = b"/r1/CN/GOV/0/0/0"
_BASE = "http://department.invalid"
_OURS = frozenset((b"user-agent", b"connection", b"x-schemathesis-testcaseid", b"content-length", b"accept-encoding"))
"""What the library adds, and no caller of the mesh."""


class NoFuzzerError(Exception):
    """schemathesis is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzFault:
    """Something that went wrong, as it was first met."""

    operation: str
    request: str
    """Method and target; bodies are not told."""
    what: str
    """For the department's eyes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzReport:
    """What came of it."""

    cases: int
    answered: int
    """With success."""
    faults: Sequence[FuzzFault]
    left_out: Sequence[str]
    """Operations for which no request could be made up, with the reason."""


class _TimeIsUp(BaseException):  # ends a run of hypothesis, which takes every Exception for a failure
    pass


async def fuzz(service: TriedService, *, seconds: float, unsafe: bool = False, seed: int = 0) -> FuzzReport:
    """Put made-up requests to every operation of a service, sharing the time among them.

    Args:
        seconds: For all of them, without what it takes to load the library and to read the schemas.
        seed: Other seeds make up other requests.

    Raises:
        NoFuzzerError: The library is not installed.
    """
    if importlib.util.find_spec("schemathesis") is None:
        raise NoFuzzerError
    operations = service.operations(unsafe=unsafe)
    if not operations or service.tree is None:
        return FuzzReport(cases=0, answered=0, faults=(), left_out=())
    run = _Run(service, operations, asyncio.get_running_loop(), seconds, seed)
    try:
        # Making up requests is work of its own, and would hold up the answers.
        await asyncio.to_thread(run.all)
    except asyncio.CancelledError:
        run.stopped.set()
        raise
    return FuzzReport(cases=run.cases, answered=run.answered, faults=run.faults, left_out=run.left_out)


class _Run:
    """One run, in a thread; the source is asked in its event loop."""

    def __init__(
        self,
        service: TriedService,
        operations: Sequence[DocumentedOperation],
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        seed: int,
    ) -> None:
        self._service = service
        self._operations = {(each.method, each.path): each for each in operations}
        self._loop = loop
        self._seconds = seconds
        self._seed = seed
        self.stopped = threading.Event()
        self.cases = self.answered = 0
        self.faults: list[FuzzFault] = []
        self.left_out: list[str] = []
        self._seen: set[tuple[str, str]] = set()

    def all(self) -> None:
        from hypothesis.configuration import set_hypothesis_home_dir

        # What hypothesis notes down for its next run has no place in the folder that somebody stands in.
        with tempfile.TemporaryDirectory(prefix="datong-check-") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what the libraries would do otherwise
            set_hypothesis_home_dir(folder)
            try:
                self._all()
            finally:
                set_hypothesis_home_dir(None)

    def _all(self) -> None:
        from schemathesis import openapi

        # A copy: the library keeps and changes what it is given.
        schema = openapi.from_dict(json.loads(json.dumps(self._service.tree, default=str)))
        found = [each.ok() for each in schema.get_all_operations() if hasattr(each, "ok")]
        wanted = [
            (made, declared)
            for made in found
            if (declared := self._operations.get((made.method.upper(), made.path))) is not None
        ]
        for made, declared in wanted:
            self._one(made, declared, self._seconds / len(wanted))

    def _one(self, made: Any, declared: DocumentedOperation, seconds: float) -> None:
        import hypothesis
        from hypothesis import HealthCheck, Phase
        from schemathesis.generation import GenerationMode

        until = 0.0

        def try_case(case: Any) -> None:
            nonlocal until
            if not until:
                until = time.monotonic() + seconds  # from now on: it took a while to find out how to make one up
            if self.stopped.is_set() or time.monotonic() >= until:
                raise _TimeIsUp
            self._case(case, declared)

        try:
            strategy = made.as_strategy(generation_mode=GenerationMode.POSITIVE)
            settings = hypothesis.settings(
                max_examples=MOST_CASES,
                deadline=None,
                database=None,
                derandomize=False,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            seeded: Any = hypothesis.seed(self._seed)
            given: Any = hypothesis.given(strategy)
            seeded(settings(given(try_case)))()
        except _TimeIsUp:
            pass
        except Exception as error:  # noqa: BLE001  # of the libraries: schemas nothing can be made up from, and their like
            self.left_out.append(f"{declared.name}: {type(error).__name__}")

    def _case(self, case: Any, declared: DocumentedOperation) -> None:
        sample = _sample_of(case)
        if sample is None:
            return
        self.cases += 1
        request = f"{declared.method} {sample.target}"
        asked = asyncio.run_coroutine_threadsafe(
            self._service.ask(declared.method, sample, safe=declared.safe), self._loop
        )
        try:
            answer = asked.result(SECONDS * 2)
        except Exception as error:  # noqa: BLE001  # whatever a source raises is what is to be told
            asked.cancel()
            self._fault(declared, request, trouble_of(error))
            return
        self.answered += 200 <= answer.status < 300
        if answer.status >= 500:
            self._fault(declared, request, f"status {answer.status}")
            return
        for fault in self._service.faults_of(declared.method, sample.target, answer):
            self._fault(declared, request, f"status {answer.status}: {fault}")

    def _fault(self, declared: DocumentedOperation, request: str, what: str) -> None:
        if (declared.name, what) not in self._seen:
            self._seen.add((declared.name, what))
            self.faults.append(FuzzFault(operation=declared.name, request=request[:300], what=what))


def _sample_of(case: Any) -> Sample | None:
    """A made-up request as a source gets it; None if no gateway would pass it on."""
    import requests

    arguments = case.as_transport_kwargs(base_url=_BASE)
    known = {
        key: value
        for key, value in arguments.items()
        if key in ("method", "url", "headers", "params", "json", "data", "cookies", "files", "auth")
    }
    try:
        prepared = requests.Request(**known).prepare()
        url = urlsplit(str(prepared.url))
        path = parse_path(_SERVICE + url.path.encode("ascii"))[2].decode("ascii")
        check_query(url.query.encode("ascii"))
    except (ValueError, MeshError, requests.RequestException):
        return None
    body: Any = prepared.body or b""
    headers: Headers = []
    for name, value in prepared.headers.items():
        raw = (name.lower().encode("latin-1", "replace"), str(value).encode("utf-8", "replace"))
        if raw[0] not in _OURS and raw[0] != b"accept":
            headers.append(raw)
    target = f"{path}?{url.query}" if url.query else path
    return Sample(target=target, headers=headers, body=body.encode() if isinstance(body, str) else bytes(body))
