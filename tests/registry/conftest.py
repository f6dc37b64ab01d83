"""What the registry's tests share: databases, a clock that is set by hand, and a seeded registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

import registry as registry_room
from exchange import ServiceId, SubsystemId
from registry import Registry
from tests.databases import database_url, postgres_server, postgres_url

__all__ = ["database_url", "postgres_server", "postgres_url"]

EXAMPLE_SEED = Path(registry_room.__file__).with_name("example_seed.toml")
HOUSING = SubsystemId("CN/GOV/1199000000000102XG/housing")
AUDIT = SubsystemId("CN/GOV/11990000000001030M/audit")
TAX = SubsystemId("CN/GOV/11990000000001011Q/tax")
ENTERPRISES = ServiceId("CN/GOV/11990000000001011Q/tax/enterprises")
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that stands until it is set."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def empty_registry(database_url: str, clock: Clock) -> AsyncIterator[Registry]:
    """A registry with nothing in it, on each kind of database."""
    registry = await Registry.open(database_url, clock=clock)
    yield registry
    await registry.close()


@pytest.fixture
async def registry(empty_registry: Registry) -> Registry:
    """A registry with the example seed, on each kind of database."""
    await empty_registry.seed(EXAMPLE_SEED)
    return empty_registry
