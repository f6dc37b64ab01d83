"""CRLs of all sources, followed: what there is to go by below each anchor, and what is wrong. Belongs to one event loop.

All that blocks (files, parsing, signatures of lists) is done in one thread, where the files and the shelf belong.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog
from cryptography import x509

from ca_auth.profiles.trust import Anchor
from ca_auth.revocation.crl_files import CrlFiles, Offered
from ca_auth.revocation.crl_shelf import Considered, CrlShelf
from ca_auth.revocation.crl_url import CrlUrl, Pace
from ca_auth.revocation.known_cas import KnownCAs, SortedCAs
from ca_auth.revocation.revocation_alarms import Alarm, about_end, about_nothing, about_problem
from ca_auth.validation.crl import RevocationList
from ca_auth.validation.path_certificate import PathCertificate

events = structlog.get_logger("datong.revocation")
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class CrlFeed:
    """Follows files, folders and addresses.

    Args:
        folder: What survives restarts: fetched lists, the newest list of each CA and scope, CAs that were learned.
        wake: Called when there is something new, so that `look` should be called at once.
        clock: Unix seconds.
        pace: How often addresses are asked.
    """

    def __init__(self, folder: Path, *, wake: Callable[[], None], clock: Callable[[], float], pace: Pace) -> None:
        self._folder = folder
        self._wake = wake
        self._clock = clock
        self._pace = pace
        self._executor = ThreadPoolExecutor(1, "revocation")
        self._anchors: Sequence[Anchor] = ()
        self._files = CrlFiles()
        self._in_files: dict[str, Offered] = {}
        self._urls: dict[str, CrlUrl] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._shelf = CrlShelf(folder / "held")
        self._cas = KnownCAs(folder / "cas.pem")
        self._sorted = SortedCAs()
        self._considered = Considered((), {}, (), None)
        self._stale = True
        """What is offered, or which CAs are known, has changed since it was considered."""

    async def load(self) -> None:
        """Take up what earlier runs left."""
        await self._in_thread(self._shelf.load, self._clock())
        await self._in_thread(self._cas.load)

    async def stop(self) -> None:
        """Give up what is under way."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def follow(self, anchors: Sequence[Anchor]) -> None:
        """Follow the sources of these anchors from now on."""
        wanted = {url for anchor in anchors for url in anchor.revocation.crl_urls}
        for url in self._urls.keys() - wanted:
            del self._urls[url]
            if (task := self._fetching.get(url)) is not None:
                task.cancel()
        for url in wanted - self._urls.keys():
            source = CrlUrl(
                url,
                self._folder / "fetched",
                in_thread=self._in_thread,
                is_refuted=self._shelf.is_refuted,
                clock=self._clock,
                pace=self._pace,
            )
            await source.load()
            self._urls[url] = source
        self._anchors, self._stale = anchors, True

    def learn(self, cas: Sequence[x509.Certificate]) -> None:
        """Remember CA certificates of paths that held."""
        if self._cas.add(cas):
            self._stale = True
            self._wake()

    def path_of(
        self, leaf: x509.Certificate, untrusted: Sequence[x509.Certificate], anchors: Sequence[Anchor]
    ) -> tuple[list[PathCertificate], Anchor | None]:
        """See `KnownCAs.path_of`."""
        return self._cas.path_of(leaf, untrusted, anchors)

    async def look(self, tls: ssl.SSLContext) -> bool:
        """Look at the files, ask the addresses that are due (without waiting), and return whether `lists` may differ."""
        paths = {path for anchor in self._anchors for path in anchor.revocation.crl_paths}
        if paths or self._in_files:
            found = {str(path): each for path, each in (await self._in_thread(self._files.look, paths)).items()}
            self._stale = self._stale or _lists_in(found) != _lists_in(self._in_files)
            self._in_files = found
        for url, source in self._urls.items():
            if url not in self._fetching and source.is_due():
                self._fetching[url] = asyncio.create_task(self._fetch(source, tls))
        again_at = self._considered.again_at
        if not self._stale and (again_at is None or self._clock() < again_at):
            return False
        await self._consider()
        return True

    def lists(self, anchor: Anchor) -> tuple[RevocationList, ...]:
        """The lists to go by below an anchor."""
        if not has_lists(anchor):
            return ()
        held = [
            each.revocation_list
            for each in self._considered.held
            if anchor.name in self._sorted.anchors_by_key.get(each.signer.key_info, ())
        ]
        others = [each for source in _sources(anchor) for each in self._considered.others.get(source, ())]
        return tuple(dict.fromkeys([*held, *others]))

    def alarms(self, anchor: Anchor) -> Iterator[Alarm]:
        """What is wrong with the lists of an anchor, and with where they come from."""
        if not has_lists(anchor):
            return
        now = self._clock()
        lists = self.lists(anchor)
        if not lists:
            yield about_nothing(anchor.name, "crl", anchor.revocation.required, now)
        signers = {each.revocation_list: each.signer.key_info for each in self._considered.held}
        newest: dict[object, RevocationList] = {}
        for each in lists:
            key = (signers.get(each), each.scope)
            if key not in newest or each.number > newest[key].number:
                newest[key] = each
        for each in newest.values():
            alarm = about_end(anchor.name, each, anchor.revocation.grace, now)
            if alarm is not None:
                yield alarm
        offered, sources = self._offered(), _sources(anchor)
        for source in sources:
            for problem in offered[source].problems if source in offered else ():
                yield about_problem(anchor.name, problem, now)
        for problem in self._considered.problems:
            if problem.source in sources:
                yield about_problem(anchor.name, problem, now)

    async def _fetch(self, source: CrlUrl, tls: ssl.SSLContext) -> None:
        try:
            if await source.fetch(tls):
                self._stale = True
                self._wake()
        except Exception as error:  # noqa: BLE001  # whatever it is, revocation must go on being followed
            events.error("revocation.fetch_failed", url=source.url, error=repr(error), exc_info=error)
        finally:
            del self._fetching[source.url]

    async def _consider(self) -> None:
        self._stale = False
        learned = self._cas.learned
        await self._in_thread(self._cas.save, learned)
        self._sorted = await self._in_thread(self._cas.sort, learned, self._anchors)
        await self._in_thread(self._shelf.know, self._sorted.all)
        self._considered = await self._in_thread(self._shelf.consider, _lists_in(self._offered()), self._clock())

    def _offered(self) -> dict[str, Offered]:
        return {**self._in_files, **{url: source.offered for url, source in self._urls.items()}}

    async def _in_thread(
        self, work: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*arguments, **named))


def has_lists(anchor: Anchor) -> bool:
    """Whether the trust file names CRLs for an anchor."""
    return bool(anchor.revocation.crl_paths or anchor.revocation.crl_urls)


def _lists_in(offered: Mapping[str, Offered]) -> dict[str, tuple[RevocationList, ...]]:
    return {source: each.lists for source, each in offered.items()}


def _sources(anchor: Anchor) -> tuple[str, ...]:
    return (*map(str, anchor.revocation.crl_paths), *anchor.revocation.crl_urls)
