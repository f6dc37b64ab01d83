"""`/healthz` and `/readyz`: what they say while the parts of a gateway are really gone, and when they are back.

`/problems`: a page for every code that any part of the gateway can give.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from ca_auth import EDGE_REFUSALS, client_context
from deploy.trial_mesh import CALLER, ECHO, TrialMesh, bus_users, trial_mesh
from exchange import MeshError
from tests.gateway.exchange_mesh import WAIT

pytestmark = pytest.mark.asyncio(loop_scope="module")

READY = {
    **dict.fromkeys(("ready", "bus", "log", "registry", "vouched"), True),
    "witnessed": None,  # nobody is asked
    "stamped": None,
}
MAX_AGE = 1.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trial(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TrialMesh]:
    folder = tmp_path_factory.mktemp("mesh")
    async with trial_mesh(folder, DATONG_REGISTRY_MAX_AGE=str(MAX_AGE), DATONG_REGISTRY_POLL="0.05") as mesh:
        yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def probe(trial: TrialMesh) -> AsyncIterator[httpx.AsyncClient]:
    """Without a certificate, as load balancers and operators' tools ask."""
    async with httpx.AsyncClient(
        base_url=trial.url, verify=client_context(trial.trust_anchors), trust_env=False, timeout=WAIT
    ) as client:
        yield client


async def readiness(probe: httpx.AsyncClient) -> dict[str, Any]:
    """What /readyz says, its status being in accord; and the process is healthy whatever is the matter."""
    response = await probe.get("/readyz")
    told: dict[str, Any] = response.json()
    assert response.status_code == (200 if told["ready"] else 503)
    assert told["ready"] == all(told[part] for part in ("bus", "log", "registry", "vouched"))
    assert told.keys() == READY.keys(), "which part, and nothing about it"
    assert (await probe.get("/healthz")).json() == {"status": "ok"}
    return told


async def until_ready(probe: httpx.AsyncClient, **parts: bool) -> dict[str, Any]:
    """Wait until /readyz says so of these parts; raises TimeoutError."""
    async with asyncio.timeout(WAIT):
        while True:
            told = await readiness(probe)
            if parts.items() <= told.items():
                return told
            await asyncio.sleep(0.01)


async def ask(trial: TrialMesh) -> httpx.Response:
    """One exchange, which nobody serves here."""
    tls = client_context(trial.trust_anchors, *trial.files("caller"))
    async with httpx.AsyncClient(verify=tls, trust_env=False, timeout=WAIT) as client:
        return await client.get(f"{trial.url}/r1/{ECHO}/x", headers={"X-Road-Client": CALLER})


