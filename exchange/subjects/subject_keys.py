"""The hashes under which persons and companies stand in records, each under a key of its own that can be erased.

Rules:
1. A key is on disk before its hash is used: a hash on record whose key was lost would be nobody's.
2. Fail closed: without a key there is no hash, and what needs one is refused with 503. While the database is silent, at once.
3. Hashes, not keys, are remembered, and only as long as somebody looked within a second whether keys were erased meanwhile. So
   an erased key's hash is given out for a second at most, by whatever process; then the subject gets another key.
4. The day a key was last used is noted once a day, later and in batches: an exchange does not wait for it.
5. Every erasure is kept, in its own transaction, until its event is on the log (`exchange.subjects.erasure_recorder`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any, Final

import structlog

from exchange.errors import InvalidRequestError, UnavailableError
from exchange.log.log_event import LogEvent, read_event
from exchange.moments import Entropy, Rfc3339, uuid7
from exchange.storage.database import database_url, sqlite_path
from exchange.storage.database_writers import DatabaseFailedError, SqliteWriter, open_writer
from exchange.storage.group_commit import GroupCommit
from exchange.subjects.pseudonyms import hash_under, pseudonym_of
from exchange.subjects.subject_tables import (
    ANY_DAY,
    SQLITE_PRAGMAS,
    PostgresqlSubjectTable,
    SqliteSubjectTable,
    SubjectTable,
)

ERASED: Final = "subject.erased"
"""The act of the events that tell of erasures."""
LEAST_UNUSED_DAYS: Final = 184
"""Six months: no record goes earlier (docs/retention.md), and a key must last as long as records under it."""

_REMEMBER: Final = 32768
_LEASE: Final = 1.0
"""Seconds for which nobody need look again whether keys were erased."""
_LOOK: Final = 0.4
_TOGETHER: Final = 100
"""Most subjects that one event names: its details are bounded."""
_SCANNED: Final = 4000
"""Rows that one transaction goes through for keys that are not used any more: some 20 ms."""
_CHINA: Final = 28_800
_FIRST_DAY: Final = date(1970, 1, 1)

events = structlog.get_logger("datong.subjects")


class SubjectKeysUnavailableError(UnavailableError):
    """The key under which a subject is put on record cannot be read or made durable."""

    rule_name = "subject-keys-writable"
    detail = {
        "en": "The subject could not be put on record under its own key, so the request was not carried out.",
        "zh": "无法以主体专属密钥留痕，因此未执行该请求。",
    }


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased."""

    count: int
    """Subjects whose keys are gone."""
    events: tuple[LogEvent, ...]
    """What is to be put on the log; kept in the database until it is there."""
    traceless: bool
    """Whether no copy is left in the files of the database; elsewhere, as in backups, nothing was done."""


