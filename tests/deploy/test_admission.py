"""Who may be on the bus: exactly those the registry says, also while a mesh runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from ca_auth import CertificateRequest, identity_uri
from deploy.admission import bus_users, follow
from deploy.demo.identities import CIVIL_SUBSYSTEM, OPERATOR_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import BusUsers, NatsServer, key_pin
from exchange import ServiceId, member_of
from registry import Registry, RegistryMirror
from tests.conftest import Pki
from tests.conftest import bus_users as demo_users
from tests.waiting import until

SEED = Path(__file__).parents[2] / "deploy/demo/seed.toml"


@pytest.fixture
async def registry(tmp_path: Path, pki: Pki) -> AsyncIterator[Registry]:
    """The registry of the demo mesh, with its three certificates that may be on the bus."""
    opened = await Registry.open(f"sqlite:///{tmp_path / 'registry.db'}")
    await opened.seed(SEED)
    for subsystem, name in ((TAX_SUBSYSTEM, "tax"), (CIVIL_SUBSYSTEM, "civil")):
        await opened.register_certificate(subsystem, pki.issued[name].der, by="test", why="test")
    await opened.register_certificate(
        OPERATOR_SUBSYSTEM, pki.issued["gateway"].der, use="gateway", by="test", why="test"
    )
    yield opened
    await opened.close()


def with_keys(pki: Pki, *names: str) -> BusUsers:
    """The demo's users, with the keys of these parties."""
    pins = {key_pin(x509.load_der_x509_certificate(pki.issued[name].der)) for name in names}
    return replace(demo_users(), keys=frozenset(pins))


async def test_the_demo_registry_gives_the_demo_users(registry: Registry, pki: Pki) -> None:
    assert bus_users(await registry.snapshot()) == with_keys(pki, "tax", "civil", "gateway")


async def test_a_callers_certificate_is_not_let_on_the_bus(registry: Registry, pki: Pki) -> None:
    housing = pki.issued["housing"]
    subsystem = next(each.id for each in (await registry.snapshot()).subsystems() if each.id.endswith("/housing"))
    await registry.register_certificate(subsystem, housing.der, use="client", by="test", why="test")
    assert bus_users(await registry.snapshot()) == with_keys(pki, "tax", "civil", "gateway")


@pytest.mark.parametrize("how", ["revoked", "suspended"])
async def test_who_is_revoked_or_suspended_is_out(registry: Registry, pki: Pki, how: str) -> None:
    if how == "revoked":
        await registry.revoke_certificate(pki.issued["tax"].fingerprint, by="test", why="test")
    else:
        await registry.set_subsystem_state(TAX_SUBSYSTEM, active=False, by="test", why="test")
    users = bus_users(await registry.snapshot())
    assert [each.subsystem for each in users.adapters] == [CIVIL_SUBSYSTEM]
    assert users.keys == with_keys(pki, "civil", "gateway").keys


async def test_a_certificate_of_a_member_serves_the_subsystem_it_is_registered_for(
    registry: Registry, pki: Pki
) -> None:
    member = member_of(TAX_SUBSYSTEM)
    issued = pki.ca.issue("tax-member", CertificateRequest.for_member(member))
    await registry.register_certificate(TAX_SUBSYSTEM, issued.der, by="test", why="test")
    added = next(
        each for each in bus_users(await registry.snapshot()).adapters if each.identity == identity_uri(member)
    )
    assert added.subsystem == TAX_SUBSYSTEM
    assert added.services == {ServiceId(f"{TAX_SUBSYSTEM}/enterprises")}


async def test_the_running_bus_follows_the_registry(
    registry: Registry, pki: Pki, nats_server: NatsServer, data_dir: Path
) -> None:
    """A change in the registry is in force on the bus within a second, and nothing was said about trouble."""
    mirror = RegistryMirror(registry, poll_seconds=0.05)
    await mirror.start()
    said: list[str] = []
    following = asyncio.create_task(follow(nats_server, mirror, said.append))
    log = data_dir / "run" / "nats-server.log"
    try:
        await registry.revoke_certificate(pki.issued["tax"].fingerprint, by="test", why="test")
        started = datetime.now(UTC)
        await until(lambda: "Reloaded server configuration" in log.read_text())
        assert (datetime.now(UTC) - started).total_seconds() < 1
        assert identity_uri(TAX_SUBSYSTEM) not in (data_dir / "nats" / "nats.conf").read_text()
        assert not said
    finally:
        following.cancel()
        await asyncio.wait([following])
        await mirror.stop()


@pytest.mark.faults
async def test_a_change_while_the_bus_is_down_is_in_force_when_it_is_back(
    registry: Registry, pki: Pki, nats_server: NatsServer, data_dir: Path
) -> None:
    mirror = RegistryMirror(registry, poll_seconds=0.05)
    await mirror.start()
    said: list[str] = []
    following = asyncio.create_task(follow(nats_server, mirror, said.append))
    try:
        await nats_server.stop()
        await registry.revoke_certificate(pki.issued["tax"].fingerprint, by="test", why="test")
        await until(lambda: said)
        assert len(said) == 1
        await nats_server.start(demo_users())
        await until(lambda: identity_uri(TAX_SUBSYSTEM) not in (data_dir / "nats" / "nats.conf").read_text())
        assert len(said) == 1
    finally:
        following.cancel()
        await asyncio.wait([following])
        await mirror.stop()
