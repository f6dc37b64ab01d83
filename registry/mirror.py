"""The registry as a gateway holds it: in memory, followed change by change, refused when too old.

Rules:
1. A snapshot is confirmed when the database, asked after that moment, says that nothing newer exists. Its age is
   counted from before the question, so that a slow answer does not make it look younger.
2. Only rows with a newer version are loaded. A version that went back means another or a restored database: load all.
3. While the database is away the last good snapshot serves, up to `max_age_seconds`. Then nothing is permitted: a
   revocation that did not reach us must not be outlived for long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from exchange import RegistryStaleError
from registry.registry import Registry
from registry.snapshot import Snapshot

_POLL_TIMEOUT = 10.0

log = structlog.get_logger()


class RegistryMirror:
    """Keeps a `Snapshot` current. `start` it, ask for `current` on each request, `stop` it.

    Args:
        poll_seconds: How often to ask for changes; a change is seen within this time and one round trip.
        max_age_seconds: A snapshot confirmed longer ago than this is refused.
        monotonic: Seconds of a clock that never goes back, the same that callers of `current` use.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        poll_seconds: float = 0.25,
        max_age_seconds: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._poll_seconds = poll_seconds
        self._max_age_seconds = max_age_seconds
        self._monotonic = monotonic
        self._snapshot = Snapshot.empty()
        self._confirmed = float("-inf")
        self._failing = False
        self._polling = asyncio.Lock()
        self._polled = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot, however old: for lists and status pages, never for a decision."""
        return self._snapshot

    @property
    def confirmed(self) -> float:
        """When (monotonic seconds) the snapshot was last known to be the newest; minus infinity before the start."""
        return self._confirmed

    def current(self, now: float) -> Snapshot:
        """The snapshot to decide by at `now` (monotonic seconds).

        Raises:
            RegistryStaleError: It was last confirmed too long ago.
        """
        if now - self._confirmed > self._max_age_seconds:
            age = "?" if self._confirmed == float("-inf") else round(now - self._confirmed)
            raise RegistryStaleError(age=age, limit=round(self._max_age_seconds))
        return self._snapshot

    async def start(self) -> None:
        """Load the registry, then follow it. Raises what the database raises when it cannot be read now."""
        await self._poll()
        self._task = asyncio.create_task(self._follow(), name="registry-mirror")

    async def stop(self) -> None:
        """Stop following. The snapshot stays, and grows old."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def wait_until(self, condition: Callable[[Snapshot], bool]) -> Snapshot:
        """Return the first snapshot from now on that fulfils `condition`, asked after each poll."""
        async with self._polled:
            await self._polled.wait_for(lambda: condition(self._snapshot))
            return self._snapshot

    async def reach(self, version: int) -> Snapshot:
        """The snapshot once it holds `version`: asked for now, not at the next poll. Raises what the database raises."""
        if self._snapshot.version < version:
            await self._poll()
        return self._snapshot

    async def wait_for_poll(self) -> None:
        """Return after the next poll, whether it reached the database or not."""
        async with self._polled:
            await self._polled.wait()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                async with asyncio.timeout(_POLL_TIMEOUT):
                    await self._poll()
            # BLE001: drivers and the operating system fail in many classes, and this task must outlive them all.
            # What it cannot confirm is refused by `current` soon enough.
            except Exception as error:  # noqa: BLE001
                if not self._failing:
                    log.warning("registry-unreachable", version=self._snapshot.version, error=repr(error))
                self._failing = True
            else:
                if self._failing:
                    log.info("registry-reachable", version=self._snapshot.version)
                self._failing = False
            async with self._polled:
                self._polled.notify_all()

    async def _poll(self) -> None:
        async with self._polling:  # of two at once, the slower one would put back an older snapshot
            asked = self._monotonic()
            version = await self._registry.version()
            known = self._snapshot
            if version != known.version:
                base = known if version > known.version else Snapshot.empty()
                rows = await self._registry.rows_since(base.version)
                # In a thread: thousands of new grants take a while to index, and requests are being served meanwhile.
                self._snapshot = await asyncio.to_thread(base.with_changes, rows)
            self._confirmed = asked
