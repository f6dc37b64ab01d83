"""The catalogue's tables: resources as registered, and an index of them to search, which is derived and on no record.

The index holds what a search compares and shows, so that it reads one table of short rows.
"""

from __future__ import annotations

import sqlalchemy as sa

from exchange import UtcDateTime
from registry.catalogue.codes import LONGEST_CODE
from registry.tables import metadata, subsystems

resources = sa.Table(
    "resources",
    metadata,
    sa.Column("code", sa.String(LONGEST_CODE), primary_key=True),
    sa.Column("provider", sa.String(270), sa.ForeignKey(subsystems.c.id), nullable=False, index=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    # Of what is or was in force.
    sa.Column("accesses", sa.JSON, nullable=False),
    sa.Column("published", sa.JSON(none_as_null=True)),
    sa.Column("draft", sa.JSON(none_as_null=True)),
    sa.Column("changed_at", UtcDateTime),
    sa.Column("version", sa.BigInteger, nullable=False, index=True),
    sa.CheckConstraint("state IN ('draft', 'published', 'withdrawn')", name="state"),
    sa.CheckConstraint("published IS NOT NULL OR draft IS NOT NULL", name="content"),
)

resource_index = sa.Table(
    "resource_index",
    metadata,
    sa.Column("code", sa.String(LONGEST_CODE), sa.ForeignKey(resources.c.code), primary_key=True),
    sa.Column("provider", sa.String(270), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    # Of the content that is shown: what is or was in force, or else the draft.
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("name_en", sa.Text, nullable=False),
    sa.Column("sharing_class", sa.String(20), nullable=False),
    sa.Column("mode", sa.String(30), nullable=False),
    sa.Column("level", sa.String(20), nullable=False),
    sa.Column("division", sa.String(6), nullable=False),
    # As `registry.catalogue.words` writes them.
    sa.Column("names", sa.Text, nullable=False),
    sa.Column("item_names", sa.Text, nullable=False),
    sa.Column("themes", sa.Text, nullable=False),
    sa.Column("rest", sa.Text, nullable=False),
)
