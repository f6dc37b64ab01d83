"""The tables of applications, disputes and missed deadlines.

One row is one record and changes as a whole, so that the newest `after` of a change is its content. What is searched for or
ordered by stands in columns of its own; the rest is JSON, as `rows` writes it. `due_at` is the next instant at which time itself
does something: a deadline that nobody has noticed as missed yet.
"""

from __future__ import annotations

import sqlalchemy as sa

from exchange import UtcDateTime
from registry.catalogue.tables import resources
from registry.tables import metadata, subsystems

applications = sa.Table(
    "applications",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False, unique=True),
    sa.Column("applicant", sa.String(270), sa.ForeignKey(subsystems.c.id), nullable=False, index=True),
    sa.Column("provider", sa.String(270), sa.ForeignKey(subsystems.c.id), nullable=False, index=True),
    sa.Column("resource", sa.String(128), nullable=False, index=True),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("sharing_class", sa.String(20), nullable=False),
    sa.Column("ask", sa.JSON, nullable=False),
    sa.Column("questions", sa.JSON, nullable=False),
    sa.Column("proposal", sa.JSON(none_as_null=True)),
    sa.Column("decision", sa.JSON(none_as_null=True)),
    sa.Column("owed", sa.JSON, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("submitted_at", UtcDateTime),
    sa.Column("decided_at", UtcDateTime),
    sa.Column("decided_late", sa.Boolean, nullable=False),
    sa.Column("working_days", sa.Integer, nullable=False),
    sa.Column("delivered_at", UtcDateTime),
    sa.Column("open_due_at", UtcDateTime, index=True),
    sa.Column("due_at", UtcDateTime, index=True),
    sa.Column("provisional", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

standing_approvals = sa.Table(
    "standing_approvals",
    metadata,
    sa.Column("resource", sa.String(128), sa.ForeignKey(resources.c.code), primary_key=True),
    sa.Column("provider", sa.String(270), sa.ForeignKey(subsystems.c.id), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("decided_at", UtcDateTime, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.CheckConstraint("state IN ('active', 'ended')", name="state"),
)

disputes = sa.Table(
    "application_disputes",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False, unique=True),
    sa.Column("application", sa.String(64), sa.ForeignKey(applications.c.id), nullable=False, index=True),
    sa.Column("about", sa.String(20), nullable=False),
    sa.Column("miss", sa.String(64), nullable=False),
    sa.Column("opened_by", sa.String(20), nullable=False),
    sa.Column("level", sa.String(20), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("moves", sa.JSON, nullable=False),
    sa.Column("owed", sa.JSON, nullable=False),
    sa.Column("opened_at", UtcDateTime, nullable=False),
    sa.Column("closed_at", UtcDateTime),
    sa.Column("due_at", UtcDateTime, index=True),
    sa.Column("provisional", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

misses = sa.Table(
    "deadline_misses",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False, unique=True),
    sa.Column("application", sa.String(64), sa.ForeignKey(applications.c.id), nullable=False, index=True),
    sa.Column("dispute", sa.String(64), nullable=False),
    sa.Column("duty", sa.String(20), nullable=False),
    sa.Column("responsible", sa.String(270), nullable=False),
    sa.Column("department", sa.String(200), nullable=False, index=True),
    sa.Column("sharing_class", sa.String(20), nullable=False),
    sa.Column("jurisdiction", sa.String(40), nullable=False),
    sa.Column("basis", sa.JSON, nullable=False),
    sa.Column("working_days", sa.Integer, nullable=False),
    sa.Column("due_date", sa.String(10), nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("provisional", sa.Boolean, nullable=False),
    sa.Column("noticed_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("late_days", sa.Integer, nullable=False),
    sa.Column("escalations", sa.JSON, nullable=False),
    sa.Column("next_at", UtcDateTime, index=True),
    sa.Column("set_aside", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)
