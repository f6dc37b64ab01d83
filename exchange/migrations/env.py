"""Alembic's entry into the migrations of the exchange log."""

from exchange.database import run_migrations
from exchange.log_tables import metadata

run_migrations(metadata, "log_schema_version")
