"""A key for each subject, how often keys were erased, and erasures that are not on the log yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "subject_keys",
        sa.Column("pseudonym", sa.LargeBinary, primary_key=True),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sa.Column("last_used", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    state = op.create_table(
        "subject_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("erasures", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(state, [{"id": 1, "erasures": 0}])
    op.create_table(
        "subject_erasures",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("event", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("a key that is lost is a subject forgotten; restore a backup taken before the upgrade")
