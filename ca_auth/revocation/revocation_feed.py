"""What is known about revoked certificates, live: CRLs from files and addresses, OCSP answers. `docs/revocation.md`.

Rules:
1. `data` is ready made and swapped whole; `on_change` is called after that, once for many changes.
2. Whatever a source does, the feed goes on: a source that is down or lies is an alarm and changes nothing.
3. Nothing known: with `required`, empty data, so that every certificate is refused; else None, so that none is checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca_auth.profiles.trust import Anchor, Trust
from ca_auth.revocation.crl_feed import CrlFeed, has_lists
from ca_auth.revocation.crl_url import Pace
from ca_auth.revocation.ocsp_book import OcspBook, Question
from ca_auth.revocation.ocsp_client import address_in
from ca_auth.revocation.public_addresses import IPAddress, is_public
from ca_auth.revocation.revocation_alarms import SEVERE, Alarm, carry_on
from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.revocation import RevocationData

__all__ = ["Alarm", "RevocationFeed"]

_MOST_REMEMBERED: Final = 10_000
_ELSEWHERE_SECONDS: Final = 30.0

events = structlog.get_logger("datong.revocation")


class RevocationFeed:
    """Follows the sources of the trust file. Belongs to one event loop.

    Args:
        trust: What the trust file says.
        folder: What survives restarts: fetched lists, the newest list of each CA and scope, CAs that were learned.
        on_change: Called on the event loop after the data of an anchor changed.
        clock: Unix seconds.
        look_seconds: From one look at the files to the next.
        pace: How often addresses are asked.
        allowed: To which addresses an OCSP address in a certificate may lead.
    """

    def __init__(
        self,
        trust: Trust,
        folder: Path,
        *,
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.time,
        look_seconds: float = 1.0,
        pace: Pace | None = None,
        allowed: Callable[[IPAddress], bool] = is_public,
    ) -> None:
        self._trust = trust
        self._followed: Trust | None = None
        self._on_change = on_change
        self._clock = clock
        self._look_seconds = look_seconds
        self._wake = asyncio.Event()
        self._crls = CrlFeed(folder, wake=self._wake.set, clock=clock, pace=pace if pace is not None else Pace())
        self._book = OcspBook(on_answer=self._assemble, clock=clock, allowed=allowed)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._data: dict[str, RevocationData | None] = {}
        self._unchecked: set[str] = set()
        self._alarms: tuple[Alarm, ...] = ()
        self._elsewhere: dict[str, float] = {}
        """Fingerprints of certificates that no responder can be asked about, and how long (monotonic) that is believed:
        a CA that is learned may show the way to one."""
        self._announced = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load what is there and begin to follow. Does not wait for any address."""
        await self._crls.load()
        await self._look()
        self._task = asyncio.create_task(self._run())
        await asyncio.sleep(0)  # `on_change` has been called when this returns

    async def stop(self) -> None:
        """End all that is under way. What is known stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._crls.stop()
        await self._book.stop()

    def set_trust(self, trust: Trust) -> None:
        """Follow the sources of another trust file from now on."""
        self._trust = trust
        self._elsewhere.clear()
        self._wake.set()

    def learn(self, cas: Sequence[x509.Certificate]) -> None:
        """Remember CA certificates of paths that held, so that the lists of these CAs can be verified and held."""
        self._crls.learn(cas)

    def data(self, anchor: Anchor) -> RevocationData | None:
        """The news for certificates below an anchor; None: their revocation is not checked (rule 3)."""
        revocation = anchor.revocation
        if not _is_configured(anchor):
            return None
        found = self._data.get(anchor.name)
        if found is None and revocation.required:
            return RevocationData(grace=revocation.grace)  # not looked at yet, or no anchor of ours: nobody is let in
        return found

    def needs_preparing(self, fingerprint: str) -> bool:
        """Whether `prepare` could find out something about a certificate (lower-case hex SHA-256)."""
        names = [anchor.name for anchor in self._trust.anchors if anchor.revocation.ocsp != "off"]
        if not names or self._elsewhere.get(fingerprint, 0.0) > time.monotonic():
            return False
        return not any(self._book.is_settled(name, fingerprint) for name in names)

    async def prepare(
        self, leaf: x509.Certificate, untrusted: Sequence[x509.Certificate], anchor: Anchor | None = None
    ) -> None:
        """Have OCSP answers for a certificate and the CAs above it at hand, if they can be had within 1.5 seconds.

        Nothing is asked about a certificate whose signatures do not lead to an anchor with OCSP.

        Args:
            leaf: The certificate.
            untrusted: What came with it.
            anchor: Below which it is, if that is known.
        """
        anchors = [anchor] if anchor is not None else list(self._trust.anchors)
        anchors = [each for each in anchors if each.revocation.ocsp != "off"]
        if not anchors:
            return
        path, below = self._crls.path_of(leaf, untrusted, anchors)
        questions = self._questions(path, below) if below is not None else []
        if questions and questions[0].certificate is path[0]:
            await self._book.prepare(questions)
            return
        self._elsewhere[_fingerprint(path[0])] = time.monotonic() + _ELSEWHERE_SECONDS
        if len(self._elsewhere) > _MOST_REMEMBERED:
            del self._elsewhere[next(iter(self._elsewhere))]

    def alarms(self) -> tuple[Alarm, ...]:
        """What an operator must know now."""
        return self._alarms

    # Following

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):  # `wait_for` can swallow the cancellation by `stop`
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001  # whatever it is, revocation must go on being followed
                events.error("revocation.look_failed", error=repr(error), exc_info=error)

    async def _look(self) -> None:
        trust = self._trust
        changed = self._followed is not trust
        if changed:
            self._tls = await asyncio.to_thread(_tls, trust)
            self._book.use(self._tls)
            with_ocsp = {anchor.name for anchor in trust.anchors if anchor.revocation.ocsp != "off"}
            self._book.forget(lambda anchor: anchor in with_ocsp)
            await self._crls.follow(trust.anchors)
            self._followed = trust
        if await self._crls.look(self._tls) or changed:
            self._assemble()
        self._book.look()
        self._raise_alarms()

    def _assemble(self) -> None:
        """Put together the data of each anchor from what is known, and tell if that changed anything."""
        assembled: dict[str, RevocationData | None] = {}
        for anchor in self._trust.anchors:
            if _is_configured(anchor):
                assembled[anchor.name] = self._assembled(anchor)
        changed = assembled != self._data  # compared by identity of what is in them
        self._data = assembled
        if changed and not self._announced:
            self._announced = True
            asyncio.get_running_loop().call_soon(self._announce)

    def _announce(self) -> None:
        self._announced = False
        self._on_change()

    def _assembled(self, anchor: Anchor) -> RevocationData | None:
        revocation = anchor.revocation
        lists = self._crls.lists(anchor)
        answers = self._book.answers(anchor.name) if revocation.ocsp != "off" else ()
        before = self._data.get(anchor.name)
        if not lists and not answers and not revocation.required:
            if anchor.name not in self._unchecked:
                self._unchecked.add(anchor.name)
                events.warning("revocation.unchecked", anchor=anchor.name)
            return None
        if anchor.name in self._unchecked:
            self._unchecked.discard(anchor.name)
            events.info("revocation.checked", anchor=anchor.name)
        if before is not None and (before.lists, before.answers, before.grace) == (lists, answers, revocation.grace):
            return before
        return RevocationData(lists=lists, answers=answers, grace=revocation.grace)

    # OCSP

    def _questions(self, path: Sequence[PathCertificate], anchor: Anchor) -> list[Question]:
        data = self._data.get(anchor.name)
        questions = []
        for place, (certificate, issuer) in enumerate(itertools.pairwise(path)):
            if place > 0 and data is not None and data.lists_of(certificate.issuer):
                continue  # a CA that CRLs are there for
            from_certificate = anchor.revocation.ocsp == "aia"
            url = address_in(certificate) if from_certificate else anchor.revocation.ocsp
            if url is not None:
                questions.append(
                    Question(_fingerprint(certificate), certificate, issuer, anchor.name, url, from_certificate)
                )
        if questions:
            questions[0] = replace(questions[0], above=tuple(each.fingerprint for each in questions[1:]))
        return questions

    # Alarms

    def _raise_alarms(self) -> None:
        before = {alarm.key for alarm in self._alarms}
        graces = {each.name: each.revocation.grace for each in self._trust.anchors}
        ocsp = self._book.alarms(lambda anchor: graces.get(anchor, timedelta(0)))
        crl = (alarm for anchor in self._trust.anchors for alarm in self._crls.alarms(anchor))
        self._alarms = carry_on(self._alarms, [*ocsp, *crl])
        for alarm in self._alarms:
            if alarm.key not in before:
                say = events.error if alarm.kind in SEVERE else events.warning
                say(
                    "revocation.alarm",
                    kind=alarm.kind,
                    anchor=alarm.anchor,
                    source=alarm.source,
                    text=alarm.text,
                    text_zh=alarm.text_zh,
                )
        for kind, anchor, source in before - {alarm.key for alarm in self._alarms}:
            events.info("revocation.alarm_over", kind=kind, anchor=anchor, source=source)


def _is_configured(anchor: Anchor) -> bool:
    return has_lists(anchor) or anchor.revocation.ocsp != "off"


def _fingerprint(certificate: PathCertificate) -> str:
    return hashlib.sha256(certificate.encoded).hexdigest()


def _tls(trust: Trust) -> ssl.SSLContext:
    """For addresses with https: CAs of the system, and the anchors. What is fetched is signed in itself."""
    context = ssl.create_default_context()
    for certificate in trust.certificates:
        with contextlib.suppress(ssl.SSLError):  # a kind of key that this OpenSSL does not know
            context.load_verify_locations(cadata=certificate.public_bytes(Encoding.PEM).decode())
    return context
