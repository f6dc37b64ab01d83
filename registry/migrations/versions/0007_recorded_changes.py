"""The registry's identity, and up to which change each log has them."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    identity = op.create_table(
        "registry_identity",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("identity", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_registry_identity"),
    )
    op.bulk_insert(identity, [{"id": 1, "identity": str(uuid.uuid4())}])
    op.create_table(
        "recorded_changes",
        sa.Column("log_origin", sa.String(400), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log_origin", name="pk_recorded_changes"),
    )
