"""Who calls the management API, and what their role lets them see."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from ca_auth import Principal
from exchange import (
    AccessDeniedError,
    ClientMismatchError,
    InvalidClientError,
    SubsystemId,
    from_wire,
    member_of,
    subsystem_id,
)
from registry import Role, Snapshot


@dataclass(frozen=True, slots=True)
class Caller:
    """A subsystem, proven by its certificate, and the registry it was found in."""

    subsystem: SubsystemId
    principal: Principal
    snapshot: Snapshot

    def has_role(self, role: Role) -> bool:
        return self.snapshot.has_role(self.subsystem, role)

    def require(self, role: Role) -> None:
        """Return if the caller holds the role; raises AccessDeniedError."""
        if not self.has_role(role):
            raise AccessDeniedError(
                "role",
                problem=f"{self.subsystem} does not hold the role {role}.",
                problem_zh=f"{self.subsystem} 没有 {role} 角色。",
            )


def caller(request: Request) -> Caller:
    """Who calls: by certificate, and by X-Road-Client where a certificate speaks for a whole member.

    Raises:
        UnauthenticatedError: No certificate, or one that does not count any more.
        ClientMismatchError: The subsystem is not registered, or not the certificate's.
    """
    gateway: Any = request.app.state.gateway
    state = request.scope["state"]
    principal: Principal = gateway.authenticator.identify(state["peer"], state["peer_der"], time.time())
    snapshot: Snapshot = gateway.registry.current(time.monotonic())
    subsystem = principal.subsystem or _named(request, principal)
    if snapshot.subsystem(subsystem) is None:
        raise ClientMismatchError(
            "client-registered",
            problem=f"{subsystem} is not a registered subsystem.",
            problem_zh=f"{subsystem} 不是已登记的子系统。",
        )
    return Caller(subsystem, principal, snapshot)


CallerDep = Annotated[Caller, Depends(caller)]


def _named(request: Request, principal: Principal) -> SubsystemId:
    try:
        subsystem = subsystem_id(from_wire(request.headers["x-road-client"]))
    except (KeyError, ValueError) as error:
        raise InvalidClientError(
            problem="The certificate speaks for a member: name the subsystem in X-Road-Client.",
            problem_zh="证书属于成员：请在 X-Road-Client 中指明子系统。",
        ) from error
    if member_of(subsystem) != principal.member:
        raise ClientMismatchError(
            problem=f"The certificate speaks for {principal.member}, not for {subsystem}.",
            problem_zh=f"证书代表 {principal.member}，不能代表 {subsystem}。",
        )
    return subsystem
