"""What tests of witnesses share: a log in memory with proofs of its own, and a witness in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exchange.transparency.checkpoint import Checkpoint, NoteSigner
from exchange.transparency.cosignature import Cosigner
from exchange.transparency.merkle import hash_leaf, root_of
from exchange.witness.folder import WitnessFolder
from exchange.witness.known_logs import KnownLogs
from exchange.witness.protocol import request_body
from exchange.witness.state import WitnessState
from exchange.witness.witness import Witness

NAME = "audit.example/witness"


@dataclass
class MemoryLog:
    """A log of so many leaves; `salt` makes another tree of the same sizes."""

    signer: NoteSigner = field(default_factory=lambda: NoteSigner.generate("log.example/datong"))
    salt: str = ""

    def leaves(self, size: int) -> list[bytes]:
        return [hash_leaf(f"{self.salt}{number}".encode()) for number in range(size)]

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self.signer.verifier.name, size, root_of(self.leaves(size)))

    def note(self, size: int) -> str:
        return self.checkpoint(size).signed(self.signer)

    def request(self, old: int, size: int) -> bytes:
        """An add-checkpoint request as an honest log makes it."""
        return request_body(old, self.proof(old, size), self.note(size))

    def proof(self, old: int, size: int) -> list[bytes]:
        return consistency(self.leaves(size), old) if 0 < old < size else []


def consistency(leaves: Sequence[bytes], old: int, *, whole: bool = True) -> list[bytes]:
    """The consistency proof as RFC 6962 section 2.1.2 defines it, from above."""
    if old == len(leaves):
        return [] if whole else [root_of(leaves)]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= half:
        return [*consistency(leaves[:half], old, whole=whole), root_of(leaves[half:])]
    return [*consistency(leaves[half:], old - half, whole=False), root_of(leaves[:half])]


@dataclass
class Clock:
    """A clock that is set."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def witness_in(folder: Path, *vkeys: str, clock: Clock | None = None, cosigner: Cosigner | None = None) -> Witness:
    """A witness that keeps its state in a folder and knows these logs."""
    place = WitnessFolder(folder)
    logs = KnownLogs(place.logs)
    own = cosigner or place.cosigner(NAME)
    logs.add(vkeys)
    return Witness(own, logs, WitnessState(place.database), clock or Clock())
