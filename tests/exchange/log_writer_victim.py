"""A log writer that is there to be killed, at every point where it talks to its database or its key's file, in turn.

usage: log_writer_victim.py DATABASE LOG_KEY

Each life is a process of its own: it appends again what the life before was not told of, appends and signs more, and at its point
kills itself with SIGKILL. What was acknowledged to it goes to its parent at once. The first life is not killed, and finds the
points; the last one is not killed either. On standard output there is a line of JSON for each life.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from exchange.log.frames import Frame
from exchange.log.log import _asyncpg_arguments
from exchange.log.store import LogStore
from exchange.log.store_postgresql import PostgresqlStore
from exchange.log.store_sqlite import SqliteStore
from exchange.log.writer import LastSigned, LogWriter
from exchange.messages.envelope import statement_bytes
from exchange.storage.database import database_url, sqlite_path
from exchange.transparency.checkpoint import NoteSigner
from tests.exchange.log_kit import Attempt, attempt, now_ms, query_statement

ENTRIES = 260
"""Of each life: it completes a tile."""

Point = Callable[[str], None]


class Watched:
    """A connection with a point before every statement that writes. Where one ends, the next begins or nothing follows."""

    def __init__(self, connection: Any, point: Point) -> None:
        self._connection = connection
        self._point = point

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)
        if name == "transaction":
            return lambda **options: self._transaction(method(**options))
        if name in ("execute", "executemany"):
            return lambda *arguments: self._call(method, *arguments)
        if name == "copy_records_to_table":
            return lambda table, **options: self._copied(method, table, **options)
        return method

    def _call(self, method: Any, *arguments: Any) -> Any:
        label = " ".join(arguments[0].split()[:3])
        if not label.startswith("SELECT"):
            self._point(f"before {label}")
        return method(*arguments)  # with asyncpg, something to be awaited

    async def _copied(self, method: Any, table: str, **options: Any) -> Any:
        self._point(f"before COPY {table}")
        return await method(table, **options)

    @contextlib.asynccontextmanager
    async def _transaction(self, transaction: Any) -> AsyncIterator[None]:
        self._point("before BEGIN")
        await transaction.__aenter__()
        try:
            yield
        except BaseException:
            await transaction.__aexit__(*sys.exc_info())
            raise
        self._point("before COMMIT")
        await transaction.__aexit__(None, None, None)


class WatchedSqlite(SqliteStore):
    def __init__(self, path: Path, point: Point) -> None:
        super().__init__(path)
        self._point = point

    def _open(self) -> Any:
        return Watched(super()._open(), self._point)


class WatchedPostgresql(PostgresqlStore):
    def __init__(self, arguments: dict[str, Any], point: Point) -> None:
        super().__init__(arguments)
        self._point = point

    @contextlib.asynccontextmanager
    async def _failing(self) -> AsyncIterator[Any]:
        async with super()._failing() as db:
            yield Watched(db, self._point)


class Life:
    """What one process does.

    Args:
        fatal: The point at which it dies; empty: at none.
        tell: Takes what is known to be durable.
    """

    def __init__(self, database: str, log_key: Path, fatal: str, tell: Callable[[dict[str, Any]], None]) -> None:
        self._fatal = fatal
        self._tell = tell
        self._stage = "start"
        self._passed: dict[str, None] = {}
        url = database_url(database)
        file = sqlite_path(url)
        store: LogStore = (
            WatchedSqlite(file, self._point) if file else WatchedPostgresql(_asyncpg_arguments(url), self._point)
        )
        signer = NoteSigner.from_skey(log_key.read_text())
        self._store = store
        self._writer = LogWriter(store, signer, LastSigned(log_key), "gateway-1", "boot")
        self._watch_files()

    async def run(self, again: list[Attempt], fresh: list[Attempt]) -> list[str]:
        """Returns the points that it passed."""
        await self._writer.check()
        self._stage = "intents"
        asked = [attempt(number) for number in (1, 2)]
        intents = [
            (one.exchange_id, now_ms(), now_ms(), one.salt, statement_bytes(query_statement(one.exchange_id)))
            for one in asked
        ]
        await self._write(Frame(intents=intents), intended=[one.exchange_id for one in asked])
        self._stage = "entries"
        await self._write(
            Frame(entries=[one.row for one in (*again, *fresh)]), ids=[one.exchange_id for one in (*again, *fresh)]
        )
        self._stage = "settling"
        await self._write(
            Frame(entries=[asked[0].row], settled=[asked[0].exchange_id]),
            Frame(checkpoint=True),
            ids=[asked[0].exchange_id],
        )
        self._stage = "signing"
        await self._write(Frame(entries=[attempt(3).row]))
        await self._writer.checkpoint()
        await self._store.close()
        return list(self._passed)

    async def _write(self, *frames: Frame, ids: list[str] | None = None, intended: list[str] | None = None) -> None:
        reply, *_ = await self._writer.write(frames)
        self._point("after the write, before anybody is told")
        assert not reply.problem, reply.problem
        numbers = iter(range(reply.first_seq, reply.first_seq + len(frames[0].entries)))
        known = {one: next(numbers) for at, one in enumerate(ids or []) if at not in reply.duplicates}
        self._tell({"recorded": known, "known": [one for one in ids or [] if one not in known], "intended": intended})

    def _point(self, name: str) -> None:
        name = f"{self._stage}: {name}"
        self._passed[name] = None
        if name == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def _watch_files(self) -> None:
        """The last signed checkpoint is a file beside the key."""
        fsync, replace = os.fsync, Path.replace

        def watched_fsync(number: int) -> None:
            self._point("before a file of the key is durable")
            fsync(number)

        def watched_replace(path: Path, target: Path) -> Path:
            self._point("before the file of the key is replaced")
            found = replace(path, target)
            self._point("after the file of the key was replaced")
            return found

        os.fsync = watched_fsync
        Path.replace = watched_replace  # type: ignore[method-assign,assignment]


def live(database: str, log_key: Path, fatal: str, again: list[Attempt], fresh: list[Attempt]) -> dict[str, Any]:
    """One life, in a process of its own: what was told, and how it ended."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(out)

        def tell(what: dict[str, Any]) -> None:
            os.write(into, json.dumps(what).encode() + b"\n")

        try:
            tell({"passed": asyncio.run(Life(database, log_key, fatal, tell).run(again, fresh))})
        except BaseException as error:  # noqa: BLE001  # whatever it is: the parent tells
            tell({"error": repr(error)})
        os._exit(0)
    os.close(into)
    with open(out, "rb") as stream:
        told = [json.loads(line) for line in stream]
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {"point": fatal, "killed": killed, "told": told}


def main(database: str, log_key: Path) -> None:
    def fresh() -> list[Attempt]:
        return [attempt(number) for number in range(ENTRIES)]

    life = live(database, log_key, "", [], fresh())
    points = life["told"][-1].get("passed", [])
    print(json.dumps(life), flush=True)
    again: list[Attempt] = []
    for point in [*points, ""]:
        made = fresh()
        life = live(database, log_key, point, again, made)
        print(json.dumps(life), flush=True)
        recorded = {one for told in life["told"] for one in told.get("recorded", ())}
        known = {one for told in life["told"] for one in told.get("known", ())}
        again = [one for one in (*again, *made) if one.exchange_id not in recorded | known]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
