"""The registry's tables. Nothing is ever deleted: what ends, ends by a state.

Every row carries the `version` of the registry that last changed it, so that a reader can load what changed and no
more. `registry_version` holds the current one in its only row; a change locks that row first, which puts all changes in
one order, and no reader can see version n before everything up to n is there.
"""

from __future__ import annotations

import sqlalchemy as sa

from exchange import UtcDateTime

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _version() -> sa.Column[int]:
    return sa.Column("version", sa.BigInteger, nullable=False, index=True)


registry_version = sa.Table(
    "registry_version",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

registry_changes = sa.Table(
    "registry_changes",
    metadata,
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("certificate", sa.String(64), nullable=False, server_default=""),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("target", sa.String(400), nullable=False, index=True),
    sa.Column("before", sa.JSON(none_as_null=True)),
    sa.Column("after", sa.JSON, nullable=False),
)

members = sa.Table(
    "members",
    metadata,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("name_en", sa.Text, nullable=False),
    sa.Column("check_exception", sa.Text, nullable=False),
    sa.Column("level", sa.String(20), nullable=False, server_default=""),
    sa.Column("division", sa.String(6), nullable=False, server_default=""),
    _version(),
)

subsystems = sa.Table(
    "subsystems",
    metadata,
    sa.Column("id", sa.String(270), primary_key=True),
    sa.Column("member", sa.String(200), sa.ForeignKey(members.c.id), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("name_en", sa.Text, nullable=False),
    sa.Column("roles", sa.JSON, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    _version(),
    sa.CheckConstraint("state IN ('active', 'suspended')", name="state"),
)

role_grants = sa.Table(
    "role_grants",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("subsystem", sa.String(270), sa.ForeignKey(subsystems.c.id), nullable=False, index=True),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("valid_from", UtcDateTime, nullable=False),
    sa.Column("valid_to", UtcDateTime, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("revoked_at", UtcDateTime),
    sa.Column("revocation_reason", sa.Text, nullable=False),
    _version(),
    sa.CheckConstraint("state IN ('active', 'revoked')", name="state"),
    sa.CheckConstraint("valid_from < valid_to", name="validity"),
)

groups = sa.Table(
    "subsystem_groups",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("name_en", sa.Text, nullable=False),
    sa.Column("members", sa.JSON, nullable=False),
    sa.Column("level", sa.String(20), nullable=False),
    sa.Column("division", sa.String(6), nullable=False),
    sa.Column("subsystem_code", sa.String(64), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    _version(),
    sa.CheckConstraint("state IN ('active', 'closed')", name="state"),
)

services = sa.Table(
    "services",
    metadata,
    sa.Column("id", sa.String(340), primary_key=True),
    sa.Column("subsystem", sa.String(270), sa.ForeignKey(subsystems.c.id), nullable=False, index=True),
    sa.Column("title_zh", sa.Text, nullable=False),
    sa.Column("title_en", sa.Text, nullable=False),
    sa.Column("timeout_ms", sa.Integer, nullable=False),
    sa.Column("max_request_bytes", sa.BigInteger, nullable=False),
    sa.Column("max_answer_bytes", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("notice", sa.Text, nullable=False),
    sa.Column("listed", sa.Boolean, nullable=False, server_default=sa.true()),
    _version(),
    sa.CheckConstraint("state IN ('open', 'disabled')", name="state"),
)

operations = sa.Table(
    "operations",
    metadata,
    sa.Column("service", sa.String(340), sa.ForeignKey(services.c.id), primary_key=True),
    sa.Column("method", sa.String(20), primary_key=True),
    sa.Column("path", sa.String(500), primary_key=True),
    sa.Column("safe", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    _version(),
    sa.CheckConstraint("state IN ('active', 'withdrawn')", name="state"),
)

grants = sa.Table(
    "grants",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("client", sa.String(270), sa.ForeignKey(subsystems.c.id), index=True),
    sa.Column("client_group", sa.String(64), sa.ForeignKey(groups.c.id), index=True),
    sa.Column("service", sa.String(340), sa.ForeignKey(services.c.id), index=True),
    sa.Column("resource", sa.String(128), nullable=False, server_default="", index=True),
    sa.Column("method", sa.String(20), nullable=False),
    sa.Column("path", sa.String(500), nullable=False),
    sa.Column("purposes", sa.JSON, nullable=False),
    sa.Column("signed_requests", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("items", sa.JSON, nullable=False, server_default="[]"),
    sa.Column("masks", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("quota_per_second", sa.Integer, nullable=False, server_default="0"),
    sa.Column("quota_per_day", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("case_pattern", sa.String(200), nullable=False, server_default=""),
    sa.Column("application", sa.String(64), nullable=False, server_default="", index=True),
    sa.Column("valid_from", UtcDateTime, nullable=False),
    sa.Column("valid_to", UtcDateTime, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("revoked_at", UtcDateTime),
    sa.Column("revocation_reason", sa.Text, nullable=False),
    _version(),
    sa.CheckConstraint("state IN ('active', 'revoked')", name="state"),
    sa.CheckConstraint("valid_from < valid_to", name="validity"),
    sa.CheckConstraint("(client IS NULL) <> (client_group IS NULL)", name="subject"),
    sa.CheckConstraint("(service IS NULL) <> (resource = '')", name="object"),
)

certificates = sa.Table(
    "certificates",
    metadata,
    sa.Column("fingerprint", sa.String(64), primary_key=True),
    sa.Column("subsystem", sa.String(270), sa.ForeignKey(subsystems.c.id), nullable=False, index=True),
    sa.Column("der", sa.LargeBinary, nullable=False),
    sa.Column("use", sa.String(20), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    _version(),
    sa.CheckConstraint("use IN ('adapter', 'gateway', 'client')", name="use"),
    sa.CheckConstraint("state IN ('active', 'revoked')", name="state"),
)
