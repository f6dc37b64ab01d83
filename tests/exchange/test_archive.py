"""Archive segments: all of a log is in them, they verify alone, and nothing in them can be changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import subprocess
import sys
import zipfile
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from exchange.archive.archive_reader import receipt_from_archive
from exchange.archive.manifest import CHECKPOINT, CHECKPOINTS, MANIFEST, NOTE, ArchiveError, Manifest, tile_names
from exchange.archive.segment import Segment, is_archive
from exchange.archive.segment_checks import check_segment, private_path, verify_archive
from exchange.archive.segment_tree import SegmentTiles, at_once
from exchange.archive.writing import LogArchiver, archived_up_to, bounds_of, segments_in
from exchange.canonical_json import canonical
from exchange.receipts.receipt import build_receipt, verify_receipt
from exchange.receipts.receipt_checks import Check, Keys
from exchange.receipts.revocation_evidence import names_of
from exchange.transparency.checkpoint import Checkpoint, NoteSigner
from exchange.transparency.merkle import check_inclusion, hash_leaf
from exchange.transparency.tile_paths import pack_bundle, unpack_bundle
from exchange.transparency.tiles import WIDTH, Edge, inclusion_proof
from tests.exchange.archive_kit import (
    SIZE,
    Authority,
    Filled,
    changed_line,
    members_of,
    put_together,
    rows_of,
    with_manifest,
)
from tests.exchange.log_kit import Place, now_ms
from tests.exchange.test_log_check import execute
from tests.exchange.test_receipt import Parties, exchange, parties  # noqa: F401
from tests.exchange.test_receipt_evidence import Issuer, ca  # noqa: F401

OTHER = NoteSigner.generate("log.example/test")


def faults(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.en for check in checks if not check.ok}


async def filled(database: str, folder: Path, parties: Parties, ca: Issuer) -> Filled:  # noqa: F811
    place = Place(database, folder, parties.signer)
    log = Filled(place, Authority(), exchange(parties))
    crl = ca.crl()
    (about,) = set(names_of(parties.caller.x509())[-1:])
    digest = hashlib.sha256(about.encode() + crl).hexdigest()
    news = (digest, "crl", about, now_ms() - 3_000_000, now_ms() + 3_000_000, now_ms(), crl)
    await log.fill(certificates=[each.der for each in parties.certificates], revocations=[news])
    return log


@dataclass
class Archived:
    """The archive of one log, and what verifies it."""

    log: Filled
    paths: list[Path]
    keys: bytes
    """Key list, with policy, authorities and all demands that can be met."""

    @property
    def trusted(self) -> Keys:
        return Keys.from_json(self.keys)


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory, parties: Parties, ca: Issuer) -> Archived:  # noqa: F811
    """Segments [0, 512), [512, 768) and the tail [768, 1000)."""
    folder = tmp_path_factory.mktemp("log")

    async def make() -> tuple[Filled, list[Path]]:
        log = await filled(f"sqlite:///{folder / 'log.db'}", folder, parties, ca)
        paths = await log.archive(folder / "archive")
        return log, paths + await log.archive(folder / "archive", 768, tail=True)

    log, paths = asyncio.run(make())
    return Archived(log, paths, keys_of(log, parties))


def keys_of(log: Filled, parties: Parties) -> bytes:  # noqa: F811
    anchor = log.authority.root.certificate
    pem = anchor.public_bytes(Encoding.PEM).decode()
    return parties.keys(policy=log.authority.policy.text, timestamp_authorities=[pem], demands=["stamped"])


async def test_a_log_is_archived_whole_and_verifies_alone(
    database_url: str,
    tmp_path: Path,
    parties: Parties,  # noqa: F811
    ca: Issuer,  # noqa: F811
) -> None:
    log = await filled(database_url, tmp_path, parties, ca)
    paths = await log.archive(tmp_path / "archive")
    assert [path.name for path in paths] == [
        "log.example_receipts-0000000000-0000000512.dtseg",
        "log.example_receipts-0000000512-0000000768.dtseg",
    ]
    keys = keys_of(log, parties)
    leaves: list[bytes] = []
    for path in paths:
        assert faults(verify_archive(path, keys)) == {}
        assert all(
            check.state == "ok"
            for check in check_segment(path, Keys.from_json(keys), visit=lambda _, more: leaves.extend(more))
        )
        assert oct(path.stat().st_mode)[-3:] == oct(private_path(path).stat().st_mode)[-3:] == "600"
    stored = (await rows_of(database_url))["log_entries"]
    assert leaves == [bytes(row[-1]) for row in stored[:768]]
    assert archived_up_to(segments_in(tmp_path / "archive"), log.place.signer.verifier.name) == 768
    with Segment(paths[1]) as segment:
        assert sum(name.startswith("certificates/") for name in segment.manifest.members) == 3
        assert sum(name.startswith("revocations/") for name in segment.manifest.members) == 1
        assert segment.manifest.covers == (900, 1000)  # the next, and the one that is witnessed and stamped


async def test_a_receipt_from_a_segment_is_the_receipt_from_the_log(archived: Archived) -> None:
    special, place = archived.log.special, archived.log.place
    assert special is not None
    receipt = receipt_from_archive(archived.paths[1], special.exchange_id, archived.trusted.policy)
    assert receipt is not None
    checks = verify_receipt(receipt, archived.keys)
    assert faults(checks) == {}
    assert {check.name for check in checks if check.state == "ok"} >= {"witnessed", "stamped", "revocation", "caller"}
    async with place.reader() as reader:
        entry = await reader.entry(special.exchange_id)
        note = json.loads(receipt)["tlog_proof"].partition("\n\n")[2]
        assert entry is not None
        assert await build_receipt(reader, entry, note) == receipt
        for seq, path in ((0, 0), (20, 0), (511, 0), (512, 1), (767, 1), (768, 2), (999, 2)):
            entry = await reader.entry_at(seq)
            assert entry is not None
            again = receipt_from_archive(archived.paths[path], entry.exchange_id)
            assert again is not None
            found = {check.name: check for check in verify_receipt(again, archived.keys)}
            assert found["checkpoint"].ok
            assert found["inclusion"].ok
            assert found["inclusion"].en == f"entry {seq} of the log"
    assert receipt_from_archive(archived.paths[0], special.exchange_id) is None
    assert b"evidence" in (receipt_from_archive(archived.paths[0], (await id_at(place, 20))) or b"")


async def id_at(place: Place, seq: int) -> str:
    async with place.reader() as reader:
        entry = await reader.entry_at(seq)
        assert entry is not None
        return entry.exchange_id


def test_a_tail_ends_with_its_checkpoint_and_the_archive_goes_on_beside_it(archived: Archived) -> None:
    assert faults(verify_archive(archived.paths[2], archived.keys)) == {}
    with Segment(archived.paths[2]) as segment:
        assert (segment.manifest.first, segment.manifest.end, segment.manifest.covers) == (768, SIZE, (SIZE,))
    folder, origin = archived.paths[0].parent, archived.log.place.signer.verifier.name
    assert archived_up_to(segments_in(folder), origin) == 768
    assert archived_up_to(segments_in(folder), "another.example/log") == 0


def test_salts_and_signatures_are_beside_the_segment_and_may_be_destroyed(archived: Archived, tmp_path: Path) -> None:
    path = tmp_path / archived.paths[0].name
    path.write_bytes(archived.paths[0].read_bytes())
    assert b"evidence" not in path.read_bytes()
    states = {check.name: check.state for check in verify_archive(path, archived.keys)}
    assert states["private"] == "absent"
    assert set(states.values()) == {"ok", "absent"}
    private = private_path(archived.paths[0]).read_bytes()
    private_path(path).write_bytes(private.replace(b"73", b"74", 1))
    assert faults(verify_archive(path, archived.keys)).keys() == {"private"}
    with pytest.raises(ArchiveError, match="was changed"):
        receipt_from_archive(path, asyncio.run(id_at(archived.log.place, 0)))


def test_it_verifies_with_cryptography_alone(archived: Archived, tmp_path: Path) -> None:
    """In an interpreter that finds no other package: the standard library, `cryptography` and what that needs."""
    keys = tmp_path / "keys.json"
    keys.write_bytes(archived.keys)
    program = """
