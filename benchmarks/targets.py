"""What is put under load: one server, how to reach it, and which processes it costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

Role = Literal["peer", "mesh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """PEM files of one client: its certificate, its key, and the CA that issued the server's certificate."""

    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One server under load.

    Attributes:
        name: Short, unique in a run; figures are kept under it.
        url: Answers a GET with about 1 kB of JSON and status 200.
        local_url: Answers without any backend; new connections are counted on it. None: not part of that measurement.
        pids: Roots of the process trees whose CPU time counts as this target's, its backend included.
        limit: Requests that the server carries at once before it says 503, where it has such a limit.
    """

    name: str
    role: Role
    url: str
    identity: Identity
    pids: tuple[int, ...]
    headers: Mapping[str, str] = field(default_factory=dict)
    local_url: str | None = None
    limit: int | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `url`, which always names its port."""
        parts = urlsplit(self.url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"{self.name}: the URL of a target names host and port")
        return parts.hostname, parts.port


def path_of(url: str) -> str:
    """The request target of `url`: path and query as they go on the wire."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
