"""Parts that stop without a word: their connections stay open, and nothing comes any more."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.faults.fault_mesh import AT_ONCE, DEADLINE, FaultMesh
from tests.faults.oracle import LOG_REFUSED
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.asyncio(loop_scope="module")]

PARTS: dict[str, Callable[[FaultMesh], int]] = {
    "adapter": lambda mesh: mesh.adapter.pid,
    "bus": lambda mesh: mesh.trial.nats.pid,
    "department": lambda mesh: mesh.department.pid,
}


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("part", PARTS)
async def test_a_frozen_part_is_504_at_the_deadline_and_is_used_again_when_it_moves(mesh: FaultMesh, part: str) -> None:
    async with mesh.load():
        await mesh.more_answers(mesh.dice.randrange(20, 60))
        with frozen(PARTS[part](mesh)):
            late = await mesh.ask_until(lambda sent: sent.status == 504, "POST", "/late", b"x")
            assert late.rule == "deadline"
            assert DEADLINE * 0.95 < late.took < DEADLINE * 2
        await mesh.ask_until(lambda sent: sent.answered)
        await mesh.more_answers(20)
    # A department's system that was late so often is not asked for a while.
    told = mesh.told() - ({(503, "backend-breaker")} if part == "department" else set())
    assert told == {(504, "deadline")}
    await mesh.verdict()


async def test_a_frozen_log_writer_releases_nothing_and_is_used_again_when_it_moves(mesh: FaultMesh) -> None:
    """It has five seconds; then all who wait are refused, and whoever comes later is refused at once."""
    async with mesh.load():
        await mesh.more_answers(mesh.dice.randrange(20, 60))
        with frozen(await mesh.log_writer(mesh.gateway)):
            held = mesh.answers()
            await mesh.ready(but="log")
            assert mesh.answers() - held <= 10, "what was acknowledged before the writer froze"
            refused = await mesh.ask("POST", "/refused", b"x")
            assert (refused.status, refused.rule) == (503, LOG_REFUSED)
            assert refused.took < AT_ONCE
        await until(lambda: mesh.answers() > held + 20)
    assert mesh.told() == {(503, LOG_REFUSED)}
    await mesh.verdict()


async def test_an_answer_that_cannot_be_recorded_is_withheld_and_nobody_is_told_to_do_it_again(mesh: FaultMesh) -> None:
    """Another program keeps the log's database locked, longer than the writer waits for it."""
    async with mesh.held() as unsafe, mesh.held("GET") as safe:
        with contextlib.closing(sqlite3.connect(mesh.trial.folder / "log.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            unsafe.release()
            safe.release()
            done, repeatable = await unsafe.answer, await safe.answer
    assert mesh.told() == {(503, LOG_REFUSED)}
    assert "retry-after" in repeatable.headers
    assert "retry-after" not in done.headers
    assert "before repeating an operation that changes something" in done.problem["next"]
    evidence = await mesh.verdict()
    # A writer that got the lock after all has recorded an answer that nobody was given.
    assert evidence.outcome_of(done) in (("unknown", "intent-unsettled"), ("answered", ""))
