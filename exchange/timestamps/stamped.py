"""How well the log is covered by time stamps: those that are stored, and the gaps between them.

A gap is a stretch in which entries under a signed checkpoint waited longer for an authority's next stamp than they should. It
is computed from what is stored, so that it shows whoever looks, years later, whatever any process knew at the time. A stretch
without new entries is none: there was nothing to stamp. Entries that were removed since count from the next that is there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from exchange.log.reader import LogReader, StampTime


@dataclass(frozen=True, slots=True, kw_only=True)
class StampGap:
    """Entries that waited for the stamp of an authority."""

    authority: str
    size: int
    """Of the last checkpoint that had a stamp before; 0 if none had. The entries from this number on waited."""
    since_ms: int
    until_ms: int | None
    """When the next stamp was made; None if they still wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """Some stamps, those on the largest trees first, and the gaps before and after them."""

    stamps: tuple[StampTime, ...]
    gaps: tuple[StampGap, ...]
    """The newest first."""
    below: int | None
    """Where to go on; None if there are no more."""


async def read_stamped(
    reader: LogReader,
    *,
    authorities: Collection[str] = (),
    longest_ms: int,
    now_ms: int,
    below: int | None = None,
    limit: int = 100,
) -> Stamped:
    """The stamps of all authorities, and where they are missing.

    Args:
        authorities: Of which there should be stamps now: one that never stamped is a gap, and one that is not among them and
            stopped is none. Empty: all that ever stamped.
        longest_ms: Entries that waited longer are a gap.
        below: `below` of what was read before; None: from the newest.
        limit: Stamps at most; those on one checkpoint stay together, even beyond it.
    """
    found = await reader.stamp_times(below=below, limit=limit + 1)
    more = len(found) > limit
    if more:
        found.pop()
        smallest = found[-1].size
        known = len([stamp for stamp in found if stamp.size == smallest])
        found += (await reader.stamp_times(above=smallest - 1, below=smallest + 1, limit=limit + known))[known:]
    newest = await reader.latest_checkpoint() if below is None else None
    gaps = []
    for authority in sorted({*authorities, *(stamp.authority for stamp in found)}):
        of_this = [stamp for stamp in found if stamp.authority == authority]
        older = await reader.stamp_times(below=of_this[-1].size if of_this else below, authority=authority, limit=1)
        stamps = [*of_this, *older]
        for stamp, before in zip(of_this, [*stamps[1:], None], strict=False):
            gaps.append(await _gap(reader, authority, before, stamp.size, longest_ms, stamp.at_ms, now_ms))
        if newest is not None and (not authorities or authority in authorities):
            last = stamps[0] if stamps else None
            gaps.append(await _gap(reader, authority, last, newest.size, longest_ms, None, now_ms))
    real = sorted([gap for gap in gaps if gap is not None], key=lambda gap: (-gap.since_ms, gap.authority))
    return Stamped(stamps=tuple(found), gaps=tuple(real), below=found[-1].size if more else None)


async def waiting_since(reader: LogReader, last: StampTime | None, size: int) -> int | None:
    """Since when entries wait for an authority's next stamp, unix ms; None if nothing waits.

    Args:
        last: Its stamp on the largest tree.
        size: Entries under the newest signed checkpoint.
    """
    entered = await reader.entered_at(last.size if last is not None else 0, size)
    return entered if entered is None or last is None else max(entered, last.at_ms)


async def _gap(
    reader: LogReader,
    authority: str,
    before: StampTime | None,
    size: int,
    longest_ms: int,
    until_ms: int | None,
    now_ms: int,
) -> StampGap | None:
    """The gap between the stamp `before` and the next one, on `size` entries, or until now if `until_ms` is None."""
    end_ms = now_ms if until_ms is None else until_ms
    if before is not None and end_ms - before.at_ms <= longest_ms:
        return None  # the usual case, without asking the log
    since_ms = await waiting_since(reader, before, size)
    if since_ms is None or end_ms - since_ms <= longest_ms:
        return None
    stamped = before.size if before is not None else 0
    return StampGap(authority=authority, size=stamped, since_ms=since_ms, until_ms=until_ms)
