"""Records of acts on the log are found without going through those of exchanges."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ONLY_EVENTS = sa.text("outcome IN ('access', 'retention')")


def upgrade() -> None:
    op.create_index(
        "log_entries_events", "log_entries", ["seq"], sqlite_where=_ONLY_EVENTS, postgresql_where=_ONLY_EVENTS
    )


def downgrade() -> None:
    op.drop_index("log_entries_events", table_name="log_entries")
