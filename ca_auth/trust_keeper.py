"""Keeps a gateway's authenticator at what the trust file, the anchors and the news of revocations say now.

Rules:
1. A file that changes is noticed within two seconds; it is read and tried in a thread, and taken over whole or not at all. A
   faulty one is told, once, and the gateway keeps what it has.
2. Whatever changes, every certificate is examined anew at its next request, on open connections too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from cryptography import x509

from ca_auth.authenticator import Authenticator
from ca_auth.edge.client_cert_header import TerminatorTrust
from ca_auth.judge import Judge
from ca_auth.profiles.organisation_codes import MemberOfCode
from ca_auth.profiles.trust import Trust
from ca_auth.profiles.trust_file import read_trust
from ca_auth.revocation.news import RevocationNews, news_of, sources_in
from ca_auth.revocation.revocation_feed import Alarm, RevocationFeed
from exchange import MeshError

LOOK_SECONDS = 1.0

events = structlog.get_logger("datong.trust")


class TrustKeeper:
    """`start` and `stop` once each; `authenticator` is good from the beginning."""

    def __init__(
        self,
        *,
        bundle: Path,
        trust_file: Path | None,
        folder: Path,
        person_key: bytes | None = None,
        member_of_code: MemberOfCode | None = None,
        on_anchors: Callable[[bytes], None] = lambda pem: None,
        on_cas: Callable[[Sequence[x509.Certificate]], None] = lambda cas: None,
        on_news: Callable[[Sequence[RevocationNews]], None] = lambda news: None,
        clock: Callable[[], float] = time.time,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """
        Args:
            bundle: PEM bundle of anchors, which counts without a trust file.
            folder: Where news of revocations is kept between two lives.
            person_key, member_of_code: See `read_trust`.
            on_anchors: Told of the anchors (PEM) at the start and when they changed, for OpenSSL.
            on_cas: Told of CA certificates that were found between a caller's and an anchor.
            on_news: Told of lists and answers that certificates are judged by from now on, each once.

        Raises:
            OSError, ValueError, UnprocessableError: The bundle or the trust file cannot be used.
        """
        self._main = trust_file if trust_file is not None else bundle
        self._is_bundle = trust_file is None
        self._person_key = person_key
        self._member_of_code = member_of_code
        self._on_anchors = on_anchors
        self._on_cas = on_cas
        self._on_news = on_news
        self._told: dict[int, object] = {}
        """Lists and answers that `on_news` was told of, by identity; those that are gone are let go of."""
        self._look_seconds = look_seconds
        before = _stamp(self._main)
        self._trust = self._read()
        self._terminators = _terminators_of(self._trust)
        # What was written while it was read is seen at the first look.
        self._seen: tuple[object, ...] = (before, *self._state()[1:])
        self._feed = RevocationFeed(
            self._trust, folder, on_change=self._judge_anew, clock=clock, look_seconds=look_seconds
        )
        self.authenticator = Authenticator(
            Judge(self._trust, self._feed.data), clock, on_cas=self._learn, prepare=self._prepare
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def trust(self) -> Trust:
        """What is trusted now."""
        return self._trust

    def terminators(self) -> TerminatorTrust:
        """Who may hand over the certificates of others now."""
        return self._terminators

    def alarms(self) -> tuple[Alarm, ...]:
        """What an operator should know about news of revocations."""
        return self._feed.alarms()

    async def start(self) -> None:
        """Load the news of revocations, and follow them and the files."""
        self._on_anchors(self._trust.pem())
        await self._feed.start()
        self._judge_anew()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._feed.stop()

    def _judge_anew(self) -> None:
        self.authenticator.use(Judge(self._trust, self._feed.data))
        known = {id(each): each for each in sources_in(map(self._feed.data, self._trust.anchors))}
        news = [one for number, each in known.items() if number not in self._told for one in news_of(each)]
        self._told = dict(known)
        if news:
            self._on_news(news)

    def _learn(self, cas: Sequence[x509.Certificate]) -> None:
        self._feed.learn(cas)
        self._on_cas(cas)

    async def _prepare(self, certificate: x509.Certificate, sent: Sequence[x509.Certificate], fingerprint: str) -> None:
        if self._feed.needs_preparing(fingerprint):
            await self._feed.prepare(certificate, sent)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            seen = await asyncio.to_thread(self._state)
            if seen == self._seen:
                continue
            # Noted before it is read: what is written meanwhile is seen at the next look.
            self._seen = seen
            try:
                trust = await asyncio.to_thread(self._read)
                self._on_anchors(trust.pem())
            except (OSError, ValueError, MeshError) as error:  # ssl.SSLError is an OSError
                events.error("trust.refused", file=str(self._main), error=str(error))
                continue
            self._trust = trust
            self._terminators = _terminators_of(trust)
            self._feed.set_trust(trust)
            self._judge_anew()
            events.info("trust.changed", file=str(self._main), anchors=[anchor.name for anchor in trust.anchors])

    def _read(self) -> Trust:
        if self._is_bundle:
            return Trust.from_bundle(self._main.read_bytes())
        return read_trust(self._main, person_key=self._person_key, member_of_code=self._member_of_code)

    def _state(self) -> tuple[object, ...]:
        """What tells a changed file: of the trust file and all that it names."""
        return tuple(_stamp(path) for path in dict.fromkeys((self._main, *self._trust.files)))


def _terminators_of(trust: Trust) -> TerminatorTrust:
    return TerminatorTrust(
        unix_sockets=map(str, trust.terminators.sockets), fingerprints=trust.terminators.certificates
    )


def _stamp(path: Path) -> object:
    try:
        status = os.stat(path)
    except OSError as error:
        return (path, error.errno)
    return (path, status.st_ino, status.st_mtime_ns, status.st_size)
