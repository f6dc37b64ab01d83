"""Where the log is kept, as its writer sees it. SQLite and PostgreSQL implement it, under the same contract tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from exchange.log.frames import Annex, AnnexKind, Certificate, Entry, Evidence, Intent
from exchange.transparency.merkle import HASH_SIZE, ProofError, hash_leaf
from exchange.transparency.tiles import WIDTH, Edge, TileReader, Wanted, edge_widths

ANNEXES: dict[AnnexKind, tuple[str, tuple[str, ...]]] = {
    "cosignature": ("log_cosignatures", ("size", "witness", "at_ms", "line")),
    "stamp": ("log_stamps", ("size", "authority", "at_ms", "token")),
    "revocation": (
        "log_revocations",
        ("digest", "kind", "about", "this_update_ms", "next_update_ms", "first_seen_ms", "der"),
    ),
}
"""Kind -> table and columns of what others say of checkpoints and certificates. What is there stays as it was."""


class StoreError(Exception):
    """The database did not do what was asked: full, locked, away. Nothing is known to be durable; try again."""


class CorruptLogError(Exception):
    """What is stored contradicts itself, or what was signed before. Trying again cannot help."""


class DuplicateRecordError(Exception):
    """Some exchanges of the batch have their record already, or occur twice in it. Nothing was written."""

    def __init__(self, exchange_ids: set[str]) -> None:
        super().__init__("an exchange has exactly one record")
        self.exchange_ids = exchange_ids
        """Those that have their record already."""


class Removal(NamedTuple):
    """Entries that go because their time is over (`exchange.archive.retention`)."""

    first: int
    end: int
    """Exclusive."""
    segment: str
    """Hex SHA-256 of the manifest of the archive segment that holds them."""


@dataclass(slots=True)
class Batch:
    """What one transaction makes durable."""

    gateway: str
    boot: str
    entries: list[Entry] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    """Exchanges whose intent is to be deleted."""
    intents: list[Intent] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    """Signatures of callers, of exchanges among the entries or intents."""
    annexes: list[Annex] = field(default_factory=list)
    at_ms: int = 0
    """Now; when a certificate was first seen."""
    removals: list[Removal] = field(default_factory=list)
    """In complete tiles. The last of the entries is the record of them."""

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.entries or self.settled or self.intents or self.certificates or self.annexes)

    def leaf_hashes(self) -> list[bytes]:
        return [hash_leaf(entry[7]) for entry in self.entries]


class SignedSize(NamedTuple):
    """A checkpoint as stored."""

    size: int
    root: bytes
    note: str


Sign = Callable[[int, bytes], str]
"""(size, root) -> the signed note. Raises CorruptLogError if that must not be signed."""


class LogStore(TileReader, Protocol):
    """Keeps one log. One task at a time calls it; other processes may write to the same database.

    Every method raises StoreError when the database fails; what was not committed then is not there. The store
    reconnects by itself at the next call. `append` and `checkpoint` return only when the bytes would survive a power
    cut.
    """

    async def load(self) -> Edge:
        """The edge of the stored tree, checked against its rows and the stored root; raises CorruptLogError."""

    async def append(self, edge: Edge, batch: Batch) -> Edge:
        """Write the batch after whatever the log holds by now, all or nothing, and return the new edge.

        Compare-and-swap on the size of the tree: if others wrote since `edge`, their entries come first.

        Raises:
            DuplicateRecordError: Nothing was written, because of the exchanges it names.
            CorruptLogError: What others wrote does not lead to the root that is stored.
            StoreError: Besides: some of what is to be removed is not there.
        """

    async def checkpoint(self, edge: Edge, sign: Sign) -> tuple[Edge, str]:
        """Return the checkpoint of the whole log as it is now, signing and storing it unless that was done before.

        Stored with it: the leaf hashes of the unfinished tile, in place of those of the checkpoint before.
        """

    async def newest_checkpoint(self) -> SignedSize | None:
        """The checkpoint of the largest tree."""

    async def close(self) -> None:
        """Let go of the database; the next call opens it again."""


def edge_of(
    size: int, root: bytes, last_seq: int | None, rows: Sequence[tuple[bytes, bytes]], roots: list[list[bytes]]
) -> Edge:
    """Put the edge of a stored tree together.

    Args:
        size: Of the tree, as stored.
        root: Likewise.
        last_seq: The largest number of an entry.
        rows: (leaf hash, leaf) of the entries in the unfinished tile of level 0.
        roots: For each level above, roots of the tiles below that its unfinished tile holds.

    Raises:
        CorruptLogError: They do not belong together.
    """
    if (last_seq is None) != (size == 0) or (last_seq is not None and last_seq != size - 1):
        raise CorruptLogError(f"the log says it has {size} entries, its last entry has number {last_seq}")
    for position, (leaf_hash, leaf) in enumerate(rows, size - len(rows)):
        if hash_leaf(leaf) != leaf_hash:
            raise CorruptLogError(f"entry {position} was changed: its bytes do not have its hash")
    try:
        edge = Edge.from_levels(size, [[leaf_hash for leaf_hash, _ in rows], *roots])
    except ProofError as error:
        raise CorruptLogError("entries or tiles are missing at the end of the log") from error
    if edge.root != root:
        raise CorruptLogError("the end of the log does not lead to the root stored with it")
    return edge


def caught_up(edge: Edge, size: int, root: bytes, tiles: Sequence[bytes], leaf_hashes: Sequence[bytes]) -> Edge:
    """The edge after what others appended; raises CorruptLogError if that does not lead to the stored root.

    Args:
        tiles: Hashes of the complete tiles of level 0 from the unfinished one of `edge` on: of what others appended long ago
            the entries may have been removed since.
        leaf_hashes: Of the entries after these tiles, or after `edge` if there are none.
    """
    skipped = edge.size % WIDTH * HASH_SIZE if tiles else 0
    known = b"".join(tiles)[skipped:]
    leaf_hashes = [known[at : at + HASH_SIZE] for at in range(0, len(known), HASH_SIZE)] + list(leaf_hashes)
    if len(leaf_hashes) != size - edge.size:
        raise CorruptLogError(f"the log shrank from {edge.size} entries, or has gaps")
    edge, _ = edge.extended(leaf_hashes)
    if edge.root != root:
        raise CorruptLogError("what another writer appended does not lead to the root stored with it")
    return edge


def tiles_since(edge: Edge, size: int) -> tuple[range, int]:
    """What to read to catch up: numbers of complete tiles of level 0, and the first entry after them (`caught_up`)."""
    complete = range(edge.size // WIDTH, size // WIDTH)
    return complete, complete.stop * WIDTH if complete else edge.size


def check_removals(batch: Batch, edge: Edge) -> None:
    """Return if what a batch removes lies in complete tiles, and one of its own entries says so; raises ValueError."""
    if batch.removals and not batch.entries:
        raise ValueError("what is removed without a record of it would be missing")
    if any(not 0 <= removal.first < removal.end <= edge.size // WIDTH * WIDTH for removal in batch.removals):
        raise ValueError("only entries in complete tiles can be removed: the others are needed to go on")


def edge_ranges(size: int) -> list[range]:
    """For each level, the numbers of the hashes in its unfinished tile."""
    return [range((size >> 8 * level) - width, size >> 8 * level) for level, width in enumerate(edge_widths(size))]


def first_hash(wanted: Wanted) -> int:
    """Number, within its level, of the first hash of a tile."""
    return wanted.number << 8
