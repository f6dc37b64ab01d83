"""The words of c2sp.org/tlog-witness, and what a witness decides about a request; no file, no clock, no socket.

Rules:
1. The order of the checks is that of the specification: origin known (404), signed by the log (403), sizes in order (400),
   continues what was cosigned last (409), consistent with it (422). Only what passes all of them is cosigned.
2. What a log has signed and a witness cannot cosign may be proof of misconduct: it is told apart here, and kept as evidence.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from exchange.transparency.checkpoint import Checkpoint, NoteError, decode_base64, split_note
from exchange.transparency.cosignature import read_checkpoint
from exchange.transparency.merkle import EMPTY_ROOT, HASH_SIZE, ProofError, check_consistency

MOST_BYTES: Final = 128 << 10
"""Of a request's body: sixteen post-quantum signatures and the longest proof fit in half of it."""
MOST_HASHES: Final = 63
SIZE_TYPE: Final = "text/x.tlog.size"
"""Content type of the answer 409."""

_MOST_SIGNATURES = 64
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})\n")

Misconduct = Literal["fork", "inconsistent", "older"]
"""`fork`: two trees of one size, both signed by the log: proof. `inconsistent`: the consistency proof does not lead from what was
cosigned to what is asked for: the log is forked, or the sender made a mistake. `older`: a smaller tree than was cosigned: an old
copy of the log was put back, or the request came late."""


class RequestError(ValueError):
    """The body is not an add-checkpoint request."""


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request to cosign a checkpoint."""

    old_size: int
    """Of the checkpoint that the sender believes the witness cosigned last; 0 for none."""
    proof: tuple[bytes, ...]
    """Consistency proof from there, 32 bytes each."""
    note: str
    """The checkpoint as signed by the log. Its signatures are not verified yet."""
    text: str
    """The part of the note that is signed."""
    checkpoint: Checkpoint

    @classmethod
    def from_body(cls, body: bytes) -> AddCheckpoint:
        """Parse the body of a request; raises RequestError."""
        if len(body) > MOST_BYTES:
            raise RequestError(f"the request has more than {MOST_BYTES} bytes")
        try:
            head, separator, note = body.decode("utf-8").partition("\n\n")
            text, signatures = split_note(note)
            checkpoint = read_checkpoint(text)
            first, *lines = head.split("\n")
            proof = tuple([decode_base64(line) for line in lines])
        except (UnicodeDecodeError, NoteError) as error:
            raise RequestError(f"not an old size, a proof and a checkpoint: {error}") from error
        old = _OLD.fullmatch(first)
        if not separator or old is None:
            raise RequestError("the first line is not `old <size>`")
        if len(proof) > MOST_HASHES or any(len(one) != HASH_SIZE for one in proof):
            raise RequestError(f"a consistency proof has at most {MOST_HASHES} lines of one hash each")
        if len(signatures) > _MOST_SIGNATURES:
            raise RequestError(f"the checkpoint has more than {_MOST_SIGNATURES} signatures")
        if max(int(old[1]), checkpoint.size) >= 1 << 63:
            raise RequestError("a size is too large")
        return cls(int(old[1]), proof, note, text, checkpoint)

    @property
    def body(self) -> bytes:
        """What is sent."""
        return request_body(self.old_size, self.proof, self.note)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not cosigned."""

    status: int
    """HTTP status of the answer: 400, 409 or 422."""
    reason: str
    misconduct: Misconduct | None = None


def decide(request: AddCheckpoint, latest: Checkpoint | None) -> Refusal | None:
    """Whether a checkpoint, known to be signed by its log, may be cosigned; None if so.

    Args:
        latest: What was last cosigned for this log.
    """
    wanted, size = request.checkpoint, latest.size if latest else 0
    if request.old_size > wanted.size:
        return Refusal(400, "the old size is larger than the checkpoint's")
    misconduct = _seen_differently(wanted, latest)
    if request.old_size != size:
        return Refusal(409, f"the last cosigned checkpoint has size {size}", misconduct)
    if wanted.size == 0 and wanted.root != EMPTY_ROOT:
        return Refusal(422, "the root of an empty tree is the hash of nothing", misconduct)
    if size == 0:
        if request.proof:
            return Refusal(422, "from an empty tree there is no proof")
        return None
    assert latest is not None
    try:
        check_consistency(size, latest.root, wanted.size, wanted.root, request.proof)
    except ProofError as error:
        return Refusal(422, f"not consistent with what was cosigned: {error}", misconduct or _unproven(wanted, latest))
    return None


def request_body(old_size: int, proof: Sequence[bytes], note: str) -> bytes:
    """The body of an add-checkpoint request."""
    lines = [f"old {old_size}", *[b64encode(one).decode() for one in proof]]
    return ("\n".join(lines) + "\n\n" + note).encode()


def size_from_conflict(body: bytes) -> int:
    """The size of the last cosigned checkpoint, from the body of an answer 409; raises RequestError."""
    found = _SIZE.fullmatch(body[:32].decode("ascii", "replace"))
    if found is None:
        raise RequestError("the answer does not say a size")
    return int(found[1])


def origin_hash(origin: str) -> str:
    """How the monitoring address of a witness names a log: hex SHA-256 of the origin."""
    return hashlib.sha256(origin.encode()).hexdigest()


def _seen_differently(wanted: Checkpoint, latest: Checkpoint | None) -> Misconduct | None:
    if latest is None or wanted.size > latest.size:
        return None
    if wanted.size < latest.size:
        return "older"
    return None if wanted.root == latest.root else "fork"


def _unproven(wanted: Checkpoint, latest: Checkpoint) -> Misconduct | None:
    # Of the same size with the same root it is the same tree, whatever proof came with it.
    return "inconsistent" if wanted.size > latest.size else None
