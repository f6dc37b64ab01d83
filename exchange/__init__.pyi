from exchange.archive.archive_reader import receipt_from_archive
from exchange.archive.manifest import ArchiveError
from exchange.archive.pruning import Pruned, Pruner, open_pruner
from exchange.archive.restoring import Held, RestoreError, RestorePlan, plan_restore, record_loss
from exchange.archive.restoring import chain_of as segment_chain
from exchange.archive.restoring import restore as restore_log
from exchange.archive.retention import Retention, RetentionClass
from exchange.archive.segment import is_archive
from exchange.archive.segment_checks import verify_archive
from exchange.archive.source import ArchiveSource
from exchange.archive.writing import ArchivedSegment, LogArchiver, archived_up_to, segments_in
from exchange.archive.writing import bounds_of as archive_bounds
from exchange.audit.log_check import LogSummary, check_log
from exchange.audit.log_damage import DamagedLogError
from exchange.audit.reconciliation import Finding, ReconciliationCounts, reconcile
from exchange.broker.broker import Broker
from exchange.broker.query import Answer, Query
from exchange.broker.spool import (
    Spool,
    Spooled,
    SpoolRoomError,
)
from exchange.bus.nats_link import Subscription
from exchange.bus.streams import (
    AnswerStream,
    carriage_seconds,
    part_count,
)
from exchange.bus.transport import Bus, NatsBus, ServingBus, connect_client, inbox_prefix
from exchange.contracts.aside import Aside as ContractsAside
from exchange.contracts.aside import TooLongError as ContractTooLongError
from exchange.contracts.contract import LARGEST as LARGEST_CHECKED
from exchange.contracts.contract import QUICK as QUICK_CHECK
from exchange.contracts.contract import Contract, OperationContract
from exchange.contracts.contract import read_plan as read_contract_plan
from exchange.contracts.faults import AnswerBreachError, ContractBreachError
from exchange.contracts.reading import read_contract_document
from exchange.contracts.schemas import ContractDocumentError
from exchange.doorway import open_doorway
from exchange.errors import (
    AccessDeniedError,
    AdapterUnavailableError,
    AnswerBrokenError,
    AnswerTimeoutError,
    BackendError,
    BackendUnavailableError,
    BadAnswerError,
    BusUnavailableError,
    CallerGoneError,
    ClientMismatchError,
    ConflictError,
    ContractBrokenError,
    HeadersTooLargeError,
    InvalidClientError,
    InvalidRequestError,
    Language,
    LogUnavailableError,
    MeshError,
    NotFoundError,
    NotRegisteredError,
    OverloadedError,
    PayloadTooLargeError,
    QuestionRefusedError,
    RegistryStaleError,
    RequestBeyondContractError,
    RequestTimeoutError,
    RoleMissingError,
    ServiceDisabledError,
    TooManyRequestsError,
    UnauthenticatedError,
    UnavailableError,
    UnknownMemberError,
    UnknownServiceError,
    UnprocessableError,
)
from exchange.events import configure_events
from exchange.heap import settle_heap
from exchange.identifiers import (
    METASERVICES,
    REPLY_VERB,
    MemberId,
    ServiceId,
    SubsystemId,
    discovery_nats_subject,
    from_wire,
    instance_nats_subjects,
    member_id,
    member_of,
    owner_of,
    service_id,
    service_nats_subject,
    subject_token,
    subsystem_id,
    to_wire,
)
from exchange.ledger.check import DamagedLedgerError, LedgerSummary, check_ledger
from exchange.ledger.ledger import Answered, Ledger, LedgerError, LedgerLine, read_ledger
from exchange.log.change_record import CHANGE, ChangeRecord, is_change, read_change
from exchange.log.log import ExchangeLog
from exchange.log.log_event import LogEvent, is_event, read_event
from exchange.log.reader import CLOCKS_APART_MS, LogReader, Page, Removed, StampTime, StoredEntry
from exchange.log.record import NOBODY, CallerFacts, Record, read_record, record_bytes
from exchange.log.store import CorruptLogError, StoreError
from exchange.log.store_sqlite import create_file as create_log_file
from exchange.log.stores import log_store
from exchange.messages.digest_fields import check_content_digest, content_digest_field
from exchange.messages.envelope import (
    ABANDON,
    CLOSING,
    INLINE_BODY,
    PART_SIZE,
    PRESENT,
    STREAMED,
    AnswerHead,
    AnswerStatement,
    Body,
    EnvelopeError,
    HashedBody,
    Headers,
    OpeningStatement,
    PartHead,
    QueryHead,
    QueryStatement,
    content_digest,
    header_block,
    pack,
    read_answer_statement,
    read_opening_statement,
    read_query_statement,
    request_digest,
    statement_bytes,
    unpack,
)
from exchange.messages.paths import check_query, parse_path
from exchange.moments import Entropy, Rfc3339, parse_rfc3339, uuid7
from exchange.receipts.certificate_path import CertificateError
from exchange.receipts.certificate_path import check_path as check_certificate_path
from exchange.receipts.certificate_path import holds_code_of as certificate_holds_code_of
from exchange.receipts.certificate_path import is_ca as is_ca_certificate
from exchange.receipts.certificate_path import names as certificate_names
from exchange.receipts.change_checks import differences as change_differences
from exchange.receipts.finality import CheckpointForReceipt, best_checkpoint
from exchange.receipts.receipt import Check, Keys, ReceiptError, SentRequest, build_receipt, verdict, verify_receipt
from exchange.release.bodies import NOT_WITH_TERMS, Released, ReleaseError, Told, told_headers
from exchange.release.bodies import apply as apply_terms
from exchange.release.bodies import apply_aside as apply_terms_aside
from exchange.release.bodies import check as check_release
from exchange.release.masks import MASKS, Mask
from exchange.release.terms import Terms, item_keys, item_path, read_terms, release_terms
from exchange.search.filters import RecordFilter
from exchange.search.index_place import search_url_of
from exchange.search.indexer import IndexFault
from exchange.search.link import SearchProcess
from exchange.search.log_search import LogSearch
from exchange.search.statistics import Durations, IndexStatus, Pair, SeriesPoint, Statistics, Step
from exchange.settings import Settings
from exchange.signatures.identity import (
    IdentityError,
    SigningIdentity,
    bus_tls,
    certificate_uri,
    fingerprint_of,
    load_identity,
    load_sealing_keys,
    sealing_key,
)
from exchange.signatures.recorded_signatures import SignedRequest, check_evidence, evidence_bytes, evidence_digest
from exchange.signatures.seal import (
    ANSWER_CONTEXT,
    OPENING_CONTEXT,
    QUERY_CONTEXT,
    PrivateKey,
    PublicKey,
    SealError,
    SealVerifier,
    seal_all,
)
from exchange.signatures.signature_algorithms import ALGORITHMS as SIGNATURE_ALGORITHMS
from exchange.signatures.signature_algorithms import (
    SignatureMismatchError,
    SigningKey,
    UnsuitableKeyError,
    VerifyingKey,
    algorithm_of,
)
from exchange.signatures.signature_algorithms import sign as sign_message
from exchange.signatures.signature_algorithms import verify as verify_message
from exchange.signatures.signature_base import Component as SignatureComponent
from exchange.signatures.signature_base import Parameters as SignatureParameters
from exchange.signatures.signature_base import RequestParts, SignatureBaseError, fields_of, read_parameters
from exchange.signatures.signature_base import signature_base as request_signature_base
from exchange.signatures.signed_questions import (
    NOT_FORWARDED,
    SignedQuestionError,
    check_forwarded,
    check_statement,
    is_spelled_like_ours,
    needs_covering,
)
from exchange.storage.database import (
    UtcDateTime,
    create_engine,
    database_url,
    reading,
    run_migrations,
    sqlite_path,
    upgrade,
    writing,
)
from exchange.storage.database_writers import DatabaseFailedError, PostgresqlWriter, SqliteWriter, open_writer
from exchange.storage.group_commit import GroupCommit
from exchange.subjects.erasure_recorder import ErasureRecorder, record_erasures
from exchange.subjects.pseudonyms import normal_form, pseudonym_of
from exchange.subjects.subject_keys import Erasure, SubjectKeys, SubjectKeysUnavailableError
from exchange.timestamps.authorities import StampAuthority, StampConfig, read_timestamps
from exchange.timestamps.request import REQUEST_TYPE as TIME_STAMP_REQUEST_TYPE
from exchange.timestamps.request import read_response as read_stamp_response
from exchange.timestamps.request import time_stamp_request
from exchange.timestamps.stamped import Stamped, StampGap, read_stamped, waiting_since
from exchange.timestamps.token import MOST_BYTES as MOST_BYTES_OF_STAMP
from exchange.timestamps.token import Stamp, StampError, check_token, read_token
from exchange.toml_files import TomlSource, read_toml
from exchange.toml_lines import Location, line_of, written
from exchange.transparency.checkpoint import Checkpoint, NoteError, NoteSigner, NoteVerifier, TlogProof, open_checkpoint
from exchange.transparency.cosignature import ED25519 as ED25519_COSIGNATURE
from exchange.transparency.cosignature import ML_DSA_44 as ML_DSA_44_COSIGNATURE
from exchange.transparency.cosignature import CosignatureVerifier, Cosigner, check_cosignatures
from exchange.transparency.merkle import ProofError
from exchange.transparency.tile_paths import BundleError, TileName, TilePathError, pack_bundle, read_tile
from exchange.transparency.tiles import tree_root
from exchange.transparency.trust_policy import PolicyError, PolicyWitness, TrustPolicy
from exchange.turns import Gathering
from exchange.uscc import UsccFault
from exchange.uscc import compose as compose_uscc
from exchange.uscc import fault_of as uscc_fault
from exchange.verify import as_json as checks_as_json
from exchange.verify import lines_of as lines_of_checks
from exchange.verify import verify_file
from exchange.witness.app import WitnessApp
from exchange.witness.folder import WitnessFolder, write_secret
from exchange.witness.known_logs import KnownLogs
from exchange.witness.protocol import SIZE_TYPE as WITNESS_SIZE_TYPE
from exchange.witness.protocol import RequestError as WitnessRequestError
from exchange.witness.protocol import origin_hash, size_from_conflict
from exchange.witness.protocol import request_body as add_checkpoint_body
from exchange.witness.state import Evidence as WitnessEvidence
from exchange.witness.state import StateError as WitnessStateError
from exchange.witness.state import WitnessState
from exchange.witness.witness import Witness, WitnessAnswer