import sys
allowed = {"cryptography", "cffi", "_cffi_backend", "pycparser", "exchange"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root not in allowed and root not in sys.stdlib_module_names:
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Refuse())
from pathlib import Path
from exchange.archive.segment_checks import verify_archive
from exchange.archive.archive_reader import receipt_from_archive
checks = verify_archive(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes())
assert all(check.ok for check in checks), checks
assert receipt_from_archive(Path(sys.argv[1]), sys.argv[3])
"""
    special = archived.log.special
    assert special is not None
    arguments = [str(archived.paths[1]), str(keys), special.exchange_id]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


# What was changed


def test_any_changed_byte_is_noticed_or_changes_nothing_that_is_read(archived: Archived, tmp_path: Path) -> None:
    """Of a zip's own frame some bytes mean nothing; all else is under the log's signature."""
    chance = random.Random(5)
    whole = archived.paths[0].read_bytes()
    path = tmp_path / "one.dtseg"
    noticed = 0
    for position in [*chance.sample(range(len(whole)), 60), *range(len(whole) - 60, len(whole), 3)]:
        changed = bytearray(whole)
        changed[position] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        if faults(verify_archive(path, archived.keys)):
            noticed += 1
        else:
            assert members_of(path) == members_of(archived.paths[0])
    assert noticed > 60


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, -1, -22, -100])
def test_a_segment_that_was_cut_off_is_none(archived: Archived, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "one.dtseg"
    path.write_bytes(archived.paths[0].read_bytes()[:kept])
    assert [check.name for check in verify_archive(path, archived.keys)] == ["form"]
    assert is_archive(path) is (kept < 0 or kept > 3)


Members = dict[str, bytes]


def entry_changed(members: Members) -> Members:
    leaves = unpack_bundle(members["tile/entries/001"])
    leaves[7] = (
        leaves[7].replace(b"public-rental", b"public-rentol") if b"public-rental" in leaves[7] else leaves[7] + b" "
    )
    return {**members, "tile/entries/001": pack_bundle(leaves)}


def entries_swapped(members: Members) -> Members:
    leaves = unpack_bundle(members["tile/entries/000"])
    leaves[3], leaves[4] = leaves[4], leaves[3]
    return {**members, "tile/entries/000": pack_bundle(leaves)}


def entry_dropped(members: Members) -> Members:
    return {**members, "tile/entries/000": pack_bundle(unpack_bundle(members["tile/entries/000"])[1:])}


def bundles_swapped(members: Members) -> Members:
    return {
        **members,
        "tile/entries/000": members["tile/entries/001"],
        "tile/entries/001": members["tile/entries/000"],
    }


def bundle_cut(members: Members) -> Members:
    return {**members, "tile/entries/000": members["tile/entries/000"][:-1]}


def tile_changed(members: Members) -> Members:
    return {**members, "tile/0/000": b"\0" * 32 + members["tile/0/000"][32:]}


def tile_shortened(members: Members) -> Members:
    return {**members, "tile/0/001": members["tile/0/001"][:-32]}


def top_changed(members: Members) -> Members:
    name = next(name for name in members if name.startswith("tile/1/"))
    return {**members, name: members[name][:-32] + b"\0" * 32}


def entry_and_tile_changed(members: Members) -> Members:
    changed = entry_changed(members)
    leaves = unpack_bundle(changed["tile/entries/001"])
    return {**changed, "tile/0/001": b"".join([hash_leaf(leaf) for leaf in leaves])}


def covering_checkpoint_of_another_key(members: Members) -> Members:
    size, root = members[CHECKPOINT].decode().split("\n")[1:3]
    note = Checkpoint(OTHER.verifier.name, int(size), b64decode(root)).signed(OTHER)
    return {**members, CHECKPOINT: note.encode()}


def checkpoint_dropped(members: Members) -> Members:
    return {**members, CHECKPOINTS: b"\n".join(members[CHECKPOINTS].split(b"\n")[:-2]) + b"\n"}


def checkpoints_reordered(members: Members) -> Members:
    lines = members[CHECKPOINTS].split(b"\n")
    return {**members, CHECKPOINTS: b"\n".join([lines[1], lines[0], *lines[2:]])}


def checkpoint_line_garbled(members: Members) -> Members:
    return {**members, CHECKPOINTS: changed_line(members[CHECKPOINTS], 0, lambda line: line[1:])}


def cosignature_changed(members: Members) -> Members:
    def change(line: bytes) -> bytes:
        content = json.loads(line)
        said = content["cosignatures"][0][2]
        name, encoded = said.rstrip("\n").rsplit(" ", 1)
        content["cosignatures"][0][2] = f"{name} {encoded[:20]}{'A' if encoded[20] != 'A' else 'B'}{encoded[21:]}\n"
        return canonical(content)

    return {**members, CHECKPOINTS: changed_line(members[CHECKPOINTS], 1, change)}


def stamp_of_another_checkpoint(members: Members) -> Members:
    lines = [json.loads(line) for line in members[CHECKPOINTS].split(b"\n")[:-1]]
    stamps = [content["stamps"] for content in lines if content["stamps"]]
    lines[0]["stamps"] = stamps[0]
    return {**members, CHECKPOINTS: b"".join([canonical(content) + b"\n" for content in lines])}


def certificate_changed(members: Members) -> Members:
    name = next((name for name in members if name.startswith("certificates/")), "")
    return {**members, name: members[name][:-1] + bytes([members[name][-1] ^ 1])}


def certificate_added(members: Members) -> Members:
    return {**members, f"certificates/{hashlib.sha256(b'x').hexdigest()}.der": b"x"}


def member_added(members: Members) -> Members:
    return {**members, "readme.txt": b"trust me"}


def member_removed(members: Members) -> Members:
    return {name: data for name, data in members.items() if name != "tile/0/001"}


TAMPERINGS: list[tuple[Callable[[Members], Members], int, str, str]] = [
    # What was changed, in which segment, which check names it, and how, if whoever did it has the log's key.
    (entry_changed, 0, "entries", "entry 263 is not the one in the log's tree"),
    (entries_swapped, 0, "entries", "entry 3 is not"),
    (entry_dropped, 0, "entries", "tile/entries/000 has not the entries of its place"),
    (bundles_swapped, 0, "entries", "entry 0 is not"),
    (bundle_cut, 0, "entries", "tile/entries/000: the bundle ends inside an entry"),
    (tile_changed, 0, "tree", "tile/0/000 does not lead to the checkpoint"),
    (tile_shortened, 0, "tree", "tile/0/001 has not the length"),
    (top_changed, 0, "tree", "the hash tiles do not lead to the checkpoint"),
    (entry_and_tile_changed, 0, "tree", "tile/0/001 does not lead to the checkpoint"),
    (covering_checkpoint_of_another_key, 0, "checkpoint", "no key on the list"),
    (checkpoint_dropped, 0, "entries", "fewer than the manifest says"),
    (checkpoints_reordered, 0, "entries", "not in order"),
    (checkpoint_line_garbled, 0, "entries", CHECKPOINTS),
    (cosignature_changed, 0, "witnessed", "does not verify"),
    (stamp_of_another_checkpoint, 0, "stamped", "the token is not over this text"),
    (certificate_changed, 1, "certificates", "has not the digest"),
    (certificate_added, 1, "certificates", "others than are inside"),
    (member_added, 0, "form", "no member of such a segment"),
    (member_removed, 0, "form", "tile/0/001 is missing"),
]


@pytest.mark.parametrize(
    ("tampering", "segment", "check", "said"), TAMPERINGS, ids=lambda value: getattr(value, "__name__", "")
)
def test_what_was_changed_is_named(
    archived: Archived, tmp_path: Path, tampering: Callable[[Members], Members], segment: int, check: str, said: str
) -> None:
    """By a stranger, by a stranger who mends the manifest, and by one who holds the log's key."""
    members = members_of(archived.paths[segment])
    tampered = tampering(members)
    assert tampered != members
    by_stranger = faults(verify_archive(put_together(tmp_path / "a.dtseg", tampered), archived.keys))
    assert by_stranger
    named = next(name for name in sorted(tampered | members) if tampered.get(name) != members.get(name))
    assert named in " ".join(by_stranger.values())
    mended = faults(verify_archive(put_together(tmp_path / "b.dtseg", with_manifest(tampered, None)), archived.keys))
    assert set(mended) & {"form", "manifest"}
    signed = with_manifest(tampered, archived.log.place.signer)
    by_insider = faults(verify_archive(put_together(tmp_path / "c.dtseg", signed), archived.keys))
    assert said in by_insider[check]


