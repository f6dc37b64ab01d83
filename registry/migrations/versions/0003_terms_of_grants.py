"""Groups, role grants, terms of grants (items, masks, quotas, cases), where members act, who made a change."""

import sqlalchemy as sa
from alembic import op

from exchange import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("registry_changes", sa.Column("certificate", sa.String(64), nullable=False, server_default=""))
    op.add_column("members", sa.Column("level", sa.String(20), nullable=False, server_default=""))
    op.add_column("members", sa.Column("division", sa.String(6), nullable=False, server_default=""))
    op.add_column("services", sa.Column("listed", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.create_table(
        "role_grants",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("subsystem", sa.String(270), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("valid_from", UtcDateTime(), nullable=False),
        sa.Column("valid_to", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.Column("revocation_reason", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('active', 'revoked')", name="state"),
        sa.CheckConstraint("valid_from < valid_to", name="validity"),
        sa.ForeignKeyConstraint(["subsystem"], ["subsystems.id"], name="fk_role_grants_subsystem_subsystems"),
        sa.PrimaryKeyConstraint("id", name="pk_role_grants"),
    )
    op.create_index("ix_role_grants_subsystem", "role_grants", ["subsystem"])
    op.create_index("ix_role_grants_version", "role_grants", ["version"])
    op.create_table(
        "subsystem_groups",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_en", sa.Text(), nullable=False),
        sa.Column("members", sa.JSON(), nullable=False),
        sa.Column("level", sa.String(20), nullable=False),
        sa.Column("division", sa.String(6), nullable=False),
        sa.Column("subsystem_code", sa.String(64), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('active', 'closed')", name="state"),
        sa.PrimaryKeyConstraint("id", name="pk_subsystem_groups"),
    )
    op.create_index("ix_subsystem_groups_version", "subsystem_groups", ["version"])
    with op.batch_alter_table("grants") as grants:
        grants.add_column(sa.Column("client_group", sa.String(64), nullable=True))
        grants.add_column(sa.Column("resource", sa.String(128), nullable=False, server_default=""))
        grants.add_column(sa.Column("items", sa.JSON(), nullable=False, server_default="[]"))
        grants.add_column(sa.Column("masks", sa.JSON(), nullable=False, server_default="{}"))
        grants.add_column(sa.Column("quota_per_second", sa.Integer(), nullable=False, server_default="0"))
        grants.add_column(sa.Column("quota_per_day", sa.BigInteger(), nullable=False, server_default="0"))
        grants.add_column(sa.Column("case_pattern", sa.String(200), nullable=False, server_default=""))
        grants.add_column(sa.Column("application", sa.String(64), nullable=False, server_default=""))
        grants.alter_column("client", existing_type=sa.String(270), nullable=True)
        grants.alter_column("service", existing_type=sa.String(340), nullable=True)
        grants.create_foreign_key(
            "fk_grants_client_group_subsystem_groups", "subsystem_groups", ["client_group"], ["id"]
        )
        grants.create_check_constraint("subject", sa.text("(client IS NULL) <> (client_group IS NULL)"))
        grants.create_check_constraint("object", sa.text("(service IS NULL) <> (resource = '')"))
    for column in ("client_group", "resource", "application"):
        op.create_index(f"ix_grants_{column}", "grants", [column])
