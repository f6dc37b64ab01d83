"""Before a log is written to: whether the witnesses of its policy have seen more of it, or something else, than is stored.

Rules:
1. A checkpoint with our log's own signature that our tree does not continue is proof that the log was rolled back or forked: then
   nothing is signed any more, and the start ends.
2. A witness that does not answer proves nothing; the start goes on, and the witnessing finds out later.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

import structlog
from sqlalchemy import inspect

from exchange import (
    Checkpoint,
    CorruptLogError,
    LogReader,
    NoteSigner,
    NoteVerifier,
    PolicyWitness,
    ProofError,
    TrustPolicy,
    create_engine,
    database_url,
    reading,
    sqlite_path,
    tree_root,
)
from gateway.witness_client import WitnessClient, WitnessError

_TIMEOUT = 3.0

events = structlog.get_logger("datong.witnessing")


async def check_log_with_witnesses(
    policy: TrustPolicy, *, database: str, log_key: Path, timeout: float = _TIMEOUT, tls: ssl.SSLContext | None = None
) -> None:
    """Return if no witness of the policy that answers has seen anything but what is stored. To be called before the log starts.

    Args:
        database: URL of the log's database; it may not exist yet.
        log_key: File with the log's key.

    Raises:
        CorruptLogError: A witness holds a checkpoint, signed by this log's key, that the stored log does not continue.
        NoteError, OSError: The key cannot be read.
    """
    verifier = NoteSigner.from_skey(log_key.read_text(encoding="utf-8")).verifier
    seen = await last_seen(policy.witnesses, verifier, timeout=timeout, tls=tls)
    if not seen:
        return
    url = database_url(database)
    file = sqlite_path(url)
    if file is not None and not file.exists():
        for witness, checkpoint in seen:
            _compare(witness, checkpoint, 0, None)
        return
    engine = create_engine(url)
    try:
        async with reading(engine) as connection:
            filled = await connection.run_sync(lambda sync: inspect(sync).has_table("log_state"))
        reader = LogReader(engine)
        for witness, checkpoint in seen:
            await check_stored(reader, witness, checkpoint, filled=filled)
    finally:
        await engine.dispose()


async def last_seen(
    witnesses: Sequence[PolicyWitness], verifier: NoteVerifier, *, timeout: float, tls: ssl.SSLContext | None = None
) -> list[tuple[PolicyWitness, Checkpoint]]:
    """What each witness with an address last cosigned of a log, as far as they answer."""

    async def ask(witness: PolicyWitness) -> Checkpoint | None:
        client = WitnessClient(witness, timeout=timeout, tls=tls)
        try:
            return await client.last_seen(verifier.name, verifier)
        except WitnessError as error:
            events.warning("witness.not_asked", witness=witness.name, reason=str(error))
            return None
        finally:
            await client.close()

    asked = [witness for witness in witnesses if witness.url]
    found = await asyncio.gather(*[ask(witness) for witness in asked])
    return [(witness, checkpoint) for witness, checkpoint in zip(asked, found, strict=True) if checkpoint is not None]


async def check_stored(
    reader: LogReader, witness: PolicyWitness, checkpoint: Checkpoint, *, filled: bool = True
) -> None:
    """Return if the stored log continues a checkpoint that a witness has seen; raises CorruptLogError.

    Args:
        filled: Whether the database has the tables of a log.
    """
    size = (await reader.size())[0] if filled else 0
    root = None
    if checkpoint.size <= size:
        try:
            root = await tree_root(reader, checkpoint.size)
        except ProofError as error:
            raise CorruptLogError("tiles of the log are damaged") from error
    _compare(witness, checkpoint, size, root)


def _compare(witness: PolicyWitness, checkpoint: Checkpoint, size: int, root: bytes | None) -> None:
    if checkpoint.size > size:
        raise CorruptLogError(
            f"the log has {size} entries, and witness {witness.name} holds a checkpoint of {checkpoint.size}, signed by this log:"
            " entries are missing, or an old copy of the database was put back"
        )
    if root is not None and root != checkpoint.root:
        raise CorruptLogError(
            f"the first {checkpoint.size} entries are not those of the checkpoint that witness {witness.name} holds, signed by"
            " this log: the log was forked or rewritten"
        )
