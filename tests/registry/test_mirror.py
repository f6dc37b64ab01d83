"""The mirror: a change elsewhere arrives in under a second, and a registry that cannot be confirmed grows too old."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from exchange import AccessDeniedError, Language, RegistryStaleError
from registry import Registry, RegistryMirror, Snapshot
from tests.databases import PostgresServer
from tests.registry.conftest import ENTERPRISES, EXAMPLE_SEED, HOUSING, NOON, Clock

PATIENCE = 30.0
WHO: dict[str, Any] = {"by": "tester", "why": "a test"}
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def mirror(registry: Registry) -> AsyncIterator[RegistryMirror]:
    mirror = RegistryMirror(registry)
    await mirror.start()
    yield mirror
    await mirror.stop()


def permitted(snapshot: Snapshot) -> bool:
    try:
        snapshot.decide(HOUSING, ENTERPRISES, "GET", ("enterprises", "9111"), None, NOON.timestamp())
    except AccessDeniedError:
        return False
    return True


REVOKE_ELSEWHERE = """
import asyncio, sys, time
from registry import Registry

async def main():
    registry = await Registry.open(sys.argv[1])
    await registry.revoke("housing-reads-enterprises", by="other process", why="a test")
    print(time.clock_gettime(time.CLOCK_MONOTONIC), flush=True)
    await registry.close()

asyncio.run(main())
"""


async def test_a_revocation_in_another_process_is_obeyed_within_a_second(
    mirror: RegistryMirror, database_url: str
) -> None:
    assert permitted(mirror.current(time.monotonic()))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", REVOKE_ELSEWHERE, database_url, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        await mirror.wait_until(lambda snapshot: not permitted(snapshot))
        seen = time.clock_gettime(time.CLOCK_MONOTONIC)
        output, _ = await process.communicate()
    assert process.returncode == 0
    # The other process states its time just after the commit, so being seen before that is possible.
    assert seen - float(output) < 1.0


async def test_a_new_grant_is_loaded_alone_and_at_once(mirror: RegistryMirror, database_url: str, clock: Clock) -> None:
    before = mirror.snapshot
    other = await Registry.open(database_url, clock=clock)
    granted = await other.grant(
        client=HOUSING, service=ENTERPRISES, purposes=["p"], valid_to=NOON + timedelta(days=1), **WHO
    )
    await other.close()
    async with asyncio.timeout(PATIENCE):
        after = await mirror.wait_until(lambda snapshot: snapshot.version >= granted.version)
    assert granted in after.grants(HOUSING, ENTERPRISES)
    assert after.service(ENTERPRISES) is before.service(ENTERPRISES)  # not loaded again


async def test_a_registry_not_confirmed_for_too_long_is_refused(registry: Registry) -> None:
    now = 1000.0
    mirror = RegistryMirror(registry, max_age_seconds=30, monotonic=lambda: now)
    with pytest.raises(RegistryStaleError):
        mirror.current(now)  # never loaded
    await mirror.start()
    await mirror.stop()
    assert mirror.current(now + 30) is mirror.snapshot
    with pytest.raises(RegistryStaleError, match="30"):
        mirror.current(now + 30.1)


async def test_a_snapshot_serves_while_the_database_is_away_grows_old_and_recovers(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    registry = await Registry.open(postgres_url)
    await registry.seed(EXAMPLE_SEED)
    mirror = RegistryMirror(registry, poll_seconds=0.05, max_age_seconds=30)
    with structlog.testing.capture_logs() as logs:
        await mirror.start()
        await asyncio.to_thread(postgres_server.stop)
        try:
            async with asyncio.timeout(PATIENCE):
                while not any(entry["event"] == "registry-unreachable" for entry in logs):
                    await mirror.wait_for_poll()
            confirmed = mirror.confirmed
            assert permitted(mirror.current(confirmed + 29))
            with pytest.raises(RegistryStaleError):
                mirror.current(confirmed + 31)
        finally:
            await asyncio.to_thread(postgres_server.start)
        async with asyncio.timeout(PATIENCE):
            while mirror.confirmed == confirmed:
                await mirror.wait_for_poll()
        await registry.revoke("housing-reads-enterprises", **WHO)
        async with asyncio.timeout(PATIENCE):
            await mirror.wait_until(lambda snapshot: not permitted(snapshot))
        await mirror.stop()
    await registry.close()
    assert [entry["event"] for entry in logs] == [
        "registry-unreachable",
        "registry-reachable",
    ]  # once each, not per poll


async def test_an_sqlite_file_that_is_removed_or_replaced_is_noticed(tmp_path: Path) -> None:
    """Open connections would go on reading the old file for ever, and hide every revocation."""
    path, other = tmp_path / "registry.db", tmp_path / "restored.db"
    for each in (path, other):
        registry = await Registry.open(f"sqlite:///{each}")
        await registry.seed(EXAMPLE_SEED)
        if each == other:
            await registry.revoke("housing-reads-enterprises", **WHO)
            await registry.revoke("housing-orders-certificates", **WHO)
        await registry.close()
    registry = await Registry.open(f"sqlite:///{path}")
    mirror = RegistryMirror(registry, poll_seconds=0.02)
    with structlog.testing.capture_logs() as logs:
        await mirror.start()
        path.rename(tmp_path / "elsewhere.db")
        async with asyncio.timeout(PATIENCE):
            while not any(entry["event"] == "registry-unreachable" for entry in logs):
                await mirror.wait_for_poll()
        assert not path.exists()  # asking for it did not make an empty one
        shutil.copy(other, tmp_path / "copy.db")
        os.replace(tmp_path / "copy.db", path)
        async with asyncio.timeout(PATIENCE):
            await mirror.wait_until(lambda snapshot: not permitted(snapshot))
        await mirror.stop()
    await registry.close()


async def test_a_restored_older_database_is_loaded_whole(tmp_path: Path) -> None:
    """Its version is lower than the one known; what the lost changes did must not survive in memory."""
    path, backup = tmp_path / "registry.db", tmp_path / "backup.db"
    registry = await Registry.open(f"sqlite:///{path}")
    await registry.seed(EXAMPLE_SEED)
    await registry.close()
    shutil.copy(path, backup)
    registry = await Registry.open(f"sqlite:///{path}")
    await registry.revoke("housing-reads-enterprises", **WHO)
    mirror = RegistryMirror(registry, poll_seconds=0.02)
    await mirror.start()
    assert not permitted(mirror.snapshot)
    os.replace(backup, path)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    async with asyncio.timeout(PATIENCE):
        await mirror.wait_until(permitted)
    await mirror.stop()
    await registry.close()


async def test_a_registry_that_cannot_be_read_at_the_start_is_an_error(tmp_path: Path) -> None:
    registry = await Registry.open(f"sqlite:///{tmp_path}/registry.db")
    (tmp_path / "registry.db").unlink()
    mirror = RegistryMirror(registry)
    with pytest.raises(FileNotFoundError):
        await mirror.start()
    await mirror.stop()
    await registry.close()


def test_the_refusal_says_how_old_in_both_languages() -> None:
    error = RegistryStaleError(age=31, limit=30)
    languages: tuple[Language, ...] = ("en", "zh")
    for language in languages:
        assert "31" in error.detail_in(language)
