"""The table of services' documents: every document that ever counted, the newest under the highest number."""

from __future__ import annotations

import sqlalchemy as sa

from exchange import UtcDateTime
from registry.tables import metadata, services

service_documents = sa.Table(
    "service_documents",
    metadata,
    sa.Column("service", sa.String(340), sa.ForeignKey(services.c.id), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("format", sa.String(10), nullable=False),
    sa.Column("openapi", sa.String(30), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    # As callers are shown it, if that is not the text.
    sa.Column("shown", sa.Text),
    sa.Column("registered_at", UtcDateTime, nullable=False),
    sa.Column("registered_by", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False, index=True),
    sa.CheckConstraint("format IN ('json', 'yaml')", name="format"),
)
