"""Nonces of signed requests: each is used once per certificate, in all gateway processes and across restarts.

Rules:
1. A nonce counts as used only when that is on disk: an accepted signature is never accepted again, whatever crashes.
2. Fail closed: what cannot be written in time is refused, with 503. While the database is silent, at once: nobody queues
   behind what may never come.
3. All nonces that wait while a transaction is on its way go into the next one: under load a signature costs a share of a
   commit, not one.
4. What this process has seen is refused from memory. Elsewhere and earlier is for the database to know.
5. A nonce is forgotten 120 s after its signature was made: signatures count for 60 s, and clocks of two gateways may
   differ. A clock set back by more than that within minutes could make forgotten nonces count again: gateways run NTP.
6. What is stored is a hash: neither certificate nor nonce can be read from it.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from ca_auth.request_signing.http_signatures import RequestSignature
from ca_auth.request_signing.nonce_tables import NonceTable, PostgresqlNonceTable, SqliteNonceTable
from ca_auth.request_signing.signature_refusals import nonce_used
from exchange import DatabaseFailedError, GroupCommit, SqliteWriter, UnavailableError, open_writer

REMEMBERED_SECONDS: Final = 120
"""How long after `created` a nonce is known."""
_LONG: Final = 10
"""Times as long as others: that is not remembered in memory."""
_FORGET_EVERY: Final = 10.0
"""Seconds between two clearings of the table."""

events = structlog.get_logger("datong.nonces")


class NoncesUnavailableError(UnavailableError):
    """It cannot be made sure that the nonce is new."""

    rule_name = "nonce-store"
    detail = {
        "en": "The nonce of the signature could not be put on record, so the request was not carried out.",
        "zh": "签名的 nonce 未能登记，因此未执行该请求。",
    }
    next = {
        "en": "Sign again, with a new nonce, after the stated time.",
        "zh": "请在指明的时间后，用新的 nonce 重新签名再试。",
    }


class NonceStore:
    """The used nonces, as one gateway process sees them; `open` makes one. Belongs to one event loop.

    Args:
        table: Where they are kept.
        clock: Unix seconds.
        timeout: Seconds in which a nonce has to be on disk.
    """

    def __init__(self, table: NonceTable, *, clock: Callable[[], float] = time.time, timeout: float = 2.0) -> None:
        self._table = table
        self._clock = clock
        self._seen: set[bytes] = set()
        self._order: deque[tuple[float, bytes]] = deque()
        self._forgotten_at = 0.0
        self._commits = GroupCommit(self._write, unavailable=NoncesUnavailableError, name="nonces", timeout=timeout)

    @classmethod
    async def open(cls, database: str, *, clock: Callable[[], float] = time.time, timeout: float = 2.0) -> NonceStore:
        """Bring the tables at `database` (a URL as `exchange.database_url` accepts it) up to date and use them.

        Raises:
            NoncesUnavailableError: The database cannot be reached or written; our events say why.
        """
        try:
            writer = await open_writer(database, "ca_auth.request_signing.migrations", "nonces")
        except DatabaseFailedError as error:
            events.error("nonces.open", error=str(error))
            raise NoncesUnavailableError from error
        table = SqliteNonceTable(writer) if isinstance(writer, SqliteWriter) else PostgresqlNonceTable(writer)
        return cls(table, clock=clock, timeout=timeout)

    async def spend(self, signature: RequestSignature, *, until: float = 0.0) -> None:
        """Return when the nonce of a verified signature counts as used from now on, everywhere.

        Args:
            until: Unix second until which it is to be known at least: while a request that began with it may still come.

        Raises:
            RequestSignatureError: Rule `signature-nonce`: it was used before.
            NoncesUnavailableError: It is not known to be on disk.
        """
        until = max(until, signature.created) + REMEMBERED_SECONDS
        if not await self.use(signature.keyid, signature.nonce, until):
            raise nonce_used()

    async def use(self, fingerprint: str, nonce: str, until: float) -> bool:
        """Return whether the nonce is new for this certificate; from then on it is not.

        Args:
            fingerprint: Of the certificate, lower-case hex.
            until: Unix second until which it must be known.

        Raises:
            NoncesUnavailableError: It is not known to be on disk.
        """
        key = hashlib.sha256(f"{fingerprint}\n{nonce}".encode()).digest()
        self._forget_seen()
        if key in self._seen:
            return False
        if self._commits.stalled:
            raise NoncesUnavailableError
        # Should it come too late, it may still get there. It stays seen: the caller signs again.
        self._seen.add(key)
        if until > self._clock() + _LONG * REMEMBERED_SECONDS:
            # In memory only as long as it takes to write: the database knows it longer than the others are kept here.
            try:
                return await self._commits.submit((key, int(until)))
            finally:
                self._seen.discard(key)
        self._order.append((until, key))
        return await self._commits.submit((key, int(until)))

    async def close(self) -> None:
        """Wait for what is being written, then let go of the database; what came later is refused."""
        await self._commits.close()
        await self._table.close()

    async def _write(self, batch: list[tuple[bytes, int]]) -> list[bool]:
        """One transaction: whether each of the nonces is new."""
        now = self._clock()
        forget = int(now) if abs(now - self._forgotten_at) > _FORGET_EVERY else None
        try:
            new = await self._table.add(dict(batch), forget)
        except DatabaseFailedError:
            self._seen.difference_update(key for key, _ in batch)
            raise
        if forget is not None:
            self._forgotten_at = now
        return [key in new for key, _ in batch]

    def _forget_seen(self) -> None:
        """Those seen first go first; one that must be known longer keeps later ones for a while, which harms nobody."""
        now = self._clock()
        order = self._order
        while order and order[0][0] < now:
            self._seen.discard(order.popleft()[1])
