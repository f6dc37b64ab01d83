"""Follows the registry, and puts every change of it on the exchange log.

Rules:
1. The registry's table of changes is the outbox: it is written in the transaction that makes a change, so a change made
   while the log is away counts, and is recorded when the log is back. Nothing is recorded that was not made.
2. Changes are recorded in their order, each once: after a crash, or beside another gateway, the log refuses what it has, and
   that is as good as done.
3. It looks after each poll of the registry, or at once when somebody waits. The path of exchanges never waits for it, and
   few changes are taken at a time, so that it does not hold up the loop either.
4. What is kept about the log is believed only if the log has the last change it speaks of: else all are offered again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from exchange import CHANGE, ChangeRecord, ExchangeLog, LogUnavailableError, Rfc3339
from registry import Change, ChangeBook, Registry, RegistryMirror

_BATCH = 16

events = structlog.get_logger("datong.changes")


def change_record(registry_id: str, change: Change) -> ChangeRecord:
    """What the log is told of a change. Pure.

    Args:
        registry_id: `ChangeBook.identity`.
    """
    return ChangeRecord.of(
        registry=registry_id,
        version=change.version,
        at=change.at,
        by=change.by,
        certificate=change.certificate,
        why=change.why,
        action=change.action,
        target=change.target,
        before=change.before,
        after=change.after,
    )


def change_entry_id(registry_id: str, change: Change) -> str:
    """The id of the log's entry for a change, whether it is recorded yet or not. Pure."""
    return change_record(registry_id, change).id


class ChangeRecorder:
    """Records the changes of one registry in one log. `start` it, `stop` it before the log is closed."""

    def __init__(self, registry: Registry, mirror: RegistryMirror, log: ExchangeLog) -> None:
        self.book = ChangeBook(registry)
        self._mirror = mirror
        self._log = log
        # With the key's identifier: under another key it is another log.
        self._log_name = "+".join(log.vkey.split("+", 2)[:2])
        self._registry_id = ""
        self._time_text = Rfc3339()
        self._recorded = 0
        self._seen = -1
        """Version of the mirror when the last look began that found everything recorded."""
        self._failures = 0
        self._failing = False
        self._looked = False
        self._wake = asyncio.Event()
        self._progress = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def registry_id(self) -> str:
        """The registry's identity, a UUID."""
        return self._registry_id

    @property
    def version(self) -> int:
        """Up to which change all are known to be durable in the log."""
        return self._recorded

    async def start(self) -> None:
        """Begin to follow; what is not recorded yet is, from the first change on. Raises what the database raises."""
        self._registry_id = await self.book.identity()
        self._tasks = [
            asyncio.create_task(self._follow(), name="change-recorder"),
            asyncio.create_task(self._listen(), name="change-recorder-polls"),
        ]

    async def stop(self) -> None:
        """Stop following. What is on its way to the log is taken up again by the next start."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def recorded(self, version: int, *, timeout: float = 2.0) -> bool:
        """Whether the change is durable in the log; it is waited for up to `timeout` seconds, and not while the log is away.

        False means that it counts, and is recorded later.
        """
        failures = self._failures
        try:
            async with asyncio.timeout(timeout), self._progress:
                self._wake.set()
                await self._progress.wait_for(lambda: self._recorded >= version or self._failures > failures)
        except TimeoutError:
            pass  # what is known now is the answer
        return self._recorded >= version

    async def _listen(self) -> None:
        while True:
            await self._mirror.wait_for_poll()
            if self._failing or self._mirror.snapshot.version != self._seen:
                self._wake.set()

    async def _follow(self) -> None:
        while True:
            self._wake.clear()
            seen = self._mirror.snapshot.version
            try:
                await self._catch_up()
            # BLE001: drivers and the operating system fail in many classes, and this task must outlive them all.
            except Exception as error:  # noqa: BLE001
                if not self._failing:
                    events.warning("changes.not_recorded", recorded=self._recorded, error=repr(error))
                self._failing = True
                self._failures += 1
            else:
                if self._failing:
                    events.info("changes.recorded_again", recorded=self._recorded)
                self._failing = False
                self._seen = seen
            await self._tell()
            await self._wake.wait()

    async def _catch_up(self) -> None:
        start_at = None if self._looked or await self._is_kept_right() else 0
        while True:
            recorded, changes = await self.book.unrecorded(self._log_name, limit=_BATCH, start_at=start_at)
            self._recorded = recorded
            if not changes:
                self._looked = True
                return
            await self._append(changes)
            last = changes[-1].version
            if start_at is not None:
                start_at = last
            await self.book.mark_recorded(self._log_name, last)
            await self._tell()

    async def _is_kept_right(self) -> bool:
        """Whether the log has the last change that it is kept to have."""
        version = await self.book.recorded(self._log_name)
        if not version:
            return True
        change = await self.book.find(version)
        if change is not None and await self._log.reader.numbers([change_entry_id(self._registry_id, change)]):
            return True
        events.warning("changes.missing_in_log", recorded=version)
        return False

    async def _append(self, changes: Sequence[Change]) -> None:
        """Return when all are durable; raises LogUnavailableError."""
        now_ms = time.time_ns() // 1_000_000
        futures = []
        for change in changes:
            identifier, record = change_record(self._registry_id, change).entry(self._time_text(now_ms))
            appended = self._log.append(
                record,
                exchange_id=identifier,
                salt=b"",
                at_ms=now_ms,
                client="",
                service=change.target,
                outcome=CHANGE,
                rule=change.action,
                settles_intent=False,
            )
            futures.append(appended)
        for change, outcome in zip(changes, await asyncio.gather(*futures, return_exceptions=True), strict=True):
            known = isinstance(outcome, LogUnavailableError) and outcome.rule == "one-record-per-exchange"
            if isinstance(outcome, BaseException) and not known:
                raise outcome
            self._recorded = change.version

    async def _tell(self) -> None:
        async with self._progress:
            self._progress.notify_all()