def test_a_fork_signed_by_the_log_itself_is_named(archived: Archived, tmp_path: Path) -> None:
    """A checkpoint of the range that the log signed over another tree."""
    signer = archived.log.place.signer
    members = members_of(archived.paths[0])

    def change(line: bytes) -> bytes:
        note = Checkpoint(signer.verifier.name, 100, b"\1" * 32).signed(signer)
        return canonical({**json.loads(line), "note": note})

    forked = {**members, CHECKPOINTS: changed_line(members[CHECKPOINTS], 0, change)}
    path = put_together(tmp_path / "a.dtseg", with_manifest(forked, signer))
    assert "the checkpoint of 100 entries is of another tree" in faults(verify_archive(path, archived.keys))["entries"]


@pytest.mark.parametrize(
    "changes",
    [
        {"first": 256},
        {"end": 768},
        {"end": 500},
        {"covers": (600, 900)},
        {"covers": ()},
        {"covers": (512, 600)},
        {"origin": "log.example/another"},
        {"since": "yesterday"},
        {"covers": (600, 1 << 52)},
        {"end": 1 << 50, "covers": (1 << 50,)},
    ],
)
def test_a_manifest_of_other_bounds_is_refused_even_under_the_logs_key(
    archived: Archived, tmp_path: Path, changes: Mapping[str, Any]
) -> None:
    members = members_of(archived.paths[0])
    signed = with_manifest(members, archived.log.place.signer, **changes)
    assert signed[MANIFEST] != members[MANIFEST]
    assert faults(verify_archive(put_together(tmp_path / "a.dtseg", signed), archived.keys))


