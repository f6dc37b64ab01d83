"""One segment while it is written: what of the log goes into it."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

from cryptography import x509

from exchange.archive.manifest import (
    ANNEXES,
    CHECKPOINT,
    CHECKPOINTS,
    ArchiveError,
    Digest,
    Manifest,
    der_name,
    statement,
    tile_names,
)
from exchange.archive.segment import SegmentWriter, new_file
from exchange.archive.segment_checks import Progress, StoredCheckpoint, digest_of, private_path
from exchange.archive.source import ArchiveSource
from exchange.canonical_json import canonical
from exchange.log.reader import StoredEntry
from exchange.moments import Rfc3339
from exchange.receipts.certificate_path import is_ca
from exchange.receipts.revocation_evidence import names_of
from exchange.transparency.checkpoint import NoteSigner
from exchange.transparency.merkle import ProofError
from exchange.transparency.tile_paths import BundleError, TileName, pack_bundle, read_tile
from exchange.transparency.tiles import WIDTH

_FINGERPRINT: Final = re.compile(rb'"([0-9a-f]{64})"')


class SegmentDraft:
    """Writes one segment.

    Args:
        covers: Sizes of checkpoints (`Manifest.covers`).
        progress: Told of (entries written, entries in all).
    """

    def __init__(
        self, source: ArchiveSource, first: int, end: int, covers: Sequence[int], progress: Progress | None = None
    ) -> None:
        self._source = source
        self._first = first
        self._end = end
        self._covers = covers
        self._progress = progress
        self._known: dict[str, tuple[int, bytes]] = {}
        """Certificates that the log keeps (`ArchiveSource.certificates`)."""
        self._named: set[str] = set()
        """Fingerprints of those that the records name."""
        self._times: list[int] = []
        """Of the first and the last entry, unix ms."""
        self._private = 0
        """Lines in the file beside the segment."""

    async def write(self, path: Path, signer: NoteSigner, at_ms: int) -> Manifest:
        """Write the segment, and the salts and signatures beside it; both are on disk then.

        Raises:
            ArchiveError: Something is missing in the log.
            OSError: They cannot be written.
        """
        self._known = await self._source.certificates()
        writer = SegmentWriter(path)
        try:
            private = await self._add_entries(writer, private_path(path))
            await self._add_tiles(writer)
            await self._add_checkpoints(writer)
            await self._add_annexes(writer)
            time_text = Rfc3339()
            manifest = Manifest(
                origin=signer.verifier.name,
                first=self._first,
                end=self._end,
                covers=tuple(self._covers),
                since=time_text(self._times[0]),
                until=time_text(self._times[1]),
                archived_at=time_text(at_ms),
                members=writer.members,
                private=private,
            )
            digest = Digest.of(manifest.data).sha256
            writer.finish(manifest.data, signer.sign(statement(manifest.origin, self._first, self._end, digest)))
        except BaseException:
            writer.abandon()
            raise
        return manifest

    async def _add_entries(self, writer: SegmentWriter, beside: Path) -> Digest | None:
        bundle: list[StoredEntry] = []
        done = self._first
        with new_file(beside) as file:
            async for entry in self._source.log.iter_entries(self._first, self._end):
                if entry.seq != done + len(bundle):
                    break
                bundle.append(entry)
                if len(bundle) == WIDTH or entry.seq == self._end - 1:
                    await self._add_bundle(writer, file, bundle)
                    done += len(bundle)
                    bundle = []
            if done != self._end:
                raise await self._missing(done + len(bundle))
            file.flush()
            os.fsync(file.fileno())
        if self._private:
            return digest_of(beside)
        beside.unlink()
        return None

    async def _add_bundle(self, writer: SegmentWriter, beside: IO[bytes], bundle: list[StoredEntry]) -> None:
        first, end = bundle[0].seq, bundle[-1].seq + 1
        try:
            data = pack_bundle([entry.leaf for entry in bundle])
        except BundleError as error:
            raise ArchiveError(
                f"entries {first} to {end - 1}: {error}", f"第 {first} 至 {end - 1} 条：记录过长"
            ) from error
        writer.add(TileName(None, first // WIDTH, len(bundle)).path, data)
        self._named |= {match.decode() for match in _FINGERPRINT.findall(data)} & self._known.keys()
        self._times = [self._times[0] if self._times else bundle[0].at_ms, bundle[-1].at_ms]
        evidence = await self._source.evidence(first, end)
        for entry in bundle:
            row: dict[str, Any] = {}
            if entry.salt is not None:
                row["salt"] = entry.salt.hex()
            if entry.seq in evidence:
                row["evidence"] = b64encode(evidence[entry.seq]).decode()
            if row:
                beside.write(canonical({"seq": entry.seq, **row}) + b"\n")
                self._private += 1
        if self._progress is not None:
            self._progress(end - self._first, self._end - self._first)

    async def _missing(self, seq: int) -> ArchiveError:
        gone = await self._source.log.removed(seq, seq + 1)
        if gone:
            return ArchiveError(
                f"entry {seq} was removed (record {gone[0].seq} of the log); it is in segment {gone[0].segment}",
                f"第 {seq} 条记录已清除（见日志第 {gone[0].seq} 条），位于归档段 {gone[0].segment}",
            )
        return ArchiveError(f"entry {seq} of the log is missing", f"日志第 {seq} 条记录缺失")

    async def _add_tiles(self, writer: SegmentWriter) -> None:
        for name in tile_names(self._first, self._end, self._covers):
            try:
                writer.add(name.path, await read_tile(self._source.log, name, self._covers[-1]))
            except ProofError as error:
                raise ArchiveError(f"{name.path} of the log is missing", f"日志的 {name.path} 缺失") from error

    async def _add_checkpoints(self, writer: SegmentWriter) -> None:
        # That of a tree of `first` entries belongs to the segment before; the first segment has that of the empty tree.
        after = self._first + 1 if self._first else 0
        cover: StoredCheckpoint | None = None
        with writer.add_lines(CHECKPOINTS) as lines:
            async for one in self._source.checkpoints(after, self._covers[-1]):
                if one.size < self._end or one.size in self._covers:
                    lines.add(canonical(_plain(one)))
                    cover = one
        if cover is None or cover.size != self._covers[-1]:
            raise ArchiveError("the covering checkpoint is missing", "缺少覆盖全部记录的检查点")
        writer.add(CHECKPOINT, cover.cosigned.encode())

    async def _add_annexes(self, writer: SegmentWriter) -> None:
        known = self._known
        chosen = {name: x509.load_der_x509_certificate(known[name][1]) for name in sorted(self._named)}
        authorities = {
            name: one for name, (_, der) in known.items() if is_ca(one := x509.load_der_x509_certificate(der))
        }
        wanted = list(chosen.values())
        for certificate in wanted:  # grows as issuers are found
            for name, authority in authorities.items():
                if authority.subject == certificate.issuer and name not in chosen:
                    chosen[name] = authority
                    wanted.append(authority)
        about = {name for certificate in wanted for name in names_of(certificate)}
        revocations = await self._source.revocations(about, self._times[0], self._times[1])
        for name in sorted(chosen):
            writer.add(der_name("certificates", name), known[name][1])
        for row in revocations:
            writer.add(der_name("revocations", row["digest"]), await self._source.revocation(row["digest"]))
        rows = [{name: value for name, value in row.items() if value is not None} for row in revocations]
        certificates = {name: known[name][0] for name in chosen}
        writer.add(ANNEXES, canonical({"certificates": certificates, "revocations": rows}))


def _plain(checkpoint: StoredCheckpoint) -> dict[str, Any]:
    return {
        "note": checkpoint.note,
        "cosignatures": [list(each) for each in checkpoint.cosignatures],
        "stamps": [[authority, at_ms, b64encode(token).decode()] for authority, at_ms, token in checkpoint.stamps],
    }
