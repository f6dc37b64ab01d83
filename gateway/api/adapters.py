"""`/v1/adapters`: what answers for departments now, as it says itself (`gateway.adapter_watch`), beside what is registered.

Operators and auditors see all of it, a subsystem its own adapters, owners and integrators those of their member.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from exchange import BusUnavailableError, NotFoundError, OverloadedError, SubsystemId, service_nats_subject
from gateway.adapter_watch import AdapterWatch, Heard, Info, ServedService, ServiceData, Stats, providers
from gateway.api import fields, refusals
from gateway.api.actors import ActorDep
from gateway.api.callers import CallerDep
from gateway.api.changing import answer, plain
from gateway.api.openapi import BY_CERTIFICATE, problems
from gateway.api.paging import PageQuery, known_parameters, page_of
from registry import Actor, Snapshot

router = APIRouter(prefix="/v1/adapters", tags=["adapters"])

Instance = Annotated[
    str,
    Path(
        description="Identifier of an instance; each start makes a new one. 实例标识，每次启动更换。",
        pattern="^[A-Za-z0-9_-]{1,64}$",
        examples=["a1b2c3d4e5f6a7b8c9d0e1"],
    ),
]


class AdapterServiceView(BaseModel):
    """One service at one instance, since the instance's start; the times are of its last five to ten minutes."""

    service: str
    registered: bool = Field(description="Whether the registry knows it as this subsystem's. 是否已登记。")
    listening: bool | None = Field(description="Whether the bus gives it its questions; null: it does not say.")
    requests: int = Field(description="Questions that arrived. 收到的请求数。")
    answered: int = Field(description="Of these, those with an answer, be it an error. 已应答数。")
    errors: int = Field(description="Of the answered, those with an error of the mesh. 失败数。")
    refused: int = Field(description="Those that did not count: no gateway's seal, too late. 拒绝数。")
    in_progress: int
    p50_ms: float | None = Field(description="Half of the answers took no longer; null without any. 中位耗时（毫秒）。")
    p95_ms: float | None = Field(description="19 of 20 answers took no longer. 95 分位耗时（毫秒）。")
    last_error: str = Field(description="Code of the last error or refusal. 最近一次错误代码。")
    breaker: Literal["closed", "open", "half-open"] | None = Field(
        description="Open while the department's own system is left alone because it kept failing. 熔断状态。"
    )
    breaker_trips: int

    @classmethod
    def of(cls, snapshot: Snapshot, subsystem: SubsystemId, said: ServedService) -> AdapterServiceView:
        known = {service_nats_subject(each.id): each.id for each in snapshot.services_of(subsystem)}
        data = said.data or ServiceData()
        return cls(
            service=known.get(said.subject, f"{subsystem}/{said.name}"),
            registered=said.subject in known,
            listening=data.listening,
            requests=said.num_requests,
            answered=data.answered,
            errors=data.errors,
            refused=data.refused,
            in_progress=data.in_progress,
            p50_ms=data.p50_ms,
            p95_ms=data.p95_ms,
            last_error=said.last_error or "",
            breaker=data.breaker,
            breaker_trips=data.breaker_trips,
        )


class AdapterView(BaseModel):
    """A running instance of an adapter."""

    instance: str
    subsystem: str
    name: str
    version: str = Field(description="As adapter.toml has it.")
    certificate: str | None = Field(description="SHA-256 of the certificate it seals with, as it says. 证书指纹。")
    certificate_registered: bool = Field(description="Whether seals of that certificate count. 该证书是否已登记。")
    started: str = Field(description="RFC 3339.")
    connected: str = Field(description="Since when it is connected to the bus, RFC 3339; empty: it does not say.")
    services: list[AdapterServiceView]

    @classmethod
    def of(cls, snapshot: Snapshot, heard: Heard) -> AdapterView:
        said = heard.answer
        assert isinstance(said, Stats)  # it was asked for
        fingerprint = said.metadata.certificate
        registered = snapshot.adapter_certificate(fingerprint) if fingerprint is not None else None
        return cls(
            instance=said.id,
            subsystem=heard.subsystem,
            name=said.name,
            version=said.version,
            certificate=fingerprint,
            certificate_registered=registered is not None and registered[0] == heard.subsystem,
            started=said.started,
            connected=said.metadata.connected,
            services=[AdapterServiceView.of(snapshot, heard.subsystem, each) for each in said.endpoints],
        )


class AdapterDetail(AdapterView):
    """An instance with all it says of itself, and what of its subsystem it does not serve."""

    description: str
    not_served: list[str] = Field(
        description="Registered services that this instance does not have. 未提供的已登记服务。"
    )


