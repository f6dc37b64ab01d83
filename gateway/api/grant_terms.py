"""The terms of a grant as they come in and as they are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from exchange import ServiceId, SubsystemId
from gateway.api import fields
from gateway.api.bodies import Why
from registry import Actor, Grant, GrantState, state_of

_Purpose = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class GrantGiving(Why):
    """A grant to give: to a client or a group, for a service or a resource. `why` is the reason on record."""

    id: str = Field(
        "",
        max_length=64,
        description="An identifier of your choice, so that the same call twice is one; empty: one is given. 自定编号。",
    )
    client: fields.Subsystem | None = Field(None, description="Who may call; or a group. 调用方。")
    group: str = Field("", max_length=64, description="The group that may call; or a client. 分组编号。")
    service: fields.Service | None = Field(None, description="What may be called; or a resource. 服务。")
    resource: str = Field(
        "", max_length=128, description="The resource that may be asked for; or a service. 资源代码。"
    )
    method: str = Field("*", max_length=20, description="One method in capital letters, or * for every one. 请求方法。")
    path: str = Field("**", max_length=500, description="{name} is one segment, * part of one, ** anything. 路径。")
    purposes: tuple[_Purpose, ...] = Field(min_length=1, max_length=100, description="What for. 用途。")
    items: tuple[str, ...] = Field(
        (), max_length=200, description="Paths of the items that may be released; none: all of them. 可提供的数据项。"
    )
    masks: dict[str, str] = Field(
        {}, max_length=200, description="Item path -> name of the mask its values leave under. 脱敏规则。"
    )
    signed_requests: bool = Field(False, description="Whether the caller's own key must sign each request. 须签名。")
    quota_per_second: int = Field(0, ge=0, description="Calls in any one second; 0: no limit. 每秒配额。")
    quota_per_day: int = Field(0, ge=0, description="Calls in a day of China's; 0: no limit. 每日配额。")
    case_pattern: str = Field(
        "",
        max_length=200,
        description="What X-Road-Issue must match: * any characters, ? one, # one digit. 须填写的案号格式。",
    )
    valid_from: fields.Begins | None = Field(None, description="From when; null: from now. 生效时间。")
    valid_to: fields.Ends = Field(description="The last day, or the instant it ends. 截止时间。")

    def record(self, actor: Actor, begins: datetime) -> Grant:
        return Grant(
            id=self.id,
            client=self.client or SubsystemId(""),
            group=self.group,
            service=self.service or ServiceId(""),
            resource=self.resource,
            method=self.method,
            path=self.path,
            purposes=self.purposes,
            items=self.items,
            masks=self.masks,
            signed_requests=self.signed_requests,
            quota_per_second=self.quota_per_second,
            quota_per_day=self.quota_per_day,
            case_pattern=self.case_pattern,
            valid_from=begins,
            valid_to=self.valid_to,
            reason=self.why,
            decided_by=actor.by,
        )


class GrantView(BaseModel):
    """A grant. Of client and group one is named, and of service and resource."""

    id: str
    client: str | None
    group: str | None
    service: str | None
    resource: str | None
    method: str
    path: str
    purposes: list[str]
    items: list[str] = Field(description="Item paths that answers may hold; none: all.")
    masks: dict[str, str] = Field(description="Item path -> mask.")
    signed_requests: bool
    quota_per_second: int
    quota_per_day: int
    case_pattern: str
    valid_from: fields.Moment
    valid_to: fields.Moment = Field(description="From then on it is not valid.")
    state: GrantState
    reason: str
    decided_by: str
    application: str | None = Field(description="The application it was decided on.")
    revoked_at: fields.Moment | None
    revocation_reason: str
    version: int = Field(description="Version of the registry that last changed it; records of exchanges name it.")

    @classmethod
    def of(cls, grant: Grant, now: datetime) -> GrantView:
        return cls(
            id=grant.id,
            client=grant.client or None,
            group=grant.group or None,
            service=grant.service or None,
            resource=grant.resource or None,
            method=grant.method,
            path=grant.path,
            purposes=list(grant.purposes),
            items=list(grant.items),
            masks=dict(grant.masks),
            signed_requests=grant.signed_requests,
            quota_per_second=grant.quota_per_second,
            quota_per_day=grant.quota_per_day,
            case_pattern=grant.case_pattern,
            valid_from=grant.valid_from,
            valid_to=grant.valid_to,
            state=state_of(grant.active, grant.valid_from, grant.valid_to, now),
            reason=grant.reason,
            decided_by=grant.decided_by,
            application=grant.application or None,
            revoked_at=grant.revoked_at,
            revocation_reason=grant.revocation_reason,
            version=grant.version,
        )
