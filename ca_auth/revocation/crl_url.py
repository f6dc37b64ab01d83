"""A CRL at an address: fetched in time, kept on disk for when the network is not there.

Rules:
1. It is asked at the start, then hourly, and more often when the list is short-lived or close to its end: four times in
   what is left of it. Unchanged lists are not sent again (ETag, Last-Modified).
2. After a failure it is asked again after some seconds, then longer and longer, with jitter.
3. An answer that cannot be used, or that a CA is known not to have signed, is a failure: what was fetched before stays.
"""

from __future__ import annotations

import hashlib
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, Protocol, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict

from ca_auth.issuing.durable_files import PRIVATE, replace_file
from ca_auth.revocation.crl_files import MAX_OCTETS, Offered, SourceProblem, usable_lists
from ca_auth.validation.crl import RevocationList

_LARGEST_DOUBTFUL: Final = 1 << 20
"""The validator looks at the signature of a list that nobody known signed each time; anybody on the way can send one."""

events = structlog.get_logger("datong.revocation")
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often sources are asked, seconds."""

    crl_every: float = 3600.0
    crl_shortest: float = 30.0
    first_retry: float = 5.0
    longest_retry: float = 900.0
    crl_seconds: float = 300.0
    """Longest that fetching a list may take."""
    step_seconds: float = 15.0
    """Longest silence while it does."""
    crl_octets: int = MAX_OCTETS


class _Known(BaseModel):
    """What is kept beside a list."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    url: str
    sha256: str
    """Of the list: with several processes in the folder, the two files may be from different answers."""
    validators: dict[str, str]
    """Headers of the next request."""


class InThread(Protocol):
    """Runs what blocks in the one thread that may."""

    def __call__(
        self, work: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> Awaitable[_Result]: ...


class CrlUrl:
    """One address. Belongs to an event loop.

    Args:
        folder: Where the last good answer is kept.
        is_refuted: Whether a list was not signed by the CA whose name it has; called in the thread.
        clock: Unix seconds.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        in_thread: InThread,
        is_refuted: Callable[[RevocationList], bool],
        clock: Callable[[], float],
        pace: Pace,
    ) -> None:
        self.url = url
        self._folder = folder
        self._name = hashlib.sha256(url.encode()).hexdigest()[:40]
        self._in_thread = in_thread
        self._is_refuted = is_refuted
        self._clock = clock
        self._pace = pace
        self._good: tuple[RevocationList, ...] = ()
        self._doubtful: tuple[RevocationList, ...] = ()
        self._validators: dict[str, str] = {}
        self._problem: SourceProblem | None = None
        self._failures = 0
        self._due = (0.0, 0.0)

    @property
    def offered(self) -> Offered:
        """What came from there last."""
        return Offered((*self._good, *self._doubtful), (self._problem,) if self._problem is not None else ())

    async def load(self) -> None:
        """Take up what an earlier run kept."""
        self._good, self._validators = await self._in_thread(self._read)

    def is_due(self) -> bool:
        """Whether it is time to ask. A clock that jumps can make it earlier, never later."""
        monotonic, wall = self._due
        return time.monotonic() >= monotonic or self._clock() >= wall

    async def fetch(self, tls: ssl.SSLContext) -> bool:
        """Ask once, and return whether what is offered has changed. Never raises for what the other side does."""
        from ca_auth.revocation.bounded_http import FetchError, Limits, exchange

        limits = Limits(
            seconds=self._pace.crl_seconds, step_seconds=self._pace.step_seconds, octets=self._pace.crl_octets
        )
        before = self.offered
        try:
            reply = await exchange("GET", self.url, tls=tls, limits=limits, headers=self._validators)
            if reply.status == 304 and self._good:
                self._succeeded()
            elif reply.status != 200:
                raise FetchError(f"the answer is HTTP {reply.status}", f"应答为 HTTP {reply.status}")
            else:
                await self._take(reply.content, reply.headers)
        except FetchError as error:
            self._failed(SourceProblem("crl-unreachable", self.url, error.problem, error.problem_zh))
        return self.offered != before

    async def _take(self, content: bytes, headers: Mapping[str, str]) -> None:
        lists, problem = await self._in_thread(usable_lists, content)
        refuted = await self._in_thread(self._refuted, lists)
        if lists and not refuted:
            self._good, self._doubtful = lists, ()
            names = {"etag": "if-none-match", "last-modified": "if-modified-since"}
            self._validators = {names[name]: headers[name] for name in names if name in headers}
            await self._in_thread(self._keep, content, self._validators)
            self._succeeded()
            if problem is not None:
                self._problem = SourceProblem("crl-rejected", self.url, *problem)
            return
        self._doubtful = lists if len(content) <= _LARGEST_DOUBTFUL else ()
        self._validators = {}
        english, chinese = problem or ("it was not signed by the CA of its name", "不是由该名称的 CA 签名的")
        self._failed(SourceProblem("crl-rejected", self.url, english, chinese))

    def _refuted(self, lists: Sequence[RevocationList]) -> bool:
        return any(self._is_refuted(each) for each in lists)

    def _succeeded(self) -> None:
        self._failures, self._problem, self._doubtful = 0, None, ()
        ends = [each.next_update.timestamp() for each in self._good if each.base_number is None]
        left = min(ends, default=0.0) - self._clock()
        wait = min(self._pace.crl_every, max(left / 4, self._pace.crl_shortest))
        self._wait(wait * random.uniform(0.85, 1.0))

    def _failed(self, problem: SourceProblem) -> None:
        if self._problem != problem:
            events.warning("revocation.crl_not_fetched", url=self.url, problem=problem.problem)
        self._problem = problem
        wait = min(self._pace.first_retry * 2.0**self._failures, self._pace.longest_retry)
        self._failures = min(self._failures + 1, 20)
        self._wait(wait * random.uniform(0.75, 1.0))

    def _wait(self, seconds: float) -> None:
        self._due = (time.monotonic() + seconds, self._clock() + seconds)

    # In the thread

    def _read(self) -> tuple[tuple[RevocationList, ...], dict[str, str]]:
        try:
            content = (self._folder / f"{self._name}.crl").read_bytes()
        except FileNotFoundError:
            return (), {}
        except OSError as error:
            events.error("revocation.state_not_read", url=self.url, error=str(error))
            return (), {}
        lists, problem = usable_lists(content)
        try:
            known = _Known.model_validate_json((self._folder / f"{self._name}.json").read_bytes())
        except (OSError, ValueError):
            return lists, {}  # then the list is fetched in full
        fits = problem is None and known.sha256 == hashlib.sha256(content).hexdigest()
        return lists, known.validators if fits else {}

    def _keep(self, content: bytes, validators: dict[str, str]) -> None:
        known = _Known(url=self.url, sha256=hashlib.sha256(content).hexdigest(), validators=validators)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / f"{self._name}.crl", content, PRIVATE)
            replace_file(self._folder / f"{self._name}.json", known.model_dump_json().encode(), PRIVATE)
        except OSError as error:
            events.error("revocation.state_not_saved", url=self.url, error=str(error))
