"""Why a call is refused, and what the caller can do about it, in both languages. Pure.

Rules:
1. A refusal tells a caller about its own grants only: what others hold, and whether the service is open, is not for
   somebody without a grant. A service that is not listed is refused to such a caller as one that does not exist.
2. The next step names the resource of the catalogue that the call asks for, if there is one: an application for it is what
   leads to a grant.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from exchange import (
    AccessDeniedError,
    Language,
    ServiceDisabledError,
    ServiceId,
    SubsystemId,
    UnknownMemberError,
    UnknownServiceError,
)
from registry.grants.coverings import Covering
from registry.records import Grant, Service

_SHOWN = 5
_PURPOSES_SHOWN = 20
_CASE_SIGNS = "(In it * stands for any characters, # for a digit, a question mark for one character.)"
_CASE_SIGNS_ZH = "（其中 * 代表任意字符，# 代表一位数字，问号代表一个字符。）"


class RefusedByGrantError(AccessDeniedError):
    """An access-denied whose next step depends on the rule."""

    next: ClassVar[dict[Language, str]] = {"en": "{todo}", "zh": "{todo_zh}"}

    def __init__(self, rule: str, *, nearest: Grant | None = None, **facts: Any) -> None:
        """
        Args:
            nearest: The caller's own grant that came nearest to permitting the call.
        """
        super().__init__(rule, **facts)
        self.nearest = nearest


def _refused(
    rule: str, *, problem: str, problem_zh: str, todo: str, todo_zh: str, nearest: Grant | None = None
) -> AccessDeniedError:
    return RefusedByGrantError(
        rule, problem=problem, problem_zh=problem_zh, todo=todo, todo_zh=todo_zh, nearest=nearest
    )


def _application(resources: Sequence[str]) -> tuple[str, str]:
    """How to get a grant, in both languages."""
    if not resources:
        return (
            "ask the owner of the service for a grant that names this subsystem, method, path and purpose.",
            "请向数据提供部门申请授权，注明子系统、方法、路径和用途。",
        )
    codes = ", ".join(resources[:_SHOWN])
    several = "one of the resources" if len(resources) > 1 else "the resource"
    return (
        f"apply for {several} {codes}: POST /v1/applications or `datong application submit`.",
        f"请申请资源 {codes}：POST /v1/applications 或 `datong application submit`。",
    )


def unknown_provider(identifier: str) -> UnknownMemberError:
    """Neither member nor subsystem of that name offers anything."""
    return UnknownMemberError(what=f"provider {identifier}")


def unknown_service(service: ServiceId) -> UnknownServiceError:
    """The provider exists, the service does not."""
    return UnknownServiceError(what=f"service {service}")


def closed(service: Service) -> ServiceDisabledError:
    """The owner closed the service; the notice is the owner's own text."""
    return ServiceDisabledError(notice=service.notice or f"The service {service.id} is closed. 该服务已暂停。")


def client_suspended(client: SubsystemId) -> AccessDeniedError:
    return _refused(
        "client-active",
        problem=f"The subsystem {client} is suspended.",
        problem_zh=f"子系统 {client} 已被停用。",
        todo="Ask the operator why the subsystem is suspended.",
        todo_zh="请向平台运维人员了解停用原因。",
    )


def no_grant(client: SubsystemId, service: ServiceId, resources: Sequence[str] = ()) -> AccessDeniedError:
    apply, apply_zh = _application(resources)
    return _refused(
        "grant",
        problem=f"{client} has no grant for {service}.",
        problem_zh=f"{client} 没有 {service} 的任何授权。",
        todo=apply[0].upper() + apply[1:],
        todo_zh=apply_zh,
    )


def method_or_path(
    method: str, path: str | None, nearest: Sequence[Covering], resources: Sequence[str] = ()
) -> AccessDeniedError:
    """No grant is for this method and path.

    Args:
        nearest: What the caller holds, the nearest first; one at least.
    """
    first = nearest[0]
    others = list(dict.fromkeys(each.extent for each in nearest if each.extent != first.extent))[: _SHOWN - 1]
    more, more_zh = (f" Others cover: {', '.join(others)}.", f"其他授权：{'、'.join(others)}。") if others else ("", "")
    shown = f"{method} {path}"[:300] if path is not None else f"{method}, with such a path,"
    apply, apply_zh = _application(resources)
    return _refused(
        "grant-method-path",
        problem=f"The grants of this client do not cover {shown}. The nearest, {first.grant.id}, covers {first.extent}.{more}",
        problem_zh=f"该调用方的授权不包括 {shown}。最接近的授权 {first.grant.id} 的范围：{first.extent}。{more_zh}",
        todo=f"Check method and path, or {apply}",
        todo_zh=f"请检查方法和路径；{apply_zh}",
        nearest=first.grant,
    )


def not_yet_valid(grant: Grant) -> AccessDeniedError:
    return _refused(
        "grant-not-yet-valid",
        problem=f"The grant {grant.id} begins at {_instant(grant.valid_from)}.",
        problem_zh=f"授权 {grant.id} 自 {_instant(grant.valid_from)} 起生效。",
        todo="Call again when the grant has begun.",
        todo_zh="请在授权生效后再调用。",
        nearest=grant,
    )


