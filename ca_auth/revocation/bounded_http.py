"""One HTTP exchange with a server that is not trusted: bounded in time and size. Imported when used; httpx takes a while.

Rules:
1. No redirects, no proxies from the environment, no content encodings (a small body could unfold into a large one).
2. All together, from looking up the name to the last byte, an exchange takes no longer than `Limits.seconds`.
3. Where the address comes from a certificate, the host is looked up once, every address it has must be allowed, and the
   connection goes to an address that was looked at: a name that points elsewhere a moment later changes nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from ca_auth.revocation.public_addresses import IPAddress, addresses_of
from ca_auth.validation.rejection import printable


class FetchError(Exception):
    """An exchange failed; what went wrong, English and Chinese."""

    def __init__(self, problem: str, problem_zh: str) -> None:
        self.problem = problem
        self.problem_zh = problem_zh
        super().__init__(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one exchange may take."""

    seconds: float
    step_seconds: float
    """For connecting, and between two parts of the answer."""
    octets: int
    """Of the body."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was read in full."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes


async def exchange(
    method: str,
    url: str,
    *,
    tls: ssl.SSLContext,
    limits: Limits,
    headers: Mapping[str, str],
    content: bytes | None = None,
    allowed: Callable[[IPAddress], bool] | None = None,
) -> Reply:
    """Send one request and return the answer, whatever its status below 300 or above 399.

    Args:
        url: http or https.
        tls: For https.
        allowed: To which addresses a connection may go; None: any, because an operator named the host.

    Raises:
        FetchError: There is no answer within the limits, or it is a redirect.
    """
    try:
        async with asyncio.timeout(limits.seconds):
            return await _exchange(method, httpx.URL(url), tls, limits, headers, content, allowed)
    except TimeoutError as error:
        raise FetchError(
            f"no complete answer within {limits.seconds:g} seconds", f"{limits.seconds:g} 秒内未收到完整应答"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        # ValueError: a host name that cannot be encoded, a header that cannot be sent
        shown = printable(str(error) or type(error).__name__)
        raise FetchError(f"it cannot be reached: {shown}", f"无法连接：{shown}") from error


async def _exchange(
    method: str,
    url: httpx.URL,
    tls: ssl.SSLContext,
    limits: Limits,
    headers: Mapping[str, str],
    content: bytes | None,
    allowed: Callable[[IPAddress], bool] | None,
) -> Reply:
    sent = {"accept-encoding": "identity", "user-agent": "datong", **headers}
    extensions: dict[str, str] = {}
    if allowed is not None:
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise FetchError("not an http address", "不是 http 地址")
        addresses = await addresses_of(url.host, url.port or (443 if url.scheme == "https" else 80))
        refused = [each for each in addresses if not allowed(each)]
        if refused or not addresses:
            raise FetchError("the address that the certificate names is not a public one", "证书所列地址不是公网地址")
        sent["host"] = url.netloc.decode("ascii")
        extensions["sni_hostname"] = url.host
        url = url.copy_with(host=str(addresses[0]))
    timeout = httpx.Timeout(limits.step_seconds)
    async with (
        httpx.AsyncClient(verify=tls, trust_env=False, follow_redirects=False, timeout=timeout) as client,
        client.stream(method, url, content=content, headers=sent, extensions=extensions) as response,
    ):
        if response.is_redirect:
            raise FetchError("it redirects, and redirects are not followed", "应答为重定向，而重定向不予跟随")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise FetchError("the answer is encoded although that was not asked for", "应答使用了未请求的内容编码")
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > limits.octets:
                raise FetchError(f"the answer is larger than {limits.octets} bytes", f"应答超过 {limits.octets} 字节")
        return Reply(response.status_code, dict(response.headers), bytes(body))
