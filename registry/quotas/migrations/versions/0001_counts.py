"""What the calls under a grant have used of its quotas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quota_counts",
        sa.Column("grant_id", sa.Text, primary_key=True),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
        sa.Column("accepted", sa.BigInteger, nullable=False),
        sa.Column("newest", sa.BigInteger, nullable=False),
        sa.Column("instants", sa.LargeBinary, nullable=False),
    )
    op.create_index("quota_counts_day", "quota_counts", ["day"])


def downgrade() -> None:
    raise NotImplementedError(
        "a day's count that is lost is a quota given twice; restore a backup taken before the upgrade"
    )
