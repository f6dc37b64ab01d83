"""A gateway's end of the connection to one witness (c2sp.org/tlog-witness): asks for cosignatures, and for what it saw last.

Rules:
1. What a witness says counts only if its signature verifies; what it shows of our log, only if our log's does.
2. Every answer is bounded in size, every request in time. A redirect is not followed: a policy names the address.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import httpx

from exchange import (
    WITNESS_SIZE_TYPE,
    Checkpoint,
    NoteError,
    NoteVerifier,
    PolicyWitness,
    WitnessRequestError,
    add_checkpoint_body,
    check_cosignatures,
    open_checkpoint,
    origin_hash,
    size_from_conflict,
)

_MOST_BYTES = 128 << 10


class WitnessError(Exception):
    """A witness did not cosign.

    Args:
        kind: `away` (no answer, or one that makes no sense), `unknown-log` (it does not know our log), `refused` (it says that our
            checkpoint is not signed by us, or not consistent with what it saw).
    """

    def __init__(self, kind: Literal["away", "unknown-log", "refused"], reason: str) -> None:
        super().__init__(reason)
        self.kind: Literal["away", "unknown-log", "refused"] = kind


class KnowsSizeError(Exception):
    """The witness last cosigned a tree of another size (409)."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the witness last cosigned {size} entries")
        self.size = size


@dataclass(frozen=True, slots=True)
class Cosignature:
    """One line by one witness."""

    line: str
    at: int
    """POSIX time, seconds."""


class WitnessClient:
    """Talks to one witness over connections that are kept. Leave it with `close`.

    Args:
        timeout: Seconds for a whole request.
        tls: For https; default: what the system trusts.
    """

    def __init__(self, witness: PolicyWitness, *, timeout: float, tls: ssl.SSLContext | None = None) -> None:
        self.witness = witness
        self._http = httpx.AsyncClient(
            # Loading what the system trusts takes long; without TLS there is nothing to verify.
            verify=tls if tls is not None else witness.url.startswith("https:"),
            timeout=timeout,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=2, max_keepalive_connections=2, keepalive_expiry=60),
        )

    async def cosign(self, old_size: int, proof: Sequence[bytes], note: str) -> Cosignature:
        """The witness's cosignature of a checkpoint.

        Args:
            old_size: What it is believed to have cosigned last; 0 for nothing.
            proof: That the checkpoint continues a tree of that size.

        Raises:
            KnowsSizeError: It last cosigned another size.
            WitnessError: It does not cosign.
        """
        status, kind, body = await self._send("POST", "/add-checkpoint", add_checkpoint_body(old_size, proof, note))
        said = body[:200].decode("utf-8", "replace").strip()
        if status == 409 and kind == WITNESS_SIZE_TYPE:
            try:
                raise KnowsSizeError(size_from_conflict(body))
            except WitnessRequestError as error:
                raise WitnessError("away", f"its answer 409 says no size: {said}") from error
        if status == 404:
            raise WitnessError("unknown-log", f"it does not know our log: {said}")
        if status in (400, 403, 422):
            raise WitnessError("refused", f"it refuses our checkpoint ({status}): {said}")
        if status != 200:
            raise WitnessError("away", f"it answers {status}: {said}")
        return self._verified(note, body)

    async def last_seen(self, origin: str, verifier: NoteVerifier) -> Checkpoint | None:
        """The last checkpoint of our log that the witness cosigned, if it has one that our log has signed.

        Raises:
            WitnessError: It does not say.
        """
        status, _, body = await self._send("GET", f"/{origin_hash(origin)}/checkpoint")
        if status == 404:
            return None
        if status != 200:
            raise WitnessError("away", f"it answers {status}")
        try:
            checkpoint = open_checkpoint(body.decode("utf-8"), [verifier])
        except (UnicodeDecodeError, NoteError) as error:
            raise WitnessError("away", f"it shows no checkpoint of our log: {error}") from error
        if checkpoint.origin != origin:
            raise WitnessError("away", "it shows the checkpoint of another log")
        return checkpoint

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _verified(self, note: str, body: bytes) -> Cosignature:
        """The line of this witness in an answer; lines of keys that we do not know are ignored."""
        verifier = self.witness.verifier
        try:
            for line in body.decode("utf-8").splitlines(keepends=True):
                times = check_cosignatures(note + line, [verifier])
                if times:
                    return Cosignature(line, times[verifier.name])
        except (UnicodeDecodeError, NoteError) as error:
            raise WitnessError("away", f"its cosignature is not good: {error}") from error
        raise WitnessError("away", "its answer holds no cosignature by its key")

    async def _send(self, method: str, path: str, content: bytes | None = None) -> tuple[int, str, bytes]:
        """(status, content type, body) of an answer."""
        try:
            async with self._http.stream(method, self.witness.url + path, content=content) as response:
                body = b""
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > _MOST_BYTES:
                        raise WitnessError("away", "its answer is too large")
                return response.status_code, response.headers.get("content-type", "").partition(";")[0], body
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise WitnessError("away", str(error) or type(error).__name__) from error
