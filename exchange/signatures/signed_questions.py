"""Whether a question is the one its caller signed: what an adapter compares, and whoever verifies a receipt. Pure.

Rules:
1. What the gateway states of a question (who asks, for what, which service and method) is what the signature binds.
2. Of the headers that go to the department each is covered, but for a few that cannot change what is asked, and for what
   the gateway adds: X-Road-Request-Id, and X-Road-Id if the caller sent none. A covered one is there, once and unchanged.
3. Datong-Subject is not covered: it does not go to the department, and is kept as a keyed hash only.
4. Nothing is imported here but the standard library, `cryptography`, and modules that keep to this rule.

Not checked here: the signature itself (`exchange.signatures.recorded_signatures`), and that the certificate is good.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from exchange.errors import InvalidRequestError
from exchange.identifiers import ServiceId, from_wire
from exchange.messages.paths import parse_path
from exchange.signatures.recorded_signatures import SignedRequest

NOT_FORWARDED: Final = frozenset(
    b"transfer-encoding keep-alive proxy-authenticate proxy-authorization te trailer upgrade connection user-agent host "
    b"content-length server expect client-cert client-cert-chain x-road-request-id x-road-request-hash datong-subject".split()
)
"""Hop-by-hop headers, names that only a gateway may set, and the person asked about, who is kept as a keyed hash only."""
OURS: Final = (b"x-road-", b"datong-", b"client-cert")
"""Many systems read `_` in a name as `-`: `X_Road_Client` would be a second X-Road-Client to them, so it stays here."""
FREE: Final = frozenset(
    b"accept accept-charset accept-encoding accept-language cache-control date forwarded pragma priority signature "
    b"signature-input traceparent tracestate via x-forwarded-for x-forwarded-proto x-real-ip x-request-id".split()
)
"""Headers that may go on uncovered: they change how an answer is written or found again, and not what is asked."""

_DIGESTS: Final = re.compile(
    r"[a-z0-9_.*-]+=:[A-Za-z0-9+/]*={0,2}:(?:[ \t]*,[ \t]*[a-z0-9_.*-]+=:[A-Za-z0-9+/]*={0,2}:)*"
)
_DIGEST: Final = re.compile(r"([a-z0-9_.*-]+)=:([A-Za-z0-9+/]*={0,2}):")
_FIELDS: Final = {
    "case": ("x-road-issue", "案件编号"),
    "channel": ("datong-channel", "渠道"),
    "purpose": ("datong-purpose", "用途"),
    "represented": ("x-road-represented-party", "被代表方"),
    "user": ("x-road-userid", "经办人"),
}
"""Members of a statement that are headers' values."""


class SignedQuestionError(ValueError):
    """The question is not the one that was signed."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.zh = zh


def is_spelled_like_ours(name: bytes) -> bool:
    """Whether a header's name, in lower case, would be one of ours if `_` were `-`; such a header goes nowhere."""
    return b"_" in name and name.replace(b"_", b"-").startswith(OURS)


def needs_covering(name: bytes) -> bool:
    """Whether a signed request must cover a header that it sends, by its name in lower case."""
    return name not in FREE and name not in NOT_FORWARDED and not is_spelled_like_ours(name)


def check_statement(bound: SignedRequest, question: Mapping[str, Any]) -> None:
    """Return if a gateway's statement says what was signed.

    Args:
        question: The members of a `QueryStatement` (`exchange.messages.envelope`).

    Raises:
        SignedQuestionError: It says something else.
    """
    service, _ = _target(bound)
    stated = {name: str(value).strip(" \t") for name, value in question.items()}
    try:
        client = from_wire(bound.client)
    except ValueError as error:
        raise SignedQuestionError("the signed client is no identifier", "签名中的调用方不是合法标识") from error
    signed = {
        "certificate": (bound.keyid, "证书"),
        "client": (client, "调用方"),
        "message_id": (_text(bound, "x-road-id") or _own_message_id(stated.get("client", ""), stated), "消息编号"),
        "method": (bound.method, "方法"),
        "service": (service, "服务"),
        **{name: (_text(bound, header), zh) for name, (header, zh) in _FIELDS.items()},
    }
    for name, (value, zh) in signed.items():
        if stated.get(name) != value:
            raise SignedQuestionError(f"the {name} stated is not the one that was signed", f"所述{zh}与签名内容不符")


def check_forwarded(
    bound: SignedRequest, question: Mapping[str, Any], target: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> None:
    """Return if target and headers, as they go to the department, are those that were signed.

    Args:
        question: As for `check_statement`, which is to be called, too.
        target: Path behind the service code, normalised, and query.
        headers: Names in lower case.

    Raises:
        SignedQuestionError: They are not.
    """
    if _target(bound)[1] != target:
        raise SignedQuestionError("the path or query is not the one that was signed", "路径或查询串与签名内容不符")
    lines: dict[str, list[bytes]] = {}
    for raw, value in headers:
        lines.setdefault(raw.decode("latin-1"), []).append(value.strip(b" \t"))
    # What the gateway had to add.
    expected = {"x-road-request-id": [str(question["id"]).encode()]}
    if not bound.fields.get("x-road-id"):
        expected["x-road-id"] = [str(question["message_id"]).encode()]
    for name, values in lines.items():
        if name in expected:
            if values != expected[name]:
                _refuse_header(name)
        elif name in bound.fields:
            if values != [_raw(bound, name)]:
                _refuse_header(name)
        elif needs_covering(name.encode("latin-1")):
            _refuse_header(name)
    for name in bound.fields.keys() - lines.keys():
        if needs_covering(name.encode()):
            _refuse_header(name)


def check_recorded_body(bound: SignedRequest, body: bytes) -> None:
    """Return if a body is the one that was signed, for verifiers without a parser of structured fields.

    A Content-Digest that is not plainly `sha-256=:BASE64:` and the like is refused, too; adapters read it in full.

    Raises:
        SignedQuestionError: It is not.
    """
    if not bound.content_digest and not body:
        return
    digests = dict(_DIGEST.findall(bound.content_digest)) if _DIGESTS.fullmatch(bound.content_digest) else {}
    known = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
    found = {name: known[name](body).digest() for name in digests if name in known}
    if not found or any(base64.b64encode(digest).decode() != digests[name] for name, digest in found.items()):
        raise SignedQuestionError("the body is not the one that was signed", "请求体与签名内容不符")


def _target(bound: SignedRequest) -> tuple[ServiceId, bytes]:
    """Service and target of the signed path and query, normalised as a gateway does it."""
    try:
        service, _, path = parse_path(bound.path.encode())
    except InvalidRequestError as error:
        raise SignedQuestionError("the signed path is none of the mesh's", "签名中的路径不属于本平台") from error
    return service, b"%b?%b" % (path, bound.query.encode()) if bound.query else path


def _own_message_id(client: str, stated: Mapping[str, str]) -> str:
    return f"{client.partition('/')[0]}-{stated.get('id', '')}"


def _raw(bound: SignedRequest, name: str) -> bytes:
    return bound.fields[name].encode(errors="surrogateescape")


def _text(bound: SignedRequest, name: str) -> str:
    """A covered header as the gateway reads it: UTF-8, else Latin-1."""
    if name not in bound.fields:
        return ""
    raw = _raw(bound, name)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _refuse_header(name: str) -> NoReturn:
    raise SignedQuestionError(f"the header {name} is not as it was signed", f"请求头 {name} 与签名内容不符")
