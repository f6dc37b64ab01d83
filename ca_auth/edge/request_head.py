"""Whether a parsed request head may go on to the application. Pure.

The parser (llhttp, strict) already refuses bad tokens, folded lines, bare line feeds, signs in lengths and most tricks
with two lengths. What it lets pass, measured: no Host, several, malformed; other versions of HTTP; Transfer-Encoding in
HTTP/1.0 or other than `chunked`; heads of any size. Those rules are here:

1. HTTP/1.1 and nothing else.
2. Exactly one Host, syntactically a host (RFC 9110 section 7.2, RFC 3986 section 3.2.2).
3. The target is a path, or an absolute URI of the same host; `CONNECT` and `*` have no meaning here.
4. Transfer-Encoding is `chunked`, once, and never beside Content-Length (RFC 9112 section 6.3).
5. At most so many lines and bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from typing import Final, TypeAlias

from ca_auth.edge.refusals import (
    HEAD_SIZE,
    HEADER_LINES,
    HOST_HEADER,
    HTTP_VERSION,
    MESSAGE_LENGTH,
    REQUEST_TARGET,
    Refusal,
)
from exchange import Language

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Names in lower case."""

_OVERHEAD_OF_LINE: Final = len(b": \r\n")
_OVERHEAD_OF_REQUEST_LINE: Final = len(b"GET  HTTP/1.1\r\n\r\n")

_LABEL: Final = rb"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|" + _LABEL + rb"(?:\." + _LABEL + rb")*\.?)(?::[0-9]{1,5})?")


def check_head(
    version: str, target: bytes, headers: Headers, fields: dict[bytes, bytes], max_lines: int, known_host: bytes | None
) -> Refusal | None:
    """Return the rule that refuses this head, or None.

    Args:
        version: As the parser reports it: `1.1`.
        target: The request target, undecoded.
        headers: As received, names in lower case.
        fields: The same, with the last value of each name.
        max_lines: Most header lines.
        known_host: A Host value that has passed before: the same one need not be matched again.
    """
    if version != "1.1":
        return HTTP_VERSION
    if len(headers) > max_lines:
        return HEADER_LINES
    host = fields.get(b"host")
    if host is None or (host != known_host and not is_host(host)):
        return HOST_HEADER
    coding = fields.get(b"transfer-encoding")
    if coding is not None and (b"content-length" in fields or coding.lower() != b"chunked"):
        return MESSAGE_LENGTH
    if len(fields) != len(headers):
        # Only now does it matter which name was repeated: most repeats are harmless lists.
        names = [name for name, _ in headers]
        if names.count(b"host") != 1:
            return HOST_HEADER
        if names.count(b"content-length") > 1 or names.count(b"transfer-encoding") > 1:
            return MESSAGE_LENGTH
    if not target.startswith(b"/") and not _is_absolute_form_of(target, host):
        return REQUEST_TARGET
    return None


def check_size(target: bytes, headers: Headers, *, max_bytes: int) -> Refusal | None:
    """Count a head whose bytes could not be counted on arrival, because it began in the middle of a read.

    What the parser has dropped (optional white space, the rest of a longer method) is not counted.
    """
    size = sum(map(len, chain.from_iterable(headers))) + _OVERHEAD_OF_LINE * len(headers)
    return HEAD_SIZE if size + len(target) + _OVERHEAD_OF_REQUEST_LINE > max_bytes else None


def is_host(value: bytes) -> bool:
    """Whether `value` is `uri-host [":" port]`: a name, an IPv4 address or a bracketed IPv6 address."""
    return len(value) <= 261 and _HOST.fullmatch(value) is not None


def language_of(headers: Iterable[tuple[bytes, bytes]]) -> Language:
    """Chinese if Accept-Language names it before English, else English; quality values are not weighed."""
    for name, value in headers:
        if name == b"accept-language":
            for item in value.lower().split(b","):
                tag = item.strip()
                if tag.startswith(b"zh"):
                    return "zh"
                if tag.startswith(b"en"):
                    return "en"
    return "en"


def _is_absolute_form_of(target: bytes, host: bytes) -> bool:
    scheme, separator, rest = target.partition(b"://")
    authority = re.split(rb"[/?#]", rest, maxsplit=1)[0]
    return bool(separator) and scheme.lower() in (b"http", b"https") and authority.lower() == host.lower()
