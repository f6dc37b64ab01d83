"""An adapter's surroundings: a bus, a gateway on it, a ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.nats import NatsServer
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import Carrier, FullDisk, Gateway, carrier_on, gateway_on


@pytest.fixture
async def gateway(nats_server: NatsServer, pki: Pki) -> AsyncIterator[Gateway]:
    async with gateway_on(nats_server, pki) as gateway:
        yield gateway


@pytest.fixture
async def carrier(nats_server: NatsServer, pki: Pki) -> AsyncIterator[Carrier]:
    async with carrier_on(nats_server, pki) as carrier:
        yield carrier


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[FullDisk]:
    ledger = await FullDisk.open(tmp_path / "ledger", "CN/GOV/TAX/tax")
    assert isinstance(ledger, FullDisk)
    yield ledger
    await ledger.close()


@pytest.fixture
def ledger_folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"
