"""What an actor may register and change of members, subsystems, services and certificates: each right, and then the change.

Rules:
1. An operator registers members, subsystems and certificates. Services are registered by who describes them.
2. To close a service, or to open it again, is its owner's decision.
3. A subsystem's owner may take back a certificate that speaks for it, at once: keys get lost when operators sleep.
4. Whether an actor may is judged before anything about what exists is told.
"""

from __future__ import annotations

from exchange import NotFoundError, ServiceId, SubsystemId, owner_of
from registry import tables
from registry.actors import Actor
from registry.certificates import read_certificate
from registry.changes import Changes
from registry.records import CertificateUse, Change, Member, Service, Subsystem
from registry.rules import check_service_id


async def register_member(change: Changes, actor: Actor, member: Member, *, replace: bool = False) -> Change | None:
    """As `Changes.add_member`; raises RoleMissingError for who is no operator."""
    actor.require("operator")
    return await change.add_member(member, replace=replace)


async def register_subsystem(
    change: Changes, actor: Actor, subsystem: Subsystem, *, replace: bool = False
) -> Change | None:
    """As `Changes.add_subsystem`; raises RoleMissingError for who is no operator."""
    actor.require("operator")
    return await change.add_subsystem(subsystem, replace=replace)


async def set_subsystem_state(change: Changes, actor: Actor, subsystem: SubsystemId, *, active: bool) -> Change | None:
    """Suspend a subsystem, or let it act again; raises RoleMissingError for who is no operator."""
    actor.require("operator")
    return await change.set_subsystem_state(subsystem, active=active)


async def register_service(change: Changes, actor: Actor, service: Service, *, replace: bool = False) -> Change | None:
    """As `Changes.add_service`; raises RoleMissingError for who may not describe what its subsystem offers."""
    check_service_id(service.id)
    actor.require_describer_of(service.owner)
    return await change.add_service(service, replace=replace)


async def set_service_state(
    change: Changes, actor: Actor, service: ServiceId, *, is_open: bool, notice: str = ""
) -> Change | None:
    """Close a service with a notice for its callers, or open it again; raises RoleMissingError for who is not its owner."""
    check_service_id(service)
    actor.require_owner_of(owner_of(service))
    return await change.set_service_state(service, is_open=is_open, notice=notice)


async def register_certificate(
    change: Changes, actor: Actor, subsystem: SubsystemId, certificate: bytes, *, use: CertificateUse
) -> tuple[Change | None, str]:
    """As `Changes.register_certificate`, with the fingerprint; raises RoleMissingError for who is no operator."""
    actor.require("operator")
    record = read_certificate(certificate, subsystem, use=use, now=change.now)
    return await change.register_certificate(subsystem, certificate, use=use), record.fingerprint


async def revoke_certificate(change: Changes, actor: Actor, fingerprint: str) -> Change | None:
    """A certificate no longer speaks for its subsystem; this does not come back.

    Raises:
        NotFoundError: There is none, or none that the actor may know of.
        RoleMissingError: It is the actor's own subsystem's, and the actor is not its owner.
    """
    found = await change.find(tables.certificates, fingerprint=fingerprint)
    ours = found is not None and found["subsystem"] == actor.subsystem
    if not (ours or actor.holds("operator", "auditor")):
        raise NotFoundError(what=f"certificate {fingerprint[:64]}", what_zh=f"证书 {fingerprint[:64]}")
    if found is not None:
        actor.require_owner_of(found["subsystem"])
    return await change.revoke_certificate(fingerprint)
