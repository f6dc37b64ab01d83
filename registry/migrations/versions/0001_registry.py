"""Members, subsystems, services, operations, grants, certificates, and the record of every change."""

import sqlalchemy as sa
from alembic import op

from exchange import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    versions = op.create_table(
        "registry_version",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_registry_version"),
    )
    op.bulk_insert(versions, [{"id": 1, "version": 0}])
    op.create_table(
        "registry_changes",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("target", sa.String(400), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_registry_changes"),
    )
    op.create_index("ix_registry_changes_target", "registry_changes", ["target"])
    op.create_table(
        "members",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_en", sa.Text(), nullable=False),
        sa.Column("check_exception", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_members"),
    )
    op.create_table(
        "subsystems",
        sa.Column("id", sa.String(270), nullable=False),
        sa.Column("member", sa.String(200), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_en", sa.Text(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('active', 'suspended')", name="state"),
        sa.ForeignKeyConstraint(["member"], ["members.id"], name="fk_subsystems_member_members"),
        sa.PrimaryKeyConstraint("id", name="pk_subsystems"),
    )
    op.create_index("ix_subsystems_member", "subsystems", ["member"])
    op.create_table(
        "services",
        sa.Column("id", sa.String(340), nullable=False),
        sa.Column("subsystem", sa.String(270), nullable=False),
        sa.Column("title_zh", sa.Text(), nullable=False),
        sa.Column("title_en", sa.Text(), nullable=False),
        sa.Column("timeout_ms", sa.Integer(), nullable=False),
        sa.Column("max_request_bytes", sa.BigInteger(), nullable=False),
        sa.Column("max_answer_bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("notice", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('open', 'disabled')", name="state"),
        sa.ForeignKeyConstraint(["subsystem"], ["subsystems.id"], name="fk_services_subsystem_subsystems"),
        sa.PrimaryKeyConstraint("id", name="pk_services"),
    )
    op.create_index("ix_services_subsystem", "services", ["subsystem"])
    op.create_table(
        "operations",
        sa.Column("service", sa.String(340), nullable=False),
        sa.Column("method", sa.String(20), nullable=False),
        sa.Column("path", sa.String(500), nullable=False),
        sa.Column("safe", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('active', 'withdrawn')", name="state"),
        sa.ForeignKeyConstraint(["service"], ["services.id"], name="fk_operations_service_services"),
        sa.PrimaryKeyConstraint("service", "method", "path", name="pk_operations"),
    )
    op.create_table(
        "grants",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("client", sa.String(270), nullable=False),
        sa.Column("service", sa.String(340), nullable=False),
        sa.Column("method", sa.String(20), nullable=False),
        sa.Column("path", sa.String(500), nullable=False),
        sa.Column("purposes", sa.JSON(), nullable=False),
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
        sa.ForeignKeyConstraint(["client"], ["subsystems.id"], name="fk_grants_client_subsystems"),
        sa.ForeignKeyConstraint(["service"], ["services.id"], name="fk_grants_service_services"),
        sa.PrimaryKeyConstraint("id", name="pk_grants"),
    )
    op.create_index("ix_grants_client", "grants", ["client"])
    op.create_index("ix_grants_service", "grants", ["service"])
    op.create_table(
        "certificates",
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("subsystem", sa.String(270), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("use", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("use IN ('adapter', 'gateway', 'client')", name="use"),
        sa.CheckConstraint("state IN ('active', 'revoked')", name="state"),
        sa.ForeignKeyConstraint(["subsystem"], ["subsystems.id"], name="fk_certificates_subsystem_subsystems"),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_certificates"),
    )
    op.create_index("ix_certificates_subsystem", "certificates", ["subsystem"])
    for table in ("members", "subsystems", "services", "operations", "grants", "certificates"):
        op.create_index(f"ix_{table}_version", table, ["version"])
