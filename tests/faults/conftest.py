"""Meshes to break."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.fault_mesh import SEED, FaultMesh, fault_mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultMesh]:
    """One gateway, one adapter, one department, one bus, for a module."""
    async with fault_mesh(tmp_path_factory.mktemp("mesh")) as mesh:
        yield mesh


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(running_mesh: FaultMesh) -> FaultMesh:
    """The module's mesh, on which each test makes its own choices by chance. Each ends with its verdict."""
    await running_mesh.whole()
    running_mesh.dice = random.Random(SEED)
    running_mesh.first = len(running_mesh.sent)
    return running_mesh
