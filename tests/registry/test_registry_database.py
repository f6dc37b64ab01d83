"""The database layer under the registry: URLs, times, strictness, migrations; on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from exchange import UtcDateTime, create_engine, reading, upgrade, writing
from exchange import database_url as normalised
from registry.descriptions.tables import service_documents
from registry.history.change_book import recorded_changes
from registry.openings import openings
from registry.registry import MIGRATIONS
from registry.tables import metadata, registry_version


@pytest.mark.parametrize(
    ("given", "driven"),
    [
        ("sqlite:///a b/registry.db", "sqlite+aiosqlite:///a b/registry.db"),
        ("sqlite:////var/lib/datong/registry.db", "sqlite+aiosqlite:////var/lib/datong/registry.db"),
        ("postgres://u@h/d", "postgresql+asyncpg://u@h/d"),
        ("postgresql://u:p%40ss@h:6543/d", "postgresql+asyncpg://u:p%40ss@h:6543/d"),
        ("postgresql+asyncpg://u@h/d", "postgresql+asyncpg://u@h/d"),
        ("postgresql://u@h/d?sslmode=verify-full", "postgresql+asyncpg://u@h/d?ssl=verify-full"),
    ],
)
def test_a_url_may_name_the_plain_database(given: str, driven: str) -> None:
    assert normalised(given).render_as_string(hide_password=False) == driven


@pytest.mark.parametrize("text", ["sqlite://", "sqlite:///:memory:", "mysql://h/d", "postgresql://u@h", "secret-text"])
def test_another_database_is_refused_without_repeating_what_may_be_a_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|use|name a file") as caught:
        normalised(text)
    assert "secret" not in str(caught.value)


async def test_migrations_lead_from_nothing_to_exactly_our_tables(database_url: str) -> None:
    # Loaded here, so that they belong to it: the modules of all others are, by what the tests share.
    assert {each.metadata for each in (openings, recorded_changes, service_documents)} == {metadata}
    await upgrade(database_url, MIGRATIONS)
    engine = create_engine(database_url)

    def differences(connection: sa.Connection) -> list[object]:
        options = {"compare_type": True, "include_name": _not_alembics}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    async with reading(engine) as connection:
        assert await connection.run_sync(differences) == []
        names = await connection.run_sync(_constraints)
    await engine.dispose()
    assert names == _constraints_of_metadata()


def _not_alembics(name: str | None, kind: str, _parents: object) -> bool:
    return not (kind == "table" and name == "registry_schema_version")


def _constraints(connection: sa.Connection) -> set[str]:
    """Named checks, which Alembic does not compare."""
    inspector = sa.inspect(connection)
    return {str(check["name"]) for table in metadata.tables for check in inspector.get_check_constraints(table)}


def _constraints_of_metadata() -> set[str]:
    return {
        str(constraint.name)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }


async def test_upgrading_again_or_from_several_sides_at_once_changes_nothing(database_url: str) -> None:
    await asyncio.gather(*(upgrade(database_url, MIGRATIONS) for _ in range(3)))
    engine = create_engine(database_url)
    async with reading(engine) as connection:
        assert (await connection.execute(sa.select(registry_version))).all() == [(1, 0)]
    await engine.dispose()


async def test_times_come_back_aware_and_in_utc(database_url: str) -> None:
    table = sa.Table("moments", sa.MetaData(), sa.Column("at", UtcDateTime))
    china = timezone(timedelta(hours=8))
    engine = create_engine(database_url)
    async with writing(engine) as connection:
        await connection.run_sync(table.metadata.create_all)
        await connection.execute(table.insert().values(at=datetime(2026, 1, 1, 0, 30, 0, 123456, tzinfo=china)))
        await connection.execute(table.insert().values(at=None))
        with pytest.raises(sa.exc.StatementError, match="time zone"):
            await connection.execute(table.insert().values(at=datetime(2026, 1, 1)))  # noqa: DTZ001
    async with reading(engine) as connection:
        found = (await connection.execute(sa.select(table.c.at).order_by(table.c.at.is_(None)))).scalars().all()
    await engine.dispose()
    assert found == [datetime(2025, 12, 31, 16, 30, 0, 123456, tzinfo=UTC), None]
    assert found[0] is not None
    assert found[0].tzinfo is UTC


async def test_a_block_that_raises_leaves_nothing_behind(database_url: str) -> None:
    await upgrade(database_url, MIGRATIONS)
    engine = create_engine(database_url)

    async def fail_halfway() -> None:
        async with writing(engine) as connection:
            await connection.execute(sa.update(registry_version).values(version=7))
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await fail_halfway()
    async with reading(engine) as connection:
        assert (await connection.execute(sa.select(registry_version.c.version))).scalar_one() == 0
    await engine.dispose()


async def test_a_read_sees_one_state_while_others_write(database_url: str) -> None:
    await upgrade(database_url, MIGRATIONS)
    engine = create_engine(database_url)
    query = sa.select(registry_version.c.version)
    async with reading(engine) as reader:
        before = (await reader.execute(query)).scalar_one()
        async with writing(engine) as writer:
            await writer.execute(sa.update(registry_version).values(version=before + 1))
        assert (await reader.execute(query)).scalar_one() == before
    async with reading(engine) as reader:
        assert (await reader.execute(query)).scalar_one() == before + 1
    await engine.dispose()


async def test_sqlite_is_durable_and_strict(tmp_path: object) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/strict.db")
    async with reading(engine) as connection:
        pragmas = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    await engine.dispose()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10000}
