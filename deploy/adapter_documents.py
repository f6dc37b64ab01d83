"""Where a new adapter's documents come from: a file, or a URL that is asked once; and at which addresses a host stands."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from department_adapters import ScaffoldError

MOST_BYTES = 10 << 20
"""As much as the registry takes."""
SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document, and the URL that it came from; empty for a file."""

    text: bytes
    place: str


async def document_at(place: str) -> FoundDocument:
    """The document at a path, `http://…` or `https://…`.

    Raises:
        ScaffoldError: It cannot be had; the message says why.
    """
    if urlsplit(place).scheme not in ("http", "https"):
        try:
            return FoundDocument(await asyncio.to_thread(Path(place).read_bytes), "")
        except OSError as error:
            raise ScaffoldError(f"{place}: {error.strerror}", f"无法读取 {place}：{error.strerror}") from error
    return FoundDocument(await _fetched(place), place)


async def _fetched(url: str) -> bytes:
    import httpx

    text = bytearray()
    try:
        async with (
            asyncio.timeout(SECONDS),
            # The department's own document is asked of its own system: not through a proxy, and nowhere else.
            httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=SECONDS) as client,
            client.stream("GET", url, headers={"accept": "application/json, application/yaml, */*;q=0.5"}) as answer,
        ):
            if answer.status_code != 200:
                to = f" → {answer.headers['location']}" if "location" in answer.headers else ""
                raise ScaffoldError(
                    f"{url} answered {answer.status_code}{to}, not with a document.",
                    f"{url} 返回 {answer.status_code}{to}，不是文档。",
                )
            async for piece in answer.aiter_bytes():
                text += piece
                if len(text) > MOST_BYTES:
                    raise ScaffoldError(f"{url} is larger than 10 MiB.", f"{url} 超过 10 MiB。")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise ScaffoldError(f"{url} cannot be fetched: {why}", f"无法获取 {url}：{why}") from error
    return bytes(text)


async def addresses_of(url: str) -> list[str]:
    """The addresses of a URL's host now; none if nobody knows them here."""
    host = urlsplit(url).hostname or ""
    try:
        rows = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(row[4][0]) for row in rows))
