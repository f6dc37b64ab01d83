from ca_auth.authenticator import Authenticator
from ca_auth.edge.client_cert import PeerCertificateProtocol, fingerprint_of
from ca_auth.edge.client_cert_header import TerminatorTrust, speaks_of_certificates
from ca_auth.edge.cycle import Respond
from ca_auth.edge.edge import REFUSAL_KEY, EdgeLimits, EdgeProtocol, OnRefused, edge_protocol
from ca_auth.edge.refusals import ALL as EDGE_REFUSALS
from ca_auth.edge.refusals import Refusal
from ca_auth.edge.tls import HandshakeRefusal, client_context, load_certificate, server_context
from ca_auth.issuing.ca_certificates import REASONS, Reason, load_crls
from ca_auth.issuing.ca_errors import (
    CaOperationError,
    EnrolmentError,
    EnrolmentRateError,
    EnrolmentRefusedError,
    SigningKeyError,
)
from ca_auth.issuing.ca_folder import CaFolder, read_certificates
from ca_auth.issuing.ca_rows import CertificateRow, CodeRow, CrlRow
from ca_auth.issuing.ca_settings import CaSettings, Pkcs11Settings
from ca_auth.issuing.ca_setup import ca_signing_request, create_ca, import_upstream_crl, install_certificate
from ca_auth.issuing.crl_keeper import CrlKeeper
from ca_auth.issuing.csr import read_request
from ca_auth.issuing.demo_ca import DemoCA, IssuedCertificate
from ca_auth.issuing.durable_files import replace_file
from ca_auth.issuing.enrolment_client import Enrolled, enrol, renew
from ca_auth.issuing.expiry import expiry_alarm
from ca_auth.issuing.held_certificate import HeldCertificate
from ca_auth.issuing.issuance import CertificateRequest
from ca_auth.issuing.issuing_ca import Issued, IssuingCA, holder_of
from ca_auth.issuing.offline_root import OfflineRoot
from ca_auth.issuing.renewal_keeper import RenewalKeeper, renewal_due
from ca_auth.judge import CertificateJudge, Judge, Verdict
from ca_auth.principal import Principal
from ca_auth.profiles.identity import Identity
from ca_auth.profiles.naming import Naming, sample_naming
from ca_auth.profiles.profile import identity_of, identity_uri
from ca_auth.profiles.profiles import PROFILES, Profile
from ca_auth.profiles.shown_names import shown_name
from ca_auth.profiles.trust import Anchor, Revocation, Terminators, Trust
from ca_auth.profiles.trust_file import read_trust
from ca_auth.request_signing.http_signatures import CallerKey, RequestSignature, carries_our_signature, verify_request
from ca_auth.request_signing.http_signing import HASHED_BODY, Signer, sign_request
from ca_auth.request_signing.nonces import NonceStore
from ca_auth.request_signing.signature_refusals import RequestSignatureError
from ca_auth.request_signing.signature_refusals import missing as signature_missing
from ca_auth.request_signing.signature_refusals import of_person as signature_of_person
from ca_auth.revocation.news import RevocationNews
from ca_auth.revocation.offline_alarms import alarms_of_files
from ca_auth.revocation.revocation_alarms import SEVERE as SEVERE_ALARMS
from ca_auth.trust_keeper import TrustKeeper
from ca_auth.validation.certificate_files import FiledCertificate, read_certificate_file
from ca_auth.validation.crl import CrlNumberError, RevocationList, check_supersedes
from ca_auth.validation.key_policy import PathPolicy
from ca_auth.validation.policy_tree import PolicyInputs
from ca_auth.validation.rejection import RULES as CHAIN_RULES
from ca_auth.validation.rejection import ChainRefusedError, Rejection
from ca_auth.validation.revocation import RevocationData
from ca_auth.validation.validation import PathValidator, ValidatedPath

__all__ = [
    "CHAIN_RULES",
    "EDGE_REFUSALS",
    "HASHED_BODY",
    "PROFILES",
    "REASONS",
    "REFUSAL_KEY",
    "SEVERE_ALARMS",
    "Anchor",
    "Authenticator",
    "CaFolder",
    "CaOperationError",
    "CaSettings",
    "CallerKey",
    "CertificateJudge",
    "CertificateRequest",
    "CertificateRow",
    "ChainRefusedError",
    "CodeRow",
    "CrlKeeper",
    "CrlNumberError",
    "CrlRow",
    "DemoCA",
    "EdgeLimits",
    "EdgeProtocol",
    "Enrolled",
    "EnrolmentError",
    "EnrolmentRateError",
    "EnrolmentRefusedError",
    "FiledCertificate",
    "HandshakeRefusal",
    "HeldCertificate",
    "Identity",
    "Issued",
    "IssuedCertificate",
    "IssuingCA",
    "Judge",
    "Naming",
    "NonceStore",
    "OfflineRoot",
    "OnRefused",
    "PathPolicy",
    "PathValidator",
    "PeerCertificateProtocol",
    "Pkcs11Settings",
    "PolicyInputs",
    "Principal",
    "Profile",
    "Reason",
    "Refusal",
    "Rejection",
    "RenewalKeeper",
    "RequestSignature",
    "RequestSignatureError",
    "Respond",
    "Revocation",
    "RevocationData",
    "RevocationList",
    "RevocationNews",
    "Signer",
    "SigningKeyError",
    "TerminatorTrust",
    "Terminators",
    "Trust",
    "TrustKeeper",
    "ValidatedPath",
    "Verdict",
    "alarms_of_files",
    "ca_signing_request",
    "carries_our_signature",
    "check_supersedes",
    "client_context",
    "create_ca",
    "edge_protocol",
    "enrol",
    "expiry_alarm",
    "fingerprint_of",
    "holder_of",
    "identity_of",
    "identity_uri",
    "import_upstream_crl",
    "install_certificate",
    "load_certificate",
    "load_crls",
    "read_certificate_file",
    "read_certificates",
    "read_request",
    "read_trust",
    "renew",
    "renewal_due",
    "replace_file",
    "sample_naming",
    "server_context",
    "shown_name",
    "sign_request",
    "signature_missing",
    "signature_of_person",
    "speaks_of_certificates",
    "verify_request",
]
