from registry.actors import Actor
from registry.applications.application import REASON_CODES, REASON_NAMES, Application, Ask, StandingApproval, Verdict
from registry.applications.application import Decision as ApplicationDecision
from registry.applications.applications import Applications
from registry.applications.desk import Rulebook, kinds_of, sees_owners_side
from registry.applications.dispute import ABOUTS, RULINGS, Dispute, MoveKind
from registry.applications.keeper import DeadlineKeeper
from registry.applications.miss import Miss
from registry.applications.owed import Owed
from registry.applications.reading import ApplicationFilter, CaseFile, DepartmentRecord
from registry.applications.states import ACTION_NAMES, STATE_NAMES, STATES, possible_actions
from registry.change_book import ChangeBook, ChangeFilter
from registry.changes import Changes
from registry.clock.deadlines import Clock, Countdown, Deadline, Pause, china_day, countdown, deadline_after
from registry.clock.jurisdictions import (
    DISPUTE_LEVELS,
    DUTIES,
    DUTY_CLASSES,
    DisputeLevel,
    Duty,
    DutyClass,
    Jurisdiction,
    Jurisdictions,
    Rung,
    Term,
    read_jurisdictions,
)
from registry.clock.notices import read_calendar
from registry.clock.working_days import Calendar, MovedDays
from registry.descriptions.difference import Alteration, Difference
from registry.descriptions.document import MEDIA_TYPES as DOCUMENT_MEDIA_TYPES
from registry.descriptions.examination import Examiner
from registry.descriptions.impact import Impact
from registry.descriptions.reading import MAX_BYTES as MAX_DOCUMENT_BYTES
from registry.descriptions.store import (
    BreakingChangeError,
    Comparison,
    Descriptions,
    DocumentFacts,
    Registration,
    ServiceDocument,
)
from registry.groups import covering_part
from registry.mirror import RegistryMirror
from registry.patterns import PathPattern, compile_pattern
from registry.quotas.counting import QuotaState
from registry.quotas.quota_refusals import QuotaExceededError, QuotasUnavailableError
from registry.quotas.quotas import QuotaStore, QuotaUsage
from registry.records import (
    CERTIFICATE_USES,
    DEFAULT_MAX_ANSWER_BYTES,
    DEFAULT_MAX_REQUEST_BYTES,
    DEFAULT_TIMEOUT,
    LEVELS,
    ROLES,
    SAFE_METHODS,
    Access,
    Certificate,
    CertificateUse,
    Change,
    Grant,
    Group,
    Level,
    Member,
    Operation,
    ResourceEntry,
    Role,
    RoleGrant,
    Rows,
    Service,
    Subsystem,
)
from registry.registrations import (
    register_certificate,
    register_member,
    register_service,
    register_subsystem,
    revoke_certificate,
    set_service_state,
    set_subsystem_state,
)
from registry.registry import Registry
from registry.seed import Seed, SeedReport, read_seed
from registry.sight import sees_certificate, sees_service
from registry.snapshot import Decision, Snapshot
from registry.validity import begins, ends

__all__ = [
    "ABOUTS",
    "ACTION_NAMES",
    "CERTIFICATE_USES",
    "DEFAULT_MAX_ANSWER_BYTES",
    "DEFAULT_MAX_REQUEST_BYTES",
    "DEFAULT_TIMEOUT",
    "DISPUTE_LEVELS",
    "DOCUMENT_MEDIA_TYPES",
    "DUTIES",
    "DUTY_CLASSES",
    "LEVELS",
    "MAX_DOCUMENT_BYTES",
    "REASON_CODES",
    "REASON_NAMES",
    "ROLES",
    "RULINGS",
    "SAFE_METHODS",
    "STATES",
    "STATE_NAMES",
    "Access",
    "Actor",
    "Alteration",
    "Application",
    "ApplicationDecision",
    "ApplicationFilter",
    "Applications",
    "Ask",
    "BreakingChangeError",
    "Calendar",
    "CaseFile",
    "Certificate",
    "CertificateUse",
    "Change",
    "ChangeBook",
    "ChangeFilter",
    "Changes",
    "Clock",
    "Comparison",
    "Countdown",
    "Deadline",
    "DeadlineKeeper",
    "Decision",
    "DepartmentRecord",
    "Descriptions",
    "Difference",
    "Dispute",
    "DisputeLevel",
    "DocumentFacts",
    "Duty",
    "DutyClass",
    "Examiner",
    "Grant",
    "Group",
    "Impact",
    "Jurisdiction",
    "Jurisdictions",
    "Level",
    "Member",
    "Miss",
    "MoveKind",
    "MovedDays",
    "Operation",
    "Owed",
    "PathPattern",
    "Pause",
    "QuotaExceededError",
    "QuotaState",
    "QuotaStore",
    "QuotaUsage",
    "QuotasUnavailableError",
    "Registration",
    "Registry",
    "RegistryMirror",
    "ResourceEntry",
    "Role",
    "RoleGrant",
    "Rows",
    "Rulebook",
    "Rung",
    "Seed",
    "SeedReport",
    "Service",
    "ServiceDocument",
    "Snapshot",
    "StandingApproval",
    "Subsystem",
    "Term",
    "Verdict",
    "begins",
    "china_day",
    "compile_pattern",
    "countdown",
    "covering_part",
    "deadline_after",
    "ends",
    "kinds_of",
    "possible_actions",
    "read_calendar",
    "read_jurisdictions",
    "read_seed",
    "register_certificate",
    "register_member",
    "register_service",
    "register_subsystem",
    "revoke_certificate",
    "sees_certificate",
    "sees_owners_side",
    "sees_service",
    "set_service_state",
    "set_subsystem_state",
]
