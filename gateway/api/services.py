"""`/v1/services`: what subsystems offer. Those that are not listed are shown to whom they concern, and to nobody else."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from exchange import ServiceId
from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.addresses import OF_SERVICE, ServiceInPath, no_service
from gateway.api.bodies import Body, Why, read_body, takes
from gateway.api.callers import CallerDep
from gateway.api.changing import Recorded, answer, changed, changing, plain
from gateway.api.openapi import BY_CERTIFICATE, made, problems
from gateway.api.paging import PageQuery, Words, contains, known_parameters, page_of
from registry import (
    DEFAULT_MAX_ANSWER_BYTES,
    DEFAULT_MAX_REQUEST_BYTES,
    DEFAULT_TIMEOUT,
    Actor,
    Change,
    Operation,
    Service,
    Snapshot,
    register_service,
    sees_service,
    set_service_state,
)

router = APIRouter(prefix="/v1/services", tags=["services"])

State = Literal["open", "closed"]


class OperationContent(Body):
    """One method on one path template."""

    method: str = Field(max_length=20, description="In capital letters. 请求方法，大写。", examples=["GET"])
    path: str = Field(
        max_length=500,
        description="{name} is one segment, * part of one, ** anything. 路径模板。",
        examples=["/enterprises/{uscc}"],
    )
    safe: bool | None = Field(
        None, description="Whether it changes nothing; null: as HTTP says of its method. 是否只读。"
    )


class ServiceContent(Why):
    """A service, without its identifier."""

    title_zh: fields.Line = Field(description="Title in Chinese. 名称。", examples=["企业登记查询"])
    title_en: fields.OptionalLine = Field("", description="Title in English. 英文名称。")
    operations: tuple[OperationContent, ...] = Field(
        min_length=1, max_length=2000, description="What can be called; others are refused. 操作。"
    )
    timeout: float = Field(DEFAULT_TIMEOUT, gt=0, le=120, description="Seconds to wait for an answer. 超时（秒）。")
    max_request_bytes: int = Field(DEFAULT_MAX_REQUEST_BYTES, gt=0, le=1 << 40, description="请求体上限（字节）。")
    max_answer_bytes: int = Field(DEFAULT_MAX_ANSWER_BYTES, gt=0, le=1 << 40, description="应答体上限（字节）。")
    listed: bool = Field(True, description="Whether those without a grant may know of it. 未获授权者是否可见。")

    def record(self, identifier: ServiceId) -> Service:
        return Service(
            id=identifier,
            title_zh=self.title_zh,
            title_en=self.title_en,
            operations=tuple(Operation.of(each.method, each.path, each.safe) for each in self.operations),
            timeout=self.timeout,
            max_request_bytes=self.max_request_bytes,
            max_answer_bytes=self.max_answer_bytes,
            listed=self.listed,
        )


class ServiceRegistration(ServiceContent):
    """A service to register."""

    id: fields.Service = Field(description="instance/class/code/subsystem/service. 服务标识。")


class Closing(Why):
    """Why a service closes, and what its callers are told meanwhile."""

    notice: fields.Line = Field(description="What callers are told. 公告。", examples=["系统升级，周一恢复"])


class OperationView(BaseModel):
    """One method on one path template."""

    method: str
    path: str
    safe: bool


class ServiceView(BaseModel):
    """A registered service."""

    id: str
    subsystem: str
    title_zh: str
    title_en: str
    operations: list[OperationView]
    timeout: float = Field(description="Seconds.")
    max_request_bytes: int
    max_answer_bytes: int
    listed: bool
    state: State = Field(description="Closed also while its subsystem is suspended.")
    notice: str = Field(description="What callers are told while it is closed.")

    @classmethod
    def of(cls, service: Service) -> ServiceView:
        return cls(
            id=service.id,
            subsystem=service.owner,
            title_zh=service.title_zh,
            title_en=service.title_en,
            operations=[
                OperationView(method=each.method, path=each.path, safe=each.safe) for each in service.operations
            ],
            timeout=service.timeout,
            max_request_bytes=service.max_request_bytes,
            max_answer_bytes=service.max_answer_bytes,
            listed=service.listed,
            state="open" if service.open else "closed",
            notice=service.notice,
        )


class ServicePage(BaseModel):
    """Services, by identifier."""

    services: list[ServiceView]
    next_cursor: str | None


class ServiceChanged(Recorded):
    """A service as it is now, and the change that made it so."""

    service: ServiceView


class ServiceSearch(PageQuery):
    """Which services to list; what is left out means any."""

    q: Words = None
    owner: fields.Subsystem | None = Field(None, description="Of this subsystem. 所属子系统。")
    state: State | None = Field(None, description="In this state. 状态。")


@router.get("", response_model=ServicePage, responses=problems(*refusals.READING), openapi_extra=BY_CERTIFICATE)
async def list_services(
    request: Request, caller: CallerDep, actor: ActorDep, wanted: Annotated[ServiceSearch, Query()]
) -> Response:
    """Services that the caller may know of, by identifier."""
    known_parameters(request, ServiceSearch)
    snapshot = caller.snapshot
    found = [each for each in snapshot.services() if _fits(each, wanted) and sees_service(snapshot, actor, each)]
    shown, cursor = page_of(found, lambda each: each.id, wanted)
    return answer({"services": [plain(ServiceView.of(each)) for each in shown], "next_cursor": cursor})


@router.post(
    "",
    status_code=201,
    responses=made(ServiceChanged) | problems(*refusals.CHANGING, refusals.CONFLICT, refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(ServiceRegistration),
)
async def create_service(request: Request, actor: ActorDep) -> Response:
    """Register a service. For operators, and for owners and integrators of the member that offers it."""
    known_parameters(request)
    body = await read_body(request, ServiceRegistration)
    return await _register(request, actor, body.record(body.id), body.why, replace=False)


@router.get(
    OF_SERVICE,
    response_model=ServiceView,
    responses=problems(*refusals.READING, no_service()),
    openapi_extra=BY_CERTIFICATE,
)
async def show_service(request: Request, caller: CallerDep, actor: ActorDep, identifier: ServiceInPath) -> Response:
    """One service, if the caller may know of it."""
    known_parameters(request)
    found = caller.snapshot.service(identifier)
    if found is None or not sees_service(caller.snapshot, actor, found):
        raise no_service()
    return answer(plain(ServiceView.of(found)))


@router.put(
    OF_SERVICE,
    responses=made(ServiceChanged) | problems(*refusals.CHANGING, no_service(), refusals.NOT_REGISTERED),
    openapi_extra=BY_CERTIFICATE | takes(ServiceContent),
)
async def replace_service(request: Request, actor: ActorDep, identifier: ServiceInPath) -> Response:
    """Replace what is registered of a service, or register it; operations that are not named are withdrawn.

    For operators, and for owners and integrators of the member that offers it. Whether it is closed stays.
    """
    known_parameters(request)
    body = await read_body(request, ServiceContent)
    return await _register(request, actor, body.record(identifier), body.why, replace=True)


@router.post(
    OF_SERVICE + "/close",
    response_model=ServiceChanged,
    responses=problems(*refusals.CHANGING, no_service()),
    openapi_extra=BY_CERTIFICATE | takes(Closing),
)
async def close_service(request: Request, actor: ActorDep, identifier: ServiceInPath) -> Response:
    """Close a service: callers with a grant get 503 and the notice. For operators and its owner."""
    known_parameters(request)
    body = await read_body(request, Closing)
    async with changing(request, actor, body.why) as change:
        stated = await set_service_state(change, actor, identifier, is_open=False, notice=body.notice)
    return await _changed(request, stated, identifier)


@router.post(
    OF_SERVICE + "/open",
    response_model=ServiceChanged,
    responses=problems(*refusals.CHANGING, no_service()),
    openapi_extra=BY_CERTIFICATE | takes(Why),
)
async def open_service(request: Request, actor: ActorDep, identifier: ServiceInPath) -> Response:
    """Open a closed service again. For operators and its owner."""
    known_parameters(request)
    body = await read_body(request, Why)
    async with changing(request, actor, body.why) as change:
        stated = await set_service_state(change, actor, identifier, is_open=True)
    return await _changed(request, stated, identifier)


async def _register(request: Request, actor: Actor, service: Service, why: str, *, replace: bool) -> Response:
    async with changing(request, actor, why) as change:
        registered = await register_service(change, actor, service, replace=replace)
    return await _changed(request, registered, service.id)


async def _changed(request: Request, change: Change | None, identifier: ServiceId) -> Response:
    def content(snapshot: Snapshot) -> dict[str, Any]:
        found = snapshot.service(identifier)
        assert found is not None  # it was changed, or found unchanged
        return {"service": plain(ServiceView.of(found))}

    return await changed(request, change, content, target=identifier, action="service")


def _fits(service: Service, wanted: ServiceSearch) -> bool:
    return (
        contains(wanted.q, service.id, service.title_zh, service.title_en)
        and wanted.owner in (None, service.owner)
        and (wanted.state is None or (wanted.state == "open") == service.open)
    )
