"""What is left when parts are killed: under load at points chosen by chance, and while one operation is half done."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from tests.faults.fault_mesh import AT_ONCE, DEADLINE, FaultMesh
from tests.faults.oracle import LOG_REFUSED

pytestmark = [pytest.mark.faults, pytest.mark.asyncio(loop_scope="module")]


async def test_a_gateway_killed_again_and_again_under_load_loses_nothing(mesh: FaultMesh) -> None:
    async with mesh.load():
        for number in range(5):
            await mesh.more_answers(mesh.dice.randrange(5, 60))
            async with mesh.held():  # the rest of the load may all be between two exchanges
                if number % 2:
                    await mesh.kill(mesh.gateway)  # with its log writer
                else:
                    await mesh.kill_alone(mesh.gateway)
            await mesh.start_again(mesh.gateway)
        await mesh.more_answers(20)
    evidence = await mesh.verdict()
    assert {"answered", "unknown"} <= {entry.outcome for entry in evidence.entries}


async def test_a_gateway_killed_while_the_department_works_leaves_one_unknown_record(mesh: FaultMesh) -> None:
    async with mesh.held() as unsafe, mesh.held("GET") as safe:
        await mesh.kill_alone(mesh.gateway)
        await asyncio.wait([unsafe.answer, safe.answer])
        unsafe.release()
        safe.release()
        await mesh.start_again(mesh.gateway)
    evidence = await mesh.verdict()
    assert unsafe.answer.result().lost
    assert evidence.outcome_of(unsafe.answer.result()) == ("unknown", "intent-unsettled")
    assert evidence.ledger_of(unsafe.answer.result()) == [("intent", ""), ("answer", "")]
    # Nothing was to be changed, and nobody got a byte: the ledger alone knows what the adapter gave away.
    assert safe.answer.result().lost
    assert evidence.ledger_of(safe.answer.result()) == [("answer", "")]


async def test_a_log_writer_killed_again_and_again_refuses_and_comes_back(mesh: FaultMesh) -> None:
    async with mesh.load():
        for _ in range(4):
            await mesh.more_answers(mesh.dice.randrange(5, 60))
            pid = await mesh.log_writer(mesh.gateway)
            os.kill(pid, signal.SIGKILL)
            await mesh.log_writer(mesh.gateway, after=pid)
        await mesh.more_answers(20)
    refused = [sent for sent in mesh.sent[mesh.first :] if not sent.answered]
    assert mesh.told() == {(503, LOG_REFUSED)}
    assert max(sent.took for sent in refused) < DEADLINE, "a writer that is gone is known at once"
    await mesh.verdict()


async def test_an_adapter_killed_under_load_is_503_at_once_and_comes_back(mesh: FaultMesh) -> None:
    async with mesh.load():
        for _ in range(2):
            await mesh.more_answers(mesh.dice.randrange(20, 60))
            await mesh.kill(mesh.adapter)
            absent = await mesh.ask_until(lambda sent: sent.status == 503, "POST", "/absent", b"x")
            assert absent.rule == "adapter-connected"
            assert absent.took < AT_ONCE
            await mesh.start_again(mesh.adapter)
        await mesh.more_answers(20)
    assert mesh.told() <= {(503, "adapter-connected"), (504, "deadline"), (502, "answer-complete")}
    await mesh.verdict()


async def test_an_adapter_killed_while_the_department_works_is_504_at_the_deadline_and_unknown(mesh: FaultMesh) -> None:
    async with mesh.held() as held:
        await mesh.kill(mesh.adapter)
        sent = await held.answer
    assert (sent.status, sent.rule) == (504, "deadline")
    assert DEADLINE * 0.95 < sent.took < DEADLINE * 2
    await mesh.start_again(mesh.adapter)
    evidence = await mesh.verdict()
    assert evidence.outcome_of(sent) == ("unknown", "deadline")
    assert evidence.ledger_of(sent) == [("intent", "")], "the department can tell that its system may have acted"


async def test_a_bus_killed_under_load_is_503_at_once_and_all_find_it_again(mesh: FaultMesh) -> None:
    async with mesh.load():
        for _ in range(2):
            await mesh.more_answers(mesh.dice.randrange(20, 60))
            mesh.trial.nats.kill()
            down = await mesh.ask_until(lambda sent: sent.rule == "bus-connected", "POST", "/down", b"x")
            assert down.status == 503
            assert down.took < AT_ONCE
            started = time.monotonic()
            await mesh.start_bus()
            await mesh.ask_until(lambda sent: sent.answered)
            assert time.monotonic() - started < 10
        await mesh.more_answers(20)
    assert mesh.told() <= {
        (503, "bus-connected"),
        (503, "bus-kept"),
        (503, "adapter-connected"),
        (502, "answer-complete"),
        (504, "deadline"),
    }
    await mesh.verdict()


async def test_a_bus_killed_while_the_department_works_is_known_at_once_and_unknown_on_the_record(
    mesh: FaultMesh,
) -> None:
    async with mesh.held() as held:
        mesh.trial.nats.kill()
        sent = await held.answer
    assert (sent.status, sent.rule) == (503, "bus-kept")
    assert sent.took < DEADLINE
    assert "retry-after" not in sent.headers, "it was done: to do it again would be to do it twice"
    await mesh.start_bus()
    evidence = await mesh.verdict()
    assert evidence.outcome_of(sent) == ("unknown", "bus-kept")
    assert evidence.ledger_of(sent) == [("intent", ""), ("answer", "")]


async def test_a_departments_system_killed_under_load_is_told_apart_from_its_adapter(mesh: FaultMesh) -> None:
    async with mesh.load():
        for _ in range(3):
            await mesh.more_answers(mesh.dice.randrange(20, 60))
            await mesh.kill(mesh.department)
            # At first it is asked, and does not answer; when that happened often enough, it is not asked any more.
            down = await mesh.ask_until(lambda sent: sent.status in (502, 503), "POST", "/down", b"x")
            assert (down.status, down.rule) in {(502, "backend-answers"), (503, "backend-breaker")}
            assert down.problem["source"] == "backend"
            assert down.took < AT_ONCE
            await mesh.start_again(mesh.department)
        await mesh.more_answers(20)
    assert mesh.told() <= {(502, "backend-answers"), (503, "backend-breaker"), (504, "deadline")}
    await mesh.verdict()


async def test_a_departments_system_killed_at_work_leaves_the_outcome_unknown(mesh: FaultMesh) -> None:
    async with mesh.held() as unsafe, mesh.held("GET") as safe:
        await mesh.kill(mesh.department)
        lost, repeatable = await unsafe.answer, await safe.answer
    await mesh.start_again(mesh.department)
    evidence = await mesh.verdict()
    assert (lost.status, evidence.outcome_of(lost)) == (504, ("unknown", "deadline"))
    assert (repeatable.status, evidence.outcome_of(repeatable)) == (502, ("failed", "backend-answers"))


async def test_everything_killed_at_once_comes_back_on_the_same_data(mesh: FaultMesh) -> None:
    async with mesh.load():
        for _ in range(2):
            await mesh.more_answers(mesh.dice.randrange(20, 60))
            mesh.trial.nats.kill()
            await mesh.kill(mesh.gateway, mesh.adapter, mesh.department)
            await asyncio.gather(
                mesh.start_bus(), *(mesh.start_again(child) for child in (mesh.adapter, mesh.gateway, mesh.department))
            )
        await mesh.more_answers(20)
    await mesh.verdict()
