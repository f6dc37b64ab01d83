from registry.actors import Actor
from registry.changes import Changes
from registry.mirror import RegistryMirror
from registry.patterns import PathPattern, compile_pattern
from registry.records import (
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
from registry.registry import Registry
from registry.seed import Seed, SeedReport, read_seed
from registry.snapshot import Decision, Snapshot
from registry.validity import begins, ends

__all__ = [
    "LEVELS",
    "ROLES",
    "SAFE_METHODS",
    "Access",
    "Actor",
    "Certificate",
    "CertificateUse",
    "Change",
    "Changes",
    "Decision",
    "Grant",
    "Group",
    "Level",
    "Member",
    "Operation",
    "PathPattern",
    "Registry",
    "RegistryMirror",
    "ResourceEntry",
    "Role",
    "RoleGrant",
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
