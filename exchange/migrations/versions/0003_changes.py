"""An index of the records that are of changes: few among many, and nothing is added to the cost of the others."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    only = sa.text("outcome = 'change'")
    op.create_index("log_entries_changes", "log_entries", ["seq"], sqlite_where=only, postgresql_where=only)


def downgrade() -> None:
    raise NotImplementedError("a log of record is never taken apart; restore a backup taken before the upgrade")
