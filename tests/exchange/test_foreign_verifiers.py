"""Software that nobody here wrote accepts our receipts and proofs, and refuses whatever is changed in them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exchange.canonical_json import canonical
from exchange.log.change_record import is_change
from exchange.receipts.receipt import build_receipt, verify_receipt
from exchange.transparency.checkpoint import Checkpoint, NoteError, NoteSigner, TlogProof, open_checkpoint
from exchange.transparency.cosignature import Cosigner
from exchange.transparency.merkle import ProofError, check_consistency, hash_leaf, root_of
from tests.exchange.log_kit import Attempt, Place, change_attempt, change_record
from tests.exchange.test_merkle import consistency_by_definition
from tests.exchange.test_receipt import Parties, exchange, failed, parties  # noqa: F401
from tests.foreign.verifiers import ForeignVerifier

SIZE = 1500
SIGNED = sorted({*range(1, 70), *range(70, SIZE, 5), 255, 256, 257, 511, 512, 513, 1024, 1025, SIZE})
COUNT = 1000
"""Of good receipts, of mutated ones, of good proofs of consistency and of mutated ones."""


@dataclass(frozen=True)
class Shown:
    """A receipt in its parts."""

    record: str
    proof: TlogProof
    beside: dict[str, Any]

    @classmethod
    def of(cls, receipt: bytes) -> Shown:
        members = json.loads(receipt)
        return cls(members.pop("record"), TlogProof.from_text(members.pop("tlog_proof")), members)

    def receipt(self) -> bytes:
        return canonical({**self.beside, "record": self.record, "tlog_proof": self.proof.text})

    def proving(self, **changes: Any) -> Shown:
        return dataclasses.replace(self, proof=dataclasses.replace(self.proof, **changes))


@dataclass(frozen=True)
class Claim:
    """Two checkpoints and what is to show that the newer log begins with the older."""

    old: str
    new: str
    proof: tuple[bytes, ...]

    def line(self) -> dict[str, Any]:
        return {"old": self.old, "new": self.new, "proof": [b64encode(node).decode() for node in self.proof]}


@dataclass(frozen=True)
class World:
    """One real log, and everything that was made of it."""

    signer: NoteSigner
    keys: bytes
    leaves: list[bytes]
    notes: dict[int, str]
    receipts: list[Shown]
    claims: list[Claim]

    @property
    def vkey(self) -> str:
        return self.signer.verifier.vkey

    def fork(self, size: int, at: int) -> str:
        """A checkpoint that the log's own key signed, over a log in which one entry is another."""
        return Checkpoint(self.signer.verifier.name, size, root_of(self.forked(at)[:size])).signed(self.signer)

    def forked(self, at: int) -> list[bytes]:
        return [*self.leaves[:at], hash_leaf(b"another entry"), *self.leaves[at + 1 :]]


@pytest.fixture(scope="module")
def world(parties: Parties, tmp_path_factory: pytest.TempPathFactory) -> World:  # noqa: F811
    """A log of 1,500 exchanges and changes with some hundred checkpoints: receipts and proofs at random, the same each time."""
    folder = tmp_path_factory.mktemp("world")
    place = Place(f"sqlite:///{folder / 'log.db'}", folder, parties.signer)
    return asyncio.run(made_world(place, parties, SIZE, SIGNED, COUNT))


