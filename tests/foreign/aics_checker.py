"""Checks receipts, consistency proofs and tiles of a log with aics-tlog, a verifier of others (PyPI, Apache-2.0).

The cryptography and the tree are theirs. What is written here is how their parts are put together, as in `go/main.go`, whose
arguments and lines are the same; only that keys behind the first are those of witnesses, all of which must have cosigned. It runs
in a process of its own that sees the package (`tests/foreign/verifiers.py`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aics_tlog

PROOF_HEADER = "c2sp.org/tlog-proof@v1"


class RefusedError(Exception):
    """Why something is not accepted."""


def opened(note: str, keys: list[Any]) -> Any:
    """The checkpoint in a note that the log and all the witnesses have signed."""
    key, *witnesses = keys
    found = aics_tlog.verify_checkpoint(
        aics_tlog.parse_note(note), key, witnesses, len(witnesses), expected_origin=key.name
    )
    if not (found.ok and found.log_ok):
        raise RefusedError(found.error)
    return found


def check_receipt(receipt: dict[str, Any], keys: list[Any]) -> None:
    head, _, note = receipt["tlog_proof"].partition("\n\n")
    header, index, *proof = head.split("\n")
    if header != PROOF_HEADER or not index.startswith("index ") or str(int(index[6:])) != index[6:]:
        raise RefusedError("not a proof")
    covering = opened(note, keys)
    hashes = [aics_tlog.note.b64_decode(line) for line in proof]
    leaf = receipt["record"].encode()
    if not aics_tlog.verify_leaf_inclusion(leaf, int(index[6:]), covering.size, hashes, covering.root):
        raise RefusedError("the proof does not lead to the root")


def check_consistency(said: dict[str, Any], keys: list[Any]) -> None:
    older, newer = opened(said["old"], keys), opened(said["new"], keys)
    hashes = [aics_tlog.note.b64_decode(line) for line in said["proof"]]
    if not aics_tlog.verify_consistency(older.size, newer.size, older.root, newer.root, hashes):
        raise RefusedError("the trees are not shown to be consistent")


def check_note(said: dict[str, Any], keys: list[Any]) -> None:
    opened(said["note"], keys)


def check_tiles(keys: list[Any], folder: Path) -> str:
    newest = opened((folder / "checkpoint").read_text(encoding="utf-8"), keys)
    bundles = (folder / "tile" / "entries").exists()
    report = aics_tlog.audit_tiles(aics_tlog.FileSystemTileReader(folder), newest.size, newest.root, entries=bundles)
    return f"{newest.origin}, {report.size} entries in the tree, {report.bundles} bundles compared with it"


def main(mode: str, *arguments: str) -> int:
    if mode == "tiles":
        vkey, folder = arguments
        try:
            print("ok:", check_tiles([aics_tlog.parse_vkey(vkey)], Path(folder)))
        except (RefusedError, ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    keys = [aics_tlog.parse_vkey(each) for each in arguments]
    checks: dict[str, Callable[[dict[str, Any], list[Any]], None]] = {
        "receipts": check_receipt,
        "consistency": check_consistency,
        "notes": check_note,
    }
    good = True
    for line in sys.stdin:
        try:
            checks[mode](json.loads(line), keys)
        except (RefusedError, ValueError) as error:
            good = False
            print("refused:", " ".join(str(error).split()))
        else:
            print("ok")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
