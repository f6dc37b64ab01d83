"""`/listClients`, X-Road's list of who is here: members and their subsystems, as its clients read it.

It is open, as in X-Road: names of organisations and systems, nothing else. It is no exchange and leaves no record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any
from xml.sax.saxutils import escape

import msgspec
from fastapi import APIRouter, Query, Request, Response

from exchange import InvalidRequestError, NotFoundError
from gateway.api.openapi import problems
from gateway.api.paging import known_parameters
from registry import Snapshot

router = APIRouter(tags=["metaservices"])

_INSTANCE = "xRoadInstance"
_NO_INSTANCE = NotFoundError("instance-registered", what="instance XX", what_zh="实例 XX")
_encode = msgspec.json.encode


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
    as_json = _accepts_json(request.headers.getlist("accept"))
    media_type = "application/json; charset=utf-8" if as_json else "text/xml; charset=utf-8"
    return Response(_listing(request, snapshot, instance or own, own, as_json), media_type=media_type)


def _listing(request: Request, snapshot: Snapshot, instance: str, own: str, as_json: bool) -> bytes:
    """The list as bytes, written once for each version of the registry: anybody may ask, as often as they like."""
    state = request.app.state
    if getattr(state, "clients_version", -1) != snapshot.version:
        state.clients_version, state.clients_written = snapshot.version, {}
    written: dict[tuple[str, bool], bytes] = state.clients_written
    found = written.get((instance, as_json))
    if found is None:
        clients = list(_clients(snapshot, instance))
        if not clients and instance != own:
            raise NotFoundError(
                "instance-registered", what=f"instance {instance[:64]}", what_zh=f"实例 {instance[:64]}"
            )
        found = written[instance, as_json] = _encode({"member": clients}) if as_json else _xml(clients).encode()
    return found


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
