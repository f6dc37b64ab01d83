"""No time beside a checkpoint: nothing proved it, and nobody went by it. Witnesses and time stamps say when."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("log_checkpoints", "at_ms")


def downgrade() -> None:
    raise NotImplementedError("a log of record is never taken apart; restore a backup taken before the upgrade")