async def made_world(place: Place, parties: Parties, size: int, signed: list[int], count: int) -> World:  # noqa: F811
    chance = random.Random(size)

    def made(number: int) -> Attempt:
        return change_attempt(change_record(number)) if number % 6 == 5 else exchange(parties)

    await place.fill(size, signed, certificates=[each.der for each in parties.certificates], made=made)
    async with place.reader() as reader:
        entries = [entry async for entry in reader.iter_entries()]
        notes = {each.size: each.note async for each in reader.iter_checkpoints()}
        assert sorted(notes) == signed
        chosen = sorted({0, 1, 2, *chance.sample(range(size), count // 10)})
        shown = {seq: Shown.of(await build_receipt(reader, entries[seq], notes[size])) for seq in chosen}
        receipts = []
        for number in range(count):
            # The same receipt, as it would have been when the log was smaller.
            end = signed[number % len(signed)]
            seq = chance.choice([each for each in chosen if each < end])
            proof = TlogProof(seq, tuple(await reader.inclusion(seq, end)), notes[end])
            receipts.append(dataclasses.replace(shown[seq], proof=proof))
        pairs = [sorted(chance.choices(signed, k=2)) for _ in range(count)]
        claims = [Claim(notes[old], notes[new], tuple(await reader.consistency(old, new))) for old, new in pairs]
    return World(place.signer, parties.keys(), [entry.leaf_hash for entry in entries], notes, receipts, claims)


# Mutations. Each takes something good and returns something that says something else, or None where it has no place.

Mutated = Callable[[World, random.Random, Any], Any]
OTHER = NoteSigner.generate("log.example/receipts")
"""Another log, of the same name."""


def flipped(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def with_text(note: str, **changes: Any) -> str:
    """The note of another checkpoint under the old signature."""
    text, _, signatures = note.partition("\n\n")
    origin, size, root = text.split("\n")
    found = dataclasses.replace(Checkpoint(origin, int(size), b64decode(root)), **changes)
    return f"{found.text}\n{signatures}"


def with_line(note: str, change: Callable[[bytes], bytes], name: str = "") -> str:
    """The note with another signature: `change` gets the key id and the signature."""
    text, _, line = note[:-1].rpartition("\n")
    _, signer, signature = line.split(" ")
    return f"{text}\n— {name or signer} {b64encode(change(b64decode(signature))).decode()}\n"


def checkpoint_of(note: str) -> Checkpoint:
    return Checkpoint.from_text(note.partition("\n\n")[0] + "\n")


def signed_by_another(note: str) -> str:
    return checkpoint_of(note).signed(OTHER)


def under_our_id(world: World, note: str) -> str:
    """Signed by another key, which says that it is ours."""
    return with_line(signed_by_another(note), lambda line: world.signer.verifier.key_id + line[4:])


def another_size(world: World, chance: random.Random, size: int) -> int:
    return chance.choice([each for each in world.notes if each != size])


NOTES: dict[str, Callable[[World, random.Random, str], str]] = {
    "size": lambda world, chance, note: with_text(note, size=checkpoint_of(note).size + chance.choice((1, 2, 256))),
    "root": lambda world, chance, note: with_text(note, root=flipped(chance, checkpoint_of(note).root)),
    "origin": lambda world, chance, note: with_text(note, origin="log.example/other"),
    "extension line": lambda world, chance, note: note.replace("\n\n", "\nfurther\n\n", 1),
    "signature": lambda world, chance, note: with_line(note, lambda line: line[:4] + flipped(chance, line[4:])),
    "key id": lambda world, chance, note: with_line(note, lambda line: flipped(chance, line[:4]) + line[4:]),
    "name of the key": lambda world, chance, note: with_line(note, lambda line: line, "log.example/other"),
    "cut signature": lambda world, chance, note: with_line(note, lambda line: line[: chance.randrange(5, len(line))]),
    "no signature": lambda world, chance, note: note.partition("\n\n")[0] + "\n\n",
    "key of another log": lambda world, chance, note: signed_by_another(note),
    "another key under our id": lambda world, chance, note: under_our_id(world, note),
}
"""What happens to a checkpoint."""


def swapped(chance: random.Random, proof: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    pairs = [(a, b) for a in range(len(proof)) for b in range(a) if proof[a] != proof[b]]
    if not pairs:
        return None
    a, b = chance.choice(pairs)
    changed = list(proof)
    changed[a], changed[b] = changed[b], changed[a]
    return tuple(changed)


def without_one(chance: random.Random, proof: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    at = chance.randrange(len(proof)) if proof else None
    return None if at is None else proof[:at] + proof[at + 1 :]


def with_one_more(chance: random.Random, proof: tuple[bytes, ...]) -> tuple[bytes, ...]:
    at = chance.randrange(len(proof) + 1)
    added = chance.choice([*proof, bytes(32), chance.randbytes(32)])
    return (*proof[:at], added, *proof[at:])


def with_one_changed(chance: random.Random, proof: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    if not proof:
        return None
    at = chance.randrange(len(proof))
    return (*proof[:at], flipped(chance, proof[at]), *proof[at + 1 :])


PROOFS: dict[str, Callable[[random.Random, tuple[bytes, ...]], tuple[bytes, ...] | None]] = {
    "order of hashes": swapped,
    "cut proof": without_one,
    "last hash": lambda chance, proof: proof[:-1] if proof else None,
    "extended proof": with_one_more,
    "hash": with_one_changed,
    "short hash": lambda chance, proof: (*proof[:-1], proof[-1][:-1]) if proof else None,
}
"""What happens to a list of hashes."""


def other_index(world: World, chance: random.Random, good: Shown) -> Shown | None:
    size = checkpoint_of(good.proof.checkpoint).size
    others = [each for each in {good.proof.index - 1, good.proof.index + 1, chance.randrange(size)} if 0 <= each < size]
    others = [each for each in others if each != good.proof.index]
    return good.proving(index=chance.choice(others)) if others else None


def other_record(world: World, chance: random.Random, good: Shown) -> Shown:
    at = good.record.index('"id":"') + len('"id":"') + chance.randrange(8)
    other = "0123456789abcdef".replace(good.record[at], "")
    return dataclasses.replace(good, record=good.record[:at] + chance.choice(other) + good.record[at + 1 :])


def another_proof(world: World, chance: random.Random, good: Shown) -> Shown:
    other = chance.choice([each for each in world.receipts if each.record != good.record])
    return dataclasses.replace(good, proof=other.proof)


def another_checkpoint(world: World, chance: random.Random, good: Shown) -> Shown:
    """A good one of the same log, of another size: not the one that the proof leads to."""
    size = checkpoint_of(good.proof.checkpoint).size
    return good.proving(checkpoint=world.notes[another_size(world, chance, size)])


def forked_checkpoint(world: World, chance: random.Random, good: Shown) -> Shown:
    size = checkpoint_of(good.proof.checkpoint).size
    return good.proving(checkpoint=world.fork(size, chance.randrange(size)))


def at_the_checkpoint(change: Callable[[World, random.Random, str], str]) -> Mutated:
    return lambda world, chance, good: good.proving(checkpoint=change(world, chance, good.proof.checkpoint))


def at_the_proof(change: Callable[[random.Random, tuple[bytes, ...]], tuple[bytes, ...] | None]) -> Mutated:
    def mutated(world: World, chance: random.Random, good: Shown) -> Shown | None:
        hashes = change(chance, good.proof.hashes)
        return None if hashes is None else good.proving(hashes=hashes)

    return mutated


RECEIPTS: dict[str, Mutated] = {
    "byte of the record": other_record,
    "index": other_index,
    "index beyond": lambda world, chance, good: good.proving(index=good.proof.index + SIZE),
    "proof of another entry": another_proof,
    "another checkpoint": another_checkpoint,
    "checkpoint of a fork": forked_checkpoint,
    **{name: at_the_proof(change) for name, change in PROOFS.items()},
    **{f"checkpoint: {name}": at_the_checkpoint(change) for name, change in NOTES.items()},
}


def proof_changed(change: Callable[[random.Random, tuple[bytes, ...]], tuple[bytes, ...] | None]) -> Mutated:
    def mutated(world: World, chance: random.Random, good: Claim) -> Claim | None:
        hashes = change(chance, good.proof)
        return None if hashes is None else dataclasses.replace(good, proof=hashes)

    return mutated


def old_changed(change: Callable[[World, random.Random, str], str]) -> Mutated:
    return lambda world, chance, good: dataclasses.replace(good, old=change(world, chance, good.old))


def new_changed(change: Callable[[World, random.Random, str], str]) -> Mutated:
    return lambda world, chance, good: dataclasses.replace(good, new=change(world, chance, good.new))


def turned_round(world: World, chance: random.Random, good: Claim) -> Claim | None:
    """The log has shrunk: an old copy was put back."""
    return None if good.old == good.new else Claim(good.new, good.old, good.proof)


def grown_from_a_fork(world: World, chance: random.Random, good: Claim) -> Claim:
    """The newer log shows how it grew, and from what else: everything in it is signed and true of the fork."""
    old, new = checkpoint_of(good.old).size, checkpoint_of(good.new).size
    at = chance.randrange(old)
    return Claim(good.old, world.fork(new, at), tuple(consistency_by_definition(old, world.forked(at)[:new])))


def from_a_fork(world: World, chance: random.Random, good: Claim) -> Claim:
    old = checkpoint_of(good.old).size
    return dataclasses.replace(good, old=world.fork(old, chance.randrange(old)))


def another_old(world: World, chance: random.Random, good: Claim) -> Claim | None:
    size = another_size(world, chance, checkpoint_of(good.old).size)
    # From the same log to itself nothing has to be shown.
    return (
        None if world.notes[size] == good.new and not good.proof else dataclasses.replace(good, old=world.notes[size])
    )


CLAIMS: dict[str, Mutated] = {
    "turned round": turned_round,
    "grown from a fork": grown_from_a_fork,
    "from a fork": from_a_fork,
    "another old checkpoint": another_old,
    "nothing shown": lambda world, chance, good: dataclasses.replace(good, proof=()) if good.proof else None,
    **{name: proof_changed(change) for name, change in PROOFS.items()},
    **{f"old: {name}": old_changed(change) for name, change in NOTES.items()},
    **{f"new: {name}": new_changed(change) for name, change in NOTES.items()},
}


def mutations(world: World, kinds: dict[str, Mutated], good: list[Any]) -> Iterator[tuple[str, Any]]:
    """COUNT changed ones, of each kind as many; the same each time."""
    chance = random.Random(COUNT)
    names = list(kinds)
    number = 0
    while number < COUNT:
        name, one = names[number % len(names)], chance.choice(good)
        changed = kinds[name](world, chance, one)
        if changed is not None:
            assert changed != one, name
            number += 1
            yield name, changed


@pytest.fixture(scope="module")
def mutated_receipts(world: World) -> list[tuple[str, Shown]]:
    return list(mutations(world, RECEIPTS, world.receipts))


@pytest.fixture(scope="module")
def mutated_claims(world: World) -> list[tuple[str, Claim]]:
    return list(mutations(world, CLAIMS, world.claims))


def accepted(names: list[str], verdicts: list[str]) -> Counter[str]:
    return Counter(name for name, verdict in zip(names, verdicts, strict=True) if verdict == "ok")


def test_a_thousand_receipts_are_accepted(world: World, foreign: ForeignVerifier) -> None:
    assert len(world.receipts) == COUNT
    assert len({each.proof.index for each in world.receipts}) > COUNT / 11
    assert len({each.proof.checkpoint for each in world.receipts}) == len(SIGNED)
    assert {is_change(each.record.encode()) for each in world.receipts} == {True, False}
    refused = Counter(foreign.verdicts("receipts", world.vkey, [each.receipt() for each in world.receipts]))
    assert refused == {"ok": COUNT}


def test_a_thousand_changed_receipts_are_refused(
    world: World, mutated_receipts: list[tuple[str, Shown]], foreign: ForeignVerifier
) -> None:
    names = [name for name, _ in mutated_receipts]
    assert min(Counter(names).values()) >= COUNT // len(RECEIPTS)
    verdicts = foreign.verdicts("receipts", world.vkey, [changed.receipt() for _, changed in mutated_receipts])
    assert not accepted(names, verdicts)


def test_so_do_we(world: World, mutated_receipts: list[tuple[str, Shown]]) -> None:
    """With all the other checks of a receipt."""
    for good in world.receipts:
        assert failed(verify_receipt(good.receipt(), world.keys)) == set()
    for name, changed in mutated_receipts:
        found = failed(verify_receipt(changed.receipt(), world.keys))
        assert found & {"form", "checkpoint", "inclusion"}, name


def test_a_thousand_proofs_of_consistency_are_accepted(world: World, foreign: ForeignVerifier) -> None:
    assert sum(bool(each.proof) for each in world.claims) > COUNT * 0.9
    refused = Counter(foreign.verdicts("consistency", world.vkey, [each.line() for each in world.claims]))
    assert refused == {"ok": COUNT}


def test_a_thousand_changed_proofs_of_consistency_are_refused(
    world: World, mutated_claims: list[tuple[str, Claim]], foreign: ForeignVerifier
) -> None:
    names = [name for name, _ in mutated_claims]
    assert min(Counter(names).values()) >= COUNT // len(CLAIMS)
    assert not accepted(names, foreign.verdicts("consistency", world.vkey, [each.line() for _, each in mutated_claims]))


def ours(world: World, claim: Claim) -> None:
    old, new = (open_checkpoint(note, [world.signer.verifier]) for note in (claim.old, claim.new))
    check_consistency(old.size, old.root, new.size, new.root, claim.proof)


def test_so_do_we_with_consistency(world: World, mutated_claims: list[tuple[str, Claim]]) -> None:
    for good in world.claims:
        ours(world, good)
    for name, changed in mutated_claims:
        try:
            ours(world, changed)
        except (NoteError, ProofError):
            continue
        pytest.fail(f"accepted: {name}")


async def test_what_either_database_holds_is_accepted(
    database_url: str,
    tmp_path: Path,
    parties: Parties,  # noqa: F811
    go_verifier: ForeignVerifier,
    aics_verifier: ForeignVerifier,
) -> None:
    place = Place(database_url, tmp_path, parties.signer)
    small = await made_world(place, parties, 300, [1, 2, 3, 17, 255, 256, 257, 300], 24)
    for verifier in (go_verifier, aics_verifier):
        assert set(verifier.verdicts("receipts", small.vkey, [each.receipt() for each in small.receipts])) == {"ok"}
        assert set(verifier.verdicts("consistency", small.vkey, [each.line() for each in small.claims])) == {"ok"}


def test_cosignatures_are_passed_over_by_one_and_verified_by_the_other(
    world: World, go_verifier: ForeignVerifier, aics_verifier: ForeignVerifier
) -> None:
    """Go knows no cosignatures and opens the note without them; aics-tlog counts those of witnesses that it is told."""
    witnesses = [Cosigner.generate(f"witness{number}.example/w") for number in range(2)]
    note = world.notes[SIZE]
    text = note.partition("\n\n")[0] + "\n"
    lines = [each.cosign(text, 1_800_000_000) for each in witnesses]
    vkeys = [each.verifier.vkey for each in witnesses]
    chance = random.Random(1)
    older = world.notes[SIGNED[-2]].partition("\n\n")[0] + "\n"
    changed = (
        with_line(note + lines[0], lambda line: line[:-64] + flipped(chance, line[-64:])),
        with_line(note + lines[0], lambda line: line[:4] + flipped(chance, line[4:12]) + line[12:]),
        with_line(note + lines[1], lambda line: line, witnesses[0].verifier.name),
        note + witnesses[0].cosign(older, 1_800_000_000),
    )
    cases = [
        {"note": note + "".join(lines)},
        *({"note": each + lines[1]} for each in changed),
        {"note": note + lines[1]},
    ]
    assert set(go_verifier.verdicts("notes", world.vkey, cases)) == {"ok"}
    assert set(aics_verifier.verdicts("notes", world.vkey, cases)) == {"ok"}
    verdicts = aics_verifier.verdicts("notes", world.vkey, cases, witnesses=vkeys)
    assert [verdict == "ok" for verdict in verdicts] == [True, False, False, False, False, False]
    # A witness is no log: its line alone opens nothing.
    assert go_verifier.verdicts("notes", world.vkey, [{"note": f"{text}\n{lines[0]}"}]) != ["ok"]
