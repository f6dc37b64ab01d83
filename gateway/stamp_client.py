"""One request to a time-stamping authority over HTTP (RFC 3161 section 3.4). Imported when used; httpx takes a while.

Rules:
1. No redirects, no proxies from the environment, no content encodings.
2. A request takes no longer than the authority's timeout, whatever trickles in, and its answer has a greatest size.
3. What comes back is checked before anybody sees it: the token is over this text, holds our nonce, was signed under the
   authority's anchors, and tells a time near ours.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from typing import Final

import httpx

from exchange import (
    CLOCKS_APART_MS,
    MOST_BYTES_OF_STAMP,
    TIME_STAMP_REQUEST_TYPE,
    Stamp,
    StampAuthority,
    StampError,
    check_token,
    read_stamp_response,
    time_stamp_request,
)
from gateway.stamping import AuthorityAwayError

_MOST_BYTES: Final = MOST_BYTES_OF_STAMP + 4096
_HEADERS: Final = {"content-type": TIME_STAMP_REQUEST_TYPE, "accept-encoding": "identity", "user-agent": "datong"}
_NONCE_BITS: Final = 64


class StampClient:
    """Asks one authority. One task at a time; `close` it."""

    def __init__(self, authority: StampAuthority) -> None:
        self._authority = authority
        tls = ssl.create_default_context(cafile=str(authority.tls_anchors) if authority.tls_anchors else None)
        self._http = httpx.AsyncClient(
            verify=tls, trust_env=False, follow_redirects=False, timeout=authority.timeout, headers=_HEADERS
        )

    async def stamp(self, text: bytes) -> tuple[bytes, Stamp]:
        """A checked token over the text, and what it says.

        Raises:
            AuthorityAwayError: No answer in time, or none of a time-stamping authority.
            StampError: It refused, or what it sent does not count.
        """
        authority, nonce = self._authority, secrets.randbits(_NONCE_BITS)
        request = time_stamp_request(text, nonce=nonce, digest=authority.digest, policy=authority.policy)
        begin_ms = _now_ms()
        try:
            async with asyncio.timeout(authority.timeout):
                answer = await self._post(request)
        except TimeoutError as error:
            raise AuthorityAwayError(
                f"no answer within {authority.timeout:g} s", f"{authority.timeout:g} 秒内没有应答"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # Its class, not its text, which may hold the address and a password in it.
            raise AuthorityAwayError(
                f"it cannot be reached ({type(error).__name__})", f"无法连接（{type(error).__name__}）"
            ) from error
        token = read_stamp_response(answer)
        policies = (authority.policy,) if authority.policy else ()
        stamp = check_token(token, text, authority.anchors, nonce=nonce, policies=policies)
        if not begin_ms - CLOCKS_APART_MS <= stamp.gen_ms <= _now_ms() + CLOCKS_APART_MS:
            raise StampError(
                f"its clock and ours are more than {CLOCKS_APART_MS // 60_000} minutes apart: {stamp.gen_time.isoformat()}",
                f"其时钟与本机相差超过 {CLOCKS_APART_MS // 60_000} 分钟：{stamp.gen_time.isoformat()}",
            )
        return token, stamp

    async def close(self) -> None:
        """Let go of the connection."""
        await self._http.aclose()

    async def _post(self, request: bytes) -> bytes:
        async with self._http.stream("POST", self._authority.url, content=request) as response:
            if response.status_code != 200:
                raise AuthorityAwayError(
                    f"it answered with status {response.status_code}", f"其应答状态为 {response.status_code}"
                )
            answer = bytearray()
            async for part in response.aiter_raw():
                answer += part
                if len(answer) > _MOST_BYTES:
                    raise StampError(f"its answer is larger than {_MOST_BYTES} bytes", f"其应答超过 {_MOST_BYTES} 字节")
            return bytes(answer)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
