"""Comparing the log with the departments' own ledgers: two sides that must tell the same story.

Rules:
1. A department writes its ledger before it releases an answer, the gateway its log after it has one. So every answer
   in the log is in a ledger; an answer in a ledger may be missing in the log only while it is on its way.
2. What a ledger says explains an `unknown` of the log: the question never arrived, work was begun, or it was answered.
3. Records of changes and of acts on the log are no exchanges: no ledger knows them.
4. Nothing is held in memory: ledgers go through a file of their own, the log is read in order.
5. A range of time is one of identifiers: each holds the time at which the exchange began (UUIDv7), the same on both sides. What
   began in the range is compared, however much later it ended.
6. What was removed from the log when its time was over is no contradiction: the ledger may keep it for longer.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import UNSET

from exchange.ledger.ledger import LedgerLine, read_ledger
from exchange.log.change_record import is_change
from exchange.log.log_event import is_event
from exchange.log.reader import CLOCKS_APART_MS, LogReader, StoredEntry
from exchange.log.record import Record, read_record
from exchange.messages.envelope import EnvelopeError, read_answer_statement, read_query_statement
from exchange.moments import parse_rfc3339

_GRACE_MS = 30_000
"""How long after its deadline an exchange may still be without its record."""
_LONGEST_MS = 3_600_000
"""How long after its beginning an exchange may have got its record: that of one cut off by a crash comes with the next start."""
_TELL_EVERY = 1000

_TABLE = """
CREATE TABLE lines (id TEXT PRIMARY KEY, owner TEXT, query BLOB, deadline TEXT, intent TEXT, at TEXT,
                    answer BLOB, status INTEGER, error TEXT, ledger TEXT, answers INTEGER, seen INTEGER DEFAULT 0)
