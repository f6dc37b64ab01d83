"""What of the registry an actor may know. Pure.

Rules:
1. Members, subsystems, groups and listed services are known to every registered subsystem.
2. A service that is not listed is known to its owner and those who describe it, to who holds or held a grant for it, to
   operators and auditors.
3. What is between two, as grants are, is known to the two, to operators and auditors.
"""

from __future__ import annotations

from registry.actors import Actor
from registry.records import Certificate, Service
from registry.snapshot import Snapshot


def sees_service(snapshot: Snapshot, actor: Actor, service: Service) -> bool:
    """Whether the actor may know that there is such a service."""
    if service.listed or actor.subsystem is None or actor.holds("operator", "auditor"):
        return True
    return actor.describes(service.owner) or snapshot.exists_for(actor.subsystem, service.id)


def sees_certificate(actor: Actor, certificate: Certificate) -> bool:
    """Whether the actor may know that a certificate is registered."""
    return actor.holds("operator", "auditor") or actor.subsystem == certificate.subsystem
