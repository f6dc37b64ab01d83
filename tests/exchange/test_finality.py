"""Which checkpoint goes into a receipt: the smallest final one, found in few steps, the same for whoever asks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from exchange.log.reader import LogReader
from exchange.log.store import SignedSize
from exchange.receipts.finality import best_checkpoint
from exchange.transparency.checkpoint import Checkpoint, NoteSigner, open_checkpoint
from exchange.transparency.cosignature import Cosigner
from exchange.transparency.merkle import ProofError, hash_leaf
from exchange.transparency.trust_policy import TrustPolicy
from tests.exchange.log_kit import ORIGIN, Place

SIGNER = NoteSigner.generate(ORIGIN)
WITNESSES = {name: Cosigner.generate(f"key-{name}") for name in "abc"}
LINES = "".join([f"witness {name} {one.verifier.vkey}\n" for name, one in WITNESSES.items()])
ALL = TrustPolicy.from_text(LINES + "group g all a b c\nquorum g\n")
TWO = TrustPolicy.from_text(LINES + "group g 2 a b c\nquorum g\n")
MIXED = TrustPolicy.from_text(LINES + "group any any b c\ngroup g all a any\nquorum g\n")
NONE = TrustPolicy.from_text(LINES + "quorum none\n")


class StoredLog(LogReader):
    """Checkpoints, cosignatures and stamps as given; counts how often it is asked."""

    def __init__(self, checkpoints: list[int], cosigned: Mapping[int, str], stamped: list[int]) -> None:
        self._sizes, self._cosigned, self._stamped = sorted(checkpoints), cosigned, sorted(stamped)
        self.asked = 0

    def checkpoint(self, size: int) -> SignedSize:
        root = hash_leaf(str(size).encode())
        return SignedSize(size, root, Checkpoint(ORIGIN, size, root).signed(SIGNER))

    async def latest_checkpoint(self) -> SignedSize | None:
        self.asked += 1
        return self.checkpoint(self._sizes[-1]) if self._sizes else None

    async def checkpoints_from(self, size: int, limit: int) -> list[SignedSize]:
        self.asked += 1
        return [self.checkpoint(one) for one in self._sizes if one >= size][:limit]

    async def cosignatures(self, size: int) -> dict[str, str]:
        self.asked += 1
        text = self.checkpoint(size).note.partition("\n\n")[0] + "\n"
        found = {}
        for name in self._cosigned.get(size, ""):
            witness = WITNESSES[name.lower()]
            # A capital stands for a line that does not verify.
            line = witness.cosign(text if name.islower() else text.replace(str(size), str(size + 1), 1), 1000)
            found[witness.verifier.name] = line
        return found

    async def next_cosigned(self, witnesses: object, size: int) -> dict[str, int]:
        self.asked += 1
        found = {}
        for name, witness in WITNESSES.items():
            sizes = [at for at, names in self._cosigned.items() if at >= size and name in names.lower()]
            if sizes:
                found[witness.verifier.name] = min(sizes)
        return found

    async def stamped_from(self, size: int, limit: int) -> list[tuple[int, str]]:
        self.asked += 1
        return [(one, "tsa") for one in self._stamped if one >= size][:limit]


async def chosen(log: StoredLog, policy: TrustPolicy | None, seq: int, *, need_stamp: bool = False) -> tuple[int, bool]:
    note, final = await best_checkpoint(log, policy, seq, need_stamp=need_stamp)
    if final and policy is not None:
        assert policy.satisfied_by(policy.cosigned(note))
    return open_checkpoint(note, [SIGNER.verifier]).size, final


@pytest.mark.parametrize(
    ("policy", "seq", "expected"),
    [
        (None, 3, (10, True)),
        (NONE, 3, (10, True)),
        (NONE, 9, (10, True)),
        (NONE, 10, (20, True)),
        (ALL, 3, (30, True)),
        (ALL, 29, (30, True)),
        (ALL, 30, (50, False)),
        (TWO, 3, (10, True)),
        (TWO, 20, (30, True)),
        (TWO, 30, (40, True)),
        (TWO, 40, (50, False)),
        (MIXED, 3, (10, True)),
        (MIXED, 10, (30, True)),
        (MIXED, 35, (40, True)),
    ],
)
async def test_it_is_the_smallest_that_the_quorum_cosigned(
    policy: TrustPolicy | None, seq: int, expected: tuple[int, bool]
) -> None:
    log = StoredLog([10, 20, 30, 40, 50], {10: "ab", 20: "bc", 30: "abc", 40: "ac", 50: "b"}, [])
    assert await chosen(log, policy, seq) == expected


async def test_it_agrees_with_looking_at_every_checkpoint() -> None:
    chance = random.Random(5)
    for _ in range(25):
        sizes = sorted(chance.sample(range(1, 60), chance.randint(1, 12)))
        cosigned = {size: "".join([name for name in "abcB" if chance.random() < 0.5]) for size in sizes}
        stamped = [size for size in sizes if chance.random() < 0.4]
        log = StoredLog(sizes, cosigned, stamped)
        good = {
            size: [name for name in names if name.islower() and name.upper() not in names]
            for size, names in cosigned.items()
        }
        for policy, need_stamp, seq in itertools.product((ALL, TWO, MIXED, NONE), (False, True), (0, 7, 30)):
            covering = [size for size in sizes if size > seq]
            if not covering:
                with pytest.raises(ProofError):
                    await best_checkpoint(log, policy, seq, need_stamp=need_stamp)
                continue
            finals = [
                size for size in covering if policy.satisfied_by(good[size]) and (not need_stamp or size in stamped)
            ]
            expected = (finals[0], True) if finals else (covering[-1], False)
            assert await chosen(log, policy, seq, need_stamp=need_stamp) == expected


async def test_a_witness_that_was_away_for_a_million_checkpoints_costs_few_steps() -> None:
    log = StoredLog(list(range(1, 3000)), dict.fromkeys(range(1, 2990), "a") | {2990: "abc"}, [])
    assert await chosen(log, ALL, 5) == (2990, True)
    assert log.asked <= 5


async def test_the_search_gives_up_where_witnesses_never_meet() -> None:
    log = StoredLog(list(range(1, 3000)), {size: "ab"[size % 2] for size in range(1, 3000)}, [])
    assert await chosen(log, TWO, 0) == (2999, False)
    assert log.asked < 80


async def test_lines_that_do_not_verify_are_left_out_of_the_note() -> None:
    log = StoredLog([10, 20], {10: "aB", 20: "Abc"}, [])
    note, final = await best_checkpoint(log, TWO, 0)
    assert final
    assert open_checkpoint(note, [SIGNER.verifier]).size == 20
    assert TWO.cosigned(note).keys() == {"b", "c"}
    assert [line.split()[1] for line in note.split("\n\n")[1].splitlines()] == [ORIGIN, "key-b", "key-c"]


async def test_without_a_checkpoint_there_is_nothing_to_choose() -> None:
    with pytest.raises(ProofError):
        await best_checkpoint(StoredLog([], {}, []), None, 0)


async def test_what_a_real_log_stores_is_found(database_url: str, tmp_path: Path) -> None:
    """The queries, on both databases."""
    place = Place(database_url, tmp_path)
    await place.fill(300, [100, 200, 300])
    async with place.log() as log:
        assert (await log.reader.next_cosigned(["key-a"], 0)) == {}
        note, final = await best_checkpoint(log.reader, TWO, 50)
        assert (open_checkpoint(note, place.verifiers).size, final) == (300, False)
        for size, names in ((100, "a"), (200, "ac"), (300, "abc")):
            (stored,) = await log.reader.checkpoints_from(size, 1)
            text = stored.note.partition("\n\n")[0] + "\n"
            for name in names:
                witness = WITNESSES[name]
                line = witness.cosign(text, 1000)
                await log.attach("cosignature", size, witness.verifier.name, 1_000_000, line)
        assert await log.reader.next_cosigned(["key-a", "key-b", "key-c", "key-d"], 101) == {
            "key-a": 200,
            "key-b": 300,
            "key-c": 200,
        }
        first = await best_checkpoint(log.reader, TWO, 50)
        assert (open_checkpoint(first.note, place.verifiers).size, first.final) == (200, True)
        assert TWO.cosigned(first.note) == {"a": 1000, "c": 1000}
        assert await best_checkpoint(log.reader, TWO, 50) == first
        assert open_checkpoint((await best_checkpoint(log.reader, ALL, 0)).note, place.verifiers).size == 300
        assert not (await best_checkpoint(log.reader, TWO, 50, need_stamp=True)).final
        await log.attach("stamp", 300, "tsa", 1_000_000, b"token")
        stamped = await best_checkpoint(log.reader, TWO, 50, need_stamp=True)
        assert (open_checkpoint(stamped.note, place.verifiers).size, stamped.final) == (300, True)
