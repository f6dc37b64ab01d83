"""Alembic's entry into the migrations of the exchange log."""

from exchange.log.tables import metadata
from exchange.storage.database import run_migrations

run_migrations(metadata, "log_schema_version")
