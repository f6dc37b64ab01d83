"""The issuing CA that a gateway serves, joined to the registry: who renews stays known to the mesh, who is revoked does not.

Rules:
1. What is enrolled with a code for an adapter is registered as that before it is handed out; so it is let on the bus, and its
   seals count. What is renewed is registered beside what it renews, before it is handed out: its first seal finds it known.
2. What the CA has revoked is taken out of the registry within seconds, and so off the bus; nothing puts it back.
3. The registry's own word stands: what it has revoked gets no successor.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from ca_auth import CertificateRow, CrlKeeper, Issued, IssuingCA
from exchange import ConflictError, MeshError, subsystem_id
from gateway.enrolment import enrolment_router
from registry import Registry, RegistryMirror

REGISTRAR: Final = "the CA at this gateway"
"""Who the registry's history names."""
LOOK_SECONDS: Final = 1.0

events = structlog.get_logger("datong.ca")


@asynccontextmanager
async def opened_ca(folder: Path, registry: Registry) -> AsyncIterator[IssuingCA]:
    """The CA in `folder`; while the block runs its CRL is kept fresh, and the registry follows its revocations.

    Raises:
        CaOperationError: It cannot be opened.
    """
    ca = await asyncio.to_thread(IssuingCA.open, folder)
    tasks = [asyncio.create_task(work) for work in (CrlKeeper(ca).run(), Follower(registry).follow_revocations(ca))]
    try:
        yield ca
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        ca.close()


def certificates_router(ca: IssuingCA, registry: Registry, mirror: RegistryMirror | None = None) -> APIRouter:
    """`/v1/certificates` for this CA.

    Args:
        mirror: Of this gateway: who has enrolled and asks next finds itself registered.
    """
    follower = Follower(registry, mirror)
    return enrolment_router(ca, on_enrolled=follower.enrolled, on_renewed=follower.renewed)


class Follower:
    """Tells the registry what the CA did."""

    def __init__(self, registry: Registry, mirror: RegistryMirror | None = None) -> None:
        self._registry = registry
        self._mirror = mirror

    async def enrolled(self, issued: Issued) -> None:
        """Register `issued` if its code was given out for an adapter; done twice is done once.

        Raises:
            NotRegisteredError: The registry does not know the subsystem yet. The code stays good for the same key.
        """
        wanted = issued.row.request
        if wanted.use != "adapter" or wanted.identity is None:
            return
        try:
            change = await self._registry.register_certificate(
                subsystem_id(wanted.identity), issued.row.der, use="adapter", by=REGISTRAR, why=_why(issued.row)
            )
            if change is not None and self._mirror is not None:
                await self._mirror.reach(change.version)
        except ConflictError:
            # Revoked in the registry since an answer that got lost: to ask again does not undo that.
            events.warning("ca.enrolment.not_registered", certificate=issued.row.fingerprint)

    async def renewed(self, old: str, issued: Issued) -> None:
        """Register `issued` for what the certificate with the fingerprint `old` is registered for; done twice is done once.

        The old one stays registered: it is good until its end. One that the registry has revoked gets no successor.
        """
        known = (await self._registry.snapshot()).certificate(old)
        if known is None or not known.active:
            return
        try:
            await self._registry.register_certificate(
                known.subsystem, issued.row.der, use=known.use, by=REGISTRAR, why=f"renewal of {old}"
            )
        except ConflictError:
            # Revoked in the registry since an answer that got lost: to ask again does not undo that.
            events.warning("ca.renewal.not_registered", certificate=issued.row.fingerprint, renews=old)

    async def follow_revocations(self, ca: IssuingCA, look_seconds: float = LOOK_SECONDS) -> None:
        """Take out of the registry what the CA revokes, until cancelled: whenever there is a new CRL, and at the start."""
        seen: object = None
        while True:
            stamp = await asyncio.to_thread(_stamp, ca.folder.crl)
            if stamp != seen:
                try:
                    await self.revoked(ca)
                    seen = stamp
                except (MeshError, OSError, sqlite3.Error, SQLAlchemyError) as error:
                    events.error("ca.revocation.not_registered", error=repr(error))  # and at the next look again
            await asyncio.sleep(look_seconds)

    async def revoked(self, ca: IssuingCA) -> None:
        """Take out of the registry what the CA has revoked by now."""
        active = [each.fingerprint for each in (await self._registry.snapshot()).certificates() if each.active]
        rows = await asyncio.to_thread(_known, ca, active)
        for row in rows:
            if row.state(ca.now()) == "revoked":
                why = f"revoked by its CA: {row.reason}"
                await self._registry.revoke_certificate(row.fingerprint, by=REGISTRAR, why=why)
                events.warning("ca.revocation.registered", holder=row.holder, certificate=row.fingerprint)


def _why(row: CertificateRow) -> str:
    return f"enrolment by code of {row.by}" + (f": {row.why}" if row.why else "")


def _known(ca: IssuingCA, fingerprints: list[str]) -> list[CertificateRow]:
    rows = map(ca.store.certificate_by_fingerprint, fingerprints)
    return [row for row in rows if row is not None]


def _stamp(file: Path) -> object:
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return 0
    return status.st_ino, status.st_mtime_ns, status.st_size