class SubjectKeys:
    """The hashes of subjects, as one gateway process sees them; `open` makes one. Belongs to one event loop.

    Args:
        table: Where the keys are kept.
        subject_key: The secret under which numbers become pseudonyms (`exchange.subjects.pseudonyms`).
        clock: Unix seconds, for the days.
        timeout: Seconds in which a hash has to be there.
        remember: Most hashes remembered at once, about 350 bytes each.
    """

    def __init__(
        self,
        table: SubjectTable,
        subject_key: bytes,
        *,
        clock: Callable[[], float] = time.time,
        timeout: float = 2.0,
        remember: int = _REMEMBER,
    ) -> None:
        self._table = table
        self._subject_key = subject_key
        self._clock = clock
        self._today = day_of(clock())
        self._most = remember
        self._remembered: OrderedDict[str, tuple[str, int]] = OrderedDict()
        """Pseudonym -> the hash on record, and the day that is noted as its last use. The longest unused is first."""
        self._used: set[str] = set()
        """Pseudonyms whose last use is to be noted."""
        self._erasures = -1
        self._good_until = 0.0
        self._waiting = 0
        self._commits = GroupCommit(
            self._read_or_make, unavailable=SubjectKeysUnavailableError, name="subjects", timeout=timeout
        )
        self._watching: asyncio.Task[None] | None = None
        self._entropy = Entropy()
        self._time_text = Rfc3339()

    @classmethod
    async def open(
        cls, database: str, subject_key: bytes, *, clock: Callable[[], float] = time.time, timeout: float = 2.0
    ) -> SubjectKeys:
        """Bring the tables at `database` (a URL as `exchange.database_url` accepts it) up to date and use them.

        An SQLite file that is not there is made, for its owner alone.

        Raises:
            SubjectKeysUnavailableError: The database cannot be reached or written; our events say why.
        """
        try:
            file = sqlite_path(database_url(database))
            if file is not None:
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            writer = await open_writer(database, "exchange.subjects.migrations", "subjects", pragmas=SQLITE_PRAGMAS)
            table = SqliteSubjectTable(writer) if isinstance(writer, SqliteWriter) else PostgresqlSubjectTable(writer)
            keys = cls(table, subject_key, clock=clock, timeout=timeout)
            await keys._look()
        except (DatabaseFailedError, OSError) as error:
            events.error("subjects.open", error=str(error))
            raise SubjectKeysUnavailableError from error
        keys._watching = asyncio.create_task(keys._watch())
        return keys

    @property
    def waiting(self) -> int:
        """How many erasures were not known to be on the log when somebody looked last."""
        return self._waiting

    def known(self, number: str) -> str | None:
        """The hash of a subject if it is remembered, for the hot path; if not, `hash_of` finds or makes it."""
        return self.known_person(pseudonym_of(self._subject_key, number))

    def known_person(self, pseudonym: str) -> str | None:
        """The same for somebody whose pseudonym is known, 64 hex digits: the holder of a certificate."""
        found = self._remembered.get(pseudonym)
        if found is None or time.monotonic() > self._good_until:
            return None
        self._remembered.move_to_end(pseudonym)
        if found[1] < self._today:
            self._remember(pseudonym, *found)
        return found[0]

    async def hash_of(self, number: str) -> str:
        """The hash under which a subject goes on record: 64 hex digits, under a key of its own that is on disk by now.

        Raises:
            SubjectKeysUnavailableError: There is no such key, and none can be made durable.
        """
        return await self.hash_of_person(pseudonym_of(self._subject_key, number))

    async def hash_of_person(self, pseudonym: str) -> str:
        """The same for somebody whose pseudonym is known: the holder of a certificate."""
        return self.known_person(pseudonym) or await self._commits.submit(pseudonym)

    async def hashes_of(self, number: str) -> list[str]:
        """The hashes under which records of a subject can be found. Makes nothing.

        The last is the pseudonym, under which subjects stood before they had keys of their own. It is for looking only: put on
        record, beside the other one above all, it would undo what an erasure does. What a record may say is `hash_on_record`.

        Raises:
            SubjectKeysUnavailableError: The database does not answer.
        """
        own = await self.hash_on_record(number)
        pseudonym = pseudonym_of(self._subject_key, number)
        return [own, pseudonym] if own else [pseudonym]

    async def hash_on_record(self, number: str) -> str:
        """The hash under which a subject stands in records now, empty if it has no key. Makes nothing.

        Raises:
            SubjectKeysUnavailableError: The database does not answer.
        """
        pseudonym = pseudonym_of(self._subject_key, number)
        row = bytes.fromhex(pseudonym)
        with _telling("subjects.find"):
            found = await self._table.find([row])
        return hash_under(found[row], pseudonym) if row in found else ""

    async def erase(self, numbers: Iterable[str], *, by: str, why: str, user: str = "") -> Erasure:
        """Erase the keys of these subjects: from then on nobody can tell which records are theirs.

        Numbers without a key are passed over. A subject that is put on record again gets another key.

        Args:
            by: Who does it, for the record: a subsystem, or the command at the machine itself.
            why: For the record, like `user`; it must not name the subject.

        Raises:
            SubjectKeysUnavailableError: The database failed. What was erased until then is kept to be recorded.
        """
        pseudonyms = iter(dict.fromkeys(pseudonym_of(self._subject_key, number) for number in numbers))
        told = []
        with _telling("subjects.erase"):
            while group := list(islice(pseudonyms, _TOGETHER)):

                def details(hashes: list[str]) -> dict[str, Any]:
                    return {"count": len(hashes), "hashes": hashes}

                told += await self._erase(group, ANY_DAY, details, by, why, user)
            return await self._erasure(told)

    async def erase_unused(self, before: date, *, by: str, why: str, user: str = "") -> Erasure:
        """Erase the keys that were used last before a day (in China); as `erase`.

        Raises:
            InvalidRequestError: Less than six months have passed since that day.
            SubjectKeysUnavailableError: As for `erase`.
        """
        day = self._checked(before)
        told = []

        def details(hashes: list[str]) -> dict[str, Any]:
            return {"count": len(hashes), "unused_before": before.isoformat()}

        with _telling("subjects.erase"):
            async for group in self._unused(day):
                began = time.monotonic()
                told += await self._erase(group, day, details, by, why, user)
                # There may be millions, and gateways want to write, too: as long again for them.
                await asyncio.sleep(time.monotonic() - began)
            return await self._erasure(told)

    async def count_unused(self, before: date) -> int:
        """How many keys `erase_unused` would erase; raises as it does."""
        day = self._checked(before)
        with _telling("subjects.scan"):
            return sum([len(group) async for group in self._unused(day)])

    async def unrecorded(self) -> list[LogEvent]:
        """Erasures that are not known to be on the log, oldest first; raises SubjectKeysUnavailableError."""
        with _telling("subjects.events"):
            return [read_event(leaf) for _, leaf in await self._table.events()]

    async def recorded(self, event: LogEvent) -> None:
        """An erasure is on the log, durably; raises SubjectKeysUnavailableError."""
        with _telling("subjects.events"):
            await self._table.forget_event(event.id)

    async def close(self) -> None:
        """Wait for what is being written, note last uses, let go of the database; what comes later is refused."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._commits.close()
        if self._used:
            with contextlib.suppress(DatabaseFailedError):
                await self._look()
        await self._table.close()

    async def _read_or_make(self, batch: list[str]) -> Sequence[str]:
        """One transaction: the hash for each pseudonym."""
        began = time.monotonic()
        wanted = {pseudonym: bytes.fromhex(pseudonym) for pseudonym in batch}
        rows, erasures = await self._table.keys(list(wanted.values()), self._today)
        self._confirm(erasures, began)
        hashes = {}
        for pseudonym, row in wanted.items():
            hashes[pseudonym] = hash_under(rows[row].key, pseudonym)
            self._remember(pseudonym, hashes[pseudonym], rows[row].last_used)
        return [hashes[pseudonym] for pseudonym in batch]

    def _remember(self, pseudonym: str, hashed: str, last_used: int) -> None:
        if last_used < self._today:
            self._used.add(pseudonym)
        self._remembered[pseudonym] = (hashed, self._today)
        if len(self._remembered) > self._most:
            self._remembered.popitem(last=False)

    async def _watch(self) -> None:
        """Look again and again; while the database fails, what is remembered runs out by itself."""
        failing = False
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await self._look()
            except DatabaseFailedError as error:
                if not failing:
                    events.error("subjects.look", error=str(error))
                failing = True
            else:
                failing = False

    async def _look(self) -> None:
        began = time.monotonic()
        self._today = day_of(self._clock())
        used, self._used = self._used, set()
        try:
            sight = await self._table.look([bytes.fromhex(pseudonym) for pseudonym in used], self._today)
        except BaseException:
            self._used |= used
            raise
        self._confirm(sight.erasures, began)
        self._waiting = sight.waiting

    def _confirm(self, erasures: int, began: float) -> None:
        """So many erasures there were at some moment after `began`, and what is remembered is from after the last of them."""
        if erasures != self._erasures:
            # Whatever number it was before: a database that was put back counts less.
            self._remembered.clear()
            self._erasures, self._good_until = erasures, began + _LEASE
        else:
            self._good_until = max(self._good_until, began + _LEASE)

    async def _erase(
        self,
        pseudonyms: Sequence[str],
        unused_before: int,
        details: Callable[[list[str]], dict[str, Any]],
        by: str,
        why: str,
        user: str,
    ) -> list[LogEvent]:
        """The event that tells of it, none if nothing was erased; raises DatabaseFailedError."""
        told: list[LogEvent] = []

        def describe(erased: Mapping[bytes, bytes]) -> tuple[str, bytes]:
            now_ms = int(self._clock() * 1000)
            event = LogEvent(
                id=uuid7(now_ms, self._entropy),
                kind="retention",
                act=ERASED,
                at=self._time_text(now_ms),
                by=by,
                user=user,
                why=why,
                details=details(sorted(hash_under(key, each.hex()) for each, key in erased.items())),
            )
            told.append(event)
            return event.id, event.leaf

        await self._table.erase([bytes.fromhex(each) for each in pseudonyms], unused_before, describe)
        return told

    async def _erasure(self, told: list[LogEvent]) -> Erasure:
        await self._look()
        # Also if nothing was erased now: somebody may have held the traces of an earlier time.
        traceless = await self._table.forget_traces()
        return Erasure(sum(event.details["count"] for event in told), tuple(told), traceless)

    async def _unused(self, day: int) -> AsyncIterator[list[str]]:
        """Pseudonyms that were used last before a day, in groups."""
        after = b""
        while rows := await self._table.scan(after, _SCANNED):
            after = rows[-1][0]
            if group := [pseudonym.hex() for pseudonym, last_used in rows if last_used < day]:
                yield group

    def _checked(self, before: date) -> int:
        """The number of the day."""
        day = (before - _FIRST_DAY).days
        if day > day_of(self._clock()) - LEAST_UNUSED_DAYS:
            raise InvalidRequestError(
                "subjects-kept",
                problem=f"Keys are kept for {LEAST_UNUSED_DAYS} days after their last use at least.",
                problem_zh=f"密钥自最后使用之日起至少保留 {LEAST_UNUSED_DAYS} 天。",
            )
        return day


def day_of(unix: float) -> int:
    """The number of the day in China, since 1970."""
    return int(unix + _CHINA) // 86400


@contextlib.contextmanager
def _telling(event: str) -> Iterator[None]:
    """What fails in the block is told in our events, and to whoever asked without the details."""
    try:
        yield
    except DatabaseFailedError as error:
        events.error(event, error=str(error))
        raise SubjectKeysUnavailableError from error
