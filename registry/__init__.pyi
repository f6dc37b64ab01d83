from registry.actors import Actor
from registry.applications.application import (
    REASON_CODES,
    REASON_NAMES,
    Application,
    Ask,
    ReasonCode,
    StandingApproval,
    Verdict,
)
from registry.applications.application import Decision as ApplicationDecision
from registry.applications.applications import Applications
from registry.applications.desk import Rulebook, kinds_of, sees_owners_side
from registry.applications.dispute import ABOUTS, RULINGS, About, Dispute, MoveKind, Ruling
from registry.applications.keeper import DeadlineKeeper
from registry.applications.miss import Miss
from registry.applications.owed import Owed
from registry.applications.reading import ApplicationFilter, CaseFile, DepartmentRecord
from registry.applications.states import ACTION_NAMES, STATE_NAMES, STATES, possible_actions
from registry.applications.states import State as ApplicationState
from registry.catalogue.catalogue import Catalogue
from registry.catalogue.codes import CodeScheme, code_schemes
from registry.catalogue.dcat import Publisher, dcat_catalogue, dcat_resource
from registry.catalogue.documents import ResourceDocument, catalogue_file, department_of, document_of
from registry.catalogue.imports import Candidate, ImportFault, ImportReport, candidates_of, save_document
from registry.catalogue.labels import resource_labels
from registry.catalogue.resource import (
    RESOURCE_STATES,
    SHARING_CLASSES,
    SHARING_MODES,
    CatalogueEntry,
    Classification,
    ClassificationStep,
    Department,
    Resource,
    ResourceDifference,
    ResourceItem,
    ResourceState,
    ResourceVersion,
    SharingClass,
    SharingMode,
)
from registry.catalogue.search import (
    MATCHES,
    FoundResource,
    FoundResources,
    ResourceSearch,
    found_document,
    read_position,
)
from registry.catalogue.store import may_see_drafts
from registry.catalogue.workbook_parts import MAX_FILE as MAX_WORKBOOK
from registry.catalogue.workbook_reading import candidates_in_workbook
from registry.catalogue.workbook_writing import empty_workbook, workbook_of
from registry.catalogue.writer import publish_resource, save_resource, withdraw_resource
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
from registry.descriptions.store import (
    BreakingChangeError,
    Comparison,
    Descriptions,
    DocumentFacts,
    Registration,
    ServiceDocument,
)
from registry.descriptions.syntax import MAX_BYTES as MAX_DOCUMENT_BYTES
from registry.endpoints import endpoints_granted, endpoints_offered
from registry.grants.decisions import Conditions, Explanation, Question, explain
from registry.grants.grant_search import GrantFilter, GrantState, find_grant, search_as_of, search_grants, state_of
from registry.grants.grants import (
    add_group,
    close_group,
    give_grant,
    grant_role,
    revoke_grant,
    revoke_role,
    revoke_standing_role,
)
from registry.grants.groups import covering_part
from registry.grants.sight import sees_certificate, sees_service
from registry.history.as_of import GrantInForce
from registry.history.change_book import ChangeBook, ChangeFilter
from registry.history.contents_check import altered_record
from registry.mirror import RegistryMirror
from registry.openings import OPENING_STATES, ROLES_THAT_OPEN, Opening, OpeningFilter, Openings, OpeningState
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
    "MATCHES",
    "MAX_DOCUMENT_BYTES",
    "MAX_WORKBOOK",
    "OPENING_STATES",
    "REASON_CODES",
    "REASON_NAMES",
    "RESOURCE_STATES",
    "ROLES",
    "ROLES_THAT_OPEN",
    "RULINGS",
    "SAFE_METHODS",
    "SHARING_CLASSES",
    "SHARING_MODES",
    "STATES",
    "STATE_NAMES",
    "About",
    "Access",
    "Actor",
    "Alteration",
    "Application",
    "ApplicationDecision",
    "ApplicationFilter",
    "ApplicationState",
    "Applications",
    "Ask",
    "BreakingChangeError",
    "Calendar",
    "Candidate",
    "CaseFile",
    "Catalogue",
    "CatalogueEntry",
    "Certificate",
    "CertificateUse",
    "Change",
    "ChangeBook",
    "ChangeFilter",
    "Changes",
    "Classification",
    "ClassificationStep",
    "Clock",
    "CodeScheme",
    "Comparison",
    "Conditions",
    "Countdown",
    "Deadline",
    "DeadlineKeeper",
    "Decision",
    "Department",
    "DepartmentRecord",
    "Descriptions",
    "Difference",
    "Dispute",
    "DisputeLevel",
    "DocumentFacts",
    "Duty",
    "DutyClass",
    "Examiner",
    "Explanation",
    "FoundResource",
    "FoundResources",
    "Grant",
    "GrantFilter",
    "GrantInForce",
    "GrantState",
    "Group",
    "Impact",
    "ImportFault",
    "ImportReport",
    "Jurisdiction",
    "Jurisdictions",
    "Level",
    "Member",
    "Miss",
    "MoveKind",
    "MovedDays",
    "Opening",
    "OpeningFilter",
    "OpeningState",
    "Openings",
    "Operation",
    "Owed",
    "PathPattern",
    "Pause",
    "Publisher",
    "Question",
    "QuotaExceededError",
    "QuotaState",
    "QuotaStore",
    "QuotaUsage",
    "QuotasUnavailableError",
    "ReasonCode",
    "Registration",
    "Registry",
    "RegistryMirror",
    "Resource",
    "ResourceDifference",
    "ResourceDocument",
    "ResourceEntry",
    "ResourceItem",
    "ResourceSearch",
    "ResourceState",
    "ResourceVersion",
    "Role",
    "RoleGrant",
    "Rows",
    "Rulebook",
    "Ruling",
    "Rung",
    "Seed",
    "SeedReport",
    "Service",
    "ServiceDocument",
    "SharingClass",
    "SharingMode",
    "Snapshot",
    "StandingApproval",
    "Subsystem",
    "Term",
    "Verdict",
    "add_group",
    "altered_record",
    "begins",
    "candidates_in_workbook",
    "candidates_of",
    "catalogue_file",
    "china_day",
    "close_group",
    "code_schemes",
    "compile_pattern",
    "countdown",
    "covering_part",
    "dcat_catalogue",
    "dcat_resource",
    "deadline_after",
    "department_of",
    "document_of",
    "empty_workbook",
    "endpoints_granted",
    "endpoints_offered",
    "ends",
    "explain",
    "find_grant",
    "found_document",
    "give_grant",
    "grant_role",
    "kinds_of",
    "may_see_drafts",
    "possible_actions",
    "publish_resource",
    "read_calendar",
    "read_jurisdictions",
    "read_position",
    "read_seed",
    "register_certificate",
    "register_member",
    "register_service",
    "register_subsystem",
    "resource_labels",
    "revoke_certificate",
    "revoke_grant",
    "revoke_role",
    "revoke_standing_role",
    "save_document",
    "save_resource",
    "search_as_of",
    "search_grants",
    "sees_certificate",
    "sees_owners_side",
    "sees_service",
    "set_service_state",
    "set_subsystem_state",
    "state_of",
    "withdraw_resource",
    "workbook_of",
]
