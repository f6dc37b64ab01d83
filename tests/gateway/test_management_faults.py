"""The management API while one of its databases is away: what was changed is told truly, and nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from deploy.trial_mesh import PROVIDER
from tests.gateway.management_desk import Desk, made, told

pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextmanager
def away(desk: Desk, database: str, table: str) -> Iterator[None]:
    """A table is not there, behind the gateway's back."""
    with closing(sqlite3.connect(desk.trial.folder / database, isolation_level=None)) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
        try:
            yield
        finally:
            connection.execute(f"ALTER TABLE elsewhere RENAME TO {table}")


async def test_a_change_made_while_the_log_is_away_counts_and_is_recorded_later(desk: Desk) -> None:
    body = {
        "id": f"{PROVIDER}/unlogged",
        "title_zh": "测试",
        "operations": [{"method": "GET", "path": "/a"}],
        "why": "测试",
    }
    with away(desk, "log.db", "log_entries"):
        answer = await desk.post("owner", "/v1/services", body)
        assert answer.status_code == 201, answer.text
        assert answer.json()["recorded"] is None
        assert answer.headers["datong-change"] == str(answer.json()["change"])
        assert (await desk.get("stranger", f"/v1/services/{body['id']}")).status_code == 200
    async with asyncio.timeout(20):
        while (again := (await desk.post("owner", "/v1/services", body)).json())["recorded"] is None:
            await asyncio.sleep(0.05)
    assert again["change"] == answer.json()["change"]
    assert again["recorded"].endswith(f"/v1/changes/{again['change']}")


async def test_no_change_is_made_halfway_while_the_registry_is_away(desk: Desk) -> None:
    body = {
        "id": f"{PROVIDER}/halfway",
        "title_zh": "测试",
        "operations": [{"method": "GET", "path": "/a"}],
        "why": "测试",
    }
    version = await desk.version()
    for table in ("operations", "registry_changes", "services"):
        with away(desk, "registry.db", table):
            problem = told(await desk.post("owner", "/v1/services", body), 503, "registry-available")
            assert "elsewhere" not in str(problem)
            assert await desk.version() == version
    told(await desk.get("stranger", f"/v1/services/{body['id']}"), 404, "exists")
    made(await desk.post("owner", "/v1/services", body), 201, "service")


async def test_what_is_read_from_the_registry_is_a_503_while_it_is_away(desk: Desk) -> None:
    with away(desk, "registry.db", "grants"):
        for path in ("/v1/grants", "/v1/grants/g1", "/v1/grants/g1/quota", "/v1/grants/as-of?date=2026-11-23"):
            told(await desk.get("auditor", path), 503, "registry-available")
        assert (await desk.get("auditor", "/v1/members")).status_code == 200, "what stands in memory is shown"
