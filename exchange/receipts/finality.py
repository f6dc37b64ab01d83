"""Which checkpoint goes into a receipt: the smallest one over the entry that the quorum of a policy has cosigned.

Rules:
1. Who asks later gets the same checkpoint: the smallest final one, not the newest. Until there is one, the newest that covers the
   entry, and the receipt is pending.
2. What is stored counts for nothing until it verifies: the policy is applied to the signatures in the note. A line that does not
   verify is left out, for one bad line spoils a note.
3. The work is bounded however many checkpoints there are: the search leaps from cosignature to cosignature of each witness, and
   gives up after so many leaps; then the receipt is pending.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from exchange.log.reader import LogReader
from exchange.log.store import SignedSize
from exchange.transparency.checkpoint import NoteError
from exchange.transparency.merkle import ProofError
from exchange.transparency.trust_policy import NO_QUORUM, TrustPolicy

_MOST_LEAPS = 64


class CheckpointForReceipt(NamedTuple):
    """A checkpoint as one signed note, and whether it is final."""

    note: str
    """The log's own signature, then the cosignature lines that are stored, in order of the witnesses' key names."""
    final: bool


async def best_checkpoint(
    reader: LogReader, policy: TrustPolicy | None, seq: int, *, need_stamp: bool = False
) -> CheckpointForReceipt:
    """The checkpoint for the receipt of the entry with number `seq`.

    Args:
        policy: Whose cosignatures make it final; without one every signed checkpoint is.
        need_stamp: A checkpoint is final only if a time stamp of some authority is stored for it, too. Whether the stamp is good
            is not checked.

    Raises:
        ProofError: No signed checkpoint covers the entry yet.
    """
    size = seq + 1
    for _ in range(_MOST_LEAPS):
        leap = await _next_size(reader, policy, size, need_stamp=need_stamp)
        if leap is None:
            break
        size, complete = leap
        if not complete:
            continue
        found = await reader.checkpoints_from(size, 1)
        if found and (found[0].size == size or (not _needs_quorum(policy) and not need_stamp)):
            note, satisfied = await _with_lines(reader, policy, found[0])
            if satisfied:
                return CheckpointForReceipt(note, True)
        elif not found:
            break
        size += 1
    newest = await reader.latest_checkpoint()
    if newest is None or newest.size <= seq:
        raise ProofError("no signed checkpoint covers the entry yet")
    note, _ = await _with_lines(reader, policy, newest)
    return CheckpointForReceipt(note, False)


def _needs_quorum(policy: TrustPolicy | None) -> bool:
    return policy is not None and policy.quorum != NO_QUORUM


async def _next_size(
    reader: LogReader, policy: TrustPolicy | None, size: int, *, need_stamp: bool
) -> tuple[int, bool] | None:
    """The smallest size, at least `size`, at which all that is wanted may be stored, and whether it is stored there.

    None if nothing stored can lead to a final checkpoint.
    """
    stamped = size
    if need_stamp:
        stamps = await reader.stamped_from(size, 1)
        if not stamps:
            return None
        stamped = stamps[0][0]
    if policy is None or policy.quorum == NO_QUORUM:
        return stamped, True
    by_key = await reader.next_cosigned(sorted({one.verifier.name for one in policy.witnesses}), stamped)
    nexts = {one.name: by_key[one.verifier.name] for one in policy.witnesses if one.verifier.name in by_key}
    for reached in sorted(set(nexts.values())):
        # At no smaller size a quorum can have signed: each witness of it has signed nothing from `stamped` to its next.
        if policy.satisfied_by([name for name, at in nexts.items() if at <= reached]):
            here = [name for name, at in nexts.items() if at == reached]
            return reached, policy.satisfied_by(here) and (not need_stamp or reached == stamped)
    return None


async def _with_lines(reader: LogReader, policy: TrustPolicy | None, stored: SignedSize) -> tuple[str, bool]:
    """The stored note with the cosignature lines of the policy's witnesses, and whether they satisfy the policy.

    Of more lines than make the quorum the earliest ones: what is added later does not make another receipt of it.
    """
    if policy is None:
        return stored.note, True
    found: list[tuple[int, str, str]] = []
    for line in (await reader.cosignatures(stored.size)).values():
        with contextlib.suppress(NoteError):
            found += [(at, name, line) for name, at in policy.cosigned(stored.note + line).items()]
    lines: dict[str, str] = {}
    for _, name, line in sorted(found):
        lines[name] = line
        if policy.satisfied_by(lines):
            break
    ordered = sorted(lines.values())
    return stored.note + "".join(ordered), policy.satisfied_by(lines)
