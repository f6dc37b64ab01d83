"""`/v1/services/{…}/openapi`: the OpenAPI document of a service, what a new one changes, and for whom.

Rules:
1. A document is registered by who describes the service; it is shown to whoever may know of the service, to all others than
   those who describe it without the addresses of the department's systems.
2. Whom a breaking change concerns is told to who describes the service, to operators and auditors. Anybody else learns only
   whether it concerns them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from exchange import OverloadedError, PayloadTooLargeError, ServiceId, UnprocessableError, owner_of
from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.addresses import OF_SERVICE, ServiceInPath, no_service
from gateway.api.bodies import JSON, WHY_HEADER, WHY_PARAMETER, read_bytes, why_of
from gateway.api.callers import Caller, CallerDep
from gateway.api.changing import answer, changed, consulting
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import known_parameters
from registry import (
    DOCUMENT_MEDIA_TYPES,
    MAX_DOCUMENT_BYTES,
    Actor,
    Alteration,
    BreakingChangeError,
    Comparison,
    Descriptions,
    DocumentFacts,
    sees_service,
)

OF_DOCUMENT: Final = OF_SERVICE + "/openapi"
YAML: Final = DOCUMENT_MEDIA_TYPES["yaml"]
TAKEN: Final = (
    *(JSON, YAML, "text/yaml", "application/x-yaml", "text/x-yaml"),
    *("application/vnd.oai.openapi", "application/vnd.oai.openapi+json", "application/vnd.oai.openapi+yaml"),
)
"""Content types of a document; which of JSON and YAML it is, its bytes say."""

router = APIRouter(prefix="/v1/services", tags=["services"])


class AlterationView(BaseModel):
    """One thing that differs between two documents."""

    rule: str = Field(description="What kind of difference. 差异种类。", examples=["answer-property-removed"])
    part: str = Field(description="operation, parameter, request or answer. 所属部分。")
    method: str = Field(description="The operation, as it was before if it was there before. 操作。")
    path: str
    pointer: str = Field(description="JSON pointer into the new document; to what is gone, into the old one. 位置。")
    item: str = Field(description="Item path inside the body. 信息项路径。", examples=["legal.number"])
    parameter: str = Field(description="Where it stands and its name. 参数。", examples=["query limit"])
    en: str
    zh: str


class BreakingView(AlterationView):
    """A difference that breaks callers."""

    affects: list[str] = Field(description="Subsystems that hold a grant for it. 受影响的子系统。")


class ComparisonView(BaseModel):
    """What one document changes against another."""

    added: list[AlterationView]
    changed: list[AlterationView]
    breaking: list[BreakingView]
    complete: bool = Field(description="False if there is more than is told here. 是否已全部列出。")


class DocumentView(BaseModel):
    """A registered document, without its text."""

    number: int
    format: str = Field(description="json or yaml.")
    openapi: str = Field(description="Version of OpenAPI. OpenAPI 版本。", examples=["3.1.1"])
    sha256: str
    size: int = Field(description="Bytes. 字节数。")
    registered_at: fields.Moment
    registered_by: str = Field(description="Told to who describes the service, to operators and auditors. 登记人。")


class DocumentList(BaseModel):
    """All documents of a service, the newest first."""

    versions: list[DocumentView]


class DocumentRegistered(ComparisonView):
    """What became of a document."""

    service: str
    number: int = Field(description="Its number; in a dry run, the one it would get. 版本号。")
    dry_run: bool
    change: int | None = Field(description="Version of the registry that holds it; null in a dry run. 变更号。")
    recorded: str | None = Field(
        description="Address of its entry in the evidence log; null in a dry run, and until the log is back. 留痕地址。"
    )


class RegisterQuery(BaseModel):
    """How to register a document."""

    dry_run: bool = Field(False, description="Only say what it changes, and for whom. 仅试运行。")
    accept_breaking: bool = Field(False, description="It is meant to break callers. 确认不兼容变更。")


class DocumentQuery(BaseModel):
    """Which document."""

    number: int | None = Field(None, ge=1, lt=1 << 31, description="Its number; the newest if none is given. 版本号。")


class DifferenceQuery(BaseModel):
    """Which two documents."""

    from_: int = Field(alias="from", ge=1, lt=1 << 31, description="Number of the one before. 旧版本号。", examples=[1])
    to: int | None = Field(None, ge=1, lt=1 << 31, description="Number of the other; the newest if none. 新版本号。")


_WHY: Final[dict[str, Any]] = {
    **WHY_PARAMETER,
    "required": False,
    "description": WHY_PARAMETER["description"] + " Without it, `OpenAPI` and the version. 缺省为 OpenAPI 版本。",
}
_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        JSON: {"schema": {"type": "object", "required": ["openapi"], "description": "OpenAPI 3.0.x, 3.1.x"}},
        YAML: {"schema": {"type": "string", "description": "The same as YAML, without anchors, aliases and tags."}},
    },
}
_REFUSED: Final = UnprocessableError(
    "description-reference",
    problem="At /components/schemas/A/$ref: '#/components/schemas/B' leads nowhere.",
    problem_zh="/components/schemas/A/$ref：'#/components/schemas/B' 所指的内容不存在。",
    pointer="/components/schemas/A/$ref",
)
_BREAKING: Final = BreakingChangeError(
    problem="The document breaks callers in 1 way, and 2 subsystems are concerned. GET /a: name in the answer is gone.",
    problem_zh="文档有 1 项不兼容变更，涉及 2 个子系统。GET /a：应答项 name 已删除。",
    pointer="/paths/~1a/get/responses/200/content/application~1json/schema/properties/name",
)
_CHANGING: Final = tuple(each for each in refusals.CHANGING if each.rule not in ("json", "body"))


@router.put(
    OF_DOCUMENT,
    responses=made(DocumentRegistered)
    | problems(
        *(each for each in _CHANGING if not isinstance(each, PayloadTooLargeError)),
        PayloadTooLargeError(limit=MAX_DOCUMENT_BYTES),
        *(_REFUSED, _BREAKING, no_service(), OverloadedError("description-examiners")),
    ),
    openapi_extra=BY_CERTIFICATE | {"parameters": [*BY_CERTIFICATE["parameters"], _WHY], "requestBody": _BODY},
)
async def register_document(
    request: Request, actor: ActorDep, identifier: ServiceInPath, how: Annotated[RegisterQuery, Query()]
) -> Response:
    """Register a document of a service, with the operations that it declares; or only see what it would change.

    For operators, and for owners and integrators of the member that offers the service. The same bytes again change nothing.
    What breaks callers is a conflict until `accept_breaking` says that it is meant.
    """
    known_parameters(request, RegisterQuery)
    actor.require_describer_of(owner_of(identifier))
    why = why_of(request) if WHY_HEADER.lower() in request.headers else ""
    _, data = await read_bytes(request, TAKEN, limit=MAX_DOCUMENT_BYTES)
    async with consulting():
        done = await _descriptions(request).register(
            identifier, data, actor=actor, why=why, accept_breaking=how.accept_breaking, dry_run=how.dry_run
        )
    content = {
        "service": identifier,
        "number": done.number,
        "dry_run": how.dry_run,
        **_comparison(done.comparison),
    }
    if how.dry_run:
        return answer({**content, "change": None, "recorded": None})
    target = f"{identifier}/openapi/{done.number}"
    return await changed(request, done.change, lambda _: content, target=target, action="document")


@router.get(
    OF_DOCUMENT,
    response_class=Response,
    responses={
        **problems(*refusals.READING, no_service()),
        200: {
            "description": "The document, as it was registered. 登记的文档。",
            "content": {JSON: {"schema": {"type": "object"}}, YAML: {"schema": {"type": "string"}}},
            "headers": {"Datong-Document": {"schema": {"type": "integer"}, "description": "Its number. 版本号。"}},
        },
    },
    openapi_extra=BY_CERTIFICATE,
)
async def show_document(
    request: Request,
    caller: CallerDep,
    actor: ActorDep,
    identifier: ServiceInPath,
    which: Annotated[DocumentQuery, Query()],
) -> Response:
    """The document of a service that counts, or one before."""
    known_parameters(request, DocumentQuery)
    _check_known(caller, actor, identifier)
    async with consulting():
        found = await _descriptions(request).document(identifier, which.number)
    text = found.text if _is_inside(actor, identifier) else found.shown
    return Response(text, media_type=found.media_type, headers={"datong-document": str(found.number)})


@router.get(
    OF_DOCUMENT + "/versions",
    response_model=DocumentList,
    responses=problems(*refusals.READING, no_service()),
    openapi_extra=BY_CERTIFICATE,
)
async def list_documents(request: Request, caller: CallerDep, actor: ActorDep, identifier: ServiceInPath) -> Response:
    """All documents of a service, the newest first."""
    known_parameters(request)
    _check_known(caller, actor, identifier)
    async with consulting():
        found = await _descriptions(request).documents(identifier)
    inside = _is_inside(actor, identifier)
    return answer({"versions": [_facts(each, inside) for each in found]})


@router.get(
    OF_DOCUMENT + "/difference",
    response_model=ComparisonView,
    responses=problems(*refusals.READING, no_service(), OverloadedError("description-examiners")),
    openapi_extra=BY_CERTIFICATE,
)
async def compare_documents(
    request: Request,
    caller: CallerDep,
    actor: ActorDep,
    identifier: ServiceInPath,
    which: Annotated[DifferenceQuery, Query()],
) -> Response:
    """What one document of a service changes against another, and whom it concerns by what is granted now."""
    known_parameters(request, ("from", "to"))
    _check_known(caller, actor, identifier)
    async with consulting():
        descriptions = _descriptions(request)
        newer = which.to or (await descriptions.document(identifier)).number
        found = await descriptions.compare_registered(identifier, which.from_, newer)
    return answer(_comparison(found, None if _is_inside(actor, identifier) else caller))


def _descriptions(request: Request) -> Descriptions:
    descriptions: Descriptions = request.app.state.gateway.descriptions
    return descriptions


def _check_known(caller: Caller, actor: Actor, identifier: ServiceId) -> None:
    found = caller.snapshot.service(identifier)
    if found is None or not sees_service(caller.snapshot, actor, found):
        raise no_service()


def _is_inside(actor: Actor, identifier: ServiceId) -> bool:
    """Whether the actor may know what is behind a service, and who calls it."""
    return actor.describes(owner_of(identifier)) or actor.holds("operator", "auditor")


def _comparison(found: Comparison, only: Caller | None = None) -> dict[str, Any]:
    """As callers are told; `only` names the one subsystem that may be told of."""
    return {
        "added": [_alteration(each) for each in found.difference.added],
        "changed": [_alteration(each) for each in found.difference.changed],
        "breaking": [
            {
                **_alteration(each.alteration),
                "affects": [name for name in each.affects if only is None or name == only.subsystem],
            }
            for each in found.breaking
        ],
        "complete": found.difference.complete,
    }


def _alteration(found: Alteration) -> dict[str, Any]:
    return {name: getattr(found, name) for name in AlterationView.model_fields}


def _facts(found: DocumentFacts, inside: bool) -> dict[str, Any]:
    shown = {name: getattr(found, name) for name in DocumentView.model_fields}
    by = found.registered_by if inside else ""
    return {**shown, "registered_at": fields.rfc3339(found.registered_at), "registered_by": by}
