"""Run by Alembic inside `exchange.upgrade`, which hands in the connection."""

from ca_auth.request_signing.nonce_tables import metadata
from exchange import run_migrations

run_migrations(metadata, "ca_auth_schema_version")
