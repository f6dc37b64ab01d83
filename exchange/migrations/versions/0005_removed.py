"""Which entries were removed when their time was over. With an entry goes its caller's signature."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_SQLITE = """
    CREATE TRIGGER log_evidence_removed AFTER DELETE ON log_entries WHEN OLD.salt IS NOT NULL
    BEGIN DELETE FROM log_evidence WHERE exchange_id = OLD.exchange_id; END
"""
_FUNCTION = """
    CREATE FUNCTION log_evidence_remove() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN DELETE FROM log_evidence WHERE exchange_id = OLD.exchange_id; RETURN NULL; END $$
"""
_POSTGRESQL = """
    CREATE TRIGGER log_evidence_removed AFTER DELETE ON log_entries
    FOR EACH ROW WHEN (OLD.salt IS NOT NULL) EXECUTE FUNCTION log_evidence_remove()
"""


def upgrade() -> None:
    op.create_table(
        "log_removed",
        sa.Column("first", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("segment", _TEXT, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_FUNCTION)
        op.execute(_POSTGRESQL)
    else:
        op.execute(_SQLITE)


def downgrade() -> None:
    raise NotImplementedError("what says that a gap is on record is never taken away; restore a backup")
