"""Whether the registry still tells the history that the log recorded.

Rules:
1. The log is right: it was checked before. What the registry's table of changes says otherwise was altered there; what it
   lacks was removed; what it has and the log should, and does not, was never recorded.
2. The first of these is named, by its version.
3. Then what the registry decides by is compared with its own changes: a grant that was altered in the database, and nothing
   else, is named.
4. A change may wait to be recorded while no gateway runs, or while the log is away. It waits no longer when a later change
   is on the log, or when the log went on for minutes after it.
5. Log and changes are read in pieces: neither has to fit into memory, nor is held up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exchange import CLOCKS_APART_MS, ChangeRecord, LogReader, read_change
from gateway.change_recorder import change_entry_id, change_record
from registry import Change, ChangeBook, altered_record

_PIECE = 500


class AlteredHistoryError(ValueError):
    """Registry and log tell different histories.

    Args:
        where: `change 12`, or a record such as `grant g42`.
        entry_id: Of the change's entry in the log; empty if it has none.
        problem: What is wrong, English.
        problem_zh: The same in Chinese.
    """

    def __init__(self, where: str, entry_id: str, problem: str, problem_zh: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.entry_id = entry_id
        self.problem = problem
        self.problem_zh = problem_zh


@dataclass(frozen=True, slots=True)
class ChangeSummary:
    """What a comparison found in order."""

    recorded: int
    """Changes that the registry and the log tell alike."""
    waiting: int
    """Changes that are not on the log yet."""


@dataclass(slots=True)
class _OnLog:
    """What the log says, as far as the registry says the same."""

    count: int = 0
    newest: int = 0
    """The largest version."""
    fault: AlteredHistoryError | None = None
    fault_version: int = 0


async def compare_changes(
    book: ChangeBook, reader: LogReader, progress: Callable[[int, int], None] | None = None
) -> ChangeSummary:
    """Compare every change on the log with the registry, and every change of the registry with the log.

    Args:
        reader: Reads a log that `check_log` found in order.
        progress: Told of (changes compared, changes on the log).

    Raises:
        AlteredHistoryError: The first one on which they differ.
    """
    size, _ = await reader.size()
    newest = await reader.entry_at(size - 1) if size else None
    on_log = await _log_against_registry(book, reader, progress)
    waiting = await _registry_against_log(book, reader, on_log, newest.at_ms if newest else 0)
    if on_log.fault is not None:
        raise on_log.fault
    if (altered := await altered_record(book.registry)) is not None:
        raise AlteredHistoryError(
            altered,
            "",
            "it was altered in the registry, and no change of it is on record",
            "登记簿中的内容被改动，且没有相应的变更记录",
        )
    return ChangeSummary(on_log.count, waiting)


async def _log_against_registry(
    book: ChangeBook, reader: LogReader, progress: Callable[[int, int], None] | None
) -> _OnLog:
    found = _OnLog()
    _, in_all = await reader.counts()
    piece: list[ChangeRecord] = []
    async for entry in reader.iter_entries(kind="change"):
        piece.append(read_change(entry.leaf)[0])
        if len(piece) == _PIECE:
            await _compare_piece(book, piece, found)
            piece = []
            if progress:
                progress(found.count, in_all)
            if found.fault is not None:
                return found
    await _compare_piece(book, piece, found)
    return found


async def _compare_piece(book: ChangeBook, piece: list[ChangeRecord], found: _OnLog) -> None:
    identity = await book.identity()
    registered = {change.version: change for change in await book.all_of([each.version for each in piece])}
    for recorded in piece:
        fault = _difference(identity, recorded, registered.get(recorded.version))
        if fault is not None:
            found.fault = AlteredHistoryError(f"change {recorded.version}", recorded.id, *fault)
            found.fault_version = recorded.version
            if recorded.registry != identity:
                raise found.fault  # its versions say nothing about ours
        else:
            found.count += 1
        found.newest = max(found.newest, recorded.version)
        if found.fault is not None:
            return


def _difference(identity: str, recorded: ChangeRecord, registered: Change | None) -> tuple[str, str] | None:
    """How the registry's row differs from what the log recorded, English and Chinese; None if it does not."""
    what = f"{recorded.action} {recorded.target}"
    if recorded.registry != identity:
        return (
            f"{what} was recorded of another registry ({recorded.registry}); this one is {identity}",
            f"{what} 属于另一个登记簿（{recorded.registry}），当前登记簿为 {identity}",
        )
    if registered is None:
        return (
            f"{what} by {recorded.by} is on the log, and the registry no longer has it: it was removed",
            f"日志中有 {recorded.by} 作出的 {what}，而登记簿中已没有：被删除",
        )
    says = change_record(identity, registered)
    if says == recorded:
        return None
    fields = [name for name in recorded.__dataclass_fields__ if getattr(says, name) != getattr(recorded, name)]
    named = ", ".join(dict.fromkeys(name.removesuffix("_digests") for name in fields))
    return (
        f"{what} by {recorded.by} was altered in the registry: {named} differs from what the log recorded",
        f"{recorded.by} 作出的 {what} 在登记簿中被改动：{named} 与日志记录不符",
    )


async def _registry_against_log(book: ChangeBook, reader: LogReader, on_log: _OnLog, newest_ms: int) -> int:
    """How many changes wait to be recorded; raises AlteredHistoryError for one that should have been."""
    identity = await book.identity()
    # Beyond the fault that was found nothing is looked for: the first one is named.
    until = on_log.fault_version if on_log.fault is not None else None
    after, waiting = 0, 0
    while piece := await book.after(after, limit=_PIECE):
        after = piece[-1].version
        ids = {change_entry_id(identity, change): change for change in piece}
        known = await reader.numbers(list(ids))
        for entry_id, change in ids.items():
            if until is not None and change.version >= until:
                return waiting
            if entry_id in known:
                continue
            too_old = newest_ms > change.at.timestamp() * 1000 + CLOCKS_APART_MS
            if change.version < on_log.newest or too_old:
                raise AlteredHistoryError(
                    f"change {change.version}",
                    "",
                    f"{change.action} {change.target} by {change.by} is in the registry and was never recorded",
                    f"登记簿中 {change.by} 作出的 {change.action} {change.target} 从未留痕",
                )
            waiting += 1
    return waiting
