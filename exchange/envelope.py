"""What is asked and what is answered, as each side vouches for it, and how both travel.

Two statements stand in the record exactly as they were signed:

- `QueryStatement`, sealed by the gateway: who asks, with which certificate, under which grant and purpose, what, until when.
- `AnswerStatement`, sealed by the department: what was released, in answer to which statement.

Rules:
1. A statement's bytes are RFC 8785 JSON. The fields of the structs stand in alphabetical order and hold only strings,
   booleans and integers below 2^53, so the plain encoder yields those bytes; a test compares them with an RFC 8785 implementation.
2. Contents (target, headers, bodies) are never in a statement, only digests of them, and every digest is salted with 16
   random bytes of the exchange: whoever has the salt and the content can prove it, nobody can guess a short content from
   its digest. The salt is stored beside the record, not in it, so that erasing it unlinks the digests and breaks no proof.
3. On the bus a message is: head length u32, head (msgpack array), body bytes untouched.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

Headers = list[tuple[bytes, bytes]]

_sha256 = hashlib.sha256
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
    represented: str
    """X-Road-Represented-Party."""
    request_digest: str
    """`request_digest` of the forwarded head and body, hex."""
    request_size: int
    """Bytes of the request body."""
    safe: bool
    """Whether the operation changes nothing: an unsafe one is on the department's ledger before its system is touched."""
    service: str
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
    body_size: int
    error: str
    """Empty when the department's own system answered, whatever its status; otherwise the code of the mesh error."""
    headers_digest: str
    id: str
    query_digest: str
    """SHA-256 of the query statement's bytes, hex."""
    status: int


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


class AnswerHead(msgspec.Struct, array_like=True, frozen=True):
    """Head of an answer on the bus."""

    statement: bytes
    seal: bytes
    headers: Headers
    parts: int = 0
    """Number of parts the body is to be fetched in; 0 if the body is in this message."""
    inbox: str = ""
    """Where this adapter instance takes and gives the parts of large bodies; empty if there are none."""


class PartHead(msgspec.Struct, array_like=True, frozen=True):
    """Head of one part of a large body, pushed to an adapter instance or asked of it."""

    exchange_id: str
    number: int
    """From 0."""
    fetch: bool
    """True asks for part `number` of the answer; False brings part `number` of the request."""


Head = TypeVar("Head", QueryHead, AnswerHead, PartHead)

_encode_json = msgspec.json.Encoder().encode
_decode_query = msgspec.json.Decoder(QueryStatement).decode
_decode_answer = msgspec.json.Decoder(AnswerStatement).decode
_encode_head = msgspec.msgpack.Encoder().encode
_HEAD_DECODERS: dict[type, Callable[[bytes], Any]] = {
    kind: msgspec.msgpack.Decoder(kind).decode for kind in (QueryHead, AnswerHead, PartHead)
}


class EnvelopeError(ValueError):
    """Bytes from the bus are not an envelope."""


def statement_bytes(statement: QueryStatement | AnswerStatement) -> bytes:
    """The canonical bytes (RFC 8785) that are sealed, and stored in the record as they are."""
    return _encode_json(statement)


def read_query_statement(data: bytes) -> QueryStatement:
    """Parse a query statement; raises EnvelopeError if it is not one in canonical form."""
    try:
        statement = _decode_query(data)
    except msgspec.MsgspecError as error:
        raise EnvelopeError("not a query statement") from error
    return statement


def read_answer_statement(data: bytes) -> AnswerStatement:
    """Parse an answer statement; raises EnvelopeError if it is not one, or not in canonical form.

    The form is checked because the bytes go into the record as they came: a record must have one reading.
    """
    try:
        statement = _decode_answer(data)
    except msgspec.MsgspecError as error:
        raise EnvelopeError("not an answer statement") from error
    if _encode_json(statement) != data:
        raise EnvelopeError("the answer statement is not canonical JSON")
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
    except (struct.error, msgspec.MsgspecError) as error:
        raise EnvelopeError("not an envelope") from error


def header_block(headers: Headers) -> bytes:
    """`name:value` CRLF for each header, in order, as X-Road's request hash counts them."""
    return b"".join([b"%b:%b\r\n" % pair for pair in headers])


def request_digest(salt: bytes, method: str, target: bytes, headers: Headers, body: bytes) -> str:
    """hex SHA-256( salt || SHA-256(method SP target CRLF header block) || SHA-256(body) )."""
    head = b"%b %b\r\n%b" % (method.encode(), target, header_block(headers))
    return _sha256(salt + _sha256(head).digest() + _sha256(body).digest()).hexdigest()


def content_digest(salt: bytes, content: bytes) -> str:
    """hex SHA-256( salt || content ), for an answer's body or header block."""
    digest = _sha256(salt)
    digest.update(content)
    return digest.hexdigest()
