"""The checks of an archive segment: that everything in it is what the log signed. Offline, in bounded memory.

Rules:
1. The only anchors are the key list's: keys of logs, the policy of witnesses, anchors of time stamping authorities.
2. Every byte of every member is compared with the signed manifest, and every entry with the tree of a signed checkpoint: whoever
   has the log's key and makes another manifest still has not the checkpoints that others hold.
3. What was destroyed on purpose, the file with salts and callers' signatures, is not missed.
4. As for `exchange.receipts.receipt_checks`: only the standard library, `cryptography`, and modules that keep to this rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from exchange.archive.manifest import (
    ANNEXES,
    CHECKPOINT,
    CHECKPOINTS,
    PRIVATE_SUFFIX,
    ArchiveError,
    Digest,
    der_name,
    der_names,
)
from exchange.archive.segment import Segment
from exchange.archive.segment_tree import SegmentTiles
from exchange.canonical_json import parse_canonical
from exchange.receipts.certificate_path import UNREADABLE
from exchange.receipts.receipt_checks import (
    Check,
    CheckError,
    Keys,
    NothingToCheckError,
    PendingError,
    Step,
    outcome_of_check,
)
from exchange.transparency.checkpoint import Checkpoint, NoteError, decode_base64, open_checkpoint
from exchange.transparency.merkle import HASH_SIZE, hash_leaf
from exchange.transparency.tile_paths import BundleError, unpack_bundle
from exchange.transparency.tiles import Edge

_CHUNK = 1 << 20

Visit = Callable[[int, Sequence[bytes]], None]
"""(number of the first, leaves) of a bundle whose entries are proven."""
Progress = Callable[[int, int], None]
"""(entries checked, entries in all)."""


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint with what others say of it, as it stands in a segment."""

    size: int
    root: bytes
    note: str
    """Signed by the log alone."""
    cosignatures: tuple[tuple[str, int, str], ...]
    """(name of a witness's key, unix ms, signature line), by name."""
    stamps: tuple[tuple[str, int, bytes], ...]
    """(name of an authority, unix ms, RFC 3161 token), by name."""

    @property
    def cosigned(self) -> str:
        """One signed note: the log's signature, then the witnesses'."""
        return self.note + "".join([line for _, _, line in self.cosignatures])

    @property
    def text(self) -> str:
        """What was signed and stamped."""
        return self.note.rpartition("\n\n")[0] + "\n"


