"""Puts erasures of subjects' keys on the log: by whoever erased, and by gateways if that one did not live to do it."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from exchange.errors import LogUnavailableError, MeshError
from exchange.log.log import ExchangeLog
from exchange.subjects.subject_keys import SubjectKeys

_EVERY: Final = 1.0

events = structlog.get_logger("datong.subjects")


async def record_erasures(keys: SubjectKeys, log: ExchangeLog) -> int:
    """Put every erasure that is not known to be on the log there, once; how many there were.

    Raises:
        LogUnavailableError: One is not known to be durable; it stays with the keys, like those after it.
        SubjectKeysUnavailableError: The keys cannot be read now, or it could not be noted that one is on the log.
    """
    waiting = await keys.unrecorded()
    for event in waiting:
        try:
            await log.append_event(event)
        except LogUnavailableError as error:
            if error.rule != "one-record-per-exchange":
                raise
            # Another process was faster, or died before it could note it.
        await keys.recorded(event)
    return len(waiting)


class ErasureRecorder:
    """Does so for as long as a gateway runs."""

    def __init__(self, keys: SubjectKeys, log: ExchangeLog) -> None:
        self._keys = keys
        self._log = log
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; what is not on the log yet waits for the next gateway."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            if self._keys.waiting:
                try:
                    await record_erasures(self._keys, self._log)
                except MeshError as error:
                    events.warning("subjects.not_recorded", rule=error.rule, erasures=self._keys.waiting)
            await asyncio.sleep(_EVERY)
