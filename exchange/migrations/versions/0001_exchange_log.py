"""The exchange log: entries, tiles, checkpoints, intents, certificates, and the one row of state."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "log_entries",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("exchange_id", _TEXT, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("client", _TEXT, nullable=False),
        sa.Column("service", _TEXT, nullable=False),
        sa.Column("outcome", _TEXT, nullable=False),
        sa.Column("rule", _TEXT, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
    )
    op.create_index("log_entries_exchange_id", "log_entries", ["exchange_id"], unique=True)
    op.create_index("log_entries_client", "log_entries", ["client", "seq"])
    op.create_table(
        "log_tiles",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
    )
    state = op.create_table(
        "log_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "log_checkpoints",
        sa.Column("size", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "log_intents",
        sa.Column("exchange_id", _TEXT, primary_key=True),
        sa.Column("gateway", _TEXT, nullable=False),
        sa.Column("boot", _TEXT, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("deadline_ms", sa.BigInteger, nullable=False),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "log_certificates",
        sa.Column("fingerprint", _TEXT, primary_key=True),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(state, [{"id": 1, "size": 0, "root": hashlib.sha256().digest()}])
    if op.get_bind().dialect.name == "postgresql":
        # A record is about 2 kB, just above where PostgreSQL starts to compress rows and move values out of line.
        # Both cost more than they save here: keep the row whole up to the size of a page.
        op.execute("ALTER TABLE log_entries SET (toast_tuple_target = 8160)")
        op.execute("ALTER TABLE log_entries ALTER COLUMN leaf SET STORAGE EXTERNAL")


def downgrade() -> None:
    raise NotImplementedError("a log of record is never taken apart; restore a backup taken before the upgrade")
