"""Gateways whose seals count: read anew when their files change, the old one beside the new one while it is renewed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ca_auth import CertificateRequest, DemoCA, IssuedCertificate
from department_adapters.gateway_keys import OVERLAP, GatewayKeys
from exchange import IdentityError, subsystem_id
from tests.waiting import until

HERE, THERE = (subsystem_id(f"CN/GOV/11990000000000000X/{name}") for name in ("here", "there"))


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class World:
    """A CA, and a file that lists gateways."""

    def __init__(self, folder: Path) -> None:
        self._ca = DemoCA.create(folder / "ca")
        self._count = 0
        self.file = folder / "gateways.pem"
        self.root = self._ca.trust_anchors

    def issue(self, which: str = HERE) -> IssuedCertificate:
        self._count += 1
        return self._ca.issue(f"g{self._count}", CertificateRequest.for_subsystem(subsystem_id(which)))

    def list(self, *gateways: IssuedCertificate, more: bytes = b"") -> None:
        self.file.write_bytes(b"".join(each.certificate.read_bytes() for each in gateways) + more)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@asynccontextmanager
async def following(keys: GatewayKeys) -> AsyncIterator[None]:
    task = asyncio.create_task(keys.follow(0.01))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_renewed_gateway_counts_at_once_and_its_old_certificate_for_ten_minutes(world: World) -> None:
    old, new = world.issue(), world.issue()
    world.list(old, more=world.root)  # as a certificate's file is: what leads to the root after it
    clock = Clock(old.x509().not_valid_before_utc.timestamp() + 1000)
    keys = GatewayKeys(world.file, clock)
    assert set(keys) == {old.fingerprint}
    async with following(keys):
        world.list(new, more=world.root)
        await until(lambda: new.fingerprint in keys)
        assert keys[old.fingerprint] == old.x509().public_key()
        assert keys[new.fingerprint] == new.x509().public_key()
        clock.now += OVERLAP + 1
        assert old.fingerprint not in keys
        assert new.fingerprint in keys


async def test_a_gateway_that_is_listed_no_more_counts_no_more(world: World) -> None:
    stays, goes = world.issue(HERE), world.issue(THERE)
    world.list(stays, goes)
    keys = GatewayKeys(world.file)
    async with following(keys):
        world.list(stays)
        await until(lambda: goes.fingerprint not in keys)
    assert stays.fingerprint in keys


async def test_a_certificate_counts_until_its_end(world: World) -> None:
    gateway = world.issue()
    world.list(gateway)
    clock = Clock(gateway.x509().not_valid_after_utc.timestamp())
    keys = GatewayKeys(world.file, clock)
    assert gateway.fingerprint in keys
    clock.now += 1
    assert keys.get(gateway.fingerprint) is None


@pytest.mark.parametrize("content", [b"", b"nonsense", None], ids=["empty", "nonsense", "gone"])
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_told(world: World, content: bytes | None) -> None:
    gateway, next_one = world.issue(), world.issue()
    world.list(gateway)
    keys = GatewayKeys(world.file)
    with capture_logs() as events:
        async with following(keys):
            if content is None:
                world.file.unlink()
            else:
                world.file.write_bytes(content)
            await until(lambda: [each for each in events if each["event"] == "adapter.gateways_unreadable"])
            assert gateway.fingerprint in keys
            world.list(next_one)
            await until(lambda: next_one.fingerprint in keys)


async def test_a_folder_of_files_counts_and_one_that_is_added_too(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "gateways"
    folder.mkdir()
    first, second = world.issue(HERE), world.issue(THERE)
    (folder / "here.crt").write_bytes(first.certificate.read_bytes())
    (folder / "notes.txt").write_text("no certificate")
    keys = GatewayKeys(folder)
    assert list(keys) == [first.fingerprint]
    async with following(keys):
        (folder / "there.pem").write_bytes(second.certificate.read_bytes())
        await until(lambda: second.fingerprint in keys)
    assert len(keys) == 2


def test_nobody_to_trust_is_an_error_at_the_start(world: World, tmp_path: Path) -> None:
    world.file.write_bytes(world.root)  # a CA's key never sealed a question
    for place in (world.file, tmp_path / "missing.pem"):
        with pytest.raises(IdentityError):
            GatewayKeys(place)