WITHOUT ROWID
"""
_INTENT = """
INSERT INTO lines (id, owner, query, deadline, intent, ledger, answers) VALUES (?, ?, ?, ?, ?, ?, 0)
ON CONFLICT DO UPDATE SET intent = excluded.intent, answers = answers + 2 * (query <> excluded.query)
"""
_ANSWER = """
INSERT INTO lines (id, owner, query, deadline, at, answer, status, error, ledger, answers)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
ON CONFLICT DO UPDATE SET at = excluded.at, answer = excluded.answer, status = excluded.status,
    error = excluded.error, answers = answers + 1 + 2 * (query <> excluded.query)
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One exchange on which there is something to say."""

    exchange_id: str
    agrees: bool
    """False if the two sides contradict each other; True if the ledger explains what the log could not know."""
    en: str
    zh: str


Side = Literal["ledger", "log"]
Progress = Callable[[Side, int, int], None]
"""(what is being read, lines or entries read, how many there are; 0 if that is not known)."""


@dataclass(slots=True)
class ReconciliationCounts:
    """How much was compared."""

    ledger_exchanges: int = 0
    log_entries: int = 0
    """Of the owners that were compared."""
    agreed: int = 0
    contradictions: int = 0
    removed: int = 0
    """Exchanges of the ledgers whose records were removed from the log when their time was over."""


async def reconcile(
    reader: LogReader,
    ledgers: Iterable[Path],
    counts: ReconciliationCounts,
    progress: Progress | None = None,
    *,
    owners: frozenset[str] | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> AsyncIterator[Finding]:
    """Every exchange on which the log and the ledgers differ, or a ledger explains the log.

    Args:
        ledgers: Folders. All ledgers of a department belong together: an exchange may be in any of them.
        counts: Filled in as it goes.
        owners: Subsystems whose ledgers were given; None: all of them, so that an emptied ledger cannot pass for one
            that has nothing to say.
        since_ms, until_ms: Only exchanges that began in [since_ms, until_ms), Unix milliseconds.

    Raises:
        LedgerError: A ledger cannot be read.
    """
    # First how long the log is, then the ledgers: an answer in the log so far is in them.
    first, last = 0, (await reader.size())[0]
    if since_ms is not None:
        first = await reader.first_at(since_ms - CLOCKS_APART_MS)
    if until_ms is not None:
        last = min(last, await reader.first_at(until_ms + CLOCKS_APART_MS + _LONGEST_MS))
    begins, ends = _identifier(since_ms), _identifier(until_ms)
    with (
        tempfile.TemporaryDirectory(prefix="datong-reconcile-") as folder,
        closing(sqlite3.connect(Path(folder) / "lines.db", isolation_level=None)) as lines,
    ):
        lines.execute("PRAGMA journal_mode=OFF")
        lines.execute("PRAGMA synchronous=OFF")
        lines.execute(_TABLE)
        lines.execute("BEGIN")
        count = 0
        for ledger in ledgers:
            for line in read_ledger(ledger):
                count += 1
                if progress and not count % _TELL_EVERY:
                    progress("ledger", count, 0)
                _take(lines, line, str(ledger), begins, ends)
        (counts.ledger_exchanges,) = lines.execute("SELECT count(*) FROM lines").fetchone()
        async for entry in reader.iter_entries(first, last):
            if progress and not entry.seq % _TELL_EVERY:
                progress("log", entry.seq - first, last - first)
            if is_change(entry.leaf) or is_event(entry.leaf):
                continue
            if not (begins is None or begins <= entry.exchange_id) or not (ends is None or entry.exchange_id < ends):
                continue
            if owners is not None and entry.service.rpartition("/")[0] not in owners:
                continue
            counts.log_entries += 1
            finding = _compare(lines, entry)
            if finding is None:
                counts.agreed += 1
            else:
                counts.contradictions += not finding.agrees
                yield finding
        removed = await _removed_times(reader)
        now_ms = time.time_ns() // 1_000_000
        streaming = {intent.exchange_id for intent in await reader.intents() if intent.deadline_ms > now_ms}
        query = "SELECT id, deadline, at, intent, ledger FROM lines WHERE NOT seen ORDER BY id"
        for exchange_id, deadline, at, intent, ledger in lines.execute(query):
            if exchange_id in streaming:
                continue  # a large answer is on its way, for longer than its deadline
            finding = await _only_in_ledger(reader, lines, exchange_id, deadline, at or intent, ledger)
            if finding is not None and not finding.agrees and _lies_in(removed, exchange_id):
                counts.removed += 1
                finding = None
            if finding is not None:
                counts.contradictions += not finding.agrees
                yield finding


def _identifier(unix_ms: int | None) -> str | None:
    """The first identifier of exchanges that began at an instant."""
    if unix_ms is None:
        return None
    digits = f"{max(0, unix_ms):012x}"
    return f"{digits[:8]}-{digits[8:]}"


async def _removed_times(reader: LogReader) -> list[tuple[int, int]]:
    """From when to when the entries were made that were removed, in unix ms: as their neighbours tell."""
    found = []
    for each in await reader.removed():
        before, after = await reader.entry_at(each.first - 1), await reader.entry_at(each.end)
        begins = before.at_ms - CLOCKS_APART_MS - _LONGEST_MS if before else 0
        found.append((begins, after.at_ms + CLOCKS_APART_MS if after else time.time_ns() // 1_000_000))
    return found


def _lies_in(times: Sequence[tuple[int, int]], exchange_id: str) -> bool:
    try:
        began = int(exchange_id[:8] + exchange_id[9:13], 16)
    except ValueError:
        return False
    return any(first <= began <= last for first, last in times)


def _take(lines: sqlite3.Connection, line: LedgerLine, ledger: str, begins: str | None, ends: str | None) -> None:
    query = bytes(line.query)
    try:
        asked = read_query_statement(query)
        said = None if line.answer is UNSET else read_answer_statement(bytes(line.answer))
    except EnvelopeError:
        # Not a statement: it cannot be the other side of anything, and is shown under its own digest.
        digest = hashlib.sha256(query).hexdigest()
        lines.execute(_INTENT, (f"?{digest}", "", query, "", line.at, ledger))
        return
    if (begins is not None and asked.id < begins) or (ends is not None and asked.id >= ends):
        return
    head = (asked.id, asked.service.rpartition("/")[0], hashlib.sha256(query).digest(), asked.deadline)
    if said is None:
        lines.execute(_INTENT, (*head, line.at, ledger))
    else:
        answer = hashlib.sha256(bytes(line.answer)).digest()  # type: ignore[arg-type]
        lines.execute(_ANSWER, (*head, line.at, answer, said.status, said.error, ledger))


def _compare(lines: sqlite3.Connection, entry: StoredEntry) -> Finding | None:
    """What there is to say about an entry of the log; None if both sides agree."""
    record = read_record(entry.leaf)
    row = lines.execute(
        "UPDATE lines SET seen = 1 WHERE id = ? RETURNING query, intent, at, answer, status, error, answers",
        (entry.exchange_id,),
    ).fetchone()

    def contradiction(en: str, zh: str) -> Finding:
        return Finding(entry.exchange_id, False, en, zh)

    if row is None:
        return _without_line(record, entry)
    query, intent, at, answer, status, error, answers = row
    if query != hashlib.sha256(bytes(record.query)).digest() or answers > 1:
        return contradiction("log and ledger hold different questions or answers", "日志与台账的请求或应答不一致")
    if record.answer is not UNSET:
        if answer != hashlib.sha256(bytes(record.answer)).digest():
            return contradiction("log and ledger hold different answers", "日志与台账的应答不一致")
        return None
    if answer is None:
        if record.outcome == "refused":
            return contradiction(
                "the log says it was refused, the ledger that it arrived", "日志称已拒绝，台账称已收到"
            )
        return Finding(
            entry.exchange_id,
            True,
            f"{record.outcome}; the department began at {intent} and released nothing: look into its own system",
            f"{record.outcome}；提供部门于 {intent} 开始处理，未返回结果，请核查其业务系统",
        )
    if record.outcome == "refused":
        return contradiction(
            "the log says it was refused, the ledger that it was answered", "日志称已拒绝，台账称已应答"
        )
    said = error or status
    return Finding(
        entry.exchange_id,
        True,
        f"{record.outcome}; the department answered {said} at {at}, and the caller was not given it",
        f"{record.outcome}；提供部门已于 {at} 应答（{said}），但未交付调用方",
    )


def _without_line(record: Record, entry: StoredEntry) -> Finding | None:
    if record.answer is not UNSET:
        return Finding(
            entry.exchange_id, False, "the log holds an answer that is in no ledger", "日志中的应答在台账中不存在"
        )
    if record.outcome == "unknown":
        return Finding(entry.exchange_id, True, "unknown; it never reached the department", "unknown；未到达提供部门")
    return None


async def _only_in_ledger(
    reader: LogReader, lines: sqlite3.Connection, exchange_id: str, deadline: str, at: str, ledger: str
) -> Finding | None:
    entry = await reader.entry(exchange_id)
    if entry is not None and not is_change(entry.leaf) and not is_event(entry.leaf):  # recorded while we were reading
        return _compare(lines, entry)
    try:
        open_until = parse_rfc3339(deadline) + _GRACE_MS
    except ValueError:
        open_until = 0
    if time.time_ns() // 1_000_000 < open_until:
        return None
    return Finding(
        exchange_id, False, f"{ledger} has it at {at}, the log has no record", f"{ledger} 于 {at} 有记载，日志中没有"
    )
