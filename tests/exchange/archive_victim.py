"""A command that prunes or restores and dies at a named point, as if the machine had lost power to it.

usage: archive_victim.py POINT prune DATABASE LOG_KEY KEYS ARCHIVE
       archive_victim.py POINT restore DATABASE KEYS ARCHIVE

POINT is where, and how many times it is passed before: `removed:1` is the second time that entries were removed and nothing was
committed. Points of prune: `removed`, `committed`; of restore: `written` (not committed), `committed`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from exchange.archive import pruning, restoring
from exchange.archive.pruning import open_pruner
from exchange.archive.restoring import chain_of, plan_restore, restore
from exchange.archive.retention import Retention
from exchange.archive.writing import segments_in
from exchange.log.store_postgresql import PostgresqlStore
from exchange.log.store_sqlite import SqliteStore
from exchange.receipts.receipt_checks import Keys
from exchange.storage.database import create_engine


def later() -> datetime:
    """When everything that has a period is over."""
    return datetime.now(UTC) + timedelta(days=4 * 366)


class Deadline:
    """Kills this process when a point is passed once too often."""

    def __init__(self, point: str) -> None:
        self._name, _, times = point.partition(":")
        self._left = int(times)

    def passed(self, name: str) -> None:
        if name == self._name:
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1

    def after(self, name: str, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def called(*arguments: Any, **named: Any) -> Any:
            result = await function(*arguments, **named)
            self.passed(name)
            return result

        return called


async def prune(deadline: Deadline, database: str, log_key: str, keys: str, archive: str) -> None:
    for store in (SqliteStore, PostgresqlStore):
        append = store.append

        async def appended(self: Any, edge: Any, batch: Any, append: Any = append) -> Any:
            grown = await append(self, edge, batch)
            deadline.passed("committed")
            return grown

        store.append = appended  # type: ignore[method-assign]
    remove = SqliteStore._remove

    def removed(self: Any, *arguments: Any) -> None:
        remove(self, *arguments)
        deadline.passed("removed")

    SqliteStore._remove = removed  # type: ignore[method-assign]
    PostgresqlStore._remove = deadline.after("removed", PostgresqlStore._remove)  # type: ignore[method-assign]
    pruning._MOST_ENTRIES = 64  # type: ignore[misc]
    trusted = Keys.from_json(Path(keys).read_bytes())
    async with open_pruner(database, Path(log_key), trusted, by="victim", why="test") as pruner:
        await pruner.prune(segments_in(Path(archive)), Retention(), later)


async def put_back(deadline: Deadline, database: str, keys: str, archive: str) -> None:
    restoring._BUNDLES = 1  # type: ignore[misc]
    restoring._Restoring._write = deadline.after("written", restoring._Restoring._write)  # type: ignore[method-assign]
    plan = plan_restore(chain_of(segments_in(Path(archive))), Keys.from_json(Path(keys).read_bytes()))
    engine = create_engine(database)
    await restore(engine, plan, lambda *_: deadline.passed("committed"))
    await engine.dispose()


async def main(point: str, act: str, *arguments: str) -> None:
    await {"prune": prune, "restore": put_back}[act](Deadline(point), *arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