def test_a_manifest_signed_for_other_entries_or_by_nobody_known_is_refused(archived: Archived, tmp_path: Path) -> None:
    first, second = (members_of(path) for path in archived.paths[:2])
    exchanged = put_together(tmp_path / "a.dtseg", {**first, NOTE: second[NOTE]})
    assert faults(verify_archive(exchanged, archived.keys)).keys() == {"manifest"}
    stranger = put_together(tmp_path / "b.dtseg", with_manifest(first, OTHER))
    assert "no key on the list" in faults(verify_archive(stranger, archived.keys))["manifest"]
    checkpoint = put_together(tmp_path / "c.dtseg", {**first, NOTE: first[CHECKPOINT]})
    assert "not the one that was signed" in faults(verify_archive(checkpoint, archived.keys))["manifest"]


def test_another_log_on_the_key_list_cannot_sign_for_this_one(archived: Archived, tmp_path: Path) -> None:
    stranger = NoteSigner.generate("log.example/another")
    content = json.loads(archived.keys)
    content["logs"].append(stranger.verifier.vkey)
    signed = put_together(tmp_path / "a.dtseg", with_manifest(members_of(archived.paths[0]), stranger))
    assert faults(verify_archive(signed, json.dumps(content).encode())) == {
        "manifest": "the log itself has not signed the manifest"
    }


