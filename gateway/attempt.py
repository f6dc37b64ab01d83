"""What is known of one attempt at the exchange face, growing as the request is read."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

from ca_auth import Principal, speaks_of_certificates
from exchange import (
    NOBODY,
    NOT_FORWARDED,
    Body,
    CallerFacts,
    ClientMismatchError,
    Headers,
    InvalidClientError,
    InvalidRequestError,
    ServiceId,
    Spooled,
    SubsystemId,
    from_wire,
    header_block,
    is_spelled_like_ours,
    member_of,
    subsystem_id,
)
from registry import Decision, QuotaState

CHANNELS = frozenset({"", "hall", "web", "mobile", "kiosk", "hotline"})
MAX_NOTE = 255
"""Longest value of a header that goes on the record, in characters."""

NOTED = frozenset(
    b"x-road-client x-road-id x-road-userid x-road-issue x-road-represented-party x-road-security-server datong-purpose "
    b"datong-subject datong-channel content-length accept accept-language connection traceparent signature-input".split()
)
LISTS = frozenset((b"accept", b"accept-language", b"connection", b"signature-input"))
"""Those of them that may come in several lines."""


class Attempt:
    """What is known of one attempt, growing as the request is read; a refusal is recorded with what there is."""

    __slots__ = (
        "asked_ms",
        "caller",
        "case",
        "certificate",
        "channel",
        "client",
        "decision",
        "entered",
        "id",
        "message_id",
        "method",
        "noted",
        "principal",
        "quota",
        "represented",
        "service",
        "spooled",
        "started",
        "subject",
        "user",
    )

    def __init__(self, exchange_id: str, method: str, asked_ms: int, started: float) -> None:
        self.id = exchange_id
        self.method = method
        self.asked_ms = asked_ms
        self.started = started
        self.noted: dict[bytes, bytes] = {}
        self.principal: Principal | None = None
        self.caller: CallerFacts = NOBODY
        self.decision: Decision | None = None
        self.quota: QuotaState | None = None
        self.entered = False
        self.spooled: Spooled | None = None
        self.certificate = ""
        self.client = SubsystemId("")
        self.service = ServiceId("")
        self.message_id = self.user = self.case = self.represented = self.channel = self.subject = ""

    def read_headers(self, headers: Headers) -> Headers:
        """Note what the mesh reads; return what is forwarded, in order."""
        noted = self.noted
        forwarded: Headers = []
        for pair in headers:
            name = pair[0]
            if name in NOTED:
                if name not in noted:
                    noted[name] = pair[1]
                elif name in LISTS:
                    noted[name] += b"," + pair[1]
                else:
                    # The last one counts, and only that one goes on: the department might read the first.
                    noted[name] = pair[1]
                    forwarded = [each for each in forwarded if each[0] != name]
            elif (b"_" in name and is_spelled_like_ours(name)) or speaks_of_certificates(name):
                continue
            if name not in NOT_FORWARDED:
                forwarded.append(pair)
        if b"connection" in noted:
            named = {name.strip().lower() for name in noted[b"connection"].split(b",")}
            forwarded = [pair for pair in forwarded if pair[0] not in named or pair[0] in NOTED]
        return forwarded

    def read_notes(self) -> str:
        """Read what goes on the record; raises InvalidRequestError.

        Returns the number of the person or company asked about, empty if there is none: only its hash goes on the record.
        """
        noted = self.noted
        self.message_id = text_of(noted, b"x-road-id")
        self.user = text_of(noted, b"x-road-userid")
        self.case = text_of(noted, b"x-road-issue")
        self.represented = text_of(noted, b"x-road-represented-party")
        self.channel = text_of(noted, b"datong-channel")
        if self.channel not in CHANNELS:
            self.channel = ""
            raise InvalidRequestError(
                "channel",
                problem="Datong-Channel must be hall, web, mobile, kiosk or hotline.",
                problem_zh="Datong-Channel 只能是 hall、web、mobile、kiosk 或 hotline。",
            )
        return text_of(noted, b"datong-subject")

    def read_client(self, principal: Principal) -> SubsystemId:
        """The subsystem that the caller acts as.

        Raises:
            InvalidClientError: It is not named, or not properly.
            ClientMismatchError: It is not the certificate's.
        """
        value = self.noted.get(b"x-road-client")
        if value is None:
            raise InvalidClientError(problem="X-Road-Client is missing.", problem_zh="缺少 X-Road-Client。")
        try:
            client = _subsystem(value)
        except (ValueError, UnicodeError) as error:
            raise InvalidClientError(
                problem="X-Road-Client is not instance/class/member/subsystem.",
                problem_zh="X-Road-Client 不是 实例/类别/成员代码/子系统 的形式。",
            ) from error
        self.client = client
        if member_of(client) != principal.member or (principal.subsystem and client != principal.subsystem):
            raise ClientMismatchError(
                problem=f"The certificate speaks for {principal.subsystem or principal.member}, not for {client}.",
                problem_zh=f"证书代表 {principal.subsystem or principal.member}，不能代表 {client}。",
            )
        return client


@lru_cache(4096)
def _subsystem(wire: bytes) -> SubsystemId:
    return subsystem_id(from_wire(wire.decode("ascii")))


def text_of(noted: dict[bytes, bytes], name: bytes) -> str:
    """A header that goes on the record, as text; raises InvalidRequestError if it is too long or not printable."""
    value = noted.get(name)
    if value is None:
        return ""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    if len(text) > MAX_NOTE or not text.isprintable():
        shown = name.decode()
        raise InvalidRequestError(
            "header-value",
            problem=f"{shown} must be printable and at most {MAX_NOTE} characters.",
            problem_zh=f"{shown} 必须是可打印字符，且不超过 {MAX_NOTE} 个字符。",
        )
    return text


def traceparent_of(noted: dict[bytes, bytes]) -> str | None:
    """The caller's trace context, for our own logs."""
    value = noted.get(b"traceparent")
    return value.decode("latin-1")[:55] if value else None


def request_hash(method: str, raw_path: bytes, query: bytes, headers: Headers, body: Body) -> bytes:
    """X-Road-Request-Hash: base64 of SHA-512 over method, path and forwarded headers, and over the body if there is one."""
    path = b"%b?%b" % (raw_path, query) if query else raw_path
    head = hashlib.sha512(b"%b\r\n%b\r\n%b" % (method.encode(), path, header_block(headers))).digest()
    if body:
        digest = hashlib.sha512(body).digest() if isinstance(body, bytes) else body.sha512
        head = hashlib.sha512(head + digest).digest()
    return base64.b64encode(head)
