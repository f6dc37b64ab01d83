"""Run by Alembic inside `exchange.upgrade`, which hands in the connection."""

from exchange import run_migrations
from registry.tables import metadata

run_migrations(metadata, "registry_schema_version")
