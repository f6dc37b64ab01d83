"""How a command reaches a gateway: files that say who calls, TLS from them, and what went wrong in words."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography import x509

from ca_auth import client_context
from exchange import Language

DEFAULT_URL = "https://localhost:8443"
HOSTNAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH


class UnreachableError(Exception):
    """No answer; the texts say why and what to do."""

    def __init__(self, en: str, zh: str, *, sent: bool = False) -> None:
        super().__init__(en)
        self.texts: dict[Language, str] = {"en": en, "zh": zh}
        self.sent = sent
        """Whether the request may have reached the gateway."""


@dataclass(frozen=True, slots=True)
class Files:
    """Who calls, and whom they trust."""

    certificate: Path
    key: Path
    trust_anchors: Path

    def tls(self) -> ssl.SSLContext:
        """A context for calling; raises UnreachableError that names the file at fault."""
        certificate, key, trust_anchors = (_read(path) for path in (self.certificate, self.key, self.trust_anchors))
        for path, content in ((self.certificate, certificate), (self.trust_anchors, trust_anchors)):
            try:
                x509.load_pem_x509_certificates(content)
            except ValueError as error:
                raise UnreachableError(f"{path} holds no PEM certificate", f"{path} 中没有 PEM 证书") from error
        if b"ENCRYPTED" in key:
            raise UnreachableError(
                f"{self.key} is encrypted; give a key without passphrase, in a file that only you can read",
                f"{self.key} 已加密；请提供无口令的私钥，并仅允许本人读取",
            )
        try:
            return client_context(self.trust_anchors, self.certificate, self.key)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise UnreachableError(
                    f"{self.key} is not the key of {self.certificate}", f"{self.key} 不是 {self.certificate} 的私钥"
                ) from error
            raise UnreachableError(f"{self.key} is not a PEM key", f"{self.key} 不是 PEM 私钥") from error


def gateway_url(given: str, data: Path) -> str:
    """The gateway to call: the one given, that of the mesh in `data`, or the usual one.

    Raises:
        UnreachableError: It is not an https address.
    """
    url = given
    if not url:
        try:
            url = (data / "run" / "gateway.url").read_text(encoding="utf-8").strip()
        except OSError:
            url = DEFAULT_URL
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UnreachableError(f"not an address of a gateway: {url}", f"不是网关地址：{url}") from error
    if parsed.scheme != "https" or not parsed.host:
        raise UnreachableError(
            f"not an address of a gateway: {url}; write https://HOST:PORT",
            f"不是网关地址：{url}；请写成 https://主机:端口",
        )
    return url.rstrip("/")


def explained(error: httpx.HTTPError, url: str, files: Files | None = None) -> UnreachableError:
    """What a failed request means, for the person who made it."""
    certificate = files.certificate if files else "?"
    trust_anchors = files.trust_anchors if files else "?"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            if cause.verify_code == HOSTNAME_MISMATCH:
                return UnreachableError(
                    f"{url}: the gateway's certificate is for another host name",
                    f"{url}：网关证书不是签发给该主机名的",
                )
            return UnreachableError(
                f"{url}: the gateway's certificate does not verify with {trust_anchors} ({cause.verify_message}); "
                "give the CA of the gateway with --cacert",
                f"{url}：用 {trust_anchors} 无法验证网关证书（{cause.verify_message}）；请用 --cacert 指定网关的根证书",
            )
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
            why = (cause.reason or "").partition("ALERT_")[2].replace("_", " ").lower()
            return UnreachableError(
                f"{url}: the gateway does not accept the certificate {certificate} ({why}); "
                f"datong doctor --cert {certificate} tells why",
                f"{url}：网关不接受证书 {certificate}（{why}）；运行 datong doctor --cert {certificate} 查看原因",
            )
        if isinstance(cause, ssl.SSLError) and isinstance(error, httpx.ConnectError):
            return UnreachableError(f"{url} does not speak TLS", f"{url} 不是 TLS 服务")
        if isinstance(cause, ConnectionRefusedError):
            return UnreachableError(
                f"no gateway listens at {url}; start one with datong up, or name another with --gateway",
                f"{url} 没有网关在监听；请用 datong up 启动，或用 --gateway 指定其他网关",
            )
        if isinstance(cause, socket.gaierror):
            return UnreachableError(f"{url}: no such host", f"{url}：找不到该主机")
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return UnreachableError(f"{url} cannot be reached: {error}", f"无法连接 {url}：{error}")
    if isinstance(error, (httpx.LocalProtocolError, httpx.UnsupportedProtocol)):
        return UnreachableError(f"this cannot be sent: {error}", f"无法发送该请求：{error}")
    if isinstance(error, httpx.TimeoutException):
        return UnreachableError(
            f"{url} gave no answer in time; whether the department acted is unknown. Ask for the record before repeating "
            "an operation that changes something",
            f"{url} 未在规定时间内应答，部门是否已处理未知；如操作会产生变更，请先查询交换记录再决定是否重试",
            sent=True,
        )
    return UnreachableError(
        f"{url}: the connection broke before the answer was complete ({error}); whether the department acted is unknown",
        f"{url}：连接在收到完整应答前中断（{error}），部门是否已处理未知",
        sent=True,
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreachableError(f"{path}: {error.strerror}", f"{path}：{error.strerror}") from error
