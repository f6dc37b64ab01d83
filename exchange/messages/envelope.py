"""What is asked and what is answered, as each side vouches for it, and how both travel.

Two statements stand in the record exactly as they were signed:

- `QueryStatement`, sealed by the gateway: who asks, with which certificate, under which grant and purpose, what, until when.
- `AnswerStatement`, sealed by the department: what was released, in answer to which statement.

Rules:
1. A statement's bytes are RFC 8785 JSON. The fields of the structs stand in alphabetical order and hold only strings,
   lists of strings, booleans and integers below 2^53, so the plain encoder yields those bytes; a test compares them with an
   RFC 8785 implementation.
2. Contents (target, headers, bodies) are never in a statement, only digests of them, and every digest is salted with 16
   random bytes of the exchange: whoever has the salt and the content can prove it, nobody can guess a short content from
   its digest. The salt is stored beside the record, not in it, so that erasing it unlinks the digests and breaks no proof.
3. On the bus a message is: head length u32, head (msgpack array), body bytes untouched.
4. Nothing from the bus is trusted to be well-formed: reading it gives a value or EnvelopeError. A statement has one
   reading only, because its bytes go into the record and the ledger as they came.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

Headers = list[tuple[bytes, bytes]]
INLINE_BODY: Final = 512 << 10
"""Bodies up to this size travel in one message; the bus takes 1 MB."""
PART_SIZE: Final = 256 << 10
"""Larger ones travel in parts of this size."""
STREAMED: Final = -1
"""`AnswerHead.parts` of an opening: how many there will be is not known yet."""
CLOSING: Final = -1
"""`PartHead.number` that asks for the closing of a stream."""
ABANDON: Final = -2
"""`PartHead.number` that says that nobody wants the rest of a stream."""
PRESENT: Final = -3
"""`PartHead.number` that asks whether a stream is still there."""
MAX_STATEMENT = 16 << 10
"""Bytes. Every text in a statement is bounded by who makes it; a longer one is not ours."""

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
"""What a header's name consists of (RFC 9110 section 5.6.2), in lower case."""

_sha256 = hashlib.sha256
_NOTHING = _sha256().digest()
_LENGTH = struct.Struct(">I")