def read_checkpoints(segment: Segment) -> Iterator[StoredCheckpoint]:
    """The checkpoints in a segment, in order of size; raises ArchiveError. Their signatures are not verified here."""
    last = segment.manifest.first if segment.manifest.first else -1
    rest = list(segment.manifest.covers)
    for line in segment.lines(CHECKPOINTS):
        try:
            checkpoint = _checkpoint(parse_canonical(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArchiveError(f"{CHECKPOINTS}: {error}", f"{CHECKPOINTS} 格式不正确") from error
        if checkpoint.size <= last:
            raise ArchiveError(f"{CHECKPOINTS} is not in order", f"{CHECKPOINTS} 顺序不正确")
        last = checkpoint.size
        if last >= segment.manifest.end and (not rest or rest.pop(0) != last):
            raise ArchiveError(f"{CHECKPOINTS} holds others than the manifest says", f"{CHECKPOINTS} 与清单不符")
        yield checkpoint
    if rest:
        raise ArchiveError(f"{CHECKPOINTS} holds fewer than the manifest says", f"{CHECKPOINTS} 与清单不符")


def verify_archive(path: Path, keys: bytes) -> list[Check]:
    """Every check of a segment; it is good if all are ok. Offline.

    Args:
        keys: The key list.

    Raises:
        ReceiptError: The key list cannot be used.
        OSError: The file cannot be read.
    """
    return check_segment(path, Keys.from_json(keys))


def check_segment(
    path: Path, keys: Keys, *, visit: Visit | None = None, progress: Progress | None = None
) -> list[Check]:
    """Every check of a segment; it is good if all are ok.

    Args:
        visit: Told of the leaves, each bundle when it is proven; what comes before another check failed is not to be relied on.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        segment = Segment(path)
    except ArchiveError as error:
        return [Check("form", False, f"not an archive segment: {error}", f"不是有效的归档段：{error.zh}", "failed")]
    with segment:
        verification = SegmentVerification(segment, keys, visit, progress)
        return [outcome_of_check(name, step) for name, step in verification.steps().items()]


class SegmentVerification:
    """The checks, in order. Each returns what it found, in English and Chinese, or raises."""

    def __init__(
        self, segment: Segment, keys: Keys, visit: Visit | None = None, progress: Progress | None = None
    ) -> None:
        self._segment = segment
        self._manifest = segment.manifest
        self._keys = keys
        self._visit = visit
        self._progress = progress
        self._tiles = SegmentTiles(segment)
        self._cover: Checkpoint | None = None
        self._checkpoints = 0

    def steps(self) -> dict[str, Step]:
        """The checks by name, in the order in which they are made."""
        return {
            "form": self.form,
            "manifest": self.manifest,
            "checkpoint": self.checkpoint,
            "tree": self.tree,
            "entries": self.entries,
            "witnessed": self.witnessed,
            "stamped": self.stamped,
            "certificates": self.certificates,
            "private": self.private,
        }

    def form(self) -> tuple[str, str]:
        """It is a segment; whoever got so far knows."""
        manifest = self._manifest
        first, last = manifest.first, manifest.end - 1
        return (
            f"entries {first} to {last} of {manifest.origin}, {manifest.since} to {manifest.until}",
            f"{manifest.origin} 第 {first} 至 {last} 条记录，{manifest.since} 至 {manifest.until}",
        )

    def manifest(self) -> tuple[str, str]:
        """The log has signed the manifest, which names every member."""
        self._segment.check_signature(list(self._keys.logs))
        return (
            f"signed by the log, archived at {self._manifest.archived_at}",
            f"日志已签署，归档于 {self._manifest.archived_at}",
        )

    def checkpoint(self) -> tuple[str, str]:
        """The log has signed the covering checkpoint."""
        note = self._segment.read(CHECKPOINT).decode()
        opened = open_checkpoint(note, self._keys.logs)
        if opened.size != self._manifest.covers[-1] or opened.origin != self._manifest.origin:
            raise ArchiveError("it is not that of the manifest", "与清单不符")
        self._cover = opened
        return f"{opened.origin} signed {opened.size} entries", f"{opened.origin} 已签署 {opened.size} 条记录"

    def tree(self) -> tuple[str, str]:
        """The hash tiles lead to the covering checkpoint."""
        if self._cover is None:
            raise CheckError("no checkpoint to compare with", "没有可比对的检查点")
        if self._tiles.edge(self._cover.size).root != self._cover.root:
            raise ArchiveError("the hash tiles do not lead to the checkpoint", "哈希树与检查点不符")
        self._tiles.check_links()
        count = len(self._manifest.tiles)
        return f"{count} hash tiles lead to that checkpoint", f"{count} 个哈希块与该检查点一致"

    def entries(self) -> tuple[str, str]:
        """Every entry is in the tree, and every checkpoint of the range is of this tree."""
        manifest, tiles = self._manifest, self._tiles
        if self._cover is None:
            raise CheckError("no checkpoint to compare with", "没有可比对的检查点")
        stored = read_checkpoints(self._segment)
        due = next(stored, None)
        if due is not None and due.size == 0:
            self._compare_checkpoint(due, Edge.empty())
            due = next(stored, None)
        edge = tiles.edge(manifest.first)
        for bundle in manifest.bundles:
            try:
                leaves = unpack_bundle(self._segment.read(bundle.path))
            except BundleError as error:
                raise ArchiveError(f"{bundle.path}: {error}", f"{bundle.path} 格式不正确") from error
            if len(leaves) != bundle.width:
                raise ArchiveError(f"{bundle.path} has not the entries of its place", f"{bundle.path} 条数不符")
            hashes = [hash_leaf(leaf) for leaf in leaves]
            self._compare(bundle.first, hashes, tiles.hashes(0, bundle.number))
            rest, at = hashes, bundle.first
            while due is not None and due.size <= at + len(rest):
                edge = self._extended(edge, rest[: due.size - at])
                rest, at = rest[due.size - at :], due.size
                self._compare_checkpoint(due, edge)
                due = next(stored, None)
            edge = self._extended(edge, rest)
            if self._visit is not None:
                self._visit(bundle.first, leaves)
            if self._progress is not None:
                self._progress(edge.size - manifest.first, manifest.end - manifest.first)
        for level, hashes in enumerate(edge.levels):
            known = tiles.hashes(level, edge.size >> 8 * (level + 1)) if hashes else b""
            if known[: len(hashes) * HASH_SIZE] != b"".join(hashes):
                raise ArchiveError("the entries do not lead to the checkpoint", "记录与检查点不符")
        while due is not None:
            self._compare_checkpoint(due, tiles.edge(due.size))
            due = next(stored, None)
        count = manifest.end - manifest.first
        return (
            f"{count} entries are under that checkpoint; {self._checkpoints} checkpoints, all of this tree",
            f"{count} 条记录均在该检查点之下；共 {self._checkpoints} 个检查点，均属同一棵树",
        )

    def witnessed(self) -> tuple[str, str]:
        """As many witnesses as the key list wants have cosigned a checkpoint that covers all of it."""
        policy = self._keys.policy
        if policy is None:
            raise NothingToCheckError("the key list names no witnesses", "密钥列表未列见证方")
        best, lines = "", 0
        for stored in read_checkpoints(self._segment):
            names = policy.cosigned(stored.cosigned) if stored.cosignatures else {}
            lines += len(names)
            if not best and stored.size >= self._manifest.end and policy.satisfied_by(names):
                best = f"{stored.size} ({', '.join(names)})"
        if not best:
            raise PendingError(
                f"pending: no checkpoint that covers all of it has the quorum {policy.quorum}",
                f"待定：覆盖全部记录的检查点均未达到法定数 {policy.quorum}",
            )
        return f"the checkpoint of {best}; {lines} cosignatures in all", f"检查点 {best}；共 {lines} 个见证签名"

    def stamped(self) -> tuple[str, str]:
        """The time stamps are over the checkpoints they stand at."""
        authorities, count, newest = self._keys.timestamp_authorities, 0, ""
        for stored in read_checkpoints(self._segment):
            for authority, _, token in stored.stamps:
                count += 1
                if not authorities:
                    continue
                from exchange.timestamps.token import StampError, check_token  # many segments have none

                try:
                    stamp = check_token(token, stored.text.encode(), authorities)
                except StampError as error:
                    raise ArchiveError(
                        f"the stamp of {authority} on the checkpoint of {stored.size}: {error}",
                        f"{authority} 对检查点 {stored.size} 的时间戳无效：{error.zh}",
                    ) from error
                newest = stamp.gen_time.strftime("%Y-%m-%dT%H:%M:%SZ")
        if not count:
            failure = PendingError if "stamped" in self._keys.demands else NothingToCheckError
            raise failure("no time stamp is in the segment", "归档段中没有时间戳")
        if not authorities:
            raise NothingToCheckError(
                f"the key list names no time stamping authority; {count} stamps were not looked at",
                f"密钥列表未列时间戳机构，{count} 个时间戳未核验",
            )
        return f"{count} stamps, the last of {newest}", f"{count} 个时间戳，最后一个为 {newest}"

    def certificates(self) -> tuple[str, str]:
        """The certificates and news of revocations are those that were archived."""
        annexes = read_annexes(self._segment)
        for fingerprint in annexes.certificates:
            try:
                x509.load_der_x509_certificate(annexes.certificate(self._segment, fingerprint))
            except UNREADABLE as error:
                raise ArchiveError(
                    f"certificate {fingerprint} cannot be read", f"证书 {fingerprint} 无法读取"
                ) from error
        for row in annexes.revocations:
            annexes.revocation(self._segment, row["digest"])
        some, more = len(annexes.certificates), len(annexes.revocations)
        return (
            f"{some} certificates that its records name, {more} lists and answers about revocations",
            f"记录所涉证书 {some} 份，吊销信息 {more} 份",
        )

    def private(self) -> tuple[str, str]:
        """The file with salts and callers' signatures, if it is there, is the one that was made with the segment."""
        digest, path = self._manifest.private, private_path(self._segment.path)
        if digest is None:
            raise NothingToCheckError("there were no salts and signatures of callers", "没有盐值和调用方签名")
        if not path.exists():
            raise NothingToCheckError(
                "salts and signatures of callers are not here: kept elsewhere, or destroyed",
                "盐值和调用方签名不在此处：另行保存或已销毁",
            )
        if digest_of(path) != digest:
            raise ArchiveError(f"{path.name} was changed, or is of another segment", f"{path.name} 被改动或不属于本段")
        return "salts and signatures of callers are here", "盐值和调用方签名在此处"

    def _compare(self, first: int, hashes: list[bytes], tile: bytes) -> None:
        for number, hashed in enumerate(hashes):
            if tile[number * HASH_SIZE : (number + 1) * HASH_SIZE] != hashed:
                raise ArchiveError(
                    f"entry {first + number} is not the one in the log's tree",
                    f"第 {first + number} 条记录不在日志的哈希树中",
                )

    def _extended(self, edge: Edge, hashes: list[bytes]) -> Edge:
        grown, complete = edge.extended(hashes)
        for tile in complete:
            if self._tiles.hashes(tile.level, tile.number) != tile.hashes:
                raise ArchiveError(
                    f"tile {tile.level}/{tile.number} is not that of the entries",
                    f"哈希块 {tile.level}/{tile.number} 与记录不符",
                )
        return grown

    def _compare_checkpoint(self, stored: StoredCheckpoint, edge: Edge) -> None:
        """Return if a checkpoint is signed, and is that of the tree of its size."""
        where = f"the checkpoint of {stored.size} entries"
        try:
            opened = open_checkpoint(stored.note, self._keys.logs)
        except NoteError as error:
            raise ArchiveError(f"{where}: {error}", f"{stored.size} 条记录的检查点：{error}") from error
        if opened.origin != self._manifest.origin or opened.root != edge.root:
            raise ArchiveError(f"{where} is of another tree", f"{stored.size} 条记录的检查点属于另一棵树")
        self._checkpoints += 1


@dataclass(frozen=True, slots=True)
class Annexes:
    """What a segment holds beside entries and hashes."""

    certificates: dict[str, int]
    """Fingerprint -> unix ms at which it was first seen."""
    revocations: tuple[dict[str, Any], ...]
    """Rows of `log_revocations`, without `der`."""

    def certificate(self, segment: Segment, fingerprint: str) -> bytes:
        """DER; raises ArchiveError."""
        name = der_name("certificates", fingerprint)
        der = segment.read(name)
        if hashlib.sha256(der).hexdigest() != fingerprint:
            raise ArchiveError(f"{name} has not the digest that it is named by", f"{name} 与其名称中的摘要不符")
        return der

    def revocation(self, segment: Segment, digest: str) -> bytes:
        """DER; raises ArchiveError."""
        return segment.read(der_name("revocations", digest))


def read_annexes(segment: Segment) -> Annexes:
    """What stands in `annexes.json`, which names exactly the certificates and lists inside; raises ArchiveError."""
    try:
        content = parse_canonical(segment.read(ANNEXES))
        certificates, revocations = dict(content["certificates"]), tuple([dict(row) for row in content["revocations"]])
        inside = [set(der_names(segment.manifest.members, kind)) for kind in ("certificates", "revocations")]
        if [set(certificates), {row["digest"] for row in revocations}] != inside:
            raise ValueError("it names others than are inside")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArchiveError(f"{ANNEXES}: {error}", f"{ANNEXES} 格式不正确") from error
    return Annexes(certificates, revocations)


def private_path(path: Path) -> Path:
    """Where the salts and callers' signatures of a segment are, if they are."""
    return path.with_name(path.name + PRIVATE_SUFFIX)


def digest_of(path: Path) -> Digest:
    """Of a file; raises OSError."""
    hashed, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
            size += len(chunk)
    return Digest(hashed.hexdigest(), size)


def _checkpoint(content: dict[str, Any]) -> StoredCheckpoint:
    if content.keys() != {"note", "cosignatures", "stamps"}:
        raise ValueError("a line is of another form")
    opened = Checkpoint.from_text(content["note"].rpartition("\n\n")[0] + "\n")
    return StoredCheckpoint(
        opened.size,
        opened.root,
        content["note"],
        tuple([(str(name), int(at), str(line)) for name, at, line in content["cosignatures"]]),
        tuple([(str(name), int(at), decode_base64(token)) for name, at, token in content["stamps"]]),
    )
