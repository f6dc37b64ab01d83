"""X-Road's metaservices: who is here, what they offer, what of it the caller may call, and how it is called.

Rules:
1. `/listClients` is open, as in X-Road: names of organisations and systems, nothing else. It is no exchange and leaves no record.
2. `listMethods`, `allowedMethods` and `getOpenAPI` stand beside the services of each provider. Any registered subsystem may
   ask, without a grant; the gateway answers by itself, and puts it on record like any other exchange.
3. A service that is not listed does not exist for who was granted nothing of it.
4. The JSON is X-Road's: snake_case, what is empty is left out, placeholders of a path are written `*`. Its errors are not: 400
   without a service code, 404 for what is not there, 405 for anything but GET.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import msgspec
from fastapi import APIRouter, Query, Request, Response

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
from gateway.callers import ClientSuspendedError
from gateway.changing import consulting
from gateway.errors import MethodNotAllowedError
from gateway.openapi import problems
from gateway.paging import known_parameters
from registry import Descriptions, Service, Snapshot, endpoints_granted, endpoints_offered

router = APIRouter(tags=["metaservices"])

_JSON = b"application/json"
_INSTANCE = "xRoadInstance"
_encode = msgspec.json.encode
_NO_INSTANCE = NotFoundError("instance-registered", what="instance XX", what_zh="实例 XX")


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


# Who is here


@router.get(
    "/listClients",
    response_class=Response,
    responses={
        **problems(
            InvalidRequestError(
                "query-parameter", problem="There is no query parameter 'x'.", problem_zh="没有查询参数 'x'。"
            ),
            _NO_INSTANCE,
        ),
        200: {
            "description": "Members and their subsystems: X-Road's JSON if Accept names it, else its XML. 成员及其子系统。",
            "content": {
                "application/json": {"schema": {"type": "object", "required": ["member"]}},
                "text/xml": {"schema": {"type": "string"}},
            },
        },
    },
)
async def list_clients(
    request: Request,
    instance: Annotated[
        str, Query(alias=_INSTANCE, description="Which instance; without it, this one. 实例。", examples=["CN"])
    ] = "",
) -> Response:
    """X-Road's list of members and subsystems. Anybody may ask."""
    known_parameters(request, (_INSTANCE,))
    gateway = request.app.state.gateway
    # However old: it is a list, and nothing is decided by it.
    snapshot: Snapshot = gateway.registry.snapshot
    own = gateway.identity.uri.removeprefix("datong:").partition("/")[0]
    wanted = instance or own
    found = list(_clients(snapshot, wanted))
    if not found and wanted != own:
        raise NotFoundError("instance-registered", what=f"instance {wanted[:64]}", what_zh=f"实例 {wanted[:64]}")
    if _accepts_json(request.headers.getlist("accept")):
        return Response(_encode({"member": found}), media_type="application/json; charset=utf-8")
    return Response(_xml(found), media_type="text/xml; charset=utf-8")


def _clients(snapshot: Snapshot, instance: str) -> Iterator[dict[str, Any]]:
    """Each member of an instance, followed by its subsystems."""
    names = {str(each.id): each.name for each in snapshot.members() if _is_of(each.id, instance)}
    entries = [(identifier, "") for identifier in names]
    entries += [(str(each.id), each.name) for each in snapshot.subsystems() if _is_of(each.id, instance)]
    for identifier, subsystem_name in sorted(entries, key=lambda entry: entry[0].split("/")):
        parts = identifier.split("/")
        kind, codes = ("SUBSYSTEM", {"subsystem_code": parts[3]}) if len(parts) == 4 else ("MEMBER", {})
        yield {
            "id": {
                "object_type": kind,
                "xroad_instance": parts[0],
                "member_class": parts[1],
                "member_code": parts[2],
                **codes,
            },
            "name": names.get("/".join(parts[:3]), ""),
            **({"subsystem_name": subsystem_name} if subsystem_name else {}),
        }


def _is_of(identifier: str, instance: str) -> bool:
    return identifier.partition("/")[0] == instance


def _accepts_json(accept: Iterable[str]) -> bool:
    """Whether Accept names JSON; as in X-Road, neither `*/*` nor quality values count."""
    return any(
        each.partition(";")[0].strip().lower() == "application/json" for line in accept for each in line.split(",")
    )


_ID, _XROAD = "http://x-road.eu/xsd/identifiers", "http://x-road.eu/xsd/xroad.xsd"
_ELEMENTS = {
    "xroad_instance": "xRoadInstance",
    "member_class": "memberClass",
    "member_code": "memberCode",
    "subsystem_code": "subsystemCode",
}


def _xml(clients: Iterable[dict[str, Any]]) -> str:
    lines = [
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>',
        f'<ns2:clientList xmlns:ns1="{_ID}" xmlns:ns2="{_XROAD}">',
    ]
    for client in clients:
        identifier = client["id"]
        lines += ["  <ns2:member>", f'    <ns2:id ns1:objectType="{identifier["object_type"]}">']
        lines += [
            f"      <ns1:{element}>{escape(identifier[key])}</ns1:{element}>"
            for key, element in _ELEMENTS.items()
            if key in identifier
        ]
        lines += ["    </ns2:id>", f"    <ns2:name>{escape(client['name'])}</ns2:name>"]
        if "subsystem_name" in client:
            lines.append(f"    <ns2:subsystemName>{escape(client['subsystem_name'])}</ns2:subsystemName>")
        lines.append("  </ns2:member>")
    return "\n".join([*lines, "</ns2:clientList>", ""])
