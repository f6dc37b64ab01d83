"""Meshes to break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.fault_mesh import FaultMesh, fault_mesh


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[FaultMesh]:
    """One gateway, one adapter, one department, one bus."""
    async with fault_mesh(tmp_path) as mesh:
        yield mesh
