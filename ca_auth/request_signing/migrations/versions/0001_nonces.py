"""Nonces of signed requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "request_nonces",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("until", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("request_nonces_until", "request_nonces", ["until"])


def downgrade() -> None:
    raise NotImplementedError("nonces that are forgotten can be used again; restore a backup taken before the upgrade")
