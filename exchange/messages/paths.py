"""The path of an exchange: which service, and what of it.

Rules:
1. A path is decoded and normalised once; the same form is matched against grants and forwarded.
2. Refused, because some system behind us might read them as another path: dot segments in any spelling (also `..;x`), an
   encoded slash or backslash, control characters, an empty segment before the last, percent-encoding that is broken or is
   not UTF-8.
3. `/r1/{instance}/{class}/{member}/{subsystem}/{service}` needs all five parts; the rest may be empty.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from exchange.errors import InvalidRequestError
from exchange.identifiers import ServiceId, from_wire, service_id

_PLAIN = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")
_ESCAPED = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]|{}^`\\]|%[0-9A-Fa-f]{2}|%)*")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f/\\]")
_SEGMENT_SAFE = "!$&'()*+,;=:@-._~"


def parse_path(raw_path: bytes) -> tuple[ServiceId, tuple[str, ...], bytes]:
    """Split a raw path that starts with `/r1/`.

    Returns:
        The service, the decoded segments after the service code, and the same as a normalised path to forward:
        empty, or starting with `/`.

    Raises:
        InvalidRequestError: With the rule that the path breaks.
    """
    parts = raw_path.split(b"/", 7)
    if len(parts) < 7:
        raise InvalidRequestError(
            "path-form",
            problem="The path must be /r1/{instance}/{class}/{member}/{subsystem}/{service}[/path].",
            problem_zh="路径必须为 /r1/{实例}/{类别}/{成员代码}/{子系统}/{服务}[/路径]。",
        )
    try:
        service = _service(b"/".join(parts[2:7]))
    except (ValueError, UnicodeError) as error:
        raise InvalidRequestError(
            "path-identifier",
            problem="The five parts after /r1/ are not a service identifier.",
            problem_zh="/r1/ 之后的五段不是合法的服务标识。",
        ) from error
    if len(parts) == 7:
        return service, (), b""
    segments, path = _segments(parts[7])
    return service, segments, path


@lru_cache(4096)
def _service(parts: bytes) -> ServiceId:
    return service_id(from_wire(parts.decode("ascii")))


def check_query(query: bytes) -> None:
    """Return if the query string can be forwarded as it is; raises InvalidRequestError."""
    if not _QUERY.fullmatch(query):
        raise InvalidRequestError(
            "query-form",
            problem="The query string holds characters that must be percent-encoded.",
            problem_zh="查询串中含有必须百分号编码的字符。",
        )


def _segments(rest: bytes) -> tuple[tuple[str, ...], bytes]:
    if _PLAIN.fullmatch(rest):
        segments = tuple(rest.decode("ascii").split("/"))
        path = b"/" + rest
        if b"/." not in path and b"//" not in path:
            return segments, path  # most are: of what is looked for below, no more could be in them
    elif _ESCAPED.fullmatch(rest):
        try:
            segments = tuple(unquote_to_bytes(part).decode("utf-8") for part in rest.split(b"/"))
        except UnicodeDecodeError as error:
            raise _refused("path-encoding", "is not UTF-8", "不是 UTF-8 编码") from error
        path = b"/" + b"/".join(quote(segment, safe=_SEGMENT_SAFE).encode() for segment in segments)
    else:
        raise _refused("path-encoding", "is not correctly percent-encoded", "百分号编码不正确")
    last = len(segments) - 1
    for index, segment in enumerate(segments):
        if segment.startswith(".") and segment.partition(";")[0] in (".", ".."):
            raise _refused("path-dot-segment", "holds a dot segment", "含有点段（. 或 ..）")
        if _FORBIDDEN.search(segment):
            raise _refused(
                "path-character",
                "holds an encoded slash, backslash or control character",
                "含有编码的斜杠、反斜杠或控制字符",
            )
        if not segment and index != last:
            raise _refused("path-empty-segment", "holds an empty segment", "含有空段")
    return segments, path


def _refused(rule: str, what: str, what_zh: str) -> InvalidRequestError:
    return InvalidRequestError(rule, problem=f"The path {what}.", problem_zh=f"路径{what_zh}。")