def expired(grant: Grant, resources: Sequence[str] = ()) -> AccessDeniedError:
    apply, apply_zh = _application(resources)
    return _refused(
        "grant-expired",
        problem=f"The grant {grant.id} ended at {_instant(grant.valid_to)}.",
        problem_zh=f"授权 {grant.id} 已于 {_instant(grant.valid_to)} 到期。",
        todo=f"To have it renewed, {apply}",
        todo_zh=f"如需续期，{apply_zh}",
        nearest=grant,
    )


def revoked(grant: Grant, resources: Sequence[str] = ()) -> AccessDeniedError:
    at = _instant(grant.revoked_at) if grant.revoked_at else "?"
    apply, apply_zh = _application(resources)
    return _refused(
        "grant-revoked",
        problem=f"The grant {grant.id} was revoked at {at}: {grant.revocation_reason}",
        problem_zh=f"授权 {grant.id} 已于 {at} 撤销，原因：{grant.revocation_reason}",
        todo=f"Settle the reason with the owner of the service, then {apply}",
        todo_zh=f"请先与数据提供部门核实撤销原因；{apply_zh}",
        nearest=grant,
    )


def withdrawn(grant: Grant) -> AccessDeniedError:
    return _refused(
        "resource-withdrawn",
        problem=f"The grant {grant.id} is for the resource {grant.resource}, which was withdrawn from the catalogue.",
        problem_zh=f"授权 {grant.id} 所对应的资源 {grant.resource} 已从目录撤下。",
        todo="Search the catalogue for what took its place: datong catalogue search, or GET /v1/resources.",
        todo_zh="请在目录中查找替代资源：datong catalogue search 或 GET /v1/resources。",
        nearest=grant,
    )


def other_purpose(purpose: str, granted: Sequence[Grant], resources: Sequence[str] = ()) -> AccessDeniedError:
    allowed = _purposes(granted)
    apply, apply_zh = _application(resources)
    return _refused(
        "purpose",
        problem=f"The purpose {purpose[:100]!r} is not granted for this call. Granted: {allowed}.",
        problem_zh=f"此调用未授权用于“{purpose[:100]}”。已授权用途：{allowed}。",
        todo=f"Name a granted purpose in the header Datong-Purpose, or {apply}",
        todo_zh=f"请在 Datong-Purpose 请求头中填写已授权的用途；{apply_zh}",
        nearest=granted[0],
    )


def purpose_missing(granted: Sequence[Grant]) -> AccessDeniedError:
    allowed = _purposes(granted)
    return _refused(
        "purpose-required",
        problem=f"Several purposes are granted for this call and none was named: {allowed}.",
        problem_zh=f"此调用有多个已授权用途，但请求未指明：{allowed}。",
        todo="Name the one this call serves in the header Datong-Purpose.",
        todo_zh="请在 Datong-Purpose 请求头中填写本次调用的用途。",
        nearest=granted[0],
    )


def case_missing(grant: Grant) -> AccessDeniedError:
    return _refused(
        "case-required",
        problem=f"The grant {grant.id} is for calls that name a case, of the form {grant.case_pattern}.",
        problem_zh=f"授权 {grant.id} 要求注明办件或案件编号，格式为 {grant.case_pattern}。",
        todo=f"Name the case in the header X-Road-Issue. {_CASE_SIGNS}",
        todo_zh=f"请在 X-Road-Issue 请求头中填写编号。{_CASE_SIGNS_ZH}",
        nearest=grant,
    )


def case_differs(grant: Grant) -> AccessDeniedError:
    return _refused(
        "case-pattern",
        problem=f"The case that X-Road-Issue names is not of the form that grant {grant.id} demands: {grant.case_pattern}.",
        problem_zh=f"X-Road-Issue 中的编号不符合授权 {grant.id} 要求的格式：{grant.case_pattern}。",
        todo=f"Check the case number. {_CASE_SIGNS}",
        todo_zh=f"请核对编号。{_CASE_SIGNS_ZH}",
        nearest=grant,
    )


def no_operation(service: ServiceId, method: str, path: str, methods: Collection[str]) -> AccessDeniedError:
    offered = ", ".join(sorted(methods))
    only = f" This path takes {offered}." if offered else ""
    only_zh = f"该路径支持 {offered}。" if offered else ""
    return _refused(
        "operation",
        problem=f"{service} declares no operation {method} {path[:300]}.{only}",
        problem_zh=f"{service} 没有声明操作 {method} {path[:300]}。{only_zh}",
        todo="Check method and path against the service's description.",
        todo_zh="请对照服务说明检查方法和路径。",
    )


def _purposes(granted: Sequence[Grant]) -> str:
    purposes = sorted({purpose for grant in granted for purpose in grant.purposes})
    more = f", … ({len(purposes)})" if len(purposes) > _PURPOSES_SHOWN else ""
    return ", ".join(purposes[:_PURPOSES_SHOWN]) + more


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