def test_a_witness_too_few_is_pending_and_no_stamp_is_pending_where_one_is_demanded(
    archived: Archived, tmp_path: Path
) -> None:
    members = members_of(archived.paths[0])
    lines = [json.loads(line) for line in members[CHECKPOINTS].split(b"\n")[:-1]]
    for content in lines:
        content["cosignatures"], content["stamps"] = content["cosignatures"][:1], []
    bare = {**members, CHECKPOINTS: b"".join([canonical(content) + b"\n" for content in lines])}
    path = put_together(tmp_path / "a.dtseg", with_manifest(bare, archived.log.place.signer))
    states = {check.name: check.state for check in verify_archive(path, archived.keys)}
    assert {name for name, state in states.items() if state == "pending"} == {"witnessed", "stamped"}
    assert "failed" not in states.values()


def test_a_compressed_member_is_refused(archived: Archived, tmp_path: Path) -> None:
    path = tmp_path / "a.dtseg"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members_of(archived.paths[0]).items():
            archive.writestr(name, data)
    assert "not stored as it is" in faults(verify_archive(path, archived.keys))["form"]


@dataclass
class PartOfTree:
    """What `SegmentTiles` asks of a segment, cut out of a whole tree."""

    manifest: Any
    members: dict[str, bytes]

    def read(self, name: str) -> bytes:
        return self.members[name]


