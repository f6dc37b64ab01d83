"""What the edge refuses before the application sees a request, in the words a caller reads.

The application answers everything else; these are only the refusals a protocol has to give by itself. Same form: an
RFC 9457 problem with our members `rule`, `next` and `source`, and `X-Road-Error`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from exchange import Language

TYPE_BASE: Final = "/problems/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One rule of the edge and what a caller is told when it refuses."""

    rule: str
    status: int
    code: str
    xroad_code: str
    title: dict[Language, str]
    detail: dict[Language, str]
    next: dict[Language, str]
    retry_after: int | None = None


def _malformed(rule: str, english: str, chinese: str) -> Refusal:
    return Refusal(
        rule=rule,
        status=400,
        code="invalid-request",
        xroad_code="server.clientproxy.invalid_request",
        title={"en": "Not a valid request", "zh": "请求格式不正确"},
        detail={"en": english, "zh": chinese},
        next={"en": "Correct the request and send it again.", "zh": "请修正后重新发送。"},
    )


def _too_large(rule: str, english: str, chinese: str) -> Refusal:
    return Refusal(
        rule=rule,
        status=431,
        code="headers-too-large",
        xroad_code="server.clientproxy.io_error",
        title={"en": "The request head is too large", "zh": "请求头过大"},
        detail={"en": english, "zh": chinese},
        next={"en": "Send fewer or shorter headers.", "zh": "请减少请求头的数量或长度。"},
    )


def _too_slow(rule: str, english: str, chinese: str) -> Refusal:
    return Refusal(
        rule=rule,
        status=408,
        code="request-timeout",
        xroad_code="server.clientproxy.io_error",
        title={"en": "The request came too slowly", "zh": "请求接收超时"},
        detail={"en": english, "zh": chinese},
        next={"en": "Send the request again without pausing.", "zh": "请重新发送，并避免中途停顿。"},
    )


HTTP_SYNTAX = _malformed("http-syntax", "The bytes are not an HTTP/1.1 request.", "收到的内容不是 HTTP/1.1 请求。")
HTTP_VERSION = _malformed("http-version", "Only HTTP/1.1 is spoken here.", "仅支持 HTTP/1.1。")
HOST_HEADER = _malformed(
    "host-header", "A request names exactly one valid Host.", "请求必须有且仅有一个合法的 Host 请求头。"
)
REQUEST_TARGET = _malformed(
    "request-target", "The request target is not a path of this server.", "请求目标不是本服务器的路径。"
)
MESSAGE_LENGTH = _malformed(
    "message-length",
    "The length of the body is ambiguous: Content-Length and Transfer-Encoding contradict each other.",
    "请求体长度不明确：Content-Length 与 Transfer-Encoding 冲突。",
)
HEAD_SIZE = _too_large("head-size", "The request head has too many bytes.", "请求头字节数超过上限。")
HEADER_LINES = _too_large("header-lines", "The request head has too many lines.", "请求头行数超过上限。")
HEAD_DEADLINE = _too_slow(
    "head-deadline", "The request head was not complete in time.", "请求头未在规定时间内接收完毕。"
)
BODY_DEADLINE = _too_slow(
    "body-deadline", "The request body was not complete in time.", "请求体未在规定时间内接收完毕。"
)


def _too_many(rule: str, title: tuple[str, str], detail: tuple[str, str], what_next: tuple[str, str]) -> Refusal:
    return Refusal(
        rule=rule,
        status=429,
        code="too-many-requests",
        xroad_code="server.clientproxy.network_error",
        title={"en": title[0], "zh": title[1]},
        detail={"en": detail[0], "zh": detail[1]},
        next={"en": what_next[0], "zh": what_next[1]},
        retry_after=5,
    )


CONNECTION_LIMIT = _too_many(
    "connection-limit",
    ("Too many connections with this certificate", "该证书的连接数过多"),
    (
        "This certificate already has as many open connections as it may have.",
        "该证书已打开的连接数达到上限。",
    ),
    ("Keep connections open and use them again.", "请保持并复用已有连接。"),
)
PIPELINE_DEPTH = _too_many(
    "pipeline-depth",
    ("Too many requests ahead of their answers", "未等应答即发送的请求过多"),
    ("Too many requests wait for an answer on this connection.", "此连接上等待应答的请求过多。"),
    ("Wait for answers, or open another connection.", "请等待应答，或另开连接。"),
)

ALL: Final = (
    HTTP_SYNTAX,
    HTTP_VERSION,
    HOST_HEADER,
    REQUEST_TARGET,
    MESSAGE_LENGTH,
    HEAD_SIZE,
    HEADER_LINES,
    HEAD_DEADLINE,
    BODY_DEADLINE,
    CONNECTION_LIMIT,
    PIPELINE_DEPTH,
)
"""Every rule of the edge, for the list of problem codes in the documents."""


def response_bytes(refusal: Refusal, language: Language = "en", *, type_base: str = TYPE_BASE) -> bytes:
    """The whole HTTP/1.1 response, with `Connection: close`: after a refusal nothing more is read."""
    body = json.dumps(
        {
            "type": f"{type_base}{refusal.code}",
            "title": refusal.title[language],
            "status": refusal.status,
            "detail": refusal.detail[language],
            "rule": refusal.rule,
            "next": refusal.next[language],
            "source": "gateway",
        },
        ensure_ascii=False,
    ).encode()
    lines = [
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
        "content-type: application/problem+json",
        f"content-language: {'zh-CN' if language == 'zh' else 'en'}",
        "cache-control: no-store",
        "vary: accept-language",
        f"content-length: {len(body)}",
        f"x-road-error: {refusal.xroad_code}",
        "connection: close",
    ]
    if refusal.retry_after is not None:
        lines.append(f"retry-after: {refusal.retry_after}")
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body
