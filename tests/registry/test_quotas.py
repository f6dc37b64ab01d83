"""Quotas are exact: in one process, in several, after a kill, with clocks that go back, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import signal
import sqlite3
import struct
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import Connection

from exchange import SqliteWriter, create_engine, reading, sqlite_path, upgrade
from exchange import database_url as parsed_url
from registry import QuotaExceededError, QuotaStore, QuotasUnavailableError
from registry.quotas.counting import SECOND, Counts, day_of
from registry.quotas.quota_tables import Decide, QuotaTable, SqliteQuotaTable, metadata

ROOT = Path(__file__).parents[2]
NOON = 1_777_867_200.0  # 2026-05-04T12:00 in China
MANY = 1_000_000


class Watch:
    """A clock that stands until it is set; PostgreSQL has its own."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def store_at(url: str, **how: Any) -> AsyncIterator[QuotaStore]:
    store = await QuotaStore.open(url, **how)
    try:
        yield store
    finally:
        await store.close()


async def run_sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Rows of the last statement, asked without our code."""
    path = sqlite_path(parsed_url(url))
    if path is not None:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            for statement in statements:
                rows = connection.execute(statement).fetchall()
            return rows
        finally:
            connection.close()
    server = await asyncpg.connect(url)
    try:
        for statement in statements:
            rows = await server.fetch(statement)
        return [tuple(row) for row in rows]
    finally:
        await server.close()


async def takes(store: QuotaStore, count: int, *, grant: str = "g1", per_second: int = 0, per_day: int = 0) -> int:
    """How many of so many calls at once were accepted."""

    async def take() -> bool:
        try:
            await store.take(grant, per_second=per_second, per_day=per_day)
        except QuotaExceededError:
            return False
        return True

    return sum(await asyncio.gather(*(take() for _ in range(count))))


@pytest.fixture
async def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / '配额.db'}"
    async with store_at(url):
        pass
    return url


async def test_a_day_s_quota_counts_down_to_nothing(database_url: str) -> None:
    async with store_at(database_url) as store:
        left = [(await store.take("g1", per_second=0, per_day=3)).remaining_day for _ in range(3)]
        assert left == [2, 1, 0]
        with pytest.raises(QuotaExceededError) as caught:
            await store.take("g1", per_second=0, per_day=3)
    error = caught.value
    assert (error.status, error.code, error.rule) == (429, "quota-exceeded", "quota-day")
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 86400
    assert error.state.remaining_day == 0
    assert error.state.remaining_second is None
    for language, words in (("en", ("g1", "3", "a day", "0 remain")), ("zh", ("g1", "3", "每日", "剩余 0"))):
        assert all(word in error.detail_in(language) for word in words)  # type: ignore[arg-type]  # two languages
    assert type(error).retry_after == 5, "the number of seconds is this error's own, not its class's"


async def test_a_second_s_quota_comes_back_after_a_second(database_url: str) -> None:
    async with store_at(database_url) as store:
        began = time.monotonic()
        assert await takes(store, 10, per_second=4) == 4
        with pytest.raises(QuotaExceededError) as caught:
            await store.take("g1", per_second=4, per_day=0)
        assert (caught.value.rule, caught.value.retry_after) == ("quota-second", 1)
        assert "in any one second" in str(caught.value)
        while not await takes(store, 1, per_second=4):
            await asyncio.sleep(0.01)
        assert time.monotonic() - began > 1


async def test_it_is_a_moving_second_and_not_a_second_of_the_clock(sqlite_url: str) -> None:
    watch = Watch()
    async with store_at(sqlite_url, clock=watch) as store:
        watch.now = NOON + 0.9
        assert await takes(store, 9, per_second=5) == 5
        watch.now = NOON + 1.1
        assert await takes(store, 9, per_second=5) == 0
        watch.now = NOON + 1.9
        assert await takes(store, 9, per_second=5) == 0, "both ends of a stretch belong to it"
        watch.now = NOON + 1.901
        assert await takes(store, 9, per_second=5) == 5


async def test_the_day_turns_at_midnight_in_china(sqlite_url: str) -> None:
    watch = Watch()
    async with store_at(sqlite_url, clock=watch) as store:
        assert await takes(store, 9, per_day=5) == 5
        watch.now = NOON + 12 * 3600 - 1
        with pytest.raises(QuotaExceededError) as caught:
            await store.take("g1", per_second=0, per_day=5)
        assert caught.value.retry_after == 1
        watch.now = NOON + 12 * 3600
        assert await takes(store, 9, per_day=5) == 5


async def test_refused_calls_cost_nothing(database_url: str) -> None:
    async with store_at(database_url) as store:
        assert await takes(store, 50, per_second=2, per_day=10) == 2
        usage = (await store.usage(["g1"]))["g1"]
        assert usage.used_today == 2
        assert usage.state(per_second=2, per_day=10).remaining_day == 8


async def test_grants_do_not_share_quotas(database_url: str) -> None:
    async with store_at(database_url) as store:
        assert await asyncio.gather(
            *(takes(store, 20, grant=grant, per_day=7) for grant in ("g1", "G1", "授权", "g1 "))
        ) == [7, 7, 7, 7]


async def test_new_terms_find_what_was_used(database_url: str) -> None:
    async with store_at(database_url) as store:
        assert await takes(store, 20, per_day=7) == 7
        assert await takes(store, 20, per_day=10) == 3
        assert await takes(store, 20, per_day=5) == 0
        assert await takes(store, 20, per_second=2, per_day=11) == 1


async def test_both_quotas_hold_at_once(database_url: str) -> None:
    async with store_at(database_url) as store:
        state = await store.take("g1", per_second=3, per_day=5)
        assert (state.per_second, state.per_day, state.remaining_second, state.remaining_day) == (3, 5, 2, 4)
        assert 0 < state.reset_day <= 86400


async def test_a_call_without_a_quota_is_not_counted(database_url: str) -> None:
    async with store_at(database_url) as store:
        with pytest.raises(ValueError, match="only calls under a quota"):
            await store.take("g1", per_second=0, per_day=0)


async def test_usage_uses_nothing(database_url: str) -> None:
    async with store_at(database_url) as store:
        assert await takes(store, 3, per_second=9, per_day=9) == 3
        for _ in range(5):
            usage = await store.usage(["g2", "g1", "g2"])
        assert set(usage) == {"g1", "g2"}
        assert usage["g1"].used_today == 3
        assert usage["g1"].state(per_second=9, per_day=9).remaining_day == 6
        assert usage["g2"].state(per_second=9, per_day=9).remaining_second == 9
        assert usage["g2"].used_today == 0
        assert await store.usage([]) == {}
        assert await takes(store, 20, per_day=9) == 6


async def test_a_restart_forgets_nothing(database_url: str) -> None:
    async with store_at(database_url) as store:
        assert await takes(store, 4, per_day=5) == 4
    async with store_at(database_url) as store:
        assert await takes(store, 4, per_day=5) == 1


async def test_two_gateways_with_many_grants_neither_deadlock_nor_overshoot(database_url: str) -> None:
    grants = [f"g{number}" for number in range(12)]
    async with store_at(database_url) as one, store_at(database_url) as other:

        async def mixed(store: QuotaStore, seed: int) -> list[int]:
            order = grants * 15
            random.Random(seed).shuffle(order)
            return [await takes(store, 1, grant=grant, per_day=20) for grant in order]

        told = await asyncio.gather(*(mixed(store, seed) for seed, store in enumerate((one, other) * 8)))
        assert sum(map(sum, told)) == 12 * 20
        usage = await one.usage(grants)
        assert {each.used_today for each in usage.values()} == {20}


class Counting:
    """Says how large the transactions were."""

    def __init__(self, inner: QuotaTable) -> None:
        self.inner = inner
        self.sizes: list[int] = []
        self.may = asyncio.Event()
        self.may.set()

    async def change(self, grants: Sequence[str], decide: Decide, *, clear: bool) -> None:
        self.sizes.append(len(grants))
        await self.may.wait()
        await self.inner.change(grants, decide, clear=clear)

    async def read(self, grants: Sequence[str]) -> tuple[dict[str, Counts], int]:
        return await self.inner.read(grants)

    async def close(self) -> None:
        await self.inner.close()


def counting(url: str, **how: Any) -> Counting:
    path = sqlite_path(parsed_url(url))
    assert path is not None
    return Counting(SqliteQuotaTable(SqliteWriter(path, "quotas", **how), lambda: int(NOON * SECOND)))


async def test_everything_that_waits_shares_a_transaction(sqlite_url: str) -> None:
    table = counting(sqlite_url)
    store = QuotaStore(table)
    told = await asyncio.gather(*(takes(store, 50, grant=f"g{number % 4}", per_day=30) for number in range(8)))
    assert sum(told) == 4 * 30
    assert table.sizes == [4]
    await store.close()


async def test_nobody_queues_behind_a_silent_database(sqlite_url: str) -> None:
    table = counting(sqlite_url)
    table.may.clear()
    store = QuotaStore(table, timeout=0.05)
    for _ in range(50):
        with pytest.raises(QuotasUnavailableError):
            await store.take("g1", per_second=0, per_day=5)
    assert table.sizes == [1]
    table.may.set()
    while store._commits.busy:
        await asyncio.sleep(0)
    assert await takes(store, 9, per_day=5) == 4, "one got there after all: it was counted, and is never given again"
    await store.close()


async def test_what_nobody_waits_for_any_more_is_not_counted(sqlite_url: str) -> None:
    table = counting(sqlite_url)
    table.may.clear()
    store = QuotaStore(table)
    first = asyncio.create_task(store.take("g1", per_second=0, per_day=5))
    while not table.sizes:
        await asyncio.sleep(0)
    gone = asyncio.create_task(store.take("g1", per_second=0, per_day=5))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    table.may.set()
    assert (await first).remaining_day == 4
    assert (await store.usage(["g1"]))["g1"].used_today == 1
    await store.close()


async def test_a_database_that_fails_lets_nothing_through_and_is_used_again_when_it_works(database_url: str) -> None:
    async with store_at(database_url) as store:
        assert await takes(store, 2, per_day=5) == 2
        await run_sql(database_url, "ALTER TABLE quota_counts RENAME TO away")
        for attempt in (store.take("g1", per_second=0, per_day=5), store.usage(["g1"])):
            with pytest.raises(QuotasUnavailableError) as caught:
                await attempt
            assert (caught.value.status, caught.value.rule) == (503, "quota-store")
            assert caught.value.detail_in("zh") != caught.value.detail_in("en")
        await run_sql(database_url, "ALTER TABLE away RENAME TO quota_counts")
        assert await takes(store, 9, per_day=5) == 3


async def test_a_database_that_is_gone_is_not_made_anew(sqlite_url: str) -> None:
    """An empty one would give the day's quota again."""
    path = sqlite_path(parsed_url(sqlite_url))
    assert path is not None
    table = SqliteQuotaTable(SqliteWriter(path, "quotas"), lambda: int(NOON * SECOND))
    store = QuotaStore(table)
    path.unlink()
    with pytest.raises(QuotasUnavailableError):
        await store.take("g1", per_second=0, per_day=5)
    assert not path.exists()
    await store.close()


