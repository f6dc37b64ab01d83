"""`/v1/resources`: the catalogue. Every registered caller may search and read what is or was in force.

Rules:
1. A code stands in an address as it is, slash and all: `/v1/resources/306001/000001`; `%2F` means the same.
2. Drafts are shown to whoever may change them, and to auditors; nobody else is told that they exist.
3. What may be changed by whom is the registry's to judge (`registry/catalogue/store.py`).
4. An import is all or nothing; a dry run reports every fault, and writes nothing.
5. An export holds what is in force. One that would not fit into memory beside the exchanges is for the command line.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from exchange import InvalidRequestError, NotFoundError, UnprocessableError
from gateway.api import refusals
from gateway.api.actors import ActorDep
from gateway.api.bodies import JSON, WHY_PARAMETER, Why, read_body, read_bytes, takes, why_of
from gateway.api.changing import answer, changed, changing, consulting, plain
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import cursor_of, known_parameters, read_cursor
from gateway.api.resource_views import (
    ExportQuery,
    FoundPage,
    ImportQuery,
    ImportReportView,
    ResourceBody,
    ResourceChanged,
    ResourceSearchQuery,
    ResourceView,
    VersionList,
    VersionView,
)
from gateway.api.strict_json import parse_json
from gateway.problems import language_of
from registry import (
    MAX_WORKBOOK,
    Actor,
    Candidate,
    Catalogue,
    CatalogueEntry,
    Change,
    Changes,
    CodeScheme,
    Department,
    ResourceSearch,
    candidates_in_workbook,
    candidates_of,
    catalogue_file,
    code_schemes,
    dcat_catalogue,
    dcat_resource,
    document_of,
    found_document,
    publish_resource,
    read_position,
    save_document,
    withdraw_resource,
    workbook_of,
)

XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
LD_JSON: Final = "application/ld+json"
MOST_EXPORTED: Final = 10_000

router = APIRouter(prefix="/v1/resources", tags=["resources"])

Code = Annotated[
    str, Path(description="Resource code, slash and all. 信息资源代码（可含斜线）。", examples=["306001/000001"])
]
Number = Annotated[str, Path(description="Number of a version, from 1. 版本号。", examples=["1"])]
_NO_RESOURCE: Final = NotFoundError(what="resource 306001/000009", what_zh="信息资源 306001/000009")
_BOTH_BODIES: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        JSON: {"schema": {"type": "object", "required": ["format", "resources"]}},
        XLSX: {"schema": {"type": "string", "format": "binary"}},
    },
}


@router.get("", response_model=FoundPage, responses=problems(*refusals.READING), openapi_extra=BY_CERTIFICATE)
async def search_resources(
    request: Request, actor: ActorDep, wanted: Annotated[ResourceSearchQuery, Query()]
) -> Response:
    """Resources by words, Chinese or English, the best match first; without words by code."""
    known_parameters(request, ResourceSearchQuery)
    search = ResourceSearch(
        words=wanted.q or "",
        department=wanted.department or "",
        theme=wanted.theme or "",
        item=wanted.item or "",
        sharing_class=wanted.sharing_class or "",
        division=wanted.division or "",
        level=wanted.level or "",
        mode=wanted.mode or "",
        state=wanted.state,
        after=_position(wanted.cursor),
        limit=wanted.limit,
    )
    async with consulting():
        found = await _catalogue(request).search(actor, search)
    cursor = cursor_of(*found.next) if found.next else None
    lines = [found_document(each) for each in found.resources]
    return answer({"resources": lines, "match": found.match, "next_cursor": cursor})


@router.get(
    "/export",
    response_class=Response,
    responses={
        **problems(*refusals.READING, _NO_RESOURCE),
        200: {
            "description": "The catalogue. 目录。",
            "content": {
                JSON: {"schema": {"type": "object", "required": ["format", "resources"]}},
                XLSX: {"schema": {"type": "string", "format": "binary"}},
                LD_JSON: {"schema": {"type": "object", "required": ["@context", "@graph"]}},
            },
        },
    },
    openapi_extra=BY_CERTIFICATE,
)
async def export_resources(request: Request, actor: ActorDep, wanted: Annotated[ExportQuery, Query()]) -> Response:
    """What is in force, or one resource: as JSON or a workbook, which can be imported again, or as DCAT-AP 3."""
    known_parameters(request, ExportQuery)
    catalogue = _catalogue(request)
    found: list[tuple[CatalogueEntry, Department]] = []
    async with consulting():
        if wanted.code is not None:
            entry, department = await catalogue.entry(actor, wanted.code)
            if entry.published is None:
                raise NotFoundError(what=f"version of {wanted.code}", what_zh=f"{wanted.code} 的已发布版本")
            found.append((entry, department))
        else:
            async with aclosing(catalogue.published(wanted.department or "")) as entries:
                async for each in entries:
                    found.append(each)
                    _check_size(found)
        publisher = await catalogue.publisher()
    base_url = request.app.state.gateway.public_url

    def written() -> tuple[bytes, str, str]:
        if wanted.format == "xlsx":
            return workbook_of((entry.content, department) for entry, department in found), XLSX, "xlsx"
        if wanted.format == "dcat":
            one = wanted.code is not None
            graph = dcat_resource(*found[0], base_url) if one else dcat_catalogue(found, publisher, base_url)
            return _encoded(graph), LD_JSON, "jsonld"
        return _encoded(catalogue_file(document_of(entry.content, each) for entry, each in found)), JSON, "json"

    # In a thread: a large workbook takes seconds, and exchanges are being served meanwhile.
    body, media, suffix = await asyncio.to_thread(written)
    headers = {"content-disposition": f'attachment; filename="catalogue.{suffix}"'}
    return Response(body, media_type=media, headers=headers)


@router.post(
    "/import",
    response_model=ImportReportView,
    responses=problems(*refusals.CHANGING, refusals.NOT_REGISTERED),
    openapi_extra={
        **BY_CERTIFICATE,
        "parameters": [*BY_CERTIFICATE["parameters"], WHY_PARAMETER],
        "requestBody": _BOTH_BODIES,
    },
)
async def import_resources(request: Request, actor: ActorDep, wanted: Annotated[ImportQuery, Query()]) -> Response:
    """Write down many resources, all or none: our JSON form, or a workbook in the columns of the 2017 guide."""
    known_parameters(request, ImportQuery)
    why = why_of(request)
    kind, body = await read_bytes(request, (JSON, XLSX), limit=MAX_WORKBOOK)
    candidates = await asyncio.to_thread(_candidates, kind, body)
    async with consulting():
        report = await _catalogue(request).take_in(
            actor, candidates, why=why, publish=wanted.publish, dry_run=wanted.dry_run
        )
        if report.faults and not wanted.dry_run:
            raise report.faults[0].error(len(report.faults) - 1)
        gateway = request.app.state.gateway
        await gateway.registry.reach(await gateway.database.version())
    language = language_of(request.headers.get("accept-language", "").encode("latin-1"))
    return answer(plain(ImportReportView.of(report, language)))


@router.post(
    "",
    status_code=201,
    responses=made(ResourceChanged) | problems(*refusals.CHANGING, refusals.CONFLICT, refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(ResourceBody),
)
async def create_resource(request: Request, actor: ActorDep) -> Response:
    """Write the draft of a new resource. For operators, and for owners and integrators of the provider's member."""
    known_parameters(request)
    body = await read_body(request, ResourceBody)
    return await _save(request, actor, body, replace=False)