def log_writers_of(pid: int) -> list[int]:
    """Those among a process's children; its search process is another."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [one for one in children if b"exchange.log.writer" in Path(f"/proc/{one}/cmdline").read_bytes()]


async def test_a_gateway_that_says_it_is_ready_has_its_bus(trial: TrialMesh) -> None:
    """The first to call it is not refused because its connection is still being made."""
    child = await trial.add_gateway("fresh")
    try:
        tls = client_context(trial.trust_anchors)
        async with httpx.AsyncClient(base_url=child.ready_text(), verify=tls, trust_env=False, timeout=WAIT) as fresh:
            assert await readiness(fresh) == READY
    finally:
        await trial.supervisor.stop_child("fresh")
        trial.gateways[1:] = []


async def test_a_gateway_that_came_up_is_ready(probe: httpx.AsyncClient) -> None:
    assert await until_ready(probe, ready=True) == READY


async def test_without_the_bus_it_is_not_ready_and_with_it_it_is_again(
    trial: TrialMesh, probe: httpx.AsyncClient
) -> None:
    trial.nats.kill()
    assert await until_ready(probe, bus=False) == READY | {"ready": False, "bus": False}
    assert (await ask(trial)).json()["type"] == "/problems/bus-unavailable"
    await trial.nats.stop()
    await trial.nats.start(bus_users())
    assert await until_ready(probe, bus=True) == READY


@asynccontextmanager
async def moved_away(path: Path) -> AsyncIterator[None]:
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


async def test_without_a_writer_of_the_log_it_is_not_ready(trial: TrialMesh, probe: httpx.AsyncClient) -> None:
    """The writer is killed, and cannot come back before its key is there again."""
    (writer,) = log_writers_of(trial.gateways[0].pid)
    async with moved_away(trial.folder / "log.key"):
        os.kill(writer, signal.SIGKILL)
        assert await until_ready(probe, log=False) == READY | {"ready": False, "log": False}
        assert (await ask(trial)).json()["type"] == "/problems/log-unavailable"
    assert await until_ready(probe, log=True) == READY


async def test_a_log_whose_database_refuses_is_not_ready_and_notices_when_it_works_again(
    trial: TrialMesh, probe: httpx.AsyncClient
) -> None:
    with closing(sqlite3.connect(trial.folder / "log.db", isolation_level=None)) as database:
        database.execute("ALTER TABLE log_entries RENAME TO elsewhere")
        try:
            assert (await ask(trial)).json()["type"] == "/problems/log-unavailable"
            assert await until_ready(probe, log=False) == READY | {"ready": False, "log": False}
        finally:
            database.execute("ALTER TABLE elsewhere RENAME TO log_entries")
    assert await until_ready(probe, log=True) == READY


async def test_a_registry_that_cannot_be_asked_is_stale_after_its_time(
    trial: TrialMesh, probe: httpx.AsyncClient
) -> None:
    async with moved_away(trial.folder / "registry.db"):
        assert await readiness(probe) == READY, "for a while the last confirmed state serves"
        assert await until_ready(probe, registry=False) == READY | {"ready": False, "registry": False}
        assert (await ask(trial)).json()["type"] == "/problems/registry-stale"
    assert await until_ready(probe, registry=True) == READY


# Problem pages


def every_code(error: type[MeshError] = MeshError) -> set[str]:
    shipped = [child for child in error.__subclasses__() if not child.__module__.startswith("tests.")]
    return {error.code}.union(*map(every_code, shipped))


@pytest.mark.parametrize("code", sorted(every_code() | {each.code for each in EDGE_REFUSALS}))
async def test_every_problem_has_its_page_in_both_languages(probe: httpx.AsyncClient, code: str) -> None:
    response = await probe.get(f"/problems/{code}")
    assert response.status_code == 200
    page = response.json()
    assert (page["code"], page["type"]) == (code, f"/problems/{code}")
    assert 400 <= page["status"] < 600
    for texts in (page["title"], page["next"], *page.get("edge_rules", {}).values()):
        assert texts.keys() == {"en", "zh"}
        assert all(texts.values())


async def test_the_list_has_each_problem_once_and_with_all_the_rules_of_the_edge(probe: httpx.AsyncClient) -> None:
    pages = (await probe.get("/problems")).json()["problems"]
    codes = [page["code"] for page in pages]
    assert codes == sorted(set(codes))
    assert {"method-not-allowed", "request-timeout", "too-many-requests", "role-missing", "bus-lost"} <= set(codes)
    rules = {rule: page for page in pages for rule in page.get("edge_rules", ())}
    assert {each.rule: (each.code, each.status, each.xroad_code) for each in EDGE_REFUSALS} == {
        rule: (page["code"], page["status"], page["x_road_error"]) for rule, page in rules.items()
    }


@pytest.mark.parametrize(
    "answered",
    [
        lambda: {"path": "/nowhere"},
        lambda: {"path": "/v1/exchanges"},
        lambda: {"path": "/healthz", "method": "POST"},
        lambda: {"path": "/r1/", "headers": {"X-Road-Client": CALLER}},
        lambda: {"path": "/healthz", "headers": {"X-Long": "x" * 20_000}},
    ],
)
async def test_the_type_of_a_problem_leads_to_its_page(
    probe: httpx.AsyncClient, answered: Callable[[], dict[str, Any]]
) -> None:
    asked = answered()
    problem = (await probe.request(asked.pop("method", "GET"), asked.pop("path"), **asked)).json()
    page = (await probe.get(problem["type"])).json()
    assert page["status"] == problem["status"]


async def test_a_problem_type_that_does_not_exist_is_itself_a_problem(probe: httpx.AsyncClient) -> None:
    response = await probe.get("/problems/%3Cscript%3E", headers={"Accept-Language": "zh"})
    assert response.status_code == 404
    assert response.json()["detail"] == "此处没有该问题类型。"
    assert "script" not in response.text
