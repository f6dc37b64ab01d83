"""The CA at a gateway and its registry: what is renewed is registered beside what it renews, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ca_auth import CertificateRequest, Issued, IssuingCA, fingerprint_of
from exchange import NotRegisteredError, member_of, subsystem_id
from gateway.issuing import REGISTRAR, Follower, opened_ca
from registry import Member, Registry, RegistryMirror, Snapshot, Subsystem
from tests.ca_auth.issuing_world import Clock, csr_for, make_ca, new_key
from tests.waiting import until

TAX = subsystem_id("CN/GOV/11990000000001011Q/tax")
WHO: dict[str, Any] = {"by": "test", "why": "test"}


@pytest.fixture
def ca(tmp_path: Path) -> IssuingCA:
    return make_ca(tmp_path / "ca", Clock(datetime.now(UTC).timestamp()))


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    opened = await Registry.open(f"sqlite:///{tmp_path / 'registry.db'}")
    await opened.add_member(Member(id=member_of(TAX), name="税务局"), **WHO)
    await opened.add_subsystem(Subsystem(id=TAX, name="tax"), **WHO)
    yield opened
    await opened.close()


def issue(ca: IssuingCA) -> Issued:
    return ca.issue(CertificateRequest.for_subsystem(TAX), new_key().public_key(), by="test")


def renew(ca: IssuingCA, old: Issued) -> Issued:
    return ca.renew(old.row.der, csr_for(new_key()))


def registered(snapshot: Snapshot) -> dict[str, tuple[str, bool]]:
    return {each.fingerprint: (each.use, each.active) for each in snapshot.certificates()}


@pytest.mark.parametrize("use", ["adapter", "gateway"])
async def test_a_renewed_certificate_is_registered_for_what_the_old_one_is(
    ca: IssuingCA, registry: Registry, use: Any
) -> None:
    """The old one stays, and telling it twice changes nothing more."""
    old = issue(ca)
    await registry.register_certificate(TAX, old.row.der, use=use, **WHO)
    new = renew(ca, old)
    await Follower(registry).renewed(fingerprint_of(old.row.der), new)
    version = await registry.version()
    await Follower(registry).renewed(fingerprint_of(old.row.der), new)
    assert await registry.version() == version
    assert registered(await registry.snapshot()) == {
        old.row.fingerprint: (use, True),
        new.row.fingerprint: (use, True),
    }


async def test_nothing_is_registered_for_who_was_not(ca: IssuingCA, registry: Registry) -> None:
    old = issue(ca)
    await Follower(registry).renewed(old.row.fingerprint, renew(ca, old))
    assert registered(await registry.snapshot()) == {}


async def test_what_the_registry_revoked_gets_no_successor_and_does_not_come_back(
    ca: IssuingCA, registry: Registry
) -> None:
    old = issue(ca)
    await registry.register_certificate(TAX, old.row.der, **WHO)
    new = renew(ca, old)
    await Follower(registry).renewed(old.row.fingerprint, new)
    await registry.revoke_certificate(new.row.fingerprint, **WHO)
    await Follower(registry).renewed(old.row.fingerprint, new)  # an answer that got lost is asked for again
    assert registered(await registry.snapshot())[new.row.fingerprint] == ("adapter", False)
    await registry.revoke_certificate(old.row.fingerprint, **WHO)
    other = renew(ca, old)
    await Follower(registry).renewed(old.row.fingerprint, other)
    assert other.row.fingerprint not in registered(await registry.snapshot())


def enrol(ca: IssuingCA, request: CertificateRequest) -> Issued:
    code, _ = ca.new_code(request, by="张三", why="接入申请〔2026〕3号")
    return ca.enrol(code, csr_for(new_key()))


async def test_a_code_for_an_adapter_registers_its_certificate_and_another_does_not(
    ca: IssuingCA, registry: Registry
) -> None:
    """So a department is on the bus without anybody carrying its certificate around; who let it in is on record."""
    adapters = replace(CertificateRequest.for_subsystem(TAX), use="adapter")
    issued, caller = enrol(ca, adapters), enrol(ca, CertificateRequest.for_subsystem(TAX))
    for each in (issued, caller, issued):  # an answer that got lost is asked for again
        await Follower(registry).enrolled(each)
    assert registered(await registry.snapshot()) == {issued.row.fingerprint: ("adapter", True)}
    changes = await registry.changes(target=issued.row.fingerprint)
    assert [(each.by, each.why) for each in changes] == [(REGISTRAR, "enrolment by code of 张三: 接入申请〔2026〕3号")]
    # And its renewal is, too: what the code was given out for goes with the certificate.
    renewed = renew(ca, issued)
    assert renewed.row.request.use == "adapter"
    await registry.revoke_certificate(issued.row.fingerprint, **WHO)
    await Follower(registry).enrolled(issued)
    assert registered(await registry.snapshot()) == {issued.row.fingerprint: ("adapter", False)}


async def test_a_code_for_a_subsystem_that_is_not_registered_is_refused_until_it_is(
    ca: IssuingCA, registry: Registry
) -> None:
    stranger = subsystem_id(f"{member_of(TAX)}/customs")
    issued = enrol(ca, replace(CertificateRequest.for_subsystem(stranger), use="adapter"))
    with pytest.raises(NotRegisteredError, match="customs"):
        await Follower(registry).enrolled(issued)
    await registry.add_subsystem(Subsystem(id=stranger, name="customs"), **WHO)
    await Follower(registry).enrolled(issued)
    assert registered(await registry.snapshot()) == {issued.row.fingerprint: ("adapter", True)}


async def test_who_has_enrolled_finds_itself_registered_at_this_gateway(ca: IssuingCA, registry: Registry) -> None:
    mirror = RegistryMirror(registry, poll_seconds=3600)
    await mirror.start()
    try:
        issued = enrol(ca, replace(CertificateRequest.for_subsystem(TAX), use="adapter"))
        await Follower(registry, mirror).enrolled(issued)
        assert mirror.snapshot.adapter_certificate(issued.row.fingerprint) == (TAX, issued.row.der)
    finally:
        await mirror.stop()


async def test_what_the_ca_revokes_leaves_the_registry(tmp_path: Path, registry: Registry) -> None:
    """Told by another process, as `datong ca revoke` is one: here a second opening of the same folder."""
    path = tmp_path / "ca"
    make_ca(path, Clock(datetime.now(UTC).timestamp())).close()
    async with opened_ca(path, registry) as ca:
        await until(ca.folder.crl.exists)  # it is kept from the start
        stays, goes = issue(ca), issue(ca)
        for each in (stays, goes):
            await registry.register_certificate(TAX, each.row.der, **WHO)
        elsewhere = IssuingCA.open(path)
        elsewhere.revocations.revoke([goes.row], "keyCompromise", by="test")
        elsewhere.close()
        expected = {stays.row.fingerprint: ("adapter", True), goes.row.fingerprint: ("adapter", False)}
        async with asyncio.timeout(20):
            while registered(await registry.snapshot()) != expected:
                await asyncio.sleep(0.05)