class QueryStatement(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway vouches for. Absent values are empty strings."""

    asked_at: str
    """RFC 3339, UTC, milliseconds."""
    case: str
    """Case or document number, X-Road-Issue."""
    certificate: str
    """SHA-256 fingerprint of the caller's certificate, hex."""
    channel: str
    """hall, web, mobile, kiosk, hotline: Datong-Channel."""
    client: str
    """The subsystem that asks."""
    deadline: str
    """RFC 3339: when the gateway stops waiting."""
    gateway: str
    """SHA-256 fingerprint of the certificate whose key seals this statement, hex."""
    grant: str
    """`<grant id>@<version>`: the grant that was found to cover the query."""
    id: str
    """The exchange id, UUIDv7."""
    message_id: str
    """X-Road-Id, the caller's own or generated."""
    method: str
    path_template: str
    """The declared path of the operation, `/enterprises/{uscc}`: never the path itself, which may name a person."""
    purpose: str
    release: tuple[str, ...] | UnsetType = UNSET
    """The release terms of the grant (`exchange.release.terms`); absent when nothing is restricted."""
    represented: str
    """X-Road-Represented-Party."""
    request_digest: str
    """`request_digest` of the forwarded head and body, hex."""
    request_size: _Count
    """Bytes of the request body."""
    safe: bool
    """Whether the operation changes nothing: an unsafe one is on the department's ledger before its system is touched."""
    service: str
    signature_digest: str | UnsetType = UNSET
    """SHA-256 of salt and evidence, hex, if the caller signed the request (`exchange.signatures.recorded_signatures`)."""
    subject: str
    """Keyed hash of the person or company asked about (Datong-Subject), hex."""
    user: str
    """The acting official, X-Road-UserId."""


class AnswerStatement(msgspec.Struct, frozen=True, kw_only=True):
    """What the department vouches for."""

    adapter: str
    """SHA-256 fingerprint of the certificate whose key seals this statement, hex."""
    answered_at: str
    body_digest: str
    """SHA-256 of salt and body, hex."""
    body_size: _Count
    error: str
    """Empty when the department's own system answered, whatever its status; otherwise the code of the mesh error."""
    headers_digest: str
    id: str
    masked: tuple[str, ...] | UnsetType = UNSET
    """Paths of the items that were masked, sorted and bounded (`exchange.release.bodies`); absent when none was."""
    query_digest: str
    """SHA-256 of the query statement's bytes, hex."""
    status: _Count
    withheld: tuple[str, ...] | UnsetType = UNSET
    """Paths of what was withheld, likewise."""


class OpeningStatement(msgspec.Struct, frozen=True, kw_only=True):
    """What the department vouches for before the body of an answer comes, piece by piece.

    It has a seal context of its own and stands on no record: the `AnswerStatement` that closes the stream does.
    """

    adapter: str
    """SHA-256 fingerprint of the certificate whose key seals this statement, hex."""
    body_size: _Count | UnsetType = UNSET
    """Bytes, if that is known beforehand."""
    headers_digest: str
    id: str
    opened_at: str
    query_digest: str
    status: _Count


class QueryHead(msgspec.Struct, array_like=True, frozen=True):
    """Head of a question on the bus."""

    statement: bytes
    seal: bytes
    salt: bytes
    target: bytes
    """Path and query as they are to be forwarded, normalised."""
    headers: Headers
    budget_ms: int
    """Milliseconds the gateway still waits, counted from arrival: clocks of two machines need not agree."""
    parts: int = 0
    """Number of further messages that carry the body; 0 if the body is in this message."""
    evidence: bytes = b""
    """The caller's own signature, if the request was signed."""
    certificate: bytes = b""
    """The certificate whose key signed it, DER."""
    streams: bool = False
    """Whether the gateway takes an answer piece by piece."""


class AnswerHead(msgspec.Struct, array_like=True, frozen=True):
    """Head of an answer on the bus."""

    statement: bytes
    seal: bytes
    headers: Headers
    parts: int = 0
    """Number of parts the body is to be fetched in; 0 if the body is in this message, STREAMED if this is an opening."""
    inbox: str = ""
    """Where this adapter instance takes and gives the parts of large bodies; empty if there are none."""


class PartHead(msgspec.Struct, array_like=True, frozen=True):
    """Head of one part of a large body, pushed to an adapter instance or asked of it."""

    exchange_id: str
    number: int
    """From 0; CLOSING, ABANDON and PRESENT mean something else."""
    fetch: bool
    """True asks for part `number` of the answer; False brings part `number` of the request."""


Head = TypeVar("Head", QueryHead, AnswerHead, PartHead)
Statement = TypeVar("Statement", QueryStatement, AnswerStatement, OpeningStatement)


class HashedBody(Protocol):
    """A body that is not in memory, and was hashed as it came. `exchange.broker.spool.Spooled` is the one used."""

    @property
    def sha256(self) -> bytes: ...
    @property
    def sha512(self) -> bytes: ...
    def __len__(self) -> int: ...


Body = bytes | HashedBody

_encode_json = msgspec.json.Encoder().encode
_decode_query = msgspec.json.Decoder(QueryStatement).decode
_decode_answer = msgspec.json.Decoder(AnswerStatement).decode
_decode_opening = msgspec.json.Decoder(OpeningStatement).decode
_encode_head = msgspec.msgpack.Encoder().encode
_HEAD_DECODERS: dict[type, Callable[[bytes], Any]] = {
    kind: msgspec.msgpack.Decoder(kind).decode for kind in (QueryHead, AnswerHead, PartHead)
}
_UNREADABLE = (struct.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the decoders raise on hostile bytes: text that is not UTF-8 and nesting without end are no MsgspecError."""


class EnvelopeError(ValueError):
    """Bytes from the bus are not an envelope."""


def statement_bytes(statement: QueryStatement | AnswerStatement | OpeningStatement) -> bytes:
    """The canonical bytes (RFC 8785) that are sealed, and stored in the record as they are."""
    return _encode_json(statement)


def read_query_statement(data: bytes) -> QueryStatement:
    """Parse a query statement; raises EnvelopeError if it is not one, or not in canonical form."""
    return _read_statement(_decode_query, data)


def read_answer_statement(data: bytes) -> AnswerStatement:
    """Parse an answer statement; raises EnvelopeError if it is not one, or not in canonical form."""
    return _read_statement(_decode_answer, data)


def read_opening_statement(data: bytes) -> OpeningStatement:
    """Parse the statement that opens a streamed answer; raises EnvelopeError as above."""
    return _read_statement(_decode_opening, data)


def _read_statement(decode: Callable[[bytes], Statement], data: bytes) -> Statement:
    if len(data) > MAX_STATEMENT:
        raise EnvelopeError(f"a statement of {len(data)} bytes is too long")
    try:
        statement = decode(data)
    except _UNREADABLE as error:
        raise EnvelopeError("not a statement of this kind") from error
    # One comparison finds a changed order, a key twice or unknown, white space, other escapes.
    if _encode_json(statement) != data:
        raise EnvelopeError("the statement is not canonical JSON")
    return statement


def pack(head: QueryHead | AnswerHead | PartHead, body: bytes = b"") -> bytes:
    """One message for the bus."""
    encoded = _encode_head(head)
    return _LENGTH.pack(len(encoded)) + encoded + body


def unpack(kind: type[Head], message: bytes) -> tuple[Head, bytes]:
    """Head and body of a message from the bus; raises EnvelopeError."""
    try:
        (length,) = _LENGTH.unpack_from(message)
        end = 4 + length
        if end > len(message):
            raise EnvelopeError("the head is longer than the message")
        return _HEAD_DECODERS[kind](message[4:end]), message[end:]
    except _UNREADABLE as error:
        raise EnvelopeError("not an envelope") from error


def header_block(headers: Headers) -> bytes:
    """`name:value` CRLF for each header, in order, as X-Road's request hash counts them."""
    return b"".join([b"%b:%b\r\n" % pair for pair in headers])


def check_headers(headers: Headers, block: bytes) -> None:
    """Return if the headers can be written to an HTTP connection as they are, names in lower case; raises EnvelopeError.

    Whoever filters headers by name, or writes them out, relies on it: a line break in a value would be a header of its
    own, and `Content-Length` would pass a filter that knows `content-length`.

    Args:
        block: `header_block` of them.
    """
    count = len(headers)
    if (
        block.count(b"\n") != count
        or block.count(b"\r") != count
        or b"\0" in block
        or b"\n:" in block
        or block.startswith(b":")
        or b"".join([name for name, _ in headers]).translate(None, _TOKEN)
    ):
        raise EnvelopeError("a header cannot be passed on")


def request_digest(salt: bytes, method: str, target: bytes, headers: Headers, body: Body) -> str:
    """hex SHA-256( salt || SHA-256(method SP target CRLF header block) || SHA-256(body) )."""
    head = b"%b %b\r\n%b" % (method.encode(), target, header_block(headers))
    digest = (_sha256(body).digest() if body else _NOTHING) if isinstance(body, bytes) else body.sha256
    return _sha256(salt + _sha256(head).digest() + digest).hexdigest()


def content_digest(salt: bytes, content: bytes) -> str:
    """hex SHA-256( salt || content ), for an answer's body or header block."""
    digest = _sha256(salt)
    digest.update(content)
    return digest.hexdigest()
