"""For tests of a department's own adapter: its operations called in this process, without a mesh.

    async with AdapterTest(adapter) as call:
        answer = await call.get("/people/1", {"year": 2024})
        assert answer.status == 200 and answer.json()["name"] == "例甲子天"

What an operation raises comes out of the call, so that a test shows where; callers of the mesh are told that the system failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import msgspec

from department_adapters.replies import encode
from department_adapters.source import Source, SourceRequest, ask
from exchange import Headers

_SEGMENT_SAFE = "!$&'()*+,;=:@-._~/%"
"""What a path may hold as it is, percent-encoded characters among it."""
_LONGEST = 64 << 20
"""Bytes of an answer."""
_QUERY_SAFE = _SEGMENT_SAFE + "?[]{}|^`\\"


class TestedAnswer(msgspec.Struct, frozen=True):
    """What a source answered."""

    __test__ = False  # for pytest, which takes the name for a test

    status: int
    headers: dict[str, str]
    """Names in lower case; of several with the same name, the last."""
    body: bytes
    error: str = ""
    """Over a bus: the code of the mesh error in place of an answer, `backend-failed` for instance; then the status is 0."""

    def json(self) -> Any:
        """The body as JSON; raises msgspec.DecodeError."""
        return msgspec.json.decode(self.body)


class AdapterTest:
    """A source at work, started when the block is entered and stopped at its end."""

    __test__ = False

    def __init__(self, source: Source, *, timeout: float = 10.0) -> None:
        """
        Args:
            source: An `Adapter`, or any other source.
            timeout: Seconds that a call may take.
        """
        self._source = source
        self._timeout = timeout

    @classmethod
    def of_service(cls, contract: Path, code: str, *, timeout: float = 10.0) -> Self:
        """The source that a service of an `adapter.toml` declares.

        Raises:
            ContractError: The file cannot be used.
            KeyError: It declares no such service.
        """
        from department_adapters.contract import read_contract
        from department_adapters.serve import make_source

        read = read_contract(contract)
        return cls(make_source(read.services[code], read), timeout=timeout)

    async def __aenter__(self) -> Self:
        await self._source.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._source.stop()

    async def get(self, path: str, query: Mapping[str, Any] | None = None, **options: Any) -> TestedAnswer:
        """`call("GET", ...)`."""
        return await self.call("GET", path, query, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> TestedAnswer:
        """`call("POST", ...)`."""
        return await self.call("POST", path, json=json, **options)

    async def put(self, path: str, json: Any = None, **options: Any) -> TestedAnswer:
        """`call("PUT", ...)`."""
        return await self.call("PUT", path, json=json, **options)

    async def patch(self, path: str, json: Any = None, **options: Any) -> TestedAnswer:
        """`call("PATCH", ...)`."""
        return await self.call("PATCH", path, json=json, **options)

    async def delete(self, path: str, **options: Any) -> TestedAnswer:
        """`call("DELETE", ...)`."""
        return await self.call("DELETE", path, **options)

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        json: Any = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        safe: bool | None = None,
    ) -> TestedAnswer:
        """Ask the source.

        Args:
            path: Begins with `/`; other scripts are percent-encoded as the gateway does it. It may have a query string.
            query: Further parameters; a list is one that comes several times, None one that does not.
            json: Body, told as JSON; or `body`, as it is.
            safe: Whether the operation changes nothing; default: as HTTP says of the method.

        Raises:
            MeshError: What callers would be told instead of an answer.
            Exception: What the source raised.
        """
        told: Headers = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        if json is not None:
            body = encode(json)
            told.append((b"content-type", b"application/json"))
        request = SourceRequest(
            exchange_id="00000000-0000-7000-8000-000000000000",
            method=method,
            target=_target(path, query or {}),
            headers=told,
            body=body,
            timeout=self._timeout,
            safe=method in ("GET", "HEAD", "OPTIONS") if safe is None else safe,
        )
        return await self._asked(request)

    async def _asked(self, request: SourceRequest) -> TestedAnswer:
        answer = await ask(self._source, request, limit=_LONGEST)
        if not 200 <= answer.status <= 599:
            raise ValueError(f"the source answered with status {answer.status}, which callers are not told")
        decoded = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
        return TestedAnswer(answer.status, decoded, answer.body)


def _target(path: str, query: Mapping[str, Any]) -> bytes:
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        pairs += [(name, _text(each)) for each in several if each is not None]
    path, _, query_string = path.partition("?")
    strings = [each for each in (quote(query_string, safe=_QUERY_SAFE), urlencode(pairs)) if each]
    return "?".join([quote(path, safe=_SEGMENT_SAFE), *(["&".join(strings)] if strings else [])]).encode("ascii")


def _text(value: Any) -> str:
    plain = msgspec.to_builtins(value)
    return plain if isinstance(plain, str) else str(encode(plain), "ascii")
