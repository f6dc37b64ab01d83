"""Applications, their decisions, deadlines and disputes."""

import sqlalchemy as sa
from alembic import op

from exchange import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "applications",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("applicant", sa.String(270), nullable=False),
        sa.Column("provider", sa.String(270), nullable=False),
        sa.Column("resource", sa.String(128), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("sharing_class", sa.String(20), nullable=False),
        sa.Column("ask", sa.JSON(), nullable=False),
        sa.Column("questions", sa.JSON(), nullable=False),
        sa.Column("proposal", sa.JSON(), nullable=True),
        sa.Column("decision", sa.JSON(), nullable=True),
        sa.Column("owed", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("submitted_at", UtcDateTime(), nullable=True),
        sa.Column("decided_at", UtcDateTime(), nullable=True),
        sa.Column("decided_late", sa.Boolean(), nullable=False),
        sa.Column("working_days", sa.Integer(), nullable=False),
        sa.Column("delivered_at", UtcDateTime(), nullable=True),
        sa.Column("open_due_at", UtcDateTime(), nullable=True),
        sa.Column("due_at", UtcDateTime(), nullable=True),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["applicant"], ["subsystems.id"], name="fk_applications_applicant_subsystems"),
        sa.ForeignKeyConstraint(["provider"], ["subsystems.id"], name="fk_applications_provider_subsystems"),
        sa.PrimaryKeyConstraint("id", name="pk_applications"),
        sa.UniqueConstraint("number", name="uq_applications_number"),
    )
    for column in ("applicant", "provider", "resource", "state", "open_due_at", "due_at"):
        op.create_index(f"ix_applications_{column}", "applications", [column])
    op.create_table(
        "standing_approvals",
        sa.Column("resource", sa.String(128), nullable=False),
        sa.Column("provider", sa.String(270), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('active', 'ended')", name="state"),
        sa.ForeignKeyConstraint(["resource"], ["resources.code"], name="fk_standing_approvals_resource_resources"),
        sa.ForeignKeyConstraint(["provider"], ["subsystems.id"], name="fk_standing_approvals_provider_subsystems"),
        sa.PrimaryKeyConstraint("resource", name="pk_standing_approvals"),
    )
    op.create_table(
        "application_disputes",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("application", sa.String(64), nullable=False),
        sa.Column("about", sa.String(20), nullable=False),
        sa.Column("miss", sa.String(64), nullable=False),
        sa.Column("opened_by", sa.String(20), nullable=False),
        sa.Column("level", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("moves", sa.JSON(), nullable=False),
        sa.Column("owed", sa.JSON(), nullable=False),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("closed_at", UtcDateTime(), nullable=True),
        sa.Column("due_at", UtcDateTime(), nullable=True),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["application"], ["applications.id"], name="fk_application_disputes_application_applications"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_application_disputes"),
        sa.UniqueConstraint("number", name="uq_application_disputes_number"),
    )
    for column in ("application", "due_at"):
        op.create_index(f"ix_application_disputes_{column}", "application_disputes", [column])
    op.create_table(
        "deadline_misses",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("application", sa.String(64), nullable=False),
        sa.Column("dispute", sa.String(64), nullable=False),
        sa.Column("duty", sa.String(20), nullable=False),
        sa.Column("responsible", sa.String(270), nullable=False),
        sa.Column("department", sa.String(200), nullable=False),
        sa.Column("sharing_class", sa.String(20), nullable=False),
        sa.Column("jurisdiction", sa.String(40), nullable=False),
        sa.Column("basis", sa.JSON(), nullable=False),
        sa.Column("working_days", sa.Integer(), nullable=False),
        sa.Column("due_date", sa.String(10), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("noticed_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("late_days", sa.Integer(), nullable=False),
        sa.Column("escalations", sa.JSON(), nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=True),
        sa.Column("set_aside", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["application"], ["applications.id"], name="fk_deadline_misses_application_applications"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_deadline_misses"),
        sa.UniqueConstraint("number", name="uq_deadline_misses_number"),
    )
    for column in ("application", "department", "next_at"):
        op.create_index(f"ix_deadline_misses_{column}", "deadline_misses", [column])
