"""Has the newest checkpoint stamped by outside authorities, off the path of exchanges (RFC 3161).

Rules:
1. Every interval, if there are entries since an authority's last stamp, it is asked to stamp the text of the newest checkpoint.
   Each authority has a task of its own: one that is slow or away delays no other.
2. Only a token that was checked is kept, under the authority's name, and `at_ms` beside it is the time that it tells.
3. What waits is derived from what is stored: a restart forgets no gap, and of several gateways at one log, one stamps.
4. An authority that is away is an alarm and a gap, and stops nothing. Where the operator demands stamps, exchanges are refused
   when entries have waited for the stamp of any authority at all longer than the patience, until one stamps again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import structlog

from exchange import (
    ExchangeLog,
    LogReader,
    MeshError,
    NoteVerifier,
    StampConfig,
    StampError,
    StampTime,
    UnavailableError,
    open_checkpoint,
    waiting_since,
)

if TYPE_CHECKING:
    from gateway.stamp_client import StampClient

_FIRST_RETRY: Final = 2.0
"""Seconds; then twice as long each time, up to the interval."""

events = structlog.get_logger("datong.stamps")


class AuthorityAwayError(Exception):
    """No answer of an authority could be had; in English, and `zh`."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.zh = zh


class StampsOverdueError(UnavailableError):
    """Entries have waited too long for a time stamp, and the operator demands them."""

    rule_name = "time-stamped"
    detail = {
        "en": "No time-stamping authority has stamped the exchange log since {since}, so nothing is carried.",
        "zh": "自 {since} 起没有时间戳机构为交换日志签发时间戳，因此暂停交换。",
    }
    retry_after: int | None = 60


@dataclass(slots=True, kw_only=True)
class AuthorityState:
    """How things are with one authority."""

    name: str
    last: StampTime | None = None
    """Its stamp on the largest tree that is known to be stored."""
    waiting_since_ms: int | None = None
    """Since when entries wait for its next stamp; None if none do. At most an interval is normal."""
    failing_since_ms: int | None = None
    """Since when every request failed; None if the last one did not."""
    problem: str = ""
    problem_zh: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StampingState:
    """How things are with all of them."""

    authorities: tuple[AuthorityState, ...]
    gaps: tuple[str, ...]
    """Names of those for whose stamp entries wait longer than is normal."""
    refusing: bool
    """Whether exchanges are refused because of that."""


def longest_wait_ms(config: StampConfig) -> int:
    """Entries that wait longer for a stamp are a gap: two intervals, and the time that an answer may take."""
    return int((2 * config.interval + max((each.timeout for each in config.authorities), default=0)) * 1000)


