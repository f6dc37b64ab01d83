"""What the gateway and its log writer say to each other over their socket pair.

Rules:
1. A message is its length (u32, big-endian) and that many bytes of msgpack.
2. The gateway speaks first: `Start`. The writer answers `Started`, with a problem or with none.
3. Then every `Frame` gets one `Reply`, in order. A reply means: durable, or refused as it says.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

import msgspec

Entry = tuple[str, int, str, str, str, str, bytes | None, bytes]
"""exchange id, unix ms, client, service, outcome, rule, salt, leaf: in the order of the columns."""
Intent = tuple[str, int, int, bytes | None, bytes]
"""exchange id, unix ms, deadline in unix ms, salt, what is known of the query."""
Certificate = tuple[str, bytes]
"""fingerprint, DER."""
Evidence = tuple[str, bytes]
"""exchange id, the caller's own signature of the request (`exchange.signatures.recorded_signatures`)."""

AnnexKind = Literal["cosignature", "stamp", "revocation"]
Annex = tuple[AnnexKind, list[Any]]
"""What others say, and a row of its table (`exchange.log.store.ANNEXES`)."""


class Start(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What a writer needs to know. It comes over the socket because arguments of a process are readable by others."""

    sqlite_path: str
    """Empty for PostgreSQL."""
    postgresql: dict[str, Any]
    """Keyword arguments of asyncpg.connect."""
    log_key: str
    """Path of the note signer key."""
    gateway: str
    boot: str
    checkpoint_interval: float


class Started(msgspec.Struct, array_like=True, frozen=True):
    """The writer is ready, or says why it is not."""

    problem: str = ""
    fatal: bool = False
    """The stored log contradicts itself or what was signed: trying again cannot help."""
    size: int = 0
    vkey: str = ""
    """The public key of the log."""


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """Everything one turn of the gateway's event loop wants to be made durable."""

    entries: list[Entry] = []
    settled: list[str] = []
    """Exchanges among the entries whose intent ends with them."""
    intents: list[Intent] = []
    dropped: list[str] = []
    """Intents of exchanges that turned out to have their record already."""
    certificates: list[Certificate] = []
    checkpoint: bool = False
    """A signed checkpoint of everything up to here is wanted."""
    probe: bool = False
    """Write something, whatever it is: the gateway wants to know whether the database works again."""
    evidence: list[Evidence] = []
    """Of exchanges among the entries or intents."""
    annexes: list[Annex] = []


class Reply(msgspec.Struct, array_like=True, frozen=True):
    """What became of a frame."""

    first_seq: int = 0
    """Of its first entry; the others follow."""
    problem: str = ""
    """Not empty: nothing of the frame is known to be durable."""
    duplicates: list[int] = []
    """Positions of entries left out, because their exchange has its record."""
    note: str = ""


_LENGTH = struct.Struct(">I")


class Messages:
    """Cuts a stream of bytes into messages."""

    def __init__(self, kind: type[Any]) -> None:
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._buffer = b""

    def feed(self, data: bytes) -> list[Any]:
        """The messages that are complete with `data`."""
        buffer = self._buffer + data if self._buffer else data
        view = memoryview(buffer)
        found = []
        at, end = 0, len(buffer)
        while end - at >= 4:
            after = at + 4 + _LENGTH.unpack_from(buffer, at)[0]
            if after > end:
                break
            found.append(self._decode(view[at + 4 : after]))
            at = after
        self._buffer = buffer[at:]
        return found


_encode = msgspec.msgpack.Encoder().encode


def message(content: Start | Started | Frame | Reply) -> bytes:
    """One message, ready to be sent."""
    data = _encode(content)
    return _LENGTH.pack(len(data)) + data
