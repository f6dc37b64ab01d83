"""The catalogue: resources, and the index they are searched by. Their versions are in the record of changes."""

import sqlalchemy as sa
from alembic import op

from exchange import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "resources",
        sa.Column("code", sa.String(128), nullable=False),
        sa.Column("provider", sa.String(270), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("accesses", sa.JSON(), nullable=False),
        sa.Column("published", sa.JSON(), nullable=True),
        sa.Column("draft", sa.JSON(), nullable=True),
        sa.Column("changed_at", UtcDateTime(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('draft', 'published', 'withdrawn')", name="state"),
        sa.CheckConstraint("published IS NOT NULL OR draft IS NOT NULL", name="content"),
        sa.ForeignKeyConstraint(["provider"], ["subsystems.id"], name="fk_resources_provider_subsystems"),
        sa.PrimaryKeyConstraint("code", name="pk_resources"),
    )
    op.create_index("ix_resources_provider", "resources", ["provider"])
    op.create_index("ix_resources_version", "resources", ["version"])
    op.create_table(
        "resource_index",
        sa.Column("code", sa.String(128), nullable=False),
        sa.Column("provider", sa.String(270), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_en", sa.Text(), nullable=False),
        sa.Column("sharing_class", sa.String(20), nullable=False),
        sa.Column("mode", sa.String(30), nullable=False),
        sa.Column("level", sa.String(20), nullable=False),
        sa.Column("division", sa.String(6), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("item_names", sa.Text(), nullable=False),
        sa.Column("themes", sa.Text(), nullable=False),
        sa.Column("rest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["code"], ["resources.code"], name="fk_resource_index_code_resources"),
        sa.PrimaryKeyConstraint("code", name="pk_resource_index"),
    )
