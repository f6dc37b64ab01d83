from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ca_auth.edge_world import Edge, Pki, running_edge


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def shared_edge(pki: Pki) -> Iterator[Edge]:
    with running_edge(pki) as edge:
        yield edge


@pytest.fixture
def edge(shared_edge: Edge) -> Edge:
    """A server with the default limits, with nothing on its records."""
    shared_edge.executed.clear()
    shared_edge.now = None
    shared_edge.release.clear()
    for records in (shared_edge.refused, shared_edge.handshakes):
        while not records.empty():
            records.get_nowait()
    return shared_edge
