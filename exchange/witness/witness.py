"""A witness: cosigns the checkpoints of logs it knows, as long as each continues the one before (c2sp.org/tlog-witness).

Rules:
1. What is given out was on disk before. After a crash in between, the log is told the size (409), asks again, and gets its
   cosignature: nothing is lost and nothing contradicts.
2. The time in cosignatures of one log never runs backwards, whatever the clock does.
3. A fork, a smaller tree or a proof that leads elsewhere is kept as evidence and told, and never cosigned.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from exchange.transparency.checkpoint import NoteError, NoteVerifier, open_note, split_note
from exchange.transparency.cosignature import Cosigner
from exchange.witness.known_logs import KnownLogs
from exchange.witness.protocol import SIZE_TYPE, AddCheckpoint, Refusal, RequestError, decide
from exchange.witness.state import Cosigned, StateError, WitnessState

events = structlog.get_logger("datong.witness")


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """What a witness answers to a request."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


class Witness:
    """One witness. One thread at a time calls it.

    Args:
        clock: POSIX time in seconds.
    """

    def __init__(self, cosigner: Cosigner, logs: KnownLogs, state: WitnessState, clock: Callable[[], float]) -> None:
        self._cosigner = cosigner
        self._logs = logs
        self._state = state
        self._clock = clock

    def add_checkpoint(self, body: bytes) -> WitnessAnswer:
        """Cosign a checkpoint, or say why not. Never raises because of what is in the body."""
        try:
            request = AddCheckpoint.from_body(body)
        except RequestError as error:
            return WitnessAnswer(400, f"{error}\n")
        origin = request.checkpoint.origin
        verifiers = self._logs.verifiers(origin)
        if not verifiers:
            return WitnessAnswer(404, "this witness does not know the log\n")
        try:
            open_note(request.note, verifiers)
        except NoteError as error:
            return WitnessAnswer(403, f"{error}\n")
        try:
            return self._decide(request, verifiers)
        except NoteError as error:  # extension lines, which the algorithm of our key cannot cover
            return WitnessAnswer(400, f"{error}\n")
        except StateError as error:
            events.error("witness.state_unusable", reason=str(error))
            return WitnessAnswer(503, "the witness cannot remember what it would cosign; try again later\n")

    def checkpoint(self, hashed_origin: str) -> WitnessAnswer:
        """The last checkpoint cosigned of a log, for whoever wants to compare: the log's signature and ours."""
        origin = self._logs.origin(hashed_origin)
        try:
            latest = self._state.latest(origin) if origin is not None else None
        except StateError as error:
            events.error("witness.state_unusable", reason=str(error))
            return WitnessAnswer(503, "the witness cannot read what it cosigned; try again later\n")
        if latest is None:
            return WitnessAnswer(404, "nothing was cosigned of such a log\n")
        return WitnessAnswer(200, latest.note)

    def _decide(self, request: AddCheckpoint, verifiers: Sequence[NoteVerifier]) -> WitnessAnswer:
        origin, now = request.checkpoint.origin, max(1, int(self._clock()))
        with self._state.changing(origin) as change:
            latest = change.latest
            refusal = decide(request, latest.checkpoint if latest else None)
            if refusal is None:
                at = max(now, latest.at if latest else 0)
                line = self._cosigner.cosign(request.text, at)
                change.replace(Cosigned(request.checkpoint, at, _signed_by_log(request, verifiers) + line))
            elif refusal.misconduct and latest:
                told = change.keep(refusal.misconduct, request.checkpoint, now, request.body.decode(), latest.note)
        if refusal is None:
            if latest is None:
                events.info("witness.first_cosignature", origin=origin, size=request.checkpoint.size)
            return WitnessAnswer(200, line)
        if refusal.misconduct and latest and told:
            self._tell(request, refusal, latest)
        if refusal.status == 409:
            return WitnessAnswer(409, f"{latest.checkpoint.size if latest else 0}\n", SIZE_TYPE)
        return WitnessAnswer(refusal.status, f"{refusal.reason}\n")

    def _tell(self, request: AddCheckpoint, refusal: Refusal, latest: Cosigned) -> None:
        # A late request is nothing unusual, the other two must be looked at.
        tell = events.warning if refusal.misconduct == "older" else events.critical
        tell(
            "witness.misconduct",
            kind=refusal.misconduct,
            origin=request.checkpoint.origin,
            size=request.checkpoint.size,
            root=request.checkpoint.root.hex(),
            cosigned_size=latest.checkpoint.size,
            cosigned_root=latest.checkpoint.root.hex(),
            reason=refusal.reason,
        )


def _signed_by_log(request: AddCheckpoint, verifiers: Sequence[NoteVerifier]) -> str:
    """The request's note with the log's signatures alone: others we did not verify."""
    known = {(verifier.name, verifier.key_id) for verifier in verifiers}
    lines = [
        f"— {name} {b64encode(key_id + signature).decode()}\n"
        for name, key_id, signature in split_note(request.note)[1]
        if (name, key_id) in known
    ]
    return request.text + "\n" + "".join(lines)
