from registry.changes import Changes
from registry.mirror import RegistryMirror
from registry.patterns import PathPattern, compile_pattern
from registry.records import (
    ROLES,
    SAFE_METHODS,
    Certificate,
    CertificateUse,
    Change,
    Grant,
    Member,
    Operation,
    Role,
    Rows,
    Service,
    Subsystem,
)
from registry.registry import Registry
from registry.seed import Seed, SeedReport, read_seed
from registry.snapshot import Decision, Snapshot
from registry.validity import begins, ends

__all__ = [
    "ROLES",
    "SAFE_METHODS",
    "Certificate",
    "CertificateUse",
    "Change",
    "Changes",
    "Decision",
    "Grant",
    "Member",
    "Operation",
    "PathPattern",
    "Registry",
    "RegistryMirror",
    "Role",
    "Rows",
    "Seed",
    "SeedReport",
    "Service",
    "Snapshot",
    "Subsystem",
    "begins",
    "compile_pattern",
    "ends",
    "read_seed",
]
