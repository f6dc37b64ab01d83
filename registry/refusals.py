"""Why a call is refused, and what the caller can do about it, in both languages. Pure.

A refusal tells a caller about its own grants only: what others hold, and whether the service is open, is not for
somebody without a grant.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import ClassVar

from exchange import (
    AccessDeniedError,
    Language,
    ServiceDisabledError,
    ServiceId,
    SubsystemId,
    UnknownMemberError,
    UnknownServiceError,
)
from registry.records import Grant, Service


class RefusedByGrantError(AccessDeniedError):
    """An access-denied whose next step depends on the rule."""

    next: ClassVar[dict[Language, str]] = {"en": "{todo}", "zh": "{todo_zh}"}


def _refused(rule: str, *, problem: str, problem_zh: str, todo: str, todo_zh: str) -> AccessDeniedError:
    return RefusedByGrantError(rule, problem=problem, problem_zh=problem_zh, todo=todo, todo_zh=todo_zh)


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


def no_grant(client: SubsystemId, service: ServiceId) -> AccessDeniedError:
    return _refused(
        "grant",
        problem=f"{client} has no grant for {service}.",
        problem_zh=f"{client} 没有 {service} 的任何授权。",
        todo="Ask the owner of the service for a grant that names this subsystem, method, path and purpose.",
        todo_zh="请向数据提供部门申请授权，注明子系统、方法、路径和用途。",
    )


def method_or_path(method: str, path: str | None, grants: Iterable[Grant]) -> AccessDeniedError:
    covered = ", ".join(sorted({f"{grant.method} {grant.path}" for grant in grants})[:5])
    shown = f"{method} {path}" if path is not None else f"{method}, with such a path,"
    return _refused(
        "grant-method-path",
        problem=f"The grants of this client do not cover {shown[:300]}. They cover: {covered}.",
        problem_zh=f"该调用方的授权不包括 {shown[:300]}。已授权：{covered}。",
        todo="Check method and path, or ask the owner of the service to grant them.",
        todo_zh="请检查方法和路径，或向数据提供部门申请扩大授权。",
    )


def not_yet_valid(grant: Grant) -> AccessDeniedError:
    return _refused(
        "grant-not-yet-valid",
        problem=f"The grant {grant.id} begins at {_instant(grant.valid_from)}.",
        problem_zh=f"授权 {grant.id} 自 {_instant(grant.valid_from)} 起生效。",
        todo="Call again when the grant has begun.",
        todo_zh="请在授权生效后再调用。",
    )


def expired(grant: Grant) -> AccessDeniedError:
    return _refused(
        "grant-expired",
        problem=f"The grant {grant.id} ended at {_instant(grant.valid_to)}.",
        problem_zh=f"授权 {grant.id} 已于 {_instant(grant.valid_to)} 到期。",
        todo="Ask the owner of the service to renew the grant.",
        todo_zh="请向数据提供部门申请续期。",
    )


def revoked(grant: Grant) -> AccessDeniedError:
    at = _instant(grant.revoked_at) if grant.revoked_at else "?"
    return _refused(
        "grant-revoked",
        problem=f"The grant {grant.id} was revoked at {at}: {grant.revocation_reason}",
        problem_zh=f"授权 {grant.id} 已于 {at} 撤销，原因：{grant.revocation_reason}",
        todo="Settle the reason with the owner of the service, then apply again.",
        todo_zh="请与数据提供部门核实撤销原因后重新申请。",
    )


def other_purpose(purpose: str, granted: Iterable[str]) -> AccessDeniedError:
    allowed = ", ".join(sorted(granted))
    return _refused(
        "purpose",
        problem=f"The purpose {purpose[:100]!r} is not granted for this call. Granted: {allowed}.",
        problem_zh=f"此调用未授权用于“{purpose[:100]}”。已授权用途：{allowed}。",
        todo="Name a granted purpose in the header Datong-Purpose, or ask the owner for a grant for this purpose.",
        todo_zh="请在 Datong-Purpose 请求头中填写已授权的用途，或为该用途申请授权。",
    )


def purpose_missing(granted: Iterable[str]) -> AccessDeniedError:
    allowed = ", ".join(sorted(granted))
    return _refused(
        "purpose-required",
        problem=f"Several purposes are granted for this call and none was named: {allowed}.",
        problem_zh=f"此调用有多个已授权用途，但请求未指明：{allowed}。",
        todo="Name the one this call serves in the header Datong-Purpose.",
        todo_zh="请在 Datong-Purpose 请求头中填写本次调用的用途。",
    )


def no_operation(service: ServiceId, method: str, path: str, methods: Iterable[str]) -> AccessDeniedError:
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


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
