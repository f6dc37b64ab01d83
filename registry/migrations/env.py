"""Run by Alembic inside `exchange.upgrade`, which hands in the connection."""

import registry.applications.tables  # its tables, and the catalogue's
import registry.change_book  # likewise
import registry.descriptions.tables  # noqa: F401  # likewise
from exchange import run_migrations
from registry.tables import metadata

run_migrations(metadata, "registry_schema_version")
