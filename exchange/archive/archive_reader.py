"""A segment read as a log is read, so that receipts are made from it by the same code, and the receipts themselves.

What it gives out is what was archived (`Segment.read`); whether that holds against a key list is for `check_segment`, and for
whoever verifies the receipt.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography import x509

from exchange.archive.manifest import ArchiveError
from exchange.archive.segment import Segment
from exchange.archive.segment_checks import (
    Annexes,
    StoredCheckpoint,
    digest_of,
    private_path,
    read_annexes,
    read_checkpoints,
)
from exchange.archive.segment_tree import SegmentTiles, at_once
from exchange.canonical_json import parse_canonical
from exchange.receipts.certificate_path import is_ca
from exchange.receipts.receipt import build_receipt
from exchange.transparency.merkle import hash_leaf
from exchange.transparency.tile_paths import unpack_bundle
from exchange.transparency.tiles import inclusion_proof
from exchange.transparency.trust_policy import TrustPolicy


@dataclass(frozen=True, slots=True)
class ArchivedEntry:
    """An entry as it stands in a segment; of a log's columns those that a receipt needs."""

    seq: int
    leaf: bytes
    leaf_hash: bytes
    salt: bytes | None
    evidence: bytes | None


@dataclass(frozen=True, slots=True)
class ArchivedRevocation:
    """A CRL or an OCSP response."""

    digest: str
    about: str
    this_update_ms: int
    next_update_ms: int | None
    der: bytes


def receipt_from_archive(path: Path, exchange_id: str, policy: TrustPolicy | None = None) -> bytes | None:
    """The receipt of an entry, made from its segment alone; None if the entry is not in it.

    With the file of salts and callers' signatures beside the segment, these are in the receipt.

    Args:
        policy: The smallest checkpoint that satisfies it is chosen, as for a receipt from the log; without, or if none does, the
            one with most cosignatures.

    Raises:
        ArchiveError: The segment is damaged.
        OSError: It cannot be read.
    """
    with Segment(path) as segment:
        reader = ArchiveReader(segment)
        entry = reader.find(exchange_id)
        return None if entry is None else reader.receipt(entry, policy)


class ArchiveReader:
    """What `build_receipt` asks of a log, answered from a segment."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._tiles = SegmentTiles(segment)

    def find(self, exchange_id: str) -> ArchivedEntry | None:
        """The entry of an exchange, of a change or of an act on the log."""
        needle = json.dumps(exchange_id, ensure_ascii=False).encode()
        for bundle in self._segment.manifest.bundles:
            data = self._segment.read(bundle.path)
            if needle not in data:
                continue
            for seq, leaf in enumerate(unpack_bundle(data), bundle.first):
                if needle in leaf and json.loads(leaf).get("id") == exchange_id:
                    return self._entry(seq, leaf)
        return None

    def receipt(self, entry: ArchivedEntry, policy: TrustPolicy | None) -> bytes:
        """The receipt of an entry of this segment; raises ArchiveError."""
        note = self._note(entry.seq, policy)
        authorities = [der for der in map(self._certificate, self._annexes.certificates) if der is not None]
        receipt = build_receipt(
            self,
            entry,
            note,
            intermediates=[one for one in map(x509.load_der_x509_certificate, authorities) if is_ca(one)],
            evidence=entry.evidence,
        )
        return at_once(receipt)

    async def inclusion(self, seq: int, size: int) -> list[bytes]:
        return await inclusion_proof(self._tiles, seq, size)

    async def certificates_of(self, fingerprints: Sequence[str]) -> dict[str, bytes]:
        found = {one: self._certificate(one) for one in fingerprints}
        return {one: der for one, der in found.items() if der is not None}

    async def stamps(self, size: int) -> dict[str, bytes]:
        found = next((one for one in read_checkpoints(self._segment) if one.size == size), None)
        return {} if found is None else {authority: token for authority, _, token in found.stamps}

    async def revocations(self, about: Sequence[str], *, at_ms: int, limit: int) -> list[ArchivedRevocation]:
        rows = [
            row
            for row in self._annexes.revocations
            if row["about"] in about and row["this_update_ms"] <= at_ms <= row.get("next_update_ms", at_ms)
        ]
        newest = sorted(rows, key=lambda row: row["this_update_ms"], reverse=True)[:limit]
        return [self._revocation(row) for row in newest]

    @cached_property
    def _annexes(self) -> Annexes:
        return read_annexes(self._segment)

    def _certificate(self, fingerprint: str) -> bytes | None:
        known = fingerprint in self._annexes.certificates
        return self._annexes.certificate(self._segment, fingerprint) if known else None

    def _revocation(self, row: dict[str, Any]) -> ArchivedRevocation:
        der = self._annexes.revocation(self._segment, row["digest"])
        return ArchivedRevocation(row["digest"], row["about"], row["this_update_ms"], row.get("next_update_ms"), der)

    def _entry(self, seq: int, leaf: bytes) -> ArchivedEntry:
        beside: dict[str, Any] = next((row for row in read_private(self._segment) if row["seq"] == seq), {})
        evidence = b64decode(beside["evidence"]) if "evidence" in beside else None
        salt = bytes.fromhex(beside["salt"]) if "salt" in beside else None
        return ArchivedEntry(seq, leaf, hash_leaf(leaf), salt, evidence)

    def _note(self, seq: int, policy: TrustPolicy | None) -> str:
        best: StoredCheckpoint | None = None
        for stored in read_checkpoints(self._segment):
            if stored.size <= seq:
                continue
            if policy is not None and stored.cosignatures and policy.satisfied_by(policy.cosigned(stored.cosigned)):
                return stored.cosigned
            if best is None or len(stored.cosignatures) > len(best.cosignatures):
                best = stored
        if best is None:
            raise ArchiveError("no checkpoint covers the entry", "没有检查点覆盖该记录")
        return best.cosigned


def read_private(segment: Segment) -> Iterator[dict[str, Any]]:
    """For each entry that has them, in order: `seq`, `salt` (hex), `evidence` (base64). Nothing if the file is not there.

    Raises:
        ArchiveError: The file is not the one that was made with the segment.
    """
    path = private_path(segment.path)
    if segment.manifest.private is None or not path.exists():
        return
    if digest_of(path) != segment.manifest.private:
        raise ArchiveError(f"{path.name} was changed, or is of another segment", f"{path.name} 被改动或不属于本段")
    with path.open("rb") as file:
        for line in file:
            yield parse_canonical(line[:-1])
