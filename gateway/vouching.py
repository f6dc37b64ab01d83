"""Who else vouches for the log: witnesses that cosign its checkpoints, and authorities that stamp them.

Rules:
1. The path of exchanges asks one thing of it, without waiting: whether somebody's word stands against carrying anything now.
2. A receipt is built on the smallest checkpoint over its entry that is final, so that caller, owner and auditor get the same
   one; a stamped one comes before one that is not, once there is one. For a checkpoint that is not final yet a moment is waited.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca_auth import client_context
from exchange import (
    CheckpointForReceipt,
    ExchangeLog,
    MeshError,
    ProofError,
    Settings,
    StoredEntry,
    TrustPolicy,
    best_checkpoint,
    build_receipt,
    is_ca_certificate,
    read_timestamps,
)
from gateway.stamping import Stamping
from gateway.witness_check import check_log_with_witnesses
from gateway.witnessing import Witnessing

WAIT_SECONDS: Final = 3.0
"""For the quorum, when a receipt is asked for."""


@dataclass(frozen=True, slots=True)
class GivenReceipt:
    """A receipt, and whether it is final."""

    content: bytes
    final: bool


@dataclass(frozen=True, slots=True)
class Vouching:
    """Witnesses and authorities of one gateway's log, each None if there are none."""

    log: ExchangeLog
    witnessing: Witnessing | None
    stamping: Stamping | None

    def refusal(self) -> MeshError | None:
        """The error with which everything is to be refused, if there is a reason."""
        refusal: MeshError | None = None
        if self.witnessing is not None:
            refusal = self.witnessing.refusal()
        if refusal is None and self.stamping is not None:
            refusal = self.stamping.refusal()
        return refusal

    def keys(self) -> dict[str, Any]:
        """What a key list says of them."""
        told: dict[str, Any] = {}
        if self.witnessing is not None:
            told["policy"] = self.witnessing.policy.text
        if self.stamping is not None:
            anchors = {anchor: None for each in self.stamping.config.authorities for anchor in each.anchors}
            told["timestamp_authorities"] = [each.public_bytes(Encoding.PEM).decode("ascii") for each in anchors]
        return told

    async def receipt(self, entry: StoredEntry, *, evidence: bytes | None) -> GivenReceipt:
        """The receipt of an entry.

        Args:
            evidence: The caller's own signature, if it is to be shown.

        Raises:
            LogUnavailableError: No checkpoint covers it yet, and none can be signed now.
            SQLAlchemyError, OSError: The log's database does not answer.
        """
        found = await self._best(entry.seq)
        if found is None or not found.final:
            await self.log.checkpoint()
            if self.witnessing is not None:
                await self.witnessing.final(entry.seq + 1, WAIT_SECONDS)
            found = await self._best(entry.seq)
            assert found is not None, "the checkpoint that was just signed covers it"
        known = [x509.load_der_x509_certificate(der) for der in await self.log.reader.certificates()]
        cas = [one for one in known if is_ca_certificate(one)]
        content = await build_receipt(self.log.reader, entry, found.note, intermediates=cas, evidence=evidence)
        return GivenReceipt(content, found.final)

    async def _best(self, seq: int) -> CheckpointForReceipt | None:
        policy = self.witnessing.policy if self.witnessing is not None else None
        try:
            if self.stamping is not None:
                found = await best_checkpoint(self.log.reader, policy, seq, need_stamp=True)
                if found.final or self.stamping.config.required:
                    return found
            return await best_checkpoint(self.log.reader, policy, seq)
        except ProofError:
            return None


def witness_policy(settings: Settings) -> TrustPolicy | None:
    """The policy of the settings; raises OSError and ValueError if it cannot be used."""
    return TrustPolicy.from_file(settings.witness_policy) if settings.witness_policy is not None else None


async def check_with_witnesses(settings: Settings, policy: TrustPolicy | None) -> None:
    """Return if no witness has seen more of the log than is stored, or something else; before the log is started.

    Raises:
        CorruptLogError: One has: the log was rolled back or forked.
    """
    if policy is not None:
        tls = await asyncio.to_thread(client_context, settings.trust_anchors)
        await check_log_with_witnesses(policy, database=settings.log_database, log_key=settings.log_key, tls=tls)


@asynccontextmanager
async def vouching(settings: Settings, policy: TrustPolicy | None, log: ExchangeLog) -> AsyncIterator[Vouching]:
    """Ask witnesses and authorities, until the block ends."""
    async with AsyncExitStack() as parts:
        witnessing = stamping = None
        if policy is not None:
            tls = await asyncio.to_thread(client_context, settings.trust_anchors)
            witnessing = Witnessing(log, policy, interval=settings.checkpoint_interval, tls=tls)
            await witnessing.start()
            parts.push_async_callback(witnessing.stop)
        if settings.timestamps is not None:
            stamping = Stamping(log, log.reader, read_timestamps(settings.timestamps))
            parts.push_async_callback(stamping.stop)
            await stamping.start()
        yield Vouching(log, witnessing, stamping)