def test_the_tiles_of_a_segment_are_enough_for_every_proof_and_each_is_needed() -> None:
    size, first, end, covers = 66300, 65536, 66048, (66100, 66300)
    hashes = [hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(size)]
    _, complete = Edge.empty().extended(hashes)
    levels: dict[int, list[bytes]] = {0: hashes}
    for tile in complete:
        levels.setdefault(tile.level + 1, []).append(tile.root)
    names = tile_names(first, end, covers)
    members = {name.path: b"".join(levels[name.level or 0][name.first : name.first + name.width]) for name in names}
    tiles = SegmentTiles(cast("Segment", PartOfTree(SimpleNamespace(tiles=names, covers=covers), members)))
    tiles.check_links()
    chance = random.Random(3)
    for tree in (end, *covers, *chance.sample(range(first + 1, end), 20)):
        edge, _ = Edge.empty().extended(hashes[:tree])
        for index in {first, min(end, tree) - 1, chance.randrange(first, min(end, tree))}:
            proof = at_once(inclusion_proof(tiles, index, tree))
            check_inclusion(hashes[index], index, tree, edge.root, proof)
        if tree in covers:
            assert tiles.edge(tree) == edge
    assert tiles.edge(first).root == Edge.empty().extended(hashes[:first])[0].root
    assert [name.path for name in names] == [
        *("tile/0/256", "tile/0/257", "tile/0/258.p/252"),
        *("tile/1/001.p/2", "tile/2/000.p/1"),
    ]


def test_a_far_checkpoint_costs_few_tiles() -> None:
    names = tile_names(65536 * 3, 65536 * 3 + 512, [65536 * 3 + 600, 65536 * 300 + 5])
    assert {name.level for name in names} == {0, 1, 2, 3}
    assert all(name.is_in(65536 * 300 + 5) for name in names)
    assert [(name.number, name.width) for name in names if name.level == 0] == [
        *((768, WIDTH), (769, WIDTH), (770, WIDTH), (76800, 5))
    ]


def test_bounds_are_multiples_of_the_segments_size() -> None:
    assert bounds_of(0, 1280, 512) == [(0, 512), (512, 1024), (1024, 1280)]
    assert bounds_of(768, 1280, 512) == [(768, 1024), (1024, 1280)]
    assert bounds_of(512, 700, 512) == [(512, 700)]
    assert bounds_of(512, 512, 512) == []


