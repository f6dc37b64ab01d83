"""What others say of the log and of certificates: cosignatures of witnesses, time stamps, news of revocations."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "log_cosignatures",
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("witness", _TEXT, primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("line", sa.Text, nullable=False),
    )
    op.create_table(
        "log_stamps",
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("authority", _TEXT, primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("token", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "log_revocations",
        sa.Column("digest", _TEXT, primary_key=True),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("about", _TEXT, nullable=False),
        sa.Column("this_update_ms", sa.BigInteger, nullable=False),
        sa.Column("next_update_ms", sa.BigInteger),
        sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
    )
    op.create_index("log_revocations_about", "log_revocations", ["about", "this_update_ms"])


def downgrade() -> None:
    raise NotImplementedError("a log of record is never taken apart; restore a backup taken before the upgrade")
