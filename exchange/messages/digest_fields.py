"""Content-Digest (RFC 9530): the digest of a body in a header, so that a signature over the header covers the body. Pure.

Rules:
1. sha-256 and sha-512 count. Others (RFC 9530 calls them insecure, or we do not know them) are ignored if one of the two
   is there, and refused if none is.
2. Every digest that counts must match: one that does not refuses the request, whatever the others say.
3. The digest is over the content as it was sent, before any Content-Encoding is undone; an empty body has one, too.
4. A field that is not a dictionary of byte sequences, names an algorithm twice or is longer than 1 KiB is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import http_sf

from exchange.errors import InvalidRequestError
from exchange.messages.envelope import Body

_MAX_FIELD: Final = 1024
_HASHES: Final[dict[str, Callable[[bytes], Any]]] = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


def content_digest_field(body: Body, algorithms: Sequence[str] = ("sha-256",)) -> str:
    """The value of Content-Digest for a body; `algorithms` are `sha-256` and `sha-512`, KeyError for others."""
    return ", ".join(f"{name}=:{base64.b64encode(_digest(name, body)).decode()}:" for name in algorithms)


def check_content_digest(lines: Sequence[bytes], body: Body) -> None:
    """Return if Content-Digest is the digest of the body.

    Args:
        lines: The values of all its lines, in order; at least one.
        body: The content, as it came.

    Raises:
        InvalidRequestError: Rule `content-digest`.
    """
    digests = _parse(b", ".join(lines))
    known = [(name, digests[name]) for name in _HASHES if name in digests]
    if not known:
        _refuse("it holds neither sha-256 nor sha-512", "其中既没有 sha-256 也没有 sha-512")
    for name, claimed in known:
        if not hmac.compare_digest(_digest(name, body), claimed):
            _refuse(f"its {name} is not the digest of the body", f"其中的 {name} 与请求体不符")


def _digest(name: str, body: Body) -> bytes:
    if isinstance(body, bytes):
        digest: bytes = _HASHES[name](body).digest()
        return digest
    return body.sha256 if name == "sha-256" else body.sha512


def _parse(field: bytes) -> dict[str, bytes]:
    if len(field) > _MAX_FIELD:
        _refuse(f"it is longer than {_MAX_FIELD} bytes", f"长度超过 {_MAX_FIELD} 字节")
    try:
        members = http_sf.parse(field, tltype="dictionary", on_duplicate_key=_twice)
    except ValueError:  # StructuredFieldError is one
        _refuse("it is not a dictionary as in sha-256=:BASE64:", "应为形如 sha-256=:BASE64: 的字典")
    assert isinstance(members, dict)  # for the type checker: what the parser returns for a dictionary
    digests = {}
    for name, member in members.items():
        value = member[0] if isinstance(member, tuple) else member
        if not isinstance(value, bytes):
            _refuse(f"{name} is not a byte sequence :BASE64:", f"{name} 不是字节序列 :BASE64:")
        digests[name] = value
    return digests


def _twice(key: str, _context: str) -> None:
    raise ValueError(f"{key} stands there twice")


def _refuse(what: str, what_zh: str) -> NoReturn:
    raise InvalidRequestError(
        "content-digest",
        problem=f"Content-Digest is of no use: {what}. Send sha-256 or sha-512 of the body exactly as it is sent.",
        problem_zh=f"Content-Digest 无效：{what_zh}。请发送与实际传输内容一致的 sha-256 或 sha-512 摘要。",
    )
