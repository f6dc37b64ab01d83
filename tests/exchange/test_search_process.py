"""The search process of a gateway: it answers as a search in the process itself, and may be away without doing harm."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from exchange.errors import InvalidRequestError, UnavailableError
from exchange.log.frames import Entry
from exchange.search import link
from exchange.search.filters import RecordFilter
from exchange.search.index_store import SMALL
from exchange.search.link import SearchProcess
from exchange.search.log_search import LogSearch
from tests.databases import PostgresServer
from tests.exchange.log_kit import until
from tests.exchange.search_kit import any_filter, fill, read, varied, wanted_of
from tests.waiting import alive

COUNT = SMALL + 900
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows() -> list[Entry]:
    return varied(21, COUNT)


@pytest.fixture(scope="module")
def said(rows: list[Entry]) -> list[dict[str, Any]]:
    return [read(row[7], seq) for seq, row in enumerate(rows)]


@pytest.fixture
async def log(tmp_path: Path, rows: list[Entry]) -> str:
    """The URL of a log in SQLite."""
    url = f"sqlite:///{tmp_path / '日志.db'}"
    await fill(url, tmp_path, rows)
    return url


@asynccontextmanager
async def process_of(log: str, index: str = "") -> AsyncIterator[SearchProcess]:
    search = await SearchProcess.start(log_database=log, search_database=index)
    try:
        yield search
    finally:
        await search.stop()


async def indexed(search: SearchProcess, count: int = SMALL) -> None:
    async def far_enough() -> bool:
        return (await search.status()).indexed >= count

    await until(far_enough)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_it_answers_as_a_search_in_the_process_itself(
    database: str,
    rows: list[Entry],
    said: list[dict[str, Any]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    if database == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = await server.create_database()
    await fill(url, tmp_path, rows)
    chance = random.Random(1)
    async with process_of(url) as search:
        await indexed(search)
        own = await LogSearch.open(url)
        for _ in range(12):
            wanted = any_filter(chance, rows)
            numbers = [each["seq"] for each in wanted_of(said, wanted)]
            page = await search.page(wanted, limit=20)
            assert page == await own.page(wanted, limit=20)
            assert [entry.seq for entry in page.entries] == numbers[::-1][:20]
            assert await search.numbers(wanted, below=4500, limit=5) == [n for n in numbers if n < 4500][::-1][:5]
            assert await search.statistics(wanted, step="hour") == await own.statistics(wanted, step="hour")
        assert [entry.seq async for entry in search.iterate(RecordFilter(kind="any"), COUNT - 3)] == list(
            range(COUNT - 3)
        )
        assert await search.status() == await own.status()
        with pytest.raises(InvalidRequestError, match="cursor") as refused:
            await search.page(RecordFilter(), cursor="somebody else's")
        assert refused.value.detail_in("zh") == "游标无效。"
        await own.close()
    assert search.pid is None


@pytest.mark.faults
async def test_while_it_is_away_askers_are_told_so_and_it_comes_back(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with process_of(log) as search:
        await indexed(search)
        first = search.pid
        assert first is not None
        assert os.getpriority(os.PRIO_PROCESS, first) > os.getpriority(os.PRIO_PROCESS, 0), "exchanges come first"
        asking = [asyncio.create_task(search.statistics(RecordFilter(), step="day")) for _ in range(3)]
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        for outcome in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(outcome, UnavailableError):
                assert outcome.rule == "search-available"
        await until(lambda: search.ready and search.pid != first)
        assert (await search.page(RecordFilter())).entries
        # It cannot be started any more: those who ask do not wait for ever.
        monkeypatch.setattr(link, "_PROGRAM", "raise SystemExit(1)")
        monkeypatch.setattr(link, "_START_SECONDS", 0.01)
        second = search.pid
        assert second is not None
        os.kill(second, signal.SIGKILL)
        await until(lambda: search.pid != second)
        with pytest.raises(UnavailableError) as refused:
            await search.page(RecordFilter())
        assert refused.value.rule == "search-available"
        monkeypatch.undo()
        await until(lambda: _answers(search))
    with pytest.raises(UnavailableError):
        await search.page(RecordFilter())


async def _answers(search: SearchProcess) -> bool:
    try:
        return bool((await search.page(RecordFilter())).entries)
    except UnavailableError:
        return False


async def test_of_two_gateways_one_makes_the_index_and_both_answer(log: str, said: list[dict[str, Any]]) -> None:
    wanted = RecordFilter(outcome="failed")
    expected = [each["seq"] for each in wanted_of(said, wanted)][::-1][:50]
    async with process_of(log) as first:
        await indexed(first)
        async with process_of(log) as second:
            for search in (first, second):
                assert [entry.seq for entry in (await search.page(wanted)).entries] == expected
            maker = await LogSearch.open(log)
            assert not await maker.indexer.take(), "a gateway makes it"
            # A command has it made anew by whoever makes it.
            assert await maker.make_index(rebuild=True) == SMALL
            assert await maker.check() is None
            await maker.close()
            await first.stop()
            # The other one takes over.
            takes_over = await LogSearch.open(log)
            assert await takes_over.make_index(rebuild=True) == SMALL
            await takes_over.close()
            assert [entry.seq for entry in (await second.page(wanted)).entries] == expected


async def test_a_question_whose_asker_has_gone_is_called_off_and_too_many_are_refused(
    log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_MOST_WAITING", 4)
    async with process_of(log) as search:
        await indexed(search)
        search._turns = asyncio.Semaphore(1)
        everything = RecordFilter(kind="any")
        asking = [asyncio.create_task(search.statistics(everything, step="day")) for _ in range(8)]
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, UnavailableError)]
        assert len(refused) == 3, "one is answered, four wait"
        gone = [asyncio.create_task(search.statistics(everything, step="day")) for _ in range(4)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        link_ = search._socket
        assert link_ is not None
        assert not link_.asked
        assert (await search.page(everything)).entries


GATEWAY = """
import asyncio, os, sys
from exchange.search.filters import RecordFilter
from exchange.search.link import SearchProcess

async def main():
    search = await SearchProcess.start(log_database=sys.argv[1])
    await search.page(RecordFilter())
    print(search.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.faults
async def test_it_ends_with_its_gateway_and_knows_no_signal_of_a_terminal(log: str) -> None:
    gateway = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", GATEWAY, log), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert gateway.stdout is not None
    pid = int(await gateway.stdout.readline())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, gateway.pid) + 10
    assert alive(pid)
    gateway.kill()
    await gateway.wait()
    await until(lambda: not alive(pid))


def test_the_gateway_does_not_load_what_the_index_is_made_with() -> None:
    program = (
        "import sys\n"
        "from exchange import IndexStatus, RecordFilter, SearchProcess, Statistics\n"
        "print([name for name in ('numpy', 'exchange.search.log_search') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