class Stamping:
    """Stamps one log. `start` it, `stop` it before the log is closed."""

    def __init__(self, log: ExchangeLog, reader: LogReader, config: StampConfig) -> None:
        self.config = config
        self._log = log
        self._reader = reader
        self._verifier = NoteVerifier.from_vkey(log.vkey)
        self._states = {each.name: AuthorityState(name=each.name) for each in config.authorities}
        self._overdue_told = False
        self._clients: list[StampClient] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to stamp. Where stamps are demanded and overdue already, every authority is tried once before this returns."""
        from gateway.stamp_client import StampClient

        tried = []
        try:
            for authority in self.config.authorities:
                state, client, event = self._states[authority.name], StampClient(authority), asyncio.Event()
                self._clients.append(client)
                await self._look(state)
                task = asyncio.create_task(self._follow(client, state, event), name=f"stamping-{authority.name}")
                self._tasks.append(task)
                tried.append(event)
            if self.refusal() is not None:
                await asyncio.gather(*[event.wait() for event in tried])
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop stamping."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        clients, self._clients = self._clients, []
        for client in clients:
            await client.close()

    def refusal(self) -> MeshError | None:
        """Why nothing may be carried now; None if it may. Costs nothing where stamps are not demanded."""
        if not self.config.required:
            return None
        waits = [each.waiting_since_ms for each in self._states.values() if each.waiting_since_ms is not None]
        # One authority that has stamped all there is will do, and so will one that is late by less than the others.
        since_ms = max(waits, default=0) if len(waits) == len(self._states) else None
        if since_ms is None or _now_ms() - since_ms <= self.config.patience * 1000:
            self._overdue_told = False
            return None
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since_ms / 1000))
        if not self._overdue_told:
            self._overdue_told = True
            events.error("stamps.overdue", since=since, patience=self.config.patience)
        return StampsOverdueError(since=since)

    def state(self) -> StampingState:
        """How things are, for people and monitoring."""
        latest = _now_ms() - longest_wait_ms(self.config)
        states = tuple([replace(each) for each in self._states.values()])
        return StampingState(
            authorities=states,
            gaps=tuple([each.name for each in states if (each.waiting_since_ms or latest) < latest]),
            refusing=self.refusal() is not None,
        )

    async def _follow(self, client: StampClient, state: AuthorityState, tried: asyncio.Event) -> None:
        retry = _FIRST_RETRY
        while True:
            wait = self.config.interval
            try:
                await self._turn(client, state)
                retry = _FIRST_RETRY
            # BLE001: drivers and the operating system fail in many classes, and this task must outlive them all.
            except Exception as error:  # noqa: BLE001
                self._failed(state, error)
                wait = min(retry, wait)
                retry = 2 * wait
            tried.set()
            await asyncio.sleep(wait)

    async def _turn(self, client: StampClient, state: AuthorityState) -> None:
        """Have the newest checkpoint stamped, if there is anything new and no other gateway stamped since the last turn."""
        before = state.last
        size, note = await self._look(state)
        if state.last != before:
            self._succeeded(state)
        elif size > (before.size if before is not None else 0):
            text = open_checkpoint(note, [self._verifier]).text.encode()
            token, stamp = await client.stamp(text)
            await self._log.attach("stamp", size, state.name, stamp.gen_ms, token)
            await self._look(state)
            self._succeeded(state)

    async def _look(self, state: AuthorityState) -> tuple[int, str]:
        """Learn of stamps that are stored, our own and those of other gateways, and of what waits.

        Returns:
            Size and note of the newest checkpoint; (0, "") if there is none.
        """
        newest = await self._reader.latest_checkpoint()
        size, note = (newest.size, newest.note) if newest is not None else (0, "")
        above = state.last.size if state.last is not None else 0
        found = await self._reader.stamp_times(above=above, below=size + 1, authority=state.name, limit=1)
        state.last = found[0] if found else state.last
        state.waiting_since_ms = await waiting_since(self._reader, state.last, size)
        return size, note

    def _failed(self, state: AuthorityState, error: Exception) -> None:
        problem, problem_zh = _told(error)
        if problem != state.problem:
            events.warning(
                "stamps.authority_failing",
                authority=state.name,
                problem=problem,
                waiting_since_ms=state.waiting_since_ms,
            )
        state.problem, state.problem_zh = problem, problem_zh
        state.failing_since_ms = state.failing_since_ms or _now_ms()

    def _succeeded(self, state: AuthorityState) -> None:
        if state.failing_since_ms is not None:
            events.info("stamps.authority_back", authority=state.name, after_ms=_now_ms() - state.failing_since_ms)
        state.failing_since_ms, state.problem, state.problem_zh = None, "", ""


def _told(error: Exception) -> tuple[str, str]:
    """What went wrong, in English and Chinese, without anything secret."""
    if isinstance(error, (StampError, AuthorityAwayError)):
        return str(error), error.zh
    if isinstance(error, MeshError):
        return error.detail_in("en"), error.detail_in("zh")
    return f"the log cannot be read: {type(error).__name__}", f"日志无法读取：{type(error).__name__}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
