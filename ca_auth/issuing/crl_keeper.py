"""Keeps a CA's CRL fresh, and says in time when what stands above the CA runs out."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable

import structlog

from ca_auth.issuing.ca_certificates import load_crls
from ca_auth.issuing.expiry import ALARM_DAYS, DAY
from ca_auth.issuing.issuing_ca import IssuingCA
from exchange import MeshError

events = structlog.get_logger("datong.ca")


class CrlKeeper:
    """Makes a new CRL when half the time of the last has passed, or a revocation is not on it. `run` is a task.

    An event tells, 30, 7 and 1 days before, of the end of the issuing certificate and of the CRLs of the CAs above: those
    are renewed by people.
    """

    def __init__(self, ca: IssuingCA, *, clock: Callable[[], float] = time.time, look_every: float = 60.0) -> None:
        self._ca = ca
        self._clock = clock
        self._look_every = look_every
        self._said: dict[str, int] = {}

    async def run(self) -> None:
        """Look until cancelled; a failure is an event, and the next look tries again."""
        while True:
            try:
                await asyncio.to_thread(self._look)
            except (MeshError, OSError, ValueError, sqlite3.Error) as error:
                cause = repr(error.__cause__) if error.__cause__ else None
                events.error("ca.crl.not_made", error=str(error), cause=cause)
            await asyncio.sleep(self._look_every)

    def _look(self) -> None:
        self._ca.revocations.current()
        certificate = self._ca.certificate
        self._warn("issuing certificate", certificate.not_valid_after_utc.timestamp())
        for revoked in load_crls(self._ca.revocations.upstream()):
            if revoked.next_update_utc is not None:
                self._warn(f"CRL of {revoked.issuer.rfc4514_string()}", revoked.next_update_utc.timestamp())

    def _warn(self, what: str, end: float) -> None:
        left = (end - self._clock()) / DAY
        alarm = min((days for days in ALARM_DAYS if left <= days), default=None)
        if alarm is None or self._said.get(what) == alarm:
            return
        self._said[what] = alarm
        events.error("ca.expiring", what=what, days=round(left, 1))
