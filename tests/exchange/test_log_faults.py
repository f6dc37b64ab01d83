"""What the log keeps when processes are killed and disks fill up. After each fault the whole tree is derived again."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.errors import LogUnavailableError
from exchange.log.log import ExchangeLog
from exchange.messages.envelope import statement_bytes
from tests.ci import missing
from tests.exchange.log_kit import Place, attempt, now_ms, query_statement, until
from tests.small_disks import small_disk

pytestmark = pytest.mark.faults
SEED = int.from_bytes(os.urandom(4), "big")


class Load:
    """Callers that append as fast as they can, and remember what was acknowledged."""

    def __init__(self, log: ExchangeLog, callers: int = 16) -> None:
        self.log = log
        self.acknowledged: dict[str, int] = {}
        self.refused = 0
        self._stop = False
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(callers)]

    async def _call(self, number: int) -> None:
        while not self._stop:
            one = attempt(number)
            try:
                if number % 4 == 0:
                    asked = statement_bytes(query_statement(one.exchange_id, number))
                    await self.log.intend(one.exchange_id, deadline_ms=now_ms() + 60_000, record=asked)
                seq = await one.append_to(self.log, settles_intent=number % 4 == 0)
            except LogUnavailableError:
                self.refused += 1
                await asyncio.sleep(0.001)  # refusals come at once; without a breath nothing else would run
            else:
                self.acknowledged[one.exchange_id] = seq

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)


async def assert_nothing_acknowledged_is_missing(place: Place, load: Load) -> None:
    async with place.reader() as reader:
        stored = {entry.exchange_id: entry.seq async for entry in reader.iter_entries()}
        assert await reader.intents() == []
    assert {one: stored.get(one) for one in load.acknowledged} == load.acknowledged
    assert (await place.check()).size == len(stored)


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Place:
    return Place(database_url, tmp_path)


@pytest.mark.timeout(300)
async def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(place: Place) -> None:
    """kill -9 at random points under load, again and again."""
    dice = random.Random(SEED)
    async with place.log(checkpoint_interval=0.05, recovery_grace=0) as log:
        load = Load(log)
        for _ in range(6):
            known = len(load.acknowledged)
            await until(lambda known=known: len(load.acknowledged) > known + 50)
            await asyncio.sleep(dice.random() / 50)
            pid = log.writer_pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: log.ready and log.writer_pid != pid)
        await load.stop()
        assert load.refused, f"seed {SEED}: no kill hit anything in flight"
    async with place.log():
        pass  # the next life settles what the kills left open
    await assert_nothing_acknowledged_is_missing(place, load)


async def test_nothing_acknowledged_is_lost_when_the_gateway_is_killed(place: Place) -> None:
    """The process that appends is killed; its writer finishes and ends by itself; the next life settles the intents."""
    program = Path(__file__).with_name("log_victim.py")
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program), place.database, str(place.log_key)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert victim.stdout is not None
    writer_pid = int(await victim.stdout.readline())
    acknowledged: dict[str, int] = {}
    intended: set[str] = set()
    while len(acknowledged) < 300:
        kind, exchange_id, seq = (await victim.stdout.readline()).decode().split()
        intended.add(exchange_id)
        if kind == "recorded":
            acknowledged[exchange_id] = int(seq)
    victim.kill()
    for line in (await victim.stdout.read()).decode().splitlines():
        if line.count(" ") == 2 and line.startswith("recorded"):
            _, exchange_id, seq = line.split()
            acknowledged[exchange_id] = int(seq)
    await victim.wait()
    await until(lambda: not Path(f"/proc/{writer_pid}").exists())
    async with place.log():
        pass
    async with place.reader() as reader:
        stored = {entry.exchange_id: entry async for entry in reader.iter_entries()}
        assert await reader.intents() == []
    assert {one: stored[one].seq for one in acknowledged} == acknowledged
    # Each durable intent has its one record.
    assert intended <= stored.keys()
    outcomes = Counter(entry.outcome for entry in stored.values())
    assert outcomes["answered"] >= 300
    assert 3 <= outcomes["unknown"] <= 3 + 8
    await place.check()


async def test_a_writer_that_hangs_fails_its_callers_in_time(place: Place) -> None:
    async with place.log(append_timeout=0.5) as log:
        await attempt().append_to(log)
        pid = log.writer_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            late = attempt()
            with pytest.raises(LogUnavailableError):
                await late.append_to(log)
            assert not log.ready
            with pytest.raises(LogUnavailableError):
                await attempt().append_to(log)
        finally:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: log.ready)
        # It was written in the end, as an entry that nobody was told of.
        await attempt().append_to(log)
        assert await log.reader.entry(late.exchange_id) is not None
    assert (await place.check()).size == 3


async def test_signals_to_the_whole_group_leave_the_writer_at_work(place: Place) -> None:
    async with place.log() as log:
        assert log.writer_pid is not None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(log.writer_pid, number)
        assert await attempt().append_to(log) == 0


@pytest.fixture(name="small_disk")
def _small_disk() -> Iterator[Path]:
    """A file system of 4 MB."""
    with small_disk("4m") as folder:
        yield folder


async def test_a_full_disk_refuses_and_recovers(small_disk: Path, tmp_path: Path) -> None:
    place = Place(f"sqlite:///{small_disk / 'log.db'}", tmp_path)
    async with place.log(checkpoint_interval=0.05) as log:
        ballast = small_disk / "ballast"
        before = Load(log)
        await until(lambda: len(before.acknowledged) > 20)
        free = shutil.disk_usage(small_disk).free
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(4096, free - 300_000))
        await until(lambda: before.refused > 20)
        await until(lambda: not log.ready)
        await before.stop()
        ballast.unlink()
        await until(lambda: log.ready)
        after = [attempt(number) for number in range(20)]
        await asyncio.gather(*[one.append_to(log) for one in after])
        # Whoever was refused has left intents; they end as unknown, or their record is there after all.
        log._grace_ms = -120_000
        await until(lambda: _recovered(log))
    await assert_nothing_acknowledged_is_missing(place, before)


async def _recovered(log: ExchangeLog) -> bool:
    await log.recover()
    return not await log.reader.intents()


@pytest.fixture
def strace() -> str:
    program = shutil.which("strace")
    if program is None:
        missing("strace")
    return program


async def test_every_acknowledgement_comes_after_its_own_sync(strace: str, tmp_path: Path) -> None:
    """Counted by the kernel: not fewer syncs of the write-ahead log than acknowledged appends, one at a time."""
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    async with place.log(checkpoint_interval=60) as log:
        await attempt().append_to(log)
        output = tmp_path / "strace"
        tracer = await asyncio.create_subprocess_exec(
            *(strace, "-f", "-e", "trace=fsync,fdatasync", "-o", str(output), "-p", str(log.writer_pid)),
            stderr=asyncio.subprocess.PIPE,
        )
        assert tracer.stderr is not None
        if b"attached" not in await tracer.stderr.readline():
            await tracer.wait()
            missing("the right to trace processes")
        for _ in range(50):
            await attempt().append_to(log)
        tracer.send_signal(signal.SIGINT)
        await tracer.wait()
        assert output.read_text().count("sync(") >= 50
