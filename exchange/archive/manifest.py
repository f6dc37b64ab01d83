"""What an archive segment says of itself: its manifest, the note over it, and the names of its members. Pure.

A segment (`datong-archive/1`) is a zip file, nothing in it compressed:

    manifest.json        canonical JSON: whose entries, which, and SHA-256 and size of every other member
    manifest.note        signed note of the log over the SHA-256 of manifest.json
    tile/entries/...     the entries, 256 in a bundle (c2sp.org/tlog-tiles)
    tile/<L>/...         hash tiles: those of the entries, and what leads from them to the covering checkpoint
    checkpoint           the covering checkpoint, with the cosignatures of witnesses: one signed note
    checkpoints.jsonl    all signed checkpoints of the range and those beyond it that cover it, with cosignatures and stamps
    annexes.json         when certificates and news of revocations were first seen, and what these are about
    certificates/<SHA-256>.der, revocations/<digest>.der

Rules:
1. A segment begins at a multiple of 256. It ends at one, or where its covering checkpoint does (the tail of a log).
2. The members that are tiles and bundles follow from the bounds and the checkpoints (`tile_names`): no more, no fewer.
3. Salts and callers' signatures are not inside but in a file beside it, bound by its digest. They may be destroyed, and the
   segment verifies as before.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exchange.canonical_json import LARGEST, canonical, parse_canonical
from exchange.moments import parse_rfc3339
from exchange.receipts.receipt_checks import CheckError
from exchange.transparency.tile_paths import TileName
from exchange.transparency.tiles import HEIGHT, WIDTH

FORMAT: Final = "datong-archive/1"
SUFFIX: Final = ".dtseg"
PRIVATE_SUFFIX: Final = ".private"
MANIFEST: Final = "manifest.json"
NOTE: Final = "manifest.note"
CHECKPOINT: Final = "checkpoint"
CHECKPOINTS: Final = "checkpoints.jsonl"
ANNEXES: Final = "annexes.json"

_FIXED: Final = frozenset({CHECKPOINT, CHECKPOINTS, ANNEXES})
_FIELDS: Final = {"format", "origin", "first", "end", "covers", "since", "until", "archived_at", "members"}
_DER: Final = re.compile(r"(certificates|revocations)/([0-9a-f]{64})\.der")
_MOST_COVERS: Final = 8
_HEX: Final = re.compile(r"[0-9a-f]{64}")


class ArchiveError(CheckError):
    """A segment is not what was archived, or none; why, in English and Chinese."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Of a member, or of the file beside the segment."""

    sha256: str
    """Hex."""
    size: int

    @classmethod
    def of(cls, data: bytes) -> Digest:
        return cls(hashlib.sha256(data).hexdigest(), len(data))

    @property
    def plain(self) -> dict[str, str | int]:
        return {"sha256": self.sha256, "size": self.size}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a segment holds."""

    origin: str
    first: int
    end: int
    """Exclusive."""
    covers: tuple[int, ...]
    """Sizes of the checkpoints from `end` on that are inside, in order. The last is that of the covering checkpoint."""
    since: str
    until: str
    """Time of the first and the last entry, RFC 3339: by the clocks of gateways, so others may lie a little outside."""
    archived_at: str
    members: Mapping[str, Digest]
    private: Digest | None = None
    """Of the file with salts and callers' signatures; None if there were none."""

    @property
    def data(self) -> bytes:
        """The canonical bytes, whose SHA-256 names the segment."""
        members = {name: digest.plain for name, digest in self.members.items()}
        told: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS - {"format", "covers", "members"}}
        if self.private is not None:
            told["private"] = self.private.plain
        return canonical({**told, "format": FORMAT, "covers": list(self.covers), "members": members})

    @classmethod
    def from_data(cls, data: bytes) -> Manifest:
        """Parse it; raises ArchiveError if it is not one, or names other members than such a segment has."""
        try:
            return _parsed(parse_canonical(data))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArchiveError(f"the manifest is not one of {FORMAT}: {error}", "清单格式不正确") from error

    @property
    def bundles(self) -> list[TileName]:
        """The bundles of entries, in order."""
        numbers = range(self.first // WIDTH, -(-self.end // WIDTH))
        return [TileName(None, number, min(WIDTH, self.end - number * WIDTH)) for number in numbers]

    @property
    def tiles(self) -> list[TileName]:
        """The hash tiles, the lowest level first."""
        return tile_names(self.first, self.end, self.covers)


def statement(origin: str, first: int, end: int, sha256: str) -> str:
    """The text that the log signs for a segment. No checkpoint reads like it: these have the origin first.

    Args:
        sha256: Of the manifest's bytes, hex.
    """
    return f"{FORMAT}\n{origin}\n{first} {end}\n{b64encode(bytes.fromhex(sha256)).decode()}\n"


def tile_names(first: int, end: int, covers: Sequence[int]) -> list[TileName]:
    """The hash tiles that lead from the entries [first, end) to the checkpoints that cover them, the lowest level first.

    With them, the root of the tree can be derived at `first`, at every size in the range and at every size in `covers`, and
    proofs between these can be made.
    """
    size = covers[-1]
    lowest = set(range(first // WIDTH, -(-end // WIDTH))) | {cover // WIDTH for cover in covers if cover % WIDTH}
    names = [TileName(0, number, min(WIDTH, size - number * WIDTH)) for number in sorted(lowest)]
    level = 1
    while count := size >> HEIGHT * level:
        for number in range(first >> HEIGHT * (level + 1), -(-count // WIDTH)):
            names.append(TileName(level, number, min(WIDTH, count - number * WIDTH)))
        level += 1
    return names


def der_name(kind: str, digest: str) -> str:
    """The member that holds a certificate (`certificates`) or a CRL or OCSP response (`revocations`).

    Args:
        digest: SHA-256 of a certificate; of a CRL or OCSP response that under which the log keeps it (`log_revocations`).
    """
    return f"{kind}/{digest}.der"


def der_names(members: Mapping[str, Digest], kind: str) -> dict[str, str]:
    """Digest -> name of the members of a kind."""
    found = [(name, match) for name in members if (match := _DER.fullmatch(name))]
    return {match[2]: name for name, match in found if match[1] == kind}


def file_name(origin: str, first: int, end: int) -> str:
    """What the file of a segment is called; names sort in the order of the entries."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '_', origin)}-{first:010d}-{end:010d}{SUFFIX}"


def _parsed(content: dict[str, Any]) -> Manifest:
    private = content.pop("private", None)
    if content.keys() != _FIELDS or content["format"] != FORMAT:
        raise ValueError("another format")
    for name in ("origin", "since", "until", "archived_at"):
        if not isinstance(content[name], str):
            raise ValueError(f"{name} is not a text")
    for name in ("since", "until", "archived_at"):
        parse_rfc3339(content[name])
    first, end, covers = _number(content["first"]), _number(content["end"]), tuple(map(_number, content["covers"]))
    if not covers or list(covers) != sorted(set(covers)) or not first < end <= covers[0] or first % WIDTH:
        raise ValueError("its bounds are not those of a segment")
    if end % WIDTH and covers != (end,):
        raise ValueError("it ends neither at a whole tile nor with its checkpoint")
    members = {name: _digest(each) for name, each in content["members"].items()}
    manifest = Manifest(
        origin=content["origin"],
        first=first,
        end=end,
        covers=covers,
        since=content["since"],
        until=content["until"],
        archived_at=content["archived_at"],
        members=members,
        private=None if private is None else _digest(private),
    )
    # Counts first: what follows from absurd bounds is not worked out.
    if len(members) < (end - first) // WIDTH + (covers[-1] - first >> 2 * HEIGHT) or len(covers) > _MOST_COVERS:
        raise ValueError("members are missing")
    expected = _FIXED | {name.path for name in (*manifest.bundles, *manifest.tiles)}
    named = {name for name in members if not _DER.fullmatch(name)}
    if named != expected:
        odd = min(named ^ expected)
        raise ValueError(f"{odd} is {'missing' if odd in expected else 'no member of such a segment'}")
    return manifest


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise ValueError("a number is none")
    return value


def _digest(value: Any) -> Digest:
    if value.keys() != {"sha256", "size"} or not _HEX.fullmatch(value["sha256"]):
        raise ValueError("a digest is none")
    return Digest(value["sha256"], _number(value["size"]))
