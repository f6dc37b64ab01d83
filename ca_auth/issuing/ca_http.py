"""How a department reaches a CA over HTTPS. Imported when it is used: most processes never do, and httpx takes a while."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any, Final, Self

import httpx

from ca_auth.edge.tls import client_context
from ca_auth.issuing.ca_errors import EnrolmentError
from ca_auth.issuing.held_certificate import HeldCertificate
from exchange import Language

_LARGEST_ANSWER: Final = 1 << 17
_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)


class CaConnection:
    """One connection to a CA; a context manager.

    Args:
        url: https address.
        trust_anchors: PEM bundle that the server's certificate must lead to. None: nothing is proven, so nothing may be
            sent but questions for what is public.
        held: Who calls; None: nobody in particular.

    Raises:
        EnrolmentError: `url` is not an https address (rule `url`).
        OSError, ssl.SSLError: A file cannot be used.
    """

    def __init__(
        self, url: str, trust_anchors: Path | None, held: HeldCertificate | None = None, *, language: Language = "en"
    ) -> None:
        try:
            base = httpx.URL(url)
        except httpx.InvalidURL:
            base = httpx.URL("")
        if base.scheme != "https" or not base.host:
            raise EnrolmentError("url", f"Not https://HOST[:PORT]: {url}", f"不是 https://主机[:端口]：{url}")
        if trust_anchors is None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        elif held is None:
            tls = client_context(trust_anchors)
        else:
            tls = client_context(trust_anchors, held.certificate, held.key)
        self._base = base
        self._client = httpx.Client(
            base_url=base,
            verify=tls,
            timeout=_TIMEOUT,
            trust_env=False,
            follow_redirects=False,
            headers={"accept-language": "zh" if language == "zh" else "en"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._client.close()

    def get(self, path: str) -> bytes:
        """The content at `path`, empty if the answer is an error; raises EnrolmentError (`unreachable`, ...)."""
        status, content = self._exchange("GET", path, None)
        return content if status == 200 else b""

    def post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        """The JSON object that answers `body`.

        Raises:
            EnrolmentError: With the CA's rule and words if it refused; `unreachable`, `server-certificate` or `answer`.
        """
        status, content = self._exchange("POST", path, body)
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._not_a_ca()
        if status not in (200, 201):
            said = " ".join(str(answer[part]) for part in ("detail", "next") if answer.get(part)) or f"HTTP {status}"
            raise EnrolmentError(str(answer.get("rule", "refused")), said, said)
        return answer

    def _exchange(self, method: str, path: str, body: dict[str, str] | None) -> tuple[int, bytes]:
        try:
            with self._client.stream(method, path, json=body) as response:
                content = b""
                for part in response.iter_bytes():
                    content += part
                    if len(content) > _LARGEST_ANSWER:
                        raise self._not_a_ca()
                return response.status_code, content
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _not_a_ca(self) -> EnrolmentError:
        return EnrolmentError(
            "answer", f"{self._base} does not answer as a CA.", f"{self._base} 的应答不是 CA 的应答。"
        )

    def _unreachable(self, error: httpx.HTTPError) -> EnrolmentError:
        base = self._base
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return EnrolmentError(
                    "server-certificate",
                    f"The certificate of {base} does not verify with the trusted root: {cause.verify_message}.",
                    f"用受信任的根证书无法验证 {base} 的证书：{cause.verify_message}。",
                )
            cause = cause.__cause__ or cause.__context__
        return EnrolmentError("unreachable", f"{base} cannot be reached: {error}", f"无法连接 {base}：{error}")
