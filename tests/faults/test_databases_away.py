"""Databases that go away and come back: no grant counts that cannot be confirmed, no answer leaves that cannot be recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.databases import PostgresServer
from tests.faults.fault_mesh import AT_ONCE, WITHIN, FaultMesh, fault_mesh
from tests.faults.oracle import LOG_REFUSED
from tests.waiting import until

pytestmark = pytest.mark.faults


async def test_a_registry_file_that_is_gone_ends_all_permission_until_it_is_back(tmp_path: Path) -> None:
    file, away = tmp_path / "registry.db", tmp_path / "away.db"
    async with fault_mesh(tmp_path, deadline=6, DATONG_REGISTRY_MAX_AGE="1.5") as mesh:
        await without_the_registry(mesh, lambda: file.rename(away), lambda: away.rename(file))


async def test_a_registry_server_that_is_gone_ends_all_permission_until_it_is_back(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    url = await postgres_server.create_database()
    async with fault_mesh(tmp_path, registry_database=url, deadline=6, DATONG_REGISTRY_MAX_AGE="1.5") as mesh:
        await without_the_registry(mesh, postgres_server.stop, postgres_server.start)


async def without_the_registry(
    mesh: FaultMesh, take_away: Callable[[], object], bring_back: Callable[[], object]
) -> None:
    async with mesh.load(4):
        await mesh.more_answers(20)
        async with mesh.held() as held:
            take_away()
            try:
                await mesh.ready(but="registry")
                refused = await mesh.ask("POST", "/refused", b"x")
                assert (refused.status, refused.rule) == (503, "registry-fresh")
                assert refused.took < AT_ONCE
                # Asked while grants were known, done, and answered when nobody can say whether its adapter still counts.
                held.release()
                done = await held.answer
            finally:
                bring_back()
        await mesh.ready()
        await mesh.more_answers(20)
    assert (done.rule, "retry-after" in done.headers) == ("registry-fresh", False)
    evidence = await mesh.verdict()
    assert evidence.outcome_of(done) == ("unknown", "registry-fresh")
    assert evidence.outcome_of(refused) == ("refused", "registry-fresh")


async def test_a_log_server_that_is_gone_refuses_everything_until_it_is_back(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    url = await postgres_server.create_database()
    async with fault_mesh(tmp_path, log_database=url) as mesh:
        async with mesh.load():
            await mesh.more_answers(40)
            postgres_server.stop()
            try:
                await until(lambda: LOG_REFUSED in {rule for _, rule in mesh.told()}, WITHIN)
                await mesh.ready(but="log")
                for method in ("GET", "POST"):
                    refused = await mesh.ask(method, "/refused")
                    assert (refused.status, refused.rule) == (503, LOG_REFUSED)
                    assert refused.took < AT_ONCE
            finally:
                postgres_server.start()
            await mesh.more_answers(40)
        assert mesh.told() == {(503, LOG_REFUSED)}
        await mesh.verdict()