class AdapterPage(BaseModel):
    """Running instances, by subsystem and identifier."""

    adapters: list[AdapterView]
    silent: list[str] = Field(
        description="Subsystems with a registered adapter certificate of which no instance answered. 无实例应答的子系统。"
    )
    next_cursor: str | None


class PingView(BaseModel):
    """That an instance answered."""

    instance: str
    subsystem: str
    name: str
    version: str
    milliseconds: float = Field(description="There and back, from this gateway. 往返耗时（毫秒）。")


class PingPage(BaseModel):
    """Who answered, the quickest of each subsystem first."""

    adapters: list[PingView]
    silent: list[str]


class AdapterSearch(PageQuery):
    """Which instances to list; what is left out means any."""

    subsystem: fields.Subsystem | None = Field(None, description="Of this subsystem. 所属子系统。")


class PingSearch(BaseModel):
    """Whom to ask; what is left out means everybody."""

    subsystem: fields.Subsystem | None = Field(None, description="Of this subsystem. 所属子系统。")


def no_adapter() -> NotFoundError:
    return NotFoundError(what="such adapter instance", what_zh="该适配器实例")


_ASKING = (*refusals.READING, BusUnavailableError(), OverloadedError())


@router.get("", response_model=AdapterPage, responses=problems(*_ASKING), openapi_extra=BY_CERTIFICATE)
async def list_adapters(
    request: Request, caller: CallerDep, actor: ActorDep, wanted: Annotated[AdapterSearch, Query()]
) -> Response:
    """Running instances of adapters, and the subsystems of which none answers. It may take a second."""
    known_parameters(request, AdapterSearch)
    asked = _visible(caller.snapshot, actor, wanted.subsystem)
    heard = await _watch(request).ask("STATS", asked)
    shown, cursor = page_of(heard, lambda each: (each.subsystem, each.answer.id), wanted, str, str)
    return answer(
        {
            "adapters": [plain(AdapterView.of(caller.snapshot, each)) for each in shown],
            "silent": _silent(asked, heard),
            "next_cursor": cursor,
        }
    )


@router.get("/ping", response_model=PingPage, responses=problems(*_ASKING), openapi_extra=BY_CERTIFICATE)
async def ping_adapters(
    request: Request, caller: CallerDep, actor: ActorDep, wanted: Annotated[PingSearch, Query()]
) -> Response:
    """Ask every instance for a sign of life."""
    known_parameters(request, PingSearch)
    asked = _visible(caller.snapshot, actor, wanted.subsystem)
    heard = await _watch(request).ask("PING", asked)
    views = [
        PingView(
            instance=each.answer.id,
            subsystem=each.subsystem,
            name=each.answer.name,
            version=each.answer.version,
            milliseconds=round(each.seconds * 1000, 3),
        )
        for each in sorted(heard, key=lambda each: (each.subsystem, each.seconds))
    ]
    return answer({"adapters": [plain(each) for each in views], "silent": _silent(asked, heard)})


@router.get(
    "/{instance}",
    response_model=AdapterDetail,
    responses=problems(*_ASKING, no_adapter()),
    openapi_extra=BY_CERTIFICATE,
)
async def show_adapter(request: Request, caller: CallerDep, actor: ActorDep, instance: Instance) -> Response:
    """One running instance."""
    known_parameters(request)
    snapshot, watch = caller.snapshot, _watch(request)
    heard = await watch.ask("STATS", _visible(snapshot, actor, None))
    found = next((each for each in heard if each.answer.id == instance), None)
    if found is None:
        raise no_adapter()
    view = AdapterView.of(snapshot, found)
    said = [each.answer for each in await watch.ask("INFO", [found.subsystem]) if each.answer.id == instance]
    served = {each.service for each in view.services}
    return answer(
        {
            **plain(view),
            "description": said[0].description if said and isinstance(said[0], Info) else "",
            "not_served": [each.id for each in snapshot.services_of(found.subsystem) if each.id not in served],
        }
    )


def _watch(request: Request) -> AdapterWatch:
    gateway: Any = request.app.state.gateway
    gateway.registry.current(time.monotonic())  # who is known by an old registry is nobody to be asked
    watch: AdapterWatch = gateway.adapters
    return watch


def _visible(snapshot: Snapshot, actor: Actor, wanted: SubsystemId | None) -> list[SubsystemId]:
    return [
        each
        for each in providers(snapshot)
        if wanted in (None, each)
        and (actor.holds("operator", "auditor") or actor.subsystem == each or actor.describes(each))
    ]


def _silent(asked: list[SubsystemId], heard: list[Heard]) -> list[str]:
    answered = {each.subsystem for each in heard}
    return [each for each in asked if each not in answered]
