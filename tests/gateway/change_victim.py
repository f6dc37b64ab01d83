"""A recorder that is there to be killed: it ends by SIGKILL when its first batch is in the log and the cursor is not moved.

usage: change_victim.py REGISTRY LOG LOG_KEY
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from exchange import ExchangeLog
from gateway.change_recorder import ChangeRecorder
from registry import ChangeBook, Registry, RegistryMirror


class MortalBook(ChangeBook):
    """The real one, but for a power cut."""

    async def mark_recorded(self, log: str, version: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


async def main(database: str, log_database: str, log_key: str) -> None:
    registry = await Registry.open(database)
    mirror = RegistryMirror(registry)
    await mirror.start()
    log = await ExchangeLog.start(database=log_database, log_key=Path(log_key), gateway="victim")
    recorder = ChangeRecorder(registry, mirror, log)
    recorder.book = MortalBook(registry)
    await recorder.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