# Writing


async def test_nothing_is_overwritten_and_what_was_interrupted_is_done_again(
    database_url: str,
    tmp_path: Path,
    parties: Parties,  # noqa: F811
    ca: Issuer,  # noqa: F811
) -> None:
    log = await filled(database_url, tmp_path, parties, ca)
    folder = tmp_path / "archive"
    folder.mkdir()
    origin = "log.example_receipts"
    # As a power cut leaves it behind: an unfinished file, and salts beside a segment that never got its name.
    (folder / f"{origin}-0000000000-0000000512.dtseg.part").write_bytes(b"PK\3\4 half")
    (folder / f"{origin}-0000000000-0000000512.dtseg.part.private").write_bytes(b"half")
    (folder / f"{origin}-0000000000-0000000512.dtseg.private").write_bytes(b"of another try")
    first, _ = await log.archive(folder)
    assert (
        sorted(path.suffix for path in folder.iterdir() if not path.name.startswith("."))
        == [".dtseg"] * 2 + [".private"] * 2
    )
    assert faults(verify_archive(first, keys_of(log, parties))) == {}
    written = first.read_bytes()
    with pytest.raises(FileExistsError):
        await log.archive(folder)
    assert first.read_bytes() == written


async def test_a_log_that_is_damaged_is_not_archived(place: Place, tmp_path: Path) -> None:
    await place.fill(600, [600])
    log = Filled(place, Authority())
    cases = {
        "UPDATE log_entries SET leaf = leaf_hash WHERE seq = 77": "entry 77 is not the one",
        "DELETE FROM log_entries WHERE seq = 300": "entry 300 of the log is missing",
        "DELETE FROM log_tiles WHERE level = 0 AND number = 0": "tile/0/000 of the log is missing",
        "UPDATE log_checkpoints SET note = replace(note, '600', '599')": "signature of log.example/test does not verify",
    }
    for number, (statement, said) in enumerate(cases.items()):
        damaged = Place(f"sqlite:///{tmp_path / f'{number}.db'}", tmp_path, place.signer)
        (tmp_path / f"{number}.db").write_bytes((tmp_path / "log.db").read_bytes())
        await execute(damaged, statement)
        with pytest.raises(ArchiveError, match=said):
            await Filled(damaged, log.authority).archive(tmp_path / "archive")
        assert not list((tmp_path / "archive").glob("*.dtseg"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)


async def test_what_no_checkpoint_covers_is_not_archived(place: Place, tmp_path: Path) -> None:
    await place.fill(700, [500])
    log = Filled(place, Authority())
    async with log.source() as source:
        assert await source.archivable(None, None, tail=False) == 256
        assert await source.archivable(None, None, tail=True) == 500
        assert await source.archivable(None, 1, tail=True) == 0
        assert await source.archivable(300, None, tail=True) == 256
        archiver = LogArchiver(source, place.signer, place.verifiers, tmp_path / "archive")
        with pytest.raises(ArchiveError, match="no signed checkpoint covers"):
            [one async for one in archiver.write([(0, 512)], now_ms())]


async def test_one_command_at_a_time_writes_to_a_folder(place: Place, tmp_path: Path) -> None:
    await place.fill(600, [600])
    log = Filled(place, Authority())
    async with log.source() as source:
        archiver = LogArchiver(source, place.signer, place.verifiers, tmp_path / "archive")
        writing = archiver.write([(0, 256), (256, 512)], now_ms())
        await anext(writing)
        with pytest.raises(FileExistsError, match="another command"):
            await log.archive(tmp_path / "archive", 256)
        assert (await anext(writing)).end == 512
        await writing.aclose()


def test_a_manifest_is_canonical_and_reads_back(archived: Archived) -> None:
    data = members_of(archived.paths[0])[MANIFEST]
    assert Manifest.from_data(data).data == data
    with pytest.raises(ArchiveError):
        Manifest.from_data(data + b" ")
