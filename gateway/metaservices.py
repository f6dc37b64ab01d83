"""X-Road's metaservices: what a provider offers, what of it the caller may call, and how it is called.

Rules:
1. `listMethods`, `allowedMethods` and `getOpenAPI` stand beside the services of each provider. Any registered subsystem may
   ask, without a grant; the gateway answers by itself, and puts it on record like any other exchange.
2. A service that is not listed does not exist for who was granted nothing of it.
3. The JSON is X-Road's: snake_case, what is empty is left out, placeholders of a path are written `*`. Its errors are not: 400
   without a service code, 404 for what is not there, 405 for anything but GET.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from exchange import (
    Answer,
    ClientMismatchError,
    InvalidRequestError,
    NotFoundError,
    ServiceId,
    SubsystemId,
    UnknownMemberError,
    UnknownServiceError,
    owner_of,
    service_id,
)
from gateway.api.callers import ClientSuspendedError
from gateway.api.changing import consulting
from gateway.api.errors import MethodNotAllowedError
from registry import Descriptions, Service, Snapshot, endpoints_granted, endpoints_offered

_JSON = b"application/json"
_encode = msgspec.json.encode


class Metaservices:
    """What the gateway answers by itself at every provider."""

    def __init__(self, descriptions: Descriptions) -> None:
        self._descriptions = descriptions
        self._described: dict[SubsystemId, frozenset[ServiceId]] = {}
        self._described_at = -1

    async def answer(
        self,
        snapshot: Snapshot,
        client: SubsystemId,
        service: ServiceId,
        *,
        method: str,
        segments: tuple[str, ...],
        query_string: bytes,
        now: float,
    ) -> Answer:
        """The answer to a call of a metaservice.

        Args:
            service: One whose code is in `METASERVICES`.
            segments: Of the path after the service code, as `Snapshot.decide` takes them.
            now: Unix seconds.

        Raises:
            ClientMismatchError: The client is not registered.
            ClientSuspendedError: It may not act now.
            MethodNotAllowedError: It is no GET.
            UnknownMemberError: The provider is not registered.
            NotFoundError: There is no such path, service or document, as far as the client may know.
            InvalidRequestError: `getOpenAPI` is not told of which service.
            RegistryUnavailableError: The database of documents is away.
        """
        owner, code = owner_of(service), service.rpartition("/")[2]
        _check_client(snapshot, client)
        if method != "GET":
            raise MethodNotAllowedError(
                problem=f"{code} takes GET, not {method}.", problem_zh=f"{code} 仅支持 GET，不支持 {method}。"
            )
        if snapshot.subsystem(owner) is None:
            raise UnknownMemberError(what=f"provider {owner}", what_zh=f"提供方 {owner}")
        if segments not in ((), ("",)):
            raise NotFoundError("metaservice-path", what=f"path below {code}", what_zh=f" {code} 之下的路径")
        if code == "getOpenAPI":
            return await self._document(snapshot, client, owner, query_string)
        offered = [each for each in snapshot.services_of(owner) if snapshot.exists_for(client, each.id)]
        described = await self._described_by(owner, snapshot.version)
        listed = [
            _service(each, endpoints, each.id in described)
            for each in offered
            if (endpoints := _endpoints(snapshot, client, each, now, allowed=code == "allowedMethods")) is not None
        ]
        return Answer(200, [(b"content-type", _JSON)], _encode({"service": listed}))

    async def _document(
        self, snapshot: Snapshot, client: SubsystemId, owner: SubsystemId, query_string: bytes
    ) -> Answer:
        named = [value for name, value in _parameters(query_string) if name.lower() == "servicecode"]
        if not named or not named[-1]:
            raise InvalidRequestError(
                "service-code",
                problem="Name the service: getOpenAPI?serviceCode=…",
                problem_zh="请指明服务：getOpenAPI?serviceCode=…",
            )
        try:
            wanted = service_id(f"{owner}/{named[-1]}")
        except ValueError as error:
            raise _unknown(owner) from error
        if not snapshot.exists_for(client, wanted):
            raise _unknown(owner)
        async with consulting():
            found = await self._descriptions.document(wanted)
        return Answer(200, [(b"content-type", found.media_type.encode())], found.shown.encode())

    async def _described_by(self, owner: SubsystemId, version: int) -> frozenset[ServiceId]:
        """Which services of a provider have a document; asked once for each version of the registry."""
        if version != self._described_at:
            self._described, self._described_at = {}, version
        found = self._described.get(owner)
        if found is None:
            async with consulting():
                found = self._described[owner] = await self._descriptions.described(owner)
        return found


def _check_client(snapshot: Snapshot, client: SubsystemId) -> None:
    """As for any exchange: who asks is registered, and may act."""
    found = snapshot.subsystem(client)
    if found is None:
        raise ClientMismatchError(
            "client-registered",
            problem="The client is not a registered subsystem.",
            problem_zh="X-Road-Client 不是已登记的子系统。",
        )
    if not found.active:
        raise ClientSuspendedError(problem=f"{client} is suspended.", problem_zh=f"{client} 已被暂停。")


def _endpoints(
    snapshot: Snapshot, client: SubsystemId, service: Service, now: float, *, allowed: bool
) -> list[dict[str, str]] | None:
    """What can be called of a service; None if it is not to be listed."""
    if not allowed:
        return _written(endpoints_offered(service))
    granted = endpoints_granted(service, snapshot.coverings(client, service.id), now)
    return _written(granted) if granted else None


def _written(endpoints: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"method": method, "path": path} for method, path in endpoints]


def _service(service: Service, endpoints: list[dict[str, str]], described: bool) -> dict[str, Any]:
    instance, member_class, member, subsystem, code = service.id.split("/")
    return {
        "object_type": "SERVICE",
        "xroad_instance": instance,
        "member_class": member_class,
        "member_code": member,
        "subsystem_code": subsystem,
        "service_code": code,
        "service_type": "OPENAPI" if described else "REST",
        "endpoint_list": endpoints,
    }


def _parameters(query_string: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query_string.decode("ascii"), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise InvalidRequestError(
            "query-form", problem="The query string cannot be read.", problem_zh="查询串无法解析。"
        ) from error


def _unknown(owner: SubsystemId) -> UnknownServiceError:
    return UnknownServiceError(what=f"such service of {owner}", what_zh=f" {owner} 的该服务")