async def test_a_postgresql_that_restarts_costs_refusals_and_no_count(postgres_url: str) -> None:
    async with store_at(postgres_url) as store:
        assert await takes(store, 2, per_day=5) == 2
        await run_sql(
            postgres_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'datong-quotas'"
            " AND datname = current_database()",
        )
        with pytest.raises(QuotasUnavailableError):
            await store.take("g1", per_second=0, per_day=5)
        assert await takes(store, 9, per_day=5) == 3


async def test_a_gateway_frozen_in_the_middle_is_an_error_and_no_hang(sqlite_url: str) -> None:
    path = sqlite_path(parsed_url(sqlite_url))
    holder = os.open(f"{path}-writer", os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    store = QuotaStore(counting(sqlite_url, patience=0.05))
    with pytest.raises(QuotasUnavailableError):
        await store.take("g1", per_second=0, per_day=5)
    os.close(holder)
    assert await takes(store, 9, per_day=5) == 5
    await store.close()


async def test_rows_locked_by_a_frozen_gateway_are_an_error_and_other_grants_go_on(postgres_url: str) -> None:
    async with store_at(postgres_url) as store, store_at(postgres_url) as other:
        assert await takes(store, 1, per_day=5) == 1
        frozen = await asyncpg.connect(postgres_url)
        async with frozen.transaction():
            await frozen.execute("SELECT * FROM quota_counts WHERE grant_id = 'g1' FOR UPDATE")
            with pytest.raises(QuotasUnavailableError):
                await store.take("g1", per_second=0, per_day=5)
            assert await takes(other, 9, grant="g2", per_day=5) == 5
        await frozen.close()
        assert await takes(other, 9, per_day=5) == 4


async def test_a_database_that_cannot_be_opened_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(QuotasUnavailableError):
        await QuotaStore.open(f"sqlite:///{tmp_path / 'no such folder' / 'quotas.db'}")
    with pytest.raises(QuotasUnavailableError):
        await QuotaStore.open("postgresql://nobody@127.0.0.1:1/none")


async def test_a_clock_set_back_gives_no_quota_again_and_heals_in_a_second(sqlite_url: str) -> None:
    watch = Watch()
    async with store_at(sqlite_url, clock=watch) as one, store_at(sqlite_url, clock=watch) as other:
        assert await takes(one, 9, per_second=5) == 5
        watch.now -= 3600
        began = time.monotonic()
        assert await takes(one, 9, per_second=5) == 0
        assert await takes(other, 9, per_second=5) == 0
        while not await takes(one, 1, per_second=5):
            await asyncio.sleep(0.01)
        assert 1 < time.monotonic() - began < 10
        assert await takes(other, 9, per_second=5) == 4, "and the other gateway follows"
        assert await takes(one, 9, per_second=5) == 0


async def test_a_server_s_clock_set_back_gives_no_quota_again(postgres_url: str) -> None:
    """As if the newest calls had been counted by a clock that was an hour ahead of what it shows now."""
    async with store_at(postgres_url) as one, store_at(postgres_url) as other:
        assert await takes(one, 9, per_second=5) == 5
        ((newest,),) = await run_sql(postgres_url, "SELECT newest FROM quota_counts")
        ahead = newest + 3600 * SECOND
        instants = struct.pack(">5q", *[ahead] * 5).hex()
        await run_sql(postgres_url, f"UPDATE quota_counts SET newest = {ahead}, instants = '\\x{instants}'")
        began = time.monotonic()
        assert await takes(one, 9, per_second=5) == 0
        assert await takes(other, 9, per_second=5) == 0
        while not await takes(one, 1, per_second=5):
            await asyncio.sleep(0.01)
        assert 1 < time.monotonic() - began < 10
        assert await takes(other, 9, per_second=5) == 4


async def test_counts_that_are_over_are_cleared(database_url: str) -> None:
    today = day_of(int(time.time() * SECOND))
    async with store_at(database_url) as store:
        await store.usage(["g1"])
        await run_sql(
            database_url,
            *(
                f"INSERT INTO quota_counts VALUES ('{grant}', {day}, 3, 3, 0, {empty})"
                for empty in (["x''"] if "sqlite" in database_url else ["''::bytea"])
                for grant, day in (("old", today - 2), ("yesterday", today - 1), ("today", today))
            ),
        )
        assert await takes(store, 1, per_day=5) == 1
    rows = await run_sql(database_url, "SELECT grant_id FROM quota_counts ORDER BY grant_id")
    assert [row[0] for row in rows] == ["g1", "today", "yesterday"]


async def test_the_migrations_make_the_tables_that_the_code_knows(database_url: str) -> None:
    await upgrade(database_url, "registry.quotas.migrations")
    await upgrade(database_url, "registry.quotas.migrations")
    engine = create_engine(database_url)

    def differences(connection: Connection) -> list[object]:
        def ours(name: str | None, kind: str, _parents: object) -> bool:
            return kind != "table" or name != "quotas_schema_version"

        return list(compare_metadata(MigrationContext.configure(connection, opts={"include_name": ours}), metadata))

    try:
        async with reading(engine) as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()


# Real processes

GATEWAY = """
import asyncio, json, sys, time
from registry import QuotaExceededError, QuotaStore

async def main(url, per_second, per_day, seconds):
    store = await QuotaStore.open(url)
    print("ready", flush=True)
    sys.stdin.readline()
    until = time.monotonic() + float(seconds)

    async def caller():
        while time.monotonic() < until:
            try:
                await store.take("g1", per_second=int(per_second), per_day=int(per_day))
            except QuotaExceededError as error:
                if error.rule == "quota-day":
                    return
            else:
                print("accepted", flush=True)

    await asyncio.gather(*(caller() for _ in range(16)))
    print("done", flush=True)
    sys.stdin.readline()

asyncio.run(main(*sys.argv[1:]))
"""

# Every state of the row that was ever committed, kept by the database itself.
HISTORY = {
    "sqlite": [
        "CREATE TABLE history (accepted INTEGER, instants BLOB)",
        "CREATE TRIGGER keep_insert AFTER INSERT ON quota_counts BEGIN"
        " INSERT INTO history VALUES (new.accepted, new.instants); END",
    ],
    "postgresql": [
        "CREATE TABLE history (accepted bigint, instants bytea)",
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO history VALUES (new.accepted, new.instants); RETURN new; END'",
        "CREATE TRIGGER keep_update AFTER UPDATE ON quota_counts FOR EACH ROW EXECUTE FUNCTION keep()",
    ],
}


async def gateway(url: str, *, per_second: int, per_day: int, seconds: float) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", GATEWAY, url, str(per_second), str(per_day), str(seconds)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def go(process: asyncio.subprocess.Process, *, stop_after: int = MANY) -> int:
    """Let it call; how many calls it was told are accepted, until it is done, or has told enough and is killed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"go\n")
    told = 0
    while (line := await process.stdout.readline()) == b"accepted\n":
        told += 1
        if told == stop_after:
            process.send_signal(signal.SIGKILL)
    # What was killed may have been in the middle of a line.
    assert line == b"done\n" if stop_after == MANY else b"accepted\n".startswith(line)
    return told


async def end(processes: list[asyncio.subprocess.Process]) -> None:
    for process in processes:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()


async def test_three_gateways_give_exactly_a_day_s_quota(database_url: str) -> None:
    async with store_at(database_url):
        pass
    processes = [await gateway(database_url, per_second=0, per_day=2000, seconds=60) for _ in range(3)]
    told = await asyncio.gather(*map(go, processes))
    await end(processes)
    assert sum(told) == 2000
    assert all(told), "nobody is starved"
    assert await run_sql(database_url, "SELECT used, accepted FROM quota_counts") == [(2000, 2000)]


async def test_three_gateways_never_exceed_a_second_s_quota(database_url: str) -> None:
    """In every stretch of one second, by the instants that the database holds and, with a margin, as callers saw it."""
    async with store_at(database_url):
        pass
    await run_sql(database_url, *HISTORY["sqlite" if "sqlite" in database_url else "postgresql"])
    processes = [await gateway(database_url, per_second=25, per_day=0, seconds=3.5) for _ in range(3)]
    told = await asyncio.gather(*map(go, processes))
    await end(processes)
    instants: list[int] = []
    for accepted, packed in await run_sql(database_url, "SELECT accepted, instants FROM history ORDER BY accepted"):
        kept = struct.unpack(f">{len(packed) // 8}q", packed)
        instants.extend(kept[len(kept) - (accepted - len(instants)) :])
    assert len(instants) == sum(told)
    assert instants == sorted(instants)
    for number, start in enumerate(instants):
        within = sum(start <= each <= start + SECOND for each in instants[number : number + 100])
        assert within <= 25
    assert sum(told) >= 75, "what is free is given: at least three fresh seconds fit into three and a half"


async def test_a_gateway_killed_in_the_middle_loses_no_count(database_url: str) -> None:
    """What it was told counts; what it was not told any more may count, and is never given again."""
    async with store_at(database_url):
        pass
    processes = [await gateway(database_url, per_second=0, per_day=1500, seconds=60) for _ in range(3)]
    told = await asyncio.gather(go(processes[0], stop_after=40), go(processes[1], stop_after=150), go(processes[2]))
    await end(processes)
    ((used,),) = await run_sql(database_url, "SELECT used FROM quota_counts")
    assert used == 1500
    assert told[0] >= 40
    # At most what was on its way in each that was killed: one transaction of 16 callers, counted and not told.
    assert 1500 - 2 * 16 <= sum(told) <= 1500
    async with store_at(database_url) as store:
        assert await takes(store, 50, per_day=1500) == 0
