"""Signatures of callers beside the records, erased with the salt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_SQLITE = """
    CREATE TRIGGER log_evidence_erased AFTER UPDATE OF salt ON log_entries WHEN NEW.salt IS NULL
    BEGIN DELETE FROM log_evidence WHERE exchange_id = NEW.exchange_id; END
"""
_FUNCTION = """
    CREATE FUNCTION log_evidence_erase() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN DELETE FROM log_evidence WHERE exchange_id = NEW.exchange_id; RETURN NULL; END $$
"""
_POSTGRESQL = """
    CREATE TRIGGER log_evidence_erased AFTER UPDATE OF salt ON log_entries
    FOR EACH ROW WHEN (NEW.salt IS NULL) EXECUTE FUNCTION log_evidence_erase()
"""


def upgrade() -> None:
    op.create_table(
        "log_evidence",
        sa.Column("exchange_id", _TEXT, primary_key=True),
        sa.Column("evidence", sa.LargeBinary, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_FUNCTION)
        op.execute(_POSTGRESQL)
    else:
        op.execute(_SQLITE)


def downgrade() -> None:
    raise NotImplementedError("signatures cannot be made again; restore a backup taken before the upgrade")
