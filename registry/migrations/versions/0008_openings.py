"""Who asked to look at a record, and who agreed."""

import sqlalchemy as sa
from alembic import op

from exchange import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "openings",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("exchange", sa.String(36), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.String(270), nullable=False),
        sa.Column("official", sa.Text(), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("second_official", sa.Text(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=True),
        sa.Column("decision_why", sa.Text(), nullable=False),
        sa.Column("valid_until", UtcDateTime(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('asked', 'approved', 'refused')", name="state"),
        sa.ForeignKeyConstraint(["asked_by"], ["subsystems.id"], name="fk_openings_asked_by_subsystems"),
        sa.PrimaryKeyConstraint("id", name="pk_openings"),
        sa.UniqueConstraint("number", name="uq_openings_number"),
    )
    op.create_index("ix_openings_exchange", "openings", ["exchange"])
