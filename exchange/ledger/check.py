"""Deriving a department's ledger again from its lines, and naming the first thing in it that was changed.

Rules:
1. The anchor is the ledger's public key. Lines lead to leaf hashes, these to tiles, and every checkpoint that was kept must be the
   root at its size.
2. A changed line is named by the tile it was in. Changed together with its tile, it is found at the next checkpoint, and cannot be
   placed better than between two of them.
3. A ledger that is being written has lines that nobody has signed yet; they are counted.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from exchange.ledger.ledger import LedgerError, read_lines
from exchange.ledger.tree import CHECKPOINT, CHECKPOINTS
from exchange.transparency.checkpoint import Checkpoint, NoteError, NoteVerifier, open_checkpoint
from exchange.transparency.merkle import hash_leaf
from exchange.transparency.tile_paths import TileName
from exchange.transparency.tiles import WIDTH, Edge, Tile

_HASH = 32

Progress = Callable[[int], None]
"""Told how many lines were checked."""


class DamagedLedgerError(ValueError):
    """Something in the folder is not what was written.

    Args:
        where: `line 17` (from 0), `lines 256 to 511`, `tile 0/3`, `checkpoint 4096`.
        problem: What is wrong with it, English.
        problem_zh: The same in Chinese.
    """

    def __init__(self, where: str, problem: str, problem_zh: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem
        self.problem_zh = problem_zh


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """What a check found in order."""

    origin: str
    """Whose ledger it is: the owner's identifier and `/ledger`."""
    lines: int
    tiles: int
    checkpoints: int
    signed: int
    """Lines under the newest checkpoint; those beyond are on disk for less than a second or two."""


def check_ledger(folder: Path, verifier: NoteVerifier, progress: Progress | None = None) -> LedgerSummary:
    """Check everything that a ledger holds.

    Args:
        verifier: The ledger's public key, obtained elsewhere or believed (`vkey` of the file beside the key).

    Raises:
        DamagedLedgerError: Names the first damage.
        LedgerError: There is no ledger, or it cannot be read.
    """
    checkpoints = _checkpoints(folder, verifier)
    edge, tiles, signed = Edge.empty(), 0, 0
    lines = _lines(folder)
    for checkpoint in [*checkpoints, None]:
        wanted = checkpoint.size if checkpoint is not None else None
        while wanted is None or edge.size < wanted:
            most = WIDTH - edge.size % WIDTH
            some = list(islice(lines, most if wanted is None else min(most, wanted - edge.size)))
            if not some:
                break
            edge, made = edge.extended(map(hash_leaf, some))
            for tile in made:
                _check_tile(folder, tile, is_signed=wanted is not None)
                tiles += 1
            if progress:
                progress(edge.size)
        if checkpoint is None:
            break
        if edge.size < checkpoint.size:
            raise DamagedLedgerError(
                f"line {edge.size}",
                f"{checkpoint.size} lines were signed over, the ledger ends here: lines were removed",
                f"已签署 {checkpoint.size} 行，而台账到此为止：有行被删除",
            )
        if edge.root != checkpoint.root:
            _name_line(folder, edge)
            raise DamagedLedgerError(
                f"lines {signed} to {checkpoint.size - 1}",
                f"they are not those of the checkpoint of {checkpoint.size} lines",
                f"与 {checkpoint.size} 行处签署的检查点不符",
            )
        signed = checkpoint.size
    return LedgerSummary(verifier.name, edge.size, tiles, len(checkpoints), signed)


def _lines(folder: Path) -> Iterator[bytes]:
    if not any(folder.glob("*.jsonl")):
        raise LedgerError(f"there is no ledger in {folder}")
    yield from read_lines(folder)


def _checkpoints(folder: Path, verifier: NoteVerifier) -> list[Checkpoint]:
    """Those that were kept and the newest, by size and each size once."""
    notes: list[str] = []
    try:
        kept = (folder / CHECKPOINTS).read_text(encoding="utf-8").splitlines()
        newest = (folder / CHECKPOINT).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{folder}: no checkpoints: {error}") from error
    for number, line in enumerate(kept, 1):
        try:
            notes.append(str(json.loads(line)["note"]))
        except (ValueError, KeyError, TypeError):
            if line.startswith('{"note": "') and not line.endswith("}"):
                continue  # torn by a power cut; what it said is said again by a later one
            raise DamagedLedgerError(f"{CHECKPOINTS}, line {number}", "it is not a checkpoint", "不是检查点") from None
    found: dict[int, Checkpoint] = {}
    last = -1
    for note in [*notes, newest]:
        try:
            checkpoint = open_checkpoint(note, [verifier])
        except NoteError as error:
            where = note.split("\n", 2)[1] if note.count("\n") > 1 else "?"
            raise DamagedLedgerError(f"checkpoint {where}", str(error), "签名无效或格式不正确") from error
        if checkpoint.size < last:
            raise DamagedLedgerError(
                f"checkpoint {checkpoint.size}", f"it stands after that of {last} lines", f"排在 {last} 行的检查点之后"
            )
        last = checkpoint.size
        if found.setdefault(checkpoint.size, checkpoint).root != checkpoint.root:
            raise DamagedLedgerError(
                f"checkpoint {checkpoint.size}",
                "two different ones were signed: the ledger was forked",
                "存在两个不同的检查点：台账出现分叉",
            )
    return [found[size] for size in sorted(found) if size]


def _check_tile(folder: Path, tile: Tile, *, is_signed: bool) -> None:
    where = f"tile {tile.level}/{tile.number}"
    try:
        stored = (folder / TileName(tile.level, tile.number).path).read_bytes()
    except FileNotFoundError:
        if not is_signed:
            return  # it comes with the next checkpoint
        raise DamagedLedgerError(where, "the tile is missing", "该数据块缺失") from None
    except OSError as error:
        raise LedgerError(f"{folder}: {error.strerror}") from error
    if stored == tile.hashes:
        return
    if not tile.level and len(stored) == len(tile.hashes):
        _compare(tile.number * WIDTH, tile.hashes, stored)
    raise DamagedLedgerError(where, "the tile is not that of the lines", "数据块与台账不符")


def _name_line(folder: Path, edge: Edge) -> None:
    """Raise with the first line of the unfinished tile that is not the one its tile, finished since, was made from."""
    number = edge.size // WIDTH
    with contextlib.suppress(OSError):
        stored = (folder / TileName(0, number).path).read_bytes()
        _compare(number * WIDTH, b"".join(edge.levels[0]), stored)


def _compare(first: int, hashes: bytes, stored: bytes) -> None:
    for slot in range(min(len(hashes), len(stored)) // _HASH):
        if stored[slot * _HASH :][:_HASH] != hashes[slot * _HASH :][:_HASH]:
            raise DamagedLedgerError(
                f"line {first + slot}",
                "it is not the one that its tile was made from: it, or the tile, was changed",
                "与生成数据块时的内容不符：该行或数据块被改动",
            )
