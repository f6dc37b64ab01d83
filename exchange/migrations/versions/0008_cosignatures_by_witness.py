"""An index that finds the next cosignature of a witness, however many checkpoints it missed."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("log_cosignatures_witness", "log_cosignatures", ["witness", "size"])


def downgrade() -> None:
    raise NotImplementedError("a log of record is never taken apart; restore a backup taken before the upgrade")
