"""The newest verified list of each CA and scope. It is kept across restarts, so that numbers never go back.

Rules:
1. A list counts as verified when a known CA of its issuer's name signed it: an anchor, or a CA of a path that held. Only
   verified lists are held, and only a verified list of the same key displaces one; a forged number decides nothing.
2. Of a key's lists of one scope the one held is the newest (`check_supersedes`). Others of that key and scope are not
   used: not the older ones, also when the newest has run out, and not another one of the same number.
3. A held list outlives the file it came from. It leaves the disk a year after its end.
4. What no known CA signed may be the list of a CA that is not known yet: it is handed on, and the validator, which knows
   the path, decides. It displaces nothing.
5. A list from the future is handed on as well and held when its time has come.
6. Several processes may share the folder: they take turns, and nobody replaces a newer list with an older one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca_auth.issuing.durable_files import PRIVATE, replace_file
from ca_auth.revocation.crl_files import SourceProblem, usable_lists
from ca_auth.validation.crl import CrlNumberError, RevocationList, check_supersedes
from ca_auth.validation.distinguished_names import CanonicalName
from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.signatures import SignatureKind, SignatureKindError, is_signed_by

_FORGET: Final = timedelta(days=365)
_CLOCK_SKEW: Final = timedelta(minutes=1)
_SUFFIX: Final = ".crl"

events = structlog.get_logger("datong.revocation")

HoldKey: TypeAlias = tuple[bytes, tuple[CanonicalName, bytes, bool]]
"""SubjectPublicKeyInfo of the signer, and the scope."""


@dataclass(frozen=True, slots=True)
class HeldList:
    """A verified list and the CA that signed it."""

    revocation_list: RevocationList
    signer: PathCertificate


@dataclass(frozen=True, slots=True)
class Considered:
    """What came of looking at everything that is offered."""

    held: tuple[HeldList, ...]
    others: Mapping[str, tuple[RevocationList, ...]]
    """By source: lists that no known CA signed, or whose time has not come."""
    problems: tuple[SourceProblem, ...]
    again_at: float | None
    """When it should be considered again although nothing new came (Unix seconds): a list from the future begins."""


class CrlShelf:
    """Holds lists, in memory and in `folder`. Its methods block: they belong to one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[HoldKey, HeldList] = {}
        self._stored: list[RevocationList] = []
        """From the folder, waiting for their CA to be known."""
        self._offered: set[RevocationList] = set()
        self._unsaved: set[HoldKey] = set()
        self._by_subject: dict[CanonicalName, list[PathCertificate]] = {}
        self._signers: dict[RevocationList, PathCertificate | None] = {}
        """Who signed it; None: none of those known."""

    def load(self, now: float) -> None:
        """Read what earlier runs left. Damaged files are an event, and old ones are removed."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            files = sorted(self._folder.glob(f"*{_SUFFIX}"))
        except OSError as error:
            events.error("revocation.state_not_read", folder=str(self._folder), error=str(error))
            return
        for file in files:
            try:
                lists, problem = usable_lists(file.read_bytes())
                if problem is not None:
                    events.error("revocation.state_damaged", file=str(file), problem=problem[0])
                elif lists[0].next_update + _FORGET < datetime.fromtimestamp(now, UTC):
                    file.unlink(missing_ok=True)
                else:
                    self._stored.append(lists[0])
            except OSError as error:
                events.error("revocation.state_not_read", file=str(file), error=str(error))

    def know(self, cas: Iterable[PathCertificate]) -> None:
        """Say which CAs are known from now on."""
        by_subject: dict[CanonicalName, list[PathCertificate]] = {}
        for each in cas:
            if not each.defect and each.key is not None and _may_sign_lists(each):
                by_subject.setdefault(each.subject, []).append(each)
        if {subject: [ca.encoded for ca in cas] for subject, cas in by_subject.items()} == {
            subject: [ca.encoded for ca in cas] for subject, cas in self._by_subject.items()
        }:
            return
        self._by_subject = by_subject
        self._signers = {}
        for key, held in list(self._held.items()):
            if not any(ca.key_info == key[0] for ca in by_subject.get(held.revocation_list.issuer, ())):
                del self._held[key]
                self._stored.append(held.revocation_list)  # an anchor that was taken out may come back

    def consider(self, offered: Mapping[str, Sequence[RevocationList]], now: float) -> Considered:
        """Take the newest verified lists of those offered, and say what is to be used.

        Args:
            offered: By source, without defects.
            now: Unix seconds.
        """
        begun = datetime.fromtimestamp(now, UTC) + _CLOCK_SKEW
        waiting = [each for each in self._stored if not self._hold_if_newer(each, begun)]
        others: dict[str, tuple[RevocationList, ...]] = {}
        problems: list[SourceProblem] = []
        self._offered = {each for lists in offered.values() for each in lists}
        for source, lists in offered.items():
            others[source] = tuple(each for each in lists if not self._hold_if_newer(each, begun))
        for source, lists in offered.items():
            problems += self._problems(source, lists, begun)
        current = self._offered.union(waiting, (held.revocation_list for held in self._held.values()))
        self._signers = {each: signer for each, signer in self._signers.items() if each in current}
        self._stored = waiting
        for key in sorted(self._unsaved, key=repr):
            self._save(key)
        future = [each.this_update for each in current if each.this_update > begun]
        again_at = [min(future).timestamp()] if future else []
        if self._unsaved:
            again_at.append(now + 60)
        return Considered(tuple(self._held.values()), others, tuple(problems), min(again_at, default=None))

    def is_refuted(self, each: RevocationList) -> bool:
        """Whether CAs of the issuer's name are known, and none of them signed the list."""
        return bool(self._by_subject.get(each.issuer)) and self._signer(each) is None

    def _hold_if_newer(self, each: RevocationList, begun: datetime) -> bool:
        """Return whether a list is verified and its time has come; then it is held, or it has lost to the one held."""
        signer = self._signer(each)
        if signer is None or each.this_update > begun:
            return False
        key = (signer.key_info, each.scope)
        held = self._held.get(key)
        if held is not None and not _is_newer(held.revocation_list, each):
            return True
        self._held[key] = HeldList(each, signer)
        self._unsaved.add(key)
        events.info("revocation.crl_held", crl=each.label, next_update=each.next_update.isoformat())
        return True

    def _signer(self, each: RevocationList) -> PathCertificate | None:
        if each not in self._signers:
            candidates = self._by_subject.get(each.issuer, ())
            self._signers[each] = next((ca for ca in candidates if _is_signed(each, ca)), None)
        return self._signers[each]

    def _problems(self, source: str, lists: Sequence[RevocationList], begun: datetime) -> Iterator[SourceProblem]:
        newest: dict[HoldKey, RevocationList] = {}
        for each in lists:
            signer = self._signer(each)
            if signer is None and self.is_refuted(each):
                yield SourceProblem(
                    "crl-rejected",
                    source,
                    f"the {each.label} was not signed by the CA of that name, or with an algorithm that is not accepted",
                    f"{each.label} 不是由该名称的 CA 签名的，或签名算法不被接受",
                )
            elif signer is not None and each.this_update > begun:
                yield SourceProblem(
                    "crl-rejected",
                    source,
                    f"the {each.label} begins in the future, at {each.this_update:%Y-%m-%dT%H:%M:%SZ}",
                    f"{each.label} 尚未生效，生效时间为 {each.this_update:%Y-%m-%dT%H:%M:%SZ}",
                )
            elif signer is not None:
                key = (signer.key_info, each.scope)
                if key not in newest or _order(each) > _order(newest[key]):
                    newest[key] = each
        for key, each in newest.items():
            held = self._held[key].revocation_list
            if each.number < held.number and held in self._offered:
                continue  # an older list beside the newest one: a folder that keeps them all, an address that lags
            try:
                check_supersedes(held, each)
            except CrlNumberError as error:
                yield SourceProblem(
                    "crl-rejected",
                    source,
                    f"the {each.label} is not used: {error}",
                    f"{each.label} 未被采用：其编号或时间早于已加载的 {held.label}，或编号相同而内容不同",
                )

    def _save(self, key: HoldKey) -> None:
        each = self._held[key].revocation_list if key in self._held else None
        if each is None or each.crl is None:
            self._unsaved.discard(key)
            return
        file = self._folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:40]}{_SUFFIX}"
        try:
            with self._turn():
                lists, _ = usable_lists(file.read_bytes()) if file.exists() else ((), None)
                if lists and lists[0].scope == each.scope and _is_signed(lists[0], self._held[key].signer):
                    there = lists[0]
                    if _is_newer(each, there):
                        self._held[key] = HeldList(there, self._held[key].signer)
                        each = there
                    if not _is_newer(there, each):
                        self._unsaved.discard(key)
                        return
                assert each.crl is not None  # what is held was taken apart
                replace_file(file, each.crl.public_bytes(Encoding.DER), PRIVATE)
            self._unsaved.discard(key)
        except OSError as error:
            events.error("revocation.state_not_saved", file=str(file), crl=each.label, error=str(error))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other process writes here."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_newer(held: RevocationList, offered: RevocationList) -> bool:
    """Whether `offered`, of the same scope, displaces `held`; the same list made out anew, for longer, does."""
    try:
        check_supersedes(held, offered)
    except CrlNumberError:
        return False
    return _order(offered) > _order(held)


def _order(each: RevocationList) -> tuple[int, datetime, datetime]:
    return each.number, each.this_update, each.next_update


def _is_signed(each: RevocationList, ca: PathCertificate) -> bool:
    if each.crl is None or ca.key is None:
        return False
    try:
        kind = SignatureKind.of(each.crl)
        # A signature that somebody can make up must not decide about numbers; the validator refuses it as well.
        return kind.is_strong and is_signed_by(ca.key, kind, each.crl.signature, each.crl.tbs_certlist_bytes)
    except SignatureKindError:
        return False


def _may_sign_lists(ca: PathCertificate) -> bool:
    usage = ca.get(x509.KeyUsage)
    return ca.is_ca if usage is None else usage.crl_sign
