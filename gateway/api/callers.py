"""Who calls the management API, and what their role lets them see."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from ca_auth import Authenticator, Principal
from exchange import (
    AccessDeniedError,
    ClientMismatchError,
    InvalidClientError,
    RoleMissingError,
    SubsystemId,
    from_wire,
    member_of,
    subsystem_id,
)
from registry import Role, Snapshot

EXPIRES_SOON = "certificate_expires_soon"
"""In a request's state: the header that warns its caller, see `gateway.api.management`."""


class ClientSuspendedError(AccessDeniedError):
    rule_name = "client-active"  # as at the exchange face
    next = {"en": "Ask the operator why.", "zh": "请向平台运维人员了解原因。"}


@dataclass(frozen=True, slots=True)
class Caller:
    """A subsystem, proven by its certificate, and the registry it was found in."""

    subsystem: SubsystemId
    principal: Principal
    snapshot: Snapshot

    def has_role(self, role: Role) -> bool:
        return self.snapshot.has_role(self.subsystem, role, time.time())

    def require(self, role: Role) -> None:
        """Return if the caller holds the role; raises RoleMissingError."""
        if not self.has_role(role):
            raise RoleMissingError(
                problem=f"{self.subsystem} does not hold the role {role}.",
                problem_zh=f"{self.subsystem} 没有 {role} 角色。",
            )


async def caller(request: Request) -> Caller:
    """Who calls: by certificate, and by X-Road-Client where a certificate speaks for a whole member.

    Raises:
        UnauthenticatedError: No certificate, or one that does not count any more.
        InvalidClientError: X-Road-Client is malformed, or missing where it is needed.
        ClientMismatchError: The subsystem is not registered, or not the certificate's.
        ClientSuspendedError: It is registered, and may not act now.
    """
    gateway: Any = request.app.state.gateway
    state = request.scope["state"]
    now = time.time()
    authenticator: Authenticator = gateway.authenticator
    principal = authenticator.known(state, now) or await authenticator.caller(state, now)
    state[EXPIRES_SOON] = principal.expires_soon
    snapshot: Snapshot = gateway.registry.current(time.monotonic())
    named = _named(request)
    subsystem = principal.subsystem or named
    if subsystem is None:
        raise InvalidClientError(
            problem="The certificate speaks for a member: name the subsystem in X-Road-Client.",
            problem_zh="证书属于成员：请在 X-Road-Client 中指明子系统。",
        )
    if (named or subsystem) != subsystem or member_of(subsystem) != principal.member:
        raise ClientMismatchError(
            problem=f"The certificate speaks for {principal.subsystem or principal.member}, not for {named}.",
            problem_zh=f"证书代表 {principal.subsystem or principal.member}，不能代表 {named}。",
        )
    gateway.authenticator.check_pin(subsystem, principal.fingerprint)
    registered = snapshot.subsystem(subsystem)
    if registered is None:
        raise ClientMismatchError(
            "client-registered",
            problem=f"{subsystem} is not a registered subsystem.",
            problem_zh=f"{subsystem} 不是已登记的子系统。",
        )
    if not registered.active:
        raise ClientSuspendedError(problem=f"{subsystem} is suspended.", problem_zh=f"{subsystem} 已被暂停。")
    return Caller(subsystem, principal, snapshot)


CallerDep = Annotated[Caller, Depends(caller)]


def _named(request: Request) -> SubsystemId | None:
    value = request.headers.get("x-road-client")
    if value is None:
        return None
    try:
        return subsystem_id(from_wire(value))
    except ValueError as error:
        raise InvalidClientError(
            problem="X-Road-Client is not instance/class/member/subsystem.",
            problem_zh="X-Road-Client 不是 实例/类别/成员代码/子系统 的形式。",
        ) from error
