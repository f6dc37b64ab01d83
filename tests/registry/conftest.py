"""What the registry's tests share: databases, a clock that is set by hand, a seeded registry, and one with resources."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from registry import Registry
from tests.databases import (
    DatabaseTemplate,
    database_url,
    postgres_server,
    postgres_url,
    shared_database_url,
    sqlite_url,
)
from tests.registry.application_world import rulebook, world
from tests.registry.example import AUDIT, ENTERPRISES, EXAMPLE_SEED, HOUSING, NOON, TAX, Clock

__all__ = [
    "AUDIT",
    "ENTERPRISES",
    "EXAMPLE_SEED",
    "HOUSING",
    "NOON",
    "TAX",
    "Clock",
    "database_url",
    "postgres_server",
    "postgres_url",
    "rulebook",
    "shared_database_url",
    "sqlite_url",
    "world",
]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def registry_templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DatabaseTemplate]:
    """Databases with our tables, and with the example seed, by the fixture that asks for them."""

    async def empty(url: str) -> None:
        await (await Registry.open(url, clock=Clock())).close()

    async def seeded(url: str) -> None:
        registry = await Registry.open(url, clock=Clock())
        await registry.seed(EXAMPLE_SEED)
        await registry.close()

    return {
        "registry": DatabaseTemplate(tmp_path_factory.mktemp("seeded"), seeded),
        "empty_registry": DatabaseTemplate(tmp_path_factory.mktemp("empty"), empty),
    }


@pytest.fixture
def database_template(
    request: pytest.FixtureRequest, registry_templates: dict[str, DatabaseTemplate]
) -> DatabaseTemplate | None:
    """A test that asks for the bare `database_url` gets nothing in it."""
    return next((made for name, made in registry_templates.items() if name in request.fixturenames), None)


@pytest.fixture
async def empty_registry(database_url: str, clock: Clock) -> AsyncIterator[Registry]:
    """A registry with nothing in it, on each kind of database."""
    registry = await Registry.open(database_url, clock=clock)
    yield registry
    await registry.close()


@pytest.fixture
async def registry(empty_registry: Registry) -> Registry:
    """A registry with the example seed, on each kind of database."""
    return empty_registry  # `database_template` saw to the seed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_registry(shared_database_url: str) -> AsyncIterator[Registry]:
    """As `registry`, one for all tests of a module that change nothing in it."""
    registry = await Registry.open(shared_database_url, clock=Clock())
    await registry.seed(EXAMPLE_SEED)
    yield registry
    await registry.close()