@router.get(
    "/{code:path}/versions/{number}",
    response_model=VersionView,
    responses=problems(*refusals.READING, _NO_RESOURCE),
    openapi_extra=BY_CERTIFICATE,
)
async def show_version(request: Request, actor: ActorDep, code: Code, number: Number) -> Response:
    """One published version: what it said, who put it into force and why, and what it changed."""
    known_parameters(request)
    async with consulting():
        versions = await _catalogue(request).versions(actor, code)
    found = next((each for each in versions if str(each.number) == number), None)
    if found is None:
        raise NotFoundError(what=f"such version of {code[:128]}", what_zh=f"{code[:128]} 的该版本")
    return answer(plain(VersionView.of(found)))


@router.get(
    "/{code:path}/versions",
    response_model=VersionList,
    responses=problems(*refusals.READING, _NO_RESOURCE),
    openapi_extra=BY_CERTIFICATE,
)
async def list_versions(request: Request, actor: ActorDep, code: Code) -> Response:
    """Every published version of a resource, the newest first."""
    known_parameters(request)
    async with consulting():
        versions = await _catalogue(request).versions(actor, code)
    return answer({"versions": [plain(VersionView.of(each)) for each in reversed(versions)]})


@router.post(
    "/{code:path}/publish",
    response_model=ResourceChanged,
    responses=problems(*refusals.CHANGING, _NO_RESOURCE, refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(Why),
)
async def publish(request: Request, actor: ActorDep, code: Code) -> Response:
    """Put the draft into force as the next version. For operators and the owner of the provider."""
    known_parameters(request)
    schemes = _schemes(request)
    return await _change(request, actor, code, lambda change: publish_resource(change, actor, code, schemes=schemes))


@router.post(
    "/{code:path}/withdraw",
    response_model=ResourceChanged,
    responses=problems(*refusals.CHANGING, _NO_RESOURCE),
    openapi_extra=BY_CERTIFICATE | takes(Why),
)
async def withdraw(request: Request, actor: ActorDep, code: Code) -> Response:
    """Take a resource out of force: grants on it permit nothing any more. For operators and the owner of the provider."""
    known_parameters(request)
    return await _change(request, actor, code, lambda change: withdraw_resource(change, actor, code))


@router.get(
    "/{code:path}",
    response_model=ResourceView,
    responses=problems(*refusals.READING, _NO_RESOURCE),
    openapi_extra=BY_CERTIFICATE,
)
async def show_resource(request: Request, actor: ActorDep, code: Code) -> Response:
    """One resource: what is or was in force, and its draft to those who may see it."""
    known_parameters(request)
    async with consulting():
        entry, department = await _catalogue(request).entry(actor, code)
    return answer(plain(ResourceView.of(entry, department)))


@router.put(
    "/{code:path}",
    responses=made(ResourceChanged) | problems(*refusals.CHANGING, refusals.CONFLICT, refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(ResourceBody),
)
async def replace_resource(request: Request, actor: ActorDep, code: Code) -> Response:
    """Write the draft of a resource, new or not; what is in force stays so until it is published.

    For operators, and for owners and integrators of the provider's member.
    """
    known_parameters(request)
    body = await read_body(request, ResourceBody)
    if body.code != code:
        raise UnprocessableError(
            "resource-code",
            problem="The code in the body is not the one in the address.",
            problem_zh="请求体中的代码与地址中的不一致。",
            pointer="/code",
        )
    return await _save(request, actor, body, replace=True)


async def _save(request: Request, actor: Actor, body: ResourceBody, *, replace: bool) -> Response:
    schemes = _schemes(request)
    async with changing(request, actor, body.why) as change:
        saved = await save_document(change, actor, body, replace=replace, schemes=schemes)
    return await _changed(request, actor, saved, body.code)


async def _change(
    request: Request, actor: Actor, code: str, act: Callable[[Changes], Awaitable[Change | None]]
) -> Response:
    body = await read_body(request, Why)
    async with changing(request, actor, body.why) as change:
        done = await act(change)
    return await _changed(request, actor, done, code)


async def _changed(request: Request, actor: Actor, change: Change | None, code: str) -> Response:
    async with consulting():
        entry, department = await _catalogue(request).entry(actor, code)
    shown = {"resource": plain(ResourceView.of(entry, department))}
    return await changed(request, change, lambda _: shown, target=code, action="resource")


def _catalogue(request: Request) -> Catalogue:
    return Catalogue(request.app.state.gateway.database, _schemes(request))


def _schemes(request: Request) -> tuple[CodeScheme, ...]:
    return code_schemes(request.app.state.gateway.settings.catalogue_code_pattern)


def _candidates(kind: str, body: bytes) -> tuple[Candidate, ...]:
    return candidates_in_workbook(body) if kind == XLSX else candidates_of(parse_json(body))


def _position(cursor: str | None) -> Any:
    if cursor is None:
        return None
    match, count, code = read_cursor(cursor, str, int, str)
    try:
        return read_position(str(match), int(count), str(code))
    except ValueError as error:
        raise InvalidRequestError(
            "query-parameter",
            problem="The query parameter cursor is no next_cursor of this list.",
            problem_zh="查询参数 cursor 不是本列表返回的 next_cursor。",
        ) from error


def _check_size(found: list[tuple[CatalogueEntry, Department]]) -> None:
    if len(found) > MOST_EXPORTED:
        raise InvalidRequestError(
            "export-size",
            problem=f"There are more than {MOST_EXPORTED} resources: export them by department, or with `datong catalogue export`.",
            problem_zh=f"信息资源超过 {MOST_EXPORTED} 条：请按部门导出，或使用 datong catalogue export 命令。",
        )


def _encoded(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
