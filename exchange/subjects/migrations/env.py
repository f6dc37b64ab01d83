"""Run by Alembic inside `exchange.upgrade`, which hands in the connection."""

from exchange.storage.database import run_migrations
from exchange.subjects.subject_tables import metadata

run_migrations(metadata, "subjects_schema_version")
