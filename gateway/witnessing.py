"""Gets every checkpoint of the log cosigned by the witnesses of its policy, beside the traffic.

Rules:
1. Nothing waits for a witness but who asks for a final receipt. Each witness has a task of its own: one that is slow or away
   holds up no other, is asked again after a pause that doubles, and is an alarm.
2. A witness is asked about the newest checkpoint only. Those that it missed are covered by the next one.
3. What a cosignature says is verified before it is stored.
4. A witness that has seen more of our log than is stored, or something else, is proof against this log: told as loudly as can be,
   and never argued with. At the start it ends the start (`gateway.witness_check`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass
from typing import Literal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from exchange import (
    CorruptLogError,
    ExchangeLog,
    LogReader,
    LogUnavailableError,
    NoteVerifier,
    PolicyWitness,
    ProofError,
    TrustPolicy,
    UnavailableError,
    best_checkpoint,
)
from gateway.witness_check import check_stored
from gateway.witness_client import Cosignature, KnowsSizeError, WitnessClient, WitnessError

WitnessState = Literal["new", "ok", "away", "unknown-log", "refused", "ahead"]
"""`new`: not heard yet. `refused`: it says that our checkpoint is not good. `ahead`: it has seen more than we have stored."""

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_MOST_TRIES = 4
"""Until old size and checkpoint fit: other gateways of the log ask the same witness."""

events = structlog.get_logger("datong.witnessing")


class ContradictedLogError(UnavailableError):
    """A witness holds a checkpoint, signed by this log, that the stored log does not continue: it was rolled back or forked."""

    rule_name = "log-as-witnessed"
    detail = {
        "en": "A witness has proof that the exchange log was rolled back or rewritten, so nothing is carried.",
        "zh": "见证方持有证据，表明交换日志曾被回退或改写，因此暂停交换。",
    }
    next = {
        "en": "Tell the operator: the log must be restored to what the witness saw (docs/witnesses.md).",
        "zh": "请联系平台运维人员：须将日志恢复到见证方所见的状态（见 docs/witnesses.md）。",
    }
    retry_after: int | None = 300


@dataclass(slots=True)
class WitnessStanding:
    """How it stands with one witness."""

    name: str
    """In the policy."""
    url: str
    state: WitnessState = "new"
    size: int = 0
    """Of the last checkpoint that it cosigned for us."""
    at: int = 0
    """When: POSIX time, seconds."""
    since: float = 0.0
    """POSIX time at which `state` began."""
    problem: str = ""


class Witnessing:
    """The witnesses of one gateway's log, those of the policy that have an address.

    Args:
        log: Whose checkpoints; started.
        interval: How often, in seconds, it is looked for a new checkpoint.
        timeout: Seconds for a request to a witness.
        tls: For witnesses at https addresses.

    Raises:
        ValueError: The policy names logs and not this one, or two witnesses whose keys have one name.
    """

    def __init__(
        self,
        log: ExchangeLog,
        policy: TrustPolicy,
        *,
        interval: float = 1.0,
        timeout: float = 5.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.policy = policy
        self._log = log
        self._reader: LogReader = log.reader
        self._verifier = NoteVerifier.from_vkey(log.vkey)
        self._interval = interval
        if policy.logs and self._verifier.public_key not in {one.verifier.public_key for one in policy.logs}:
            raise ValueError(f"the policy of witnesses does not name this log: {log.vkey}")
        names = [one.verifier.name for one in policy.witnesses]
        if len(set(names)) < len(names):
            raise ValueError(
                "two witnesses of the policy have keys of the same name; their cosignatures would be confused"
            )
        self._asked = [_Asked(one, timeout, tls) for one in policy.witnesses if one.url]
        self._tasks: list[asyncio.Task[None]] = []
        self._kicked = asyncio.Event()
        self._newest = 0
        """Size of the newest stored checkpoint, as far as we know."""
        self._at_size: dict[int, set[str]] = {}
        """Size -> witnesses, by their names in the policy, that cosigned it since we started; the last few sizes."""
        self._final = 0
        """Size of the largest checkpoint that is known to have the quorum."""
        self._progress = asyncio.Condition()

    async def start(self) -> None:
        """Begin to ask."""
        self._tasks = [asyncio.create_task(self._watch(), name="witnessing")]
        self._tasks += [asyncio.create_task(self._ask(one), name=f"witness {one.witness.name}") for one in self._asked]

    async def stop(self) -> None:
        """Stop asking; what was received is stored or lost, which does no harm: it is asked for again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for one in self._asked:
            await one.client.close()

    def kick(self) -> None:
        """Look for a new checkpoint now."""
        self._kicked.set()

    async def final(self, size: int, timeout: float) -> bool:
        """Whether a stored checkpoint of at least `size` entries has the quorum, waiting so many seconds for it.

        Raises:
            SQLAlchemyError, OSError: The log's database does not answer.
        """
        if self._final >= size or await self._is_stored(size):
            return True
        self.kick()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._progress:
                await self._progress.wait_for(lambda: self._final >= size)
                return True
        # Another gateway of the log may have brought the last signature.
        return await self._is_stored(size)

    def refusal(self) -> UnavailableError | None:
        """The error with which everything is to be refused, if a witness has proof against the log."""
        return ContradictedLogError() if any(one.standing.state == "ahead" for one in self._asked) else None

    def standing(self) -> list[WitnessStanding]:
        """How it stands with each witness that is asked."""
        return [one.standing for one in self._asked]

    @property
    def healthy(self) -> bool:
        """Whether the witnesses that cosign now are a quorum. Receipts stay pending while they are not."""
        return self.policy.satisfied_by(
            [one.witness.name for one in self._asked if one.standing.state in ("ok", "new")]
        )

    async def _is_stored(self, size: int) -> bool:
        try:
            return (await best_checkpoint(self._reader, self.policy, size - 1)).final
        except ProofError:
            return False

    async def _watch(self) -> None:
        """Notice new checkpoints, and tell the tasks of the witnesses."""
        while True:
            self._kicked.clear()
            try:
                newest = await self._reader.latest_checkpoint()
            except (SQLAlchemyError, OSError) as error:
                events.warning("witnessing.log_unreadable", error=type(error).__name__)
            else:
                if newest is not None and newest.size != self._newest:
                    self._newest = newest.size
                    for one in self._asked:
                        one.wake.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._kicked.wait()

    async def _ask(self, one: _Asked) -> None:
        """Get the newest checkpoint cosigned by one witness, again and again."""
        pause = _FIRST_PAUSE
        while True:
            await one.wake.wait()
            one.wake.clear()
            try:
                await self._cosign_newest(one)
            except (WitnessError, LogUnavailableError, SQLAlchemyError, OSError, ProofError, CorruptLogError) as error:
                self._failed(one, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                one.wake.set()
            else:
                pause = _FIRST_PAUSE

    async def _cosign_newest(self, one: _Asked) -> None:
        """Have the newest checkpoint cosigned and store the line.

        Raises:
            WitnessError: The witness does not.
            CorruptLogError: It has seen more than is stored, or something else, with our log's signature.
            LogUnavailableError, SQLAlchemyError, OSError, ProofError: Our own log cannot be read or written now.
        """
        for _ in range(_MOST_TRIES):
            newest = await self._reader.latest_checkpoint()
            if newest is None:
                return
            known, one.old_size = one.old_size, 0  # whatever fails now, the next time it is asked again
            if known > newest.size:
                await self._compare(one)
                raise WitnessError(
                    "away", f"it says that it knows {known} entries of {newest.size}, and does not show them"
                )
            proof = await self._reader.consistency(known, newest.size) if known else []
            try:
                cosignature = await one.client.cosign(known, proof, newest.note)
            except KnowsSizeError as told:
                if told.size == known:
                    raise WitnessError("away", f"it refuses the size it says it knows, {known}") from told
                one.old_size = told.size
                continue
            except WitnessError as error:
                if error.kind == "refused":
                    with contextlib.suppress(WitnessError):  # what it refused with is the one to tell
                        await self._compare(one)
                raise
            one.old_size = newest.size
            await self._store(one, newest.size, cosignature)
            return
        raise WitnessError("away", f"after {_MOST_TRIES} tries it still knows another size than it said")

    async def _compare(self, one: _Asked) -> None:
        """The witness contradicts us: look at what it has seen. Raises CorruptLogError if that proves it right."""
        seen = await one.client.last_seen(self._verifier.name, self._verifier)
        if seen is not None:
            await check_stored(self._reader, one.witness, seen)

    async def _store(self, one: _Asked, size: int, cosignature: Cosignature) -> None:
        await self._log.attach("cosignature", size, one.witness.verifier.name, cosignature.at * 1000, cosignature.line)
        standing = one.standing
        if standing.state not in ("new", "ok"):
            events.info("witness.back", witness=one.witness.name, size=size)
        if standing.state != "ok":
            standing.state, standing.since, standing.problem = "ok", time.time(), ""
        standing.size, standing.at = size, cosignature.at
        names = self._at_size.setdefault(size, set())
        names.add(one.witness.name)
        if self.policy.satisfied_by(names) and size > self._final:
            async with self._progress:
                self._final = size
                self._progress.notify_all()
        for old in sorted(self._at_size)[:-16]:
            del self._at_size[old]

    def _failed(self, one: _Asked, error: Exception) -> None:
        if isinstance(error, CorruptLogError):
            state: WitnessState = "ahead"
        elif isinstance(error, WitnessError):
            state = error.kind
        else:
            # Our own log, of which others tell.
            events.warning("witnessing.log_unusable", witness=one.witness.name, error=type(error).__name__)
            return
        standing = one.standing
        if standing.state == "ahead" and state != "ahead":
            return  # the proof stands, whether or not the witness answers now
        standing.problem = str(error)
        if standing.state != state:
            standing.state, standing.since = state, time.time()
            tell = events.critical if state in ("ahead", "refused") else events.error
            tell("witness.alarm", witness=one.witness.name, url=one.witness.url, state=state, reason=str(error))


class _Asked:
    """One witness that is asked."""

    def __init__(self, witness: PolicyWitness, timeout: float, tls: ssl.SSLContext | None) -> None:
        self.witness = witness
        self.client = WitnessClient(witness, timeout=timeout, tls=tls)
        self.standing = WitnessStanding(witness.name, witness.url, since=time.time())
        self.wake = asyncio.Event()
        self.old_size = 0
        """What it cosigned last, as far as we know."""