__all__ = [
    "ABANDON",
    "ANSWER_CONTEXT",
    "CHANGE",
    "CLOCKS_APART_MS",
    "CLOSING",
    "ED25519_COSIGNATURE",
    "INLINE_BODY",
    "LARGEST_CHECKED",
    "MASKS",
    "METASERVICES",
    "ML_DSA_44_COSIGNATURE",
    "MOST_BYTES_OF_STAMP",
    "NOBODY",
    "NOT_FORWARDED",
    "NOT_WITH_TERMS",
    "OPENING_CONTEXT",
    "PART_SIZE",
    "PRESENT",
    "QUERY_CONTEXT",
    "QUICK_CHECK",
    "REPLY_VERB",
    "SIGNATURE_ALGORITHMS",
    "STREAMED",
    "TIME_STAMP_REQUEST_TYPE",
    "WITNESS_SIZE_TYPE",
    "AccessDeniedError",
    "AdapterUnavailableError",
    "Answer",
    "AnswerBreachError",
    "AnswerBrokenError",
    "AnswerHead",
    "AnswerStatement",
    "AnswerStream",
    "AnswerTimeoutError",
    "Answered",
    "ArchiveError",
    "ArchiveSource",
    "ArchivedSegment",
    "BackendError",
    "BackendUnavailableError",
    "BadAnswerError",
    "Body",
    "Broker",
    "BundleError",
    "Bus",
    "BusUnavailableError",
    "CallerFacts",
    "CallerGoneError",
    "CertificateError",
    "ChangeRecord",
    "Check",
    "Checkpoint",
    "CheckpointForReceipt",
    "ClientMismatchError",
    "ConflictError",
    "Contract",
    "ContractBreachError",
    "ContractBrokenError",
    "ContractDocumentError",
    "ContractTooLongError",
    "ContractsAside",
    "CorruptLogError",
    "CosignatureVerifier",
    "Cosigner",
    "DamagedLedgerError",
    "DamagedLogError",
    "DatabaseFailedError",
    "Durations",
    "Entropy",
    "EnvelopeError",
    "Erasure",
    "ErasureRecorder",
    "ExchangeLog",
    "Finding",
    "Gathering",
    "GroupCommit",
    "HashedBody",
    "Headers",
    "HeadersTooLargeError",
    "Held",
    "IdentityError",
    "IndexFault",
    "IndexStatus",
    "InvalidClientError",
    "InvalidRequestError",
    "Keys",
    "KnownLogs",
    "Language",
    "Ledger",
    "LedgerError",
    "LedgerLine",
    "LedgerSummary",
    "Location",
    "LogArchiver",
    "LogEvent",
    "LogReader",
    "LogSearch",
    "LogSummary",
    "LogUnavailableError",
    "Mask",
    "MemberId",
    "MeshError",
    "NatsBus",
    "NotFoundError",
    "NotRegisteredError",
    "NoteError",
    "NoteSigner",
    "NoteVerifier",
    "OpeningStatement",
    "OperationContract",
    "OverloadedError",
    "Page",
    "Pair",
    "PartHead",
    "PayloadTooLargeError",
    "PolicyError",
    "PolicyWitness",
    "PostgresqlWriter",
    "PrivateKey",
    "ProofError",
    "Pruned",
    "Pruner",
    "PublicKey",
    "Query",
    "QueryHead",
    "QueryStatement",
    "QuestionRefusedError",
    "ReceiptError",
    "ReconciliationCounts",
    "Record",
    "RecordFilter",
    "RegistryStaleError",
    "ReleaseError",
    "Released",
    "Removed",
    "RequestBeyondContractError",
    "RequestParts",
    "RequestTimeoutError",
    "RestoreError",
    "RestorePlan",
    "Retention",
    "RetentionClass",
    "Rfc3339",
    "RoleMissingError",
    "SealError",
    "SealVerifier",
    "SearchProcess",
    "SentRequest",
    "SeriesPoint",
    "ServiceDisabledError",
    "ServiceId",
    "ServingBus",
    "Settings",
    "SignatureBaseError",
    "SignatureComponent",
    "SignatureMismatchError",
    "SignatureParameters",
    "SignedQuestionError",
    "SignedRequest",
    "SigningIdentity",
    "SigningKey",
    "Spool",
    "SpoolRoomError",
    "Spooled",
    "SqliteWriter",
    "Stamp",
    "StampAuthority",
    "StampConfig",
    "StampError",
    "StampGap",
    "StampTime",
    "Stamped",
    "Statistics",
    "Step",
    "StoreError",
    "StoredEntry",
    "SubjectKeys",
    "SubjectKeysUnavailableError",
    "Subscription",
    "SubsystemId",
    "Terms",
    "TileName",
    "TilePathError",
    "TlogProof",
    "Told",
    "TomlSource",
    "TooManyRequestsError",
    "TrustPolicy",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownMemberError",
    "UnknownServiceError",
    "UnprocessableError",
    "UnsuitableKeyError",
    "UsccFault",
    "UtcDateTime",
    "VerifyingKey",
    "Witness",
    "WitnessAnswer",
    "WitnessApp",
    "WitnessEvidence",
    "WitnessFolder",
    "WitnessRequestError",
    "WitnessState",
    "WitnessStateError",
    "add_checkpoint_body",
    "algorithm_of",
    "apply_terms",
    "apply_terms_aside",
    "archive_bounds",
    "archived_up_to",
    "best_checkpoint",
    "build_receipt",
    "bus_tls",
    "carriage_seconds",
    "certificate_holds_code_of",
    "certificate_names",
    "certificate_uri",
    "change_differences",
    "check_certificate_path",
    "check_content_digest",
    "check_cosignatures",
    "check_evidence",
    "check_forwarded",
    "check_ledger",
    "check_log",
    "check_query",
    "check_release",
    "check_statement",
    "check_token",
    "checks_as_json",
    "compose_uscc",
    "configure_events",
    "connect_client",
    "content_digest",
    "content_digest_field",
    "create_engine",
    "create_log_file",
    "database_url",
    "discovery_nats_subject",
    "evidence_bytes",
    "evidence_digest",
    "fields_of",
    "fingerprint_of",
    "from_wire",
    "header_block",
    "inbox_prefix",
    "instance_nats_subjects",
    "is_archive",
    "is_ca_certificate",
    "is_change",
    "is_event",
    "is_spelled_like_ours",
    "item_keys",
    "item_path",
    "line_of",
    "lines_of_checks",
    "load_identity",
    "load_sealing_keys",
    "log_store",
    "member_id",
    "member_of",
    "needs_covering",
    "normal_form",
    "open_checkpoint",
    "open_doorway",
    "open_pruner",
    "open_writer",
    "origin_hash",
    "owner_of",
    "pack",
    "pack_bundle",
    "parse_path",
    "parse_rfc3339",
    "part_count",
    "plan_restore",
    "pseudonym_of",
    "read_answer_statement",
    "read_change",
    "read_contract_document",
    "read_contract_plan",
    "read_event",
    "read_ledger",
    "read_opening_statement",
    "read_parameters",
    "read_query_statement",
    "read_record",
    "read_stamp_response",
    "read_stamped",
    "read_terms",
    "read_tile",
    "read_timestamps",
    "read_token",
    "read_toml",
    "reading",
    "receipt_from_archive",
    "reconcile",
    "record_bytes",
    "record_erasures",
    "record_loss",
    "release_terms",
    "request_digest",
    "request_signature_base",
    "restore_log",
    "run_migrations",
    "seal_all",
    "sealing_key",
    "search_url_of",
    "segment_chain",
    "segments_in",
    "service_id",
    "service_nats_subject",
    "settle_heap",
    "sign_message",
    "size_from_conflict",
    "sqlite_path",
    "statement_bytes",
    "subject_token",
    "subsystem_id",
    "time_stamp_request",
    "to_wire",
    "told_headers",
    "tree_root",
    "unpack",
    "upgrade",
    "uscc_fault",
    "uuid7",
    "verdict",
    "verify_archive",
    "verify_file",
    "verify_message",
    "verify_receipt",
    "waiting_since",
    "write_secret",
    "writing",
    "written",
]
