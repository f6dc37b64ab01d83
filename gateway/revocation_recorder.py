"""Keeps the news of revocations that certificates are judged by beside the log, for receipts.

Rules:
1. It is off the path of exchanges, and stops nothing: what could not be kept now is kept with the next news, or when the log is
   back.
2. Of OCSP responses about one certificate a new one is kept when the one before is about to run out: each of them says the same,
   and there is one for every caller.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable

import structlog

from ca_auth import RevocationNews
from exchange import ExchangeLog, LogUnavailableError

_BEFORE_END_MS = 600_000
_AGAIN_SECONDS = 5.0

events = structlog.get_logger("datong.revocations")


class RevocationRecorder:
    """`take` the news; `stop` before the log is closed."""

    def __init__(self, log: ExchangeLog) -> None:
        self._log = log
        self._waiting: list[RevocationNews] = []
        self._answered_until: dict[str, int] = {}
        """Of OCSP responses: whom they are about -> until when the kept one holds, in unix ms."""
        self._task: asyncio.Task[None] | None = None

    def take(self, news: Iterable[RevocationNews]) -> None:
        """Keep these; returns at once."""
        self._waiting += [each for each in news if self._is_wanted(each)]
        if self._waiting and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep(), name="revocation-recorder")

    async def stop(self) -> None:
        """Stop keeping. What waits is offered again by the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _is_wanted(self, news: RevocationNews) -> bool:
        if news.kind == "crl" or news.next_update is None:
            return True
        ends_ms = int(news.next_update.timestamp() * 1000)
        if self._answered_until.get(news.about, 0) > time.time_ns() // 1_000_000 + _BEFORE_END_MS:
            return False
        self._answered_until[news.about] = ends_ms
        return True

    async def _keep(self) -> None:
        failing = False
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.gather(*[self._attach(each) for each in batch])
            except LogUnavailableError as error:
                if not failing:
                    events.warning("revocations.not_kept", error=str(error), count=len(batch))
                failing = True
                self._waiting = batch + self._waiting
                await asyncio.sleep(_AGAIN_SECONDS)
        self._task = None

    def _attach(self, news: RevocationNews) -> asyncio.Future[None]:
        return self._log.attach(
            "revocation",
            hashlib.sha256(news.about.encode() + news.der).hexdigest(),
            news.kind,
            news.about,
            int(news.this_update.timestamp() * 1000),
            None if news.next_update is None else int(news.next_update.timestamp() * 1000),
            time.time_ns() // 1_000_000,
            news.der,
        )
