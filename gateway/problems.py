"""The one place where an error becomes HTTP: RFC 9457 problem details, X-Road's header and XML form.

And where what the edge refused by a status alone becomes an error.
"""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

import msgspec

from exchange import (
    ContractBreachError,
    Headers,
    HeadersTooLargeError,
    InvalidRequestError,
    Language,
    MeshError,
    RequestTimeoutError,
    TooManyRequestsError,
)
from gateway.quota_headers import quota_headers
from registry import QuotaExceededError

EXPIRES = b"datong-certificate-expires"
"""Header that warns a caller of the end of its certificate, in every answer of the last 30 days (`ca_auth.issuing.expiry`)."""
_PROBLEM = b"application/problem+json"
_DECIDING = {
    b"application/xml": b"application/xml;charset=utf-8",
    b"text/xml": b"text/xml;charset=utf-8",
    b"text/*": b"text/xml;charset=utf-8",
    b"application/json": _PROBLEM,
    _PROBLEM: _PROBLEM,
    b"application/*": _PROBLEM,
    b"*/*": _PROBLEM,
}
"""Media ranges that decide the form of an error, as X-Road's clients know it; others are passed over."""
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_encode = msgspec.json.Encoder().encode


def render(
    error: MeshError, *, exchange_id: str, accept: bytes = b"", accept_language: bytes = b""
) -> tuple[Headers, bytes]:
    """Headers and body that tell a caller about `error`; the status is `error.status`."""
    language = language_of(accept_language)
    media = _media_type(accept)
    headers = [
        (b"content-type", media),
        (b"content-language", b"zh-CN" if language == "zh" else b"en"),
        (b"cache-control", b"no-store"),
        (b"x-road-error", error.xroad_code.encode()),
        (b"vary", b"accept, accept-language"),
    ]
    if exchange_id:
        headers.append((b"x-road-request-id", exchange_id.encode()))
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    if isinstance(error, QuotaExceededError):
        headers += quota_headers(error.state)
    if error.status == 401:
        headers.append((b"www-authenticate", b'ClientCertificate realm="datong"'))
    body = _xml(error, exchange_id, language) if b"xml" in media else _problem(error, exchange_id, language)
    headers.append((b"content-length", b"%d" % len(body)))
    return headers, body


def describe(error: type[MeshError]) -> dict[str, object]:
    """What the page behind a problem's `type` says."""
    return {
        "type": problem_type(error.code),
        "code": error.code,
        "status": error.status,
        "source": error.source,
        "x_road_error": error.xroad_code,
        "title": error.title,
        "next": error.next,
    }


def problem_type(code: str) -> str:
    """The URI reference in a problem's `type`: this gateway's page about it."""
    return f"/problems/{code}"


def language_of(accept_language: bytes) -> Language:
    """`zh` if Accept-Language names Chinese before English, else `en`; quality values are not weighed."""
    for item in accept_language.lower().split(b","):
        tag = item.strip()
        if tag.startswith(b"zh"):
            return "zh"
        if tag.startswith(b"en"):
            return "en"
    return "en"


def edge_error(rule: str, status: int) -> MeshError:
    """A refusal of the edge as an error of the mesh."""
    kinds: dict[int, type[MeshError]] = {
        408: RequestTimeoutError,
        429: TooManyRequestsError,
        431: HeadersTooLargeError,
    }
    if status in kinds:
        return kinds[status](rule)
    return InvalidRequestError(rule, problem="Not a valid HTTP request.", problem_zh="不是合法的 HTTP 请求。")


def _problem(error: MeshError, exchange_id: str, language: Language) -> bytes:
    return _encode(
        {
            "type": problem_type(error.code),
            "title": error.title[language],
            "status": error.status,
            "detail": error.detail_in(language),
            **({"instance": f"urn:uuid:{exchange_id}"} if exchange_id else {}),
            "rule": error.rule,
            "next": error.next_in(language),
            "source": error.source,
            **({"pointer": error.pointer} if error.pointer else {}),
            **({"errors": error.errors_in(language)} if isinstance(error, ContractBreachError) else {}),
        }
    )


def _xml(error: MeshError, exchange_id: str, language: Language) -> bytes:
    # A text may quote the caller, and XML has no way to write some characters.
    message = _NOT_IN_XML.sub("\ufffd", f"{error.detail_in(language)} {error.next_in(language)}")
    return (
        f"<error><type>{escape(error.xroad_code)}</type><message>{escape(message)}</message>"
        f"<detail>{exchange_id}</detail></error>"
    ).encode()


def _media_type(accept: bytes) -> bytes:
    """The first media range of Accept that decides; quality values are ignored, as X-Road does it."""
    for item in accept.lower().split(b","):
        media = _DECIDING.get(item.partition(b";")[0].strip())
        if media is not None:
            return media
    return _PROBLEM
