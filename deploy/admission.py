"""Who may be on the bus, as the registry says it, for as long as a mesh runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cryptography import x509

from ca_auth import identity_of, identity_uri
from deploy.nats import AdapterUser, BusServerError, BusUsers, NatsServer, key_pin
from registry import RegistryMirror, Snapshot

_RETRY_SECONDS = 0.25


def bus_users(snapshot: Snapshot) -> BusUsers:
    """Who may connect to the bus: holders of registered adapter and gateway certificates, with their keys, unless suspended."""
    gateways: set[str] = set()
    keys: set[str] = set()
    adapters: dict[tuple[str, str], AdapterUser] = {}
    for certificate in snapshot.certificates():
        subsystem = snapshot.subsystem(certificate.subsystem)
        if not certificate.active or subsystem is None or not subsystem.active:
            continue
        if certificate.use not in ("adapter", "gateway"):
            continue
        parsed = x509.load_der_x509_certificate(certificate.der)
        keys.add(key_pin(parsed))
        named = identity_of(parsed)
        uri = identity_uri(named.subsystem or named.member)
        if certificate.use == "gateway":
            gateways.add(uri)
        else:
            adapters[uri, subsystem.id] = AdapterUser(
                identity=uri,
                subsystem=subsystem.id,
                services=frozenset(service.id for service in snapshot.services_of(subsystem.id)),
            )
    return BusUsers(
        gateways=frozenset(gateways), adapters=tuple(adapters[key] for key in sorted(adapters)), keys=frozenset(keys)
    )


async def follow(nats: NatsServer, mirror: RegistryMirror, say: Callable[[str], None]) -> None:
    """Keep the users of the bus what the registry says; runs until it is cancelled.

    Args:
        mirror: Running; the snapshot that the bus was started with is the one it has now.
        say: Told when the bus cannot follow, once until it can again.
    """
    applied, failing = mirror.snapshot.version, False
    while True:
        snapshot = await mirror.wait_until(_newer_than(applied))
        try:
            await nats.set_users(bus_users(snapshot))
        except (BusServerError, OSError, ValueError) as error:
            if not failing:
                say(str(error))
            failing = True
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            applied, failing = snapshot.version, False


def _newer_than(version: int) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.version != version
