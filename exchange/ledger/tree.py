"""The tree over a ledger's lines: a department's own log, of the same form as the gateway's.

Rules:
1. A line, without its newline, is a leaf of an RFC 9162 tree. Complete hash tiles lie beside the lines as files (C2SP
   tlog-tiles), the newest checkpoint as `checkpoint`, one a minute for ever in `checkpoints.jsonl`, and the public key as `vkey`.
   The origin names the owner.
2. Only lines that are on disk are signed over. What was signed last is kept beside the key, outside the folder: an old copy of
   the folder that is put back, or a line changed near the end, is recognised at the next start. Whatever was changed further
   back, `datong audit check-ledger` names.
3. Tiles can be made again from the lines: after a power cut they are, and must lead to what was signed.
4. What touches files blocks: the ledger calls it in a thread, one call at a time, and no answer waits for it. `add` only hashes.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import quote

from exchange.log.store import CorruptLogError
from exchange.log.writer import LastSigned
from exchange.transparency.checkpoint import Checkpoint, NoteError, NoteSigner
from exchange.transparency.merkle import HASH_SIZE, ProofError, hash_leaf, root_of
from exchange.transparency.tile_paths import TileName
from exchange.transparency.tiles import WIDTH, Edge, Tile, edge_widths

CHECKPOINT: Final = "checkpoint"
CHECKPOINTS: Final = "checkpoints.jsonl"
VKEY: Final = "vkey"
_KEPT_SECONDS: Final = 60.0
_AT_ONCE: Final = 4096

Lines = Callable[[int], Iterator[bytes]]
"""The lines from a number on, without newlines."""


class LedgerTreeError(ValueError):
    """What is in the folder is not what was signed, or the key cannot be used."""


def origin_of(owner: str) -> str:
    """The origin of an owner's ledger: its identifier and `/ledger`, with what a key's name must not hold percent-encoded."""
    return re.sub(r"[\s+%\x00-\x1f\x7f]", lambda found: quote(found[0], safe=""), f"{owner}/ledger")


class LedgerTree:
    """The tree of one ledger; `open` makes one. Whoever holds the ledger's lock uses it.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(
        self, folder: Path, signer: NoteSigner, last: LastSigned, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._signer = signer
        self._last = last
        self._clock = clock
        self._edge = Edge.empty()
        self._unwritten: list[Tile] = []
        """Complete tiles that are not in their files yet."""
        self._kept_at: float | None = None
        self._kept_size = -1

    @classmethod
    def open(
        cls, folder: Path, key: Path, owner: str, lines: Lines, *, clock: Callable[[], float] = time.monotonic
    ) -> LedgerTree:
        """Take up the tree where it was left, make a key if there is none, and take in lines that are not in the tree yet.

        Raises:
            LedgerTreeError: Lines that were signed over are missing or were changed, or the key is not one for this owner.
            OSError: A file cannot be read or written.
        """
        signer = _signer(key, origin_of(owner))
        last = LastSigned(key)
        tree = cls(folder, signer, last, clock)
        try:
            signed = last.read(signer)
        except CorruptLogError as error:
            raise LedgerTreeError(str(error)) from error
        if signed is not None:
            last.size = signed.size
            tree._edge = tree._stored(signed, lines) or tree._made_again(signed, lines)
        tree._take_in(lines(tree.size))
        tree.sign()
        _replace(folder / VKEY, f"{tree.vkey}\n".encode())
        return tree

    @property
    def size(self) -> int:
        """Lines in the tree."""
        return self._edge.size

    @property
    def vkey(self) -> str:
        """The public key of the ledger."""
        return self._signer.verifier.vkey

    @property
    def signed(self) -> bool:
        """Whether the newest checkpoint is of all lines in the tree."""
        return self._edge.size == self._last.size

    def add(self, lines: Iterable[bytes]) -> None:
        """Take in more lines, which are on disk; they are signed over at the next `sign`."""
        self._edge, tiles = self._edge.extended(map(hash_leaf, lines))
        self._unwritten += tiles

    def sign(self) -> None:
        """Write the tiles that were completed, and sign the tree; raises OSError, and may be called again then."""
        self._write_tiles()
        path = self._folder / CHECKPOINT
        if self.signed and path.exists():
            return
        note = Checkpoint(self._signer.verifier.name, self.size, self._edge.root).signed(self._signer)
        self._last.write(self.size, note)
        _replace(path, note.encode())
        now = self._clock()
        if self._kept_at is None or now - self._kept_at >= _KEPT_SECONDS:
            self._kept_at = now
            self._keep(note)

    def keep(self) -> None:
        """Keep the newest checkpoint for ever; raises OSError."""
        if self.size != self._kept_size:
            self._keep((self._folder / CHECKPOINT).read_text(encoding="utf-8"))

    def _take_in(self, lines: Iterator[bytes]) -> None:
        while some := list(islice(lines, _AT_ONCE)):
            self.add(some)
            self._write_tiles()

    def _keep(self, note: str) -> None:
        line = json.dumps({"note": note}, ensure_ascii=False) + "\n"
        path = self._folder / CHECKPOINTS
        # A line that a power cut tore is ended first, so that it spoils no other.
        torn = path.exists() and path.stat().st_size > 0 and _last_byte(path) != b"\n"
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" * torn + line)
        self._kept_size = self.size

    def _write_tiles(self) -> None:
        while self._unwritten:
            tile = self._unwritten[0]
            path = self._folder / TileName(tile.level, tile.number).path
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, tile.hashes)
            self._unwritten.pop(0)

    def _stored(self, signed: Checkpoint, lines: Lines) -> Edge | None:
        """The edge at the signed size from tiles and the last lines; None if tiles are missing or lead elsewhere."""
        widths = edge_widths(signed.size)
        unfinished = list(map(hash_leaf, islice(lines(signed.size - widths[0]), widths[0])))
        if len(unfinished) != widths[0]:
            raise _lost(signed.size)
        levels = [unfinished]
        for level, width in enumerate(widths[1:]):
            end = signed.size >> 8 * (level + 1)
            hashes = [self._tile(level, number) for number in range(end - width, end)]
            if not all(len(each) == WIDTH * HASH_SIZE for each in hashes):
                return None
            levels.append([root_of([each[at : at + 32] for at in range(0, len(each), 32)]) for each in hashes])
        try:
            edge = Edge.from_levels(signed.size, levels)
        except ProofError:
            return None
        return edge if edge.root == signed.root else None

    def _tile(self, level: int, number: int) -> bytes:
        try:
            return (self._folder / TileName(level, number).path).read_bytes()
        except FileNotFoundError:
            return b""

    def _made_again(self, signed: Checkpoint, lines: Lines) -> Edge:
        """The edge at the signed size from all the lines, whose tiles are written anew."""
        self._edge = Edge.empty()
        self._take_in(islice(lines(0), signed.size))
        if self.size != signed.size:
            raise _lost(signed.size)
        if self._edge.root != signed.root:
            raise LedgerTreeError(
                f"the first {signed.size} lines are not those that were signed over: a line was changed. "
                "Keep the folder for the auditors (datong audit check-ledger names the line) and begin a new one"
            )
        return self._edge


def _lost(size: int) -> LedgerTreeError:
    return LedgerTreeError(
        f"{size} lines were signed over, and the ledger has fewer: lines are missing, or an old copy was put back. "
        "Put the newest copy back, or keep the folder for the auditors and begin a new one"
    )


def _signer(key: Path, origin: str) -> NoteSigner:
    """The key of the ledger, made if there is none."""
    try:
        if not key.exists():
            signer = NoteSigner.generate(origin)
            _replace(key, signer.skey.encode(), durable=True)
            return signer
        signer = NoteSigner.from_skey(key.read_text(encoding="utf-8"))
    except (NoteError, UnicodeDecodeError) as error:
        raise LedgerTreeError(f"{key}: {error}") from error
    if signer.verifier.name != origin:
        raise LedgerTreeError(f"{key} is the key of {signer.verifier.name}, and this ledger is {origin}")
    return signer


def _replace(path: Path, content: bytes, *, durable: bool = False) -> None:
    draft = path.with_name(path.name + ".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
