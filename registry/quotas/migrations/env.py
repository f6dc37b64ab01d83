"""Run by Alembic inside `exchange.upgrade`, which hands in the connection."""

from exchange import run_migrations
from registry.quotas.quota_tables import metadata

run_migrations(metadata, "quotas_schema_version")
