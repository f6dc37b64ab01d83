"""OpenAPI documents of services."""

import sqlalchemy as sa
from alembic import op

from exchange import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "service_documents",
        sa.Column("service", sa.String(340), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("format", sa.String(10), nullable=False),
        sa.Column("openapi", sa.String(30), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=True),
        sa.Column("registered_at", UtcDateTime(), nullable=False),
        sa.Column("registered_by", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("format IN ('json', 'yaml')", name="format"),
        sa.ForeignKeyConstraint(["service"], ["services.id"], name="fk_service_documents_service_services"),
        sa.PrimaryKeyConstraint("service", "number", name="pk_service_documents"),
    )
    op.create_index("ix_service_documents_version", "service_documents", ["version"])
