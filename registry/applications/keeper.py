"""Keeps the statutory clock while a gateway runs: wakes when something comes due, and does what time demands.

Rules:
1. It sleeps until the next deadline, not from second to second; deadlines are ends of days, so one that another process begins
   meanwhile is not due before the longest sleep is over.
2. Several gateways may keep time over one registry: each thing is done in a transaction that looks again first.
3. A database that is away, or a record that cannot be handled, is an event and tried again; it ends nothing.
4. What was provisional is counted again at the start: a newer calendar comes with a newer program or file.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from registry.applications.applications import Applications

LONGEST_SLEEP: Final = 900.0
RETRY_AFTER: Final = 30.0

events = structlog.get_logger("datong.deadlines")


class DeadlineKeeper:
    """One per gateway; `start` and `stop` it. Times of sleeping are real, the time that counts is the registry's."""

    def __init__(
        self, applications: Applications, *, longest_sleep: float = LONGEST_SLEEP, retry_after: float = RETRY_AFTER
    ) -> None:
        self._applications = applications
        self._longest_sleep = longest_sleep
        self._retry_after = retry_after
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._counted = False
        self.failing = False
        """Whether the last round left something undone."""
        self.rounds = 0
        """How often it has done what was due."""

    async def start(self) -> None:
        """Begin to keep time; what came due while nobody did is done first."""
        self._task = asyncio.create_task(self._keep(), name="deadline-keeper")

    async def stop(self) -> None:
        """Return when it keeps no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def wake(self) -> None:
        """Look now, such as after the clock was set."""
        self._woken.set()

    async def _keep(self) -> None:
        while True:
            self._woken.clear()
            pause = await self._round()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()

    async def _round(self) -> float:
        """Do what is due; returns for how many seconds nothing will be."""
        try:
            if not self._counted:
                await self._applications.count_again()
                self._counted = True
            due = await self._applications.keep_time()
        except Exception as error:  # noqa: BLE001  # a keeper that has ended would let every deadline pass unnoticed
            if not self.failing:  # not again in every round
                events.error("deadlines.failed", error=repr(error), exc_info=error)
            self.failing = True
            return self._retry_after
        else:
            self.failing = False
        finally:
            self.rounds += 1
        if due is None:
            return self._longest_sleep
        left = (due - self._applications.now()).total_seconds()
        # What came due this very moment, or cannot be done, does not keep us spinning.
        return min(self._longest_sleep, left) if left > 0 else self._retry_after
