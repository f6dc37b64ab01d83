"""OCSP answers at hand, and the questions that are under way. Belongs to one event loop.

Rules:
1. Callers wait `PATIENCE` seconds at most for all questions of a path together; a question goes on without them for some
   seconds, and its answer is there for the next request.
2. One question per certificate at a time, however many wait for it.
3. A responder that does not answer is left alone for some seconds, then longer; nobody waits for it in that time. After
   it, one question tries it, and the others still do not wait. A certificate about which it gave no usable answer is not
   asked about again for some time either.
4. Answers are renewed in the background, hourly or at half of what is left of them, while their certificate is in use.
5. An answer is not replaced by an older one, so that an old good one played back does not hide a revocation.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog
from cryptography.x509.ocsp import OCSPCertStatus

from ca_auth.revocation.ocsp_client import Answered, NoAnswerError, ask
from ca_auth.revocation.public_addresses import IPAddress
from ca_auth.revocation.revocation_alarms import Alarm
from ca_auth.validation.ocsp import OcspAnswer
from ca_auth.validation.path_certificate import PathCertificate

PATIENCE: Final = 1.5
_QUESTION_SECONDS: Final = 6.0
_IN_USE: Final = 24 * 3600.0
_EVERY: Final = 3600.0
_SHORTEST: Final = 10.0
_FIRST_RETRY: Final = 5.0
_LONGEST_RETRY: Final = 120.0
_LONGEST_RETRY_OF_ONE: Final = 600.0
_MOST_AT_ONCE: Final = 32
_MOST_KEPT: Final = 10_000

events = structlog.get_logger("datong.revocation")


@dataclass(frozen=True, slots=True)
class Question:
    """About which certificate to ask, whom, and on behalf of which anchor."""

    fingerprint: str
    certificate: PathCertificate
    issuer: PathCertificate
    anchor: str
    url: str
    from_certificate: bool
    """The address comes from the certificate, not from the operator."""
    above: tuple[str, ...] = ()
    """Fingerprints of the CAs on its path that are asked about, too."""


@dataclass(slots=True)
class _Responder:
    """A responder that failed, and when it may be tried again (monotonic seconds)."""

    failures: int
    again: float
    since: float
    """Unix seconds."""
    problem: tuple[str, str]
    tried: bool = False
    """Somebody is trying it."""


@dataclass(slots=True)
class _Page:
    """What is known about one certificate. Moments are monotonic seconds, but for `until`."""

    question: Question
    used: float
    answered: Answered | None = None
    renew: float = 0.0
    again: float = 0.0
    failures: int = 0
    problem: tuple[str, str] | None = None
    since: float = 0.0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class OcspBook:
    """Keeps answers by certificate.

    Args:
        on_answer: Called when `answers` has changed.
        clock: Unix seconds.
        allowed: Where addresses from certificates may lead.
    """

    def __init__(
        self,
        *,
        on_answer: Callable[[], None],
        clock: Callable[[], float],
        allowed: Callable[[IPAddress], bool],
    ) -> None:
        self._on_answer = on_answer
        self._clock = clock
        self._allowed = allowed
        self._pages: dict[tuple[str, str], _Page] = {}
        self._responders: dict[str, _Responder] = {}
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def use(self, tls: ssl.SSLContext) -> None:
        """Use other TLS settings from now on."""
        self._tls = tls

    def answers(self, anchor: str) -> tuple[OcspAnswer, ...]:
        """The answers about certificates below an anchor, in no order that means anything."""
        return tuple(
            page.answered.answer
            for page in self._pages.values()
            if page.question.anchor == anchor and page.answered is not None
        )

    def is_settled(self, anchor: str, fingerprint: str) -> bool:
        """Whether there is nothing to wait for: a fresh answer, or none to be had just now. Counts as use."""
        page = self._pages.get((anchor, fingerprint))
        if page is None:
            return False
        pages = [page, *(self._pages.get((anchor, each)) for each in page.question.above)]
        for each in pages:
            if each is not None:
                each.used = time.monotonic()
        return all(each is not None and (self._is_fresh(each) or not self._may_ask(each)) for each in pages)

    async def prepare(self, questions: Iterable[Question]) -> None:
        """Ask what is not known, and wait for it, but not for long (rule 1)."""
        tasks = []
        for question in questions:
            page = self._page(question)
            if not self._is_fresh(page) and (page.task is not None or self._may_ask(page)):
                tasks.append(self._ask(page))
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=PATIENCE)
        for url in {page.question.url for page in self._pages.values() if page.task in pending}:
            self._note_failure(url, (f"no answer within {PATIENCE:g} seconds", f"{PATIENCE:g} 秒内未应答"))

    def look(self) -> None:
        """Renew what is due, and forget what nobody uses. Called again and again."""
        now = time.monotonic()
        for key, page in list(self._pages.items()):
            if page.task is not None:
                continue
            if now - page.used > _IN_USE:
                # Forgetting an answer does not change a verdict that rests on it before it ends.
                if page.answered is None or page.answered.until.timestamp() < self._clock():
                    del self._pages[key]
            elif page.answered is not None and now >= page.renew and self._may_ask(page):
                if sum(other.task is not None for other in self._pages.values()) >= _MOST_AT_ONCE:
                    return
                self._ask(page)

    def forget(self, wanted: Callable[[str], bool]) -> None:
        """Forget everything about anchors that are not `wanted`, and what was said of responders."""
        for key, page in list(self._pages.items()):
            if not wanted(key[0]):
                if page.task is not None:
                    page.task.cancel()
                del self._pages[key]
        self._responders.clear()
        for page in self._pages.values():
            page.again = 0.0

    async def stop(self) -> None:
        """Give up what is under way."""
        tasks = [page.task for page in self._pages.values() if page.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def alarms(self, grace: Callable[[str], timedelta]) -> Iterator[Alarm]:
        """What is wrong with responders, and answers that live on the grace period."""
        now = self._clock()
        for page in self._pages.values():
            question = page.question
            if (responder := self._responders.get(question.url)) is not None:
                yield Alarm(
                    kind="ocsp-unreachable",
                    anchor=question.anchor,
                    source=question.url,
                    text=f"The OCSP responder {question.url} gives no answers: {responder.problem[0]}.",
                    text_zh=f"OCSP 服务 {question.url} 没有应答：{responder.problem[1]}。",
                    since=responder.since,
                )
            if page.problem is not None:
                label = question.certificate.label
                english, chinese = page.problem[0].rstrip("."), page.problem[1].rstrip("。")
                yield Alarm(
                    kind="ocsp-rejected",
                    anchor=question.anchor,
                    source=question.url,
                    text=f"The OCSP responder {question.url} gives no usable answer about {label}: {english}.",
                    text_zh=f"OCSP 服务 {question.url} 未给出关于 {label} 的可用应答：{chinese}。",
                    since=page.since,
                )
            end = page.answered.until.timestamp() if page.answered is not None else now
            if end < now <= end + grace(question.anchor).total_seconds():
                yield Alarm(
                    kind="in-grace",
                    anchor=question.anchor,
                    source=question.url,
                    text=f"Answers of the OCSP responder {question.url} have ended and are used because of the grace "
                    "period.",
                    text_zh=f"OCSP 服务 {question.url} 的应答已失效，因宽限期继续使用。",
                    since=end,
                )

    def _page(self, question: Question) -> _Page:
        key = (question.anchor, question.fingerprint)
        page = self._pages.pop(key, None)
        if page is None or page.question.url != question.url:
            page = _Page(question, time.monotonic())
        page.question, page.used = question, time.monotonic()
        self._pages[key] = page  # last in the order: the first is the one that was not asked for longest
        if len(self._pages) > _MOST_KEPT:
            oldest = next((key for key, each in self._pages.items() if each.task is None), None)
            if oldest is not None:
                del self._pages[oldest]
        return page

    def _is_fresh(self, page: _Page) -> bool:
        return page.answered is not None and page.answered.until.timestamp() > self._clock()

    def _may_ask(self, page: _Page) -> bool:
        return page.task is None and time.monotonic() >= page.again and self._is_open(page.question.url)

    def _is_open(self, url: str) -> bool:
        responder = self._responders.get(url)
        return responder is None or time.monotonic() >= responder.again

    def _ask(self, page: _Page) -> asyncio.Task[None]:
        if page.task is None:
            responder = self._responders.get(page.question.url)
            if responder is not None:
                responder.again, responder.tried = time.monotonic() + _QUESTION_SECONDS, True
            page.task = asyncio.create_task(self._work(page))
        return page.task

    async def _work(self, page: _Page) -> None:
        try:
            await self._question(page)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not leave callers waiting, nor go unseen
            events.error("revocation.ocsp_failed", error=repr(error), exc_info=error)
            self._reject(page, ("it could not be asked", "无法查询"))
        finally:
            page.task = None

    async def _question(self, page: _Page) -> None:
        question = page.question
        try:
            found = await ask(
                question.url,
                question.certificate,
                question.issuer,
                tls=self._tls,
                clock=self._clock,
                seconds=_QUESTION_SECONDS,
                allowed=self._allowed if question.from_certificate else None,
            )
        except NoAnswerError as error:
            if error.reached:
                self._responders.pop(question.url, None)
                self._reject(page, (error.problem, error.problem_zh))
            else:
                self._note_failure(question.url, (error.problem, error.problem_zh))
            return
        self._responders.pop(question.url, None)
        if page.answered is not None and found.status.this_update < page.answered.status.this_update:
            self._reject(page, ("the answer is older than the one at hand", "应答早于已有的应答"))
            return
        page.failures, page.problem, page.again, page.answered = 0, None, 0.0, found
        left = found.until.timestamp() - self._clock()
        page.renew = time.monotonic() + min(_EVERY, max(left / 2, _SHORTEST)) * random.uniform(0.85, 1.0)
        if found.status.status is not OCSPCertStatus.GOOD:
            events.warning(
                "revocation.ocsp_not_good", certificate=question.certificate.label, status=found.status.status.name
            )
        self._on_answer()

    def _reject(self, page: _Page, problem: tuple[str, str]) -> None:
        if page.problem is None:
            page.since = self._clock()
        page.problem = problem
        page.again = time.monotonic() + _backoff(page.failures, _LONGEST_RETRY_OF_ONE)
        page.failures = min(page.failures + 1, 20)

    def _note_failure(self, url: str, problem: tuple[str, str]) -> None:
        now = time.monotonic()
        known = self._responders.get(url)
        if known is None:
            events.warning("revocation.ocsp_unreachable", url=url, problem=problem[0])
            known = self._responders[url] = _Responder(0, 0.0, self._clock(), problem)
        elif now < known.again and not known.tried:
            return  # of many that were under way when it failed, one counts
        known.problem, known.tried = problem, False
        known.again = now + _backoff(known.failures, _LONGEST_RETRY)
        known.failures = min(known.failures + 1, 20)


def _backoff(failures: int, longest: float) -> float:
    return min(_FIRST_RETRY * 2.0**failures, longest) * random.uniform(0.75, 1.0)
