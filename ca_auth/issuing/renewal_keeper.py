"""Keeps a running process supplied with a certificate that is good, and says when it will not be.

Rules:
1. Renewal is due between half and three fifths of the certificate's life, at a point that its fingerprint decides: many
   that were issued together do not come back together, and a restart changes nothing.
2. A failure is an event and is retried, after a minute at first, then longer, up to six hours or a twentieth of life.
3. When two thirds of life have passed and 30, 7 or 1 days are left, that is an event, once each; so is the end.
4. Files that somebody else replaced (`datong ca renew`, another process, an operator) are taken up within a minute.
5. The process goes on with what it has, whatever fails here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ca_auth.edge.client_cert import fingerprint_of
from ca_auth.issuing.ca_errors import EnrolmentError
from ca_auth.issuing.enrolment_client import renew
from ca_auth.issuing.expiry import DAY, expiry_alarm
from ca_auth.issuing.held_certificate import HeldCertificate

_FIRST_RETRY: Final = 60.0
_LONGEST_RETRY: Final = 6 * 3600.0

events = structlog.get_logger("datong.certificate")


def renewal_due(certificate: x509.Certificate) -> float:
    """When the certificate should be renewed, Unix seconds: before two thirds of its life in any case."""
    begin, end = _life(certificate)
    drawn = int(_fingerprint(certificate)[:8], 16) / (1 << 32)
    return begin + (end - begin) * (0.5 + 0.1 * drawn)


class RenewalKeeper:
    """Watches one certificate. `run` is a task of the process that uses it.

    Args:
        name: What events call it, e.g. `gateway` or `server`.
        held: Its files. The process has loaded them, or does when `on_renewed` is called.
        url: Where it is renewed, https. None: it is not renewed here, only watched.
        trust_anchors: PEM bundle for the CA's address and for the certificates it gives.
        on_renewed: Called on the event loop when the files hold another certificate than the process has loaded. It loads
            them; open connections go on. If it raises, it is called again at the next look.
        clock: Unix seconds.
        look_every: Seconds from one look at the files to the next.
    """

    def __init__(
        self,
        name: str,
        held: HeldCertificate,
        *,
        url: str | None,
        trust_anchors: Path,
        on_renewed: Callable[[], Awaitable[None] | None],
        clock: Callable[[], float] = time.time,
        look_every: float = 60.0,
    ) -> None:
        self._name = name
        self._held = held
        self._url = url
        self._trust_anchors = trust_anchors
        self._on_renewed = on_renewed
        self._clock = clock
        self._look_every = look_every
        self._loaded: str | None = None
        self._said: int | None = None
        self._failures = 0
        self._not_before = 0.0

    async def run(self) -> None:
        """Look, renew, warn, until cancelled."""
        while True:
            try:
                await self._look()
            except (OSError, ValueError) as error:
                events.error("certificate.unreadable", name=self._name, error=str(error))
            await asyncio.sleep(self._look_every)

    async def _look(self) -> None:
        await asyncio.to_thread(self._held.recover)
        certificate = await asyncio.to_thread(self._held.read)
        await self._take_up(certificate)
        self._warn(certificate)
        now = self._clock()
        if self._url is None or now < max(renewal_due(certificate), self._not_before):
            return
        try:
            renewed = await asyncio.to_thread(
                renew, self._url, self._held, self._trust_anchors, replacing=_fingerprint(certificate)
            )
        except (EnrolmentError, OSError, ValueError) as error:
            self._retry_later(certificate, error)
            return
        self._failures = 0
        events.info("certificate.renewed", name=self._name, not_after=renewed.not_valid_after_utc.isoformat())
        await self._take_up(renewed)

    async def _take_up(self, certificate: x509.Certificate) -> None:
        fingerprint = _fingerprint(certificate)
        if self._loaded is None:
            self._loaded = fingerprint  # the process has just loaded it itself
        if fingerprint == self._loaded:
            return
        try:
            done = self._on_renewed()
            if done is not None:
                await done
        except Exception as error:  # noqa: BLE001  # whatever it is, the process goes on with the old one and is told again
            events.error("certificate.not_loaded", name=self._name, error=repr(error), exc_info=error)
            return
        self._loaded, self._said, self._failures, self._not_before = fingerprint, None, 0, 0.0
        events.info("certificate.loaded", name=self._name, fingerprint=fingerprint)

    def _warn(self, certificate: x509.Certificate) -> None:
        begin, end = _life(certificate)
        alarm = expiry_alarm(begin, end, self._clock())
        if alarm is None or alarm == self._said:
            return
        self._said = alarm
        say = {30: events.warning, 7: events.error}.get(alarm, events.critical)
        left = max(0.0, round((end - self._clock()) / DAY, 1))
        not_after = certificate.not_valid_after_utc.isoformat()
        say("certificate.expiring" if alarm else "certificate.expired", name=self._name, days=left, not_after=not_after)

    def _retry_later(self, certificate: x509.Certificate, error: Exception) -> None:
        begin, end = _life(certificate)
        longest = max(min(_LONGEST_RETRY, (end - begin) / 20), 1.0)
        wait = min(_FIRST_RETRY * 2.0**self._failures, longest) * random.uniform(0.75, 1.0)
        self._failures = min(self._failures + 1, 20)
        self._not_before = self._clock() + wait
        rule = error.rule if isinstance(error, EnrolmentError) else "files"
        events.error(
            "certificate.renewal_failed", name=self._name, rule=rule, error=str(error), retry_in=round(wait, 1)
        )


def _fingerprint(certificate: x509.Certificate) -> str:
    return fingerprint_of(certificate.public_bytes(serialization.Encoding.DER))


def _life(certificate: x509.Certificate) -> tuple[float, float]:
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
