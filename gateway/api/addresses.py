"""Identifiers as they stand in addresses: `/v1/services/{instance}/{member_class}/{member}/{subsystem}/{service}`.

Each part is its own segment. What is no identifier is not found, like one that nobody registered.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path

from exchange import MemberId, NotFoundError, ServiceId, SubsystemId, member_id, service_id, subsystem_id

OF_MEMBER = "/{instance}/{member_class}/{member}"
OF_SUBSYSTEM = OF_MEMBER + "/{subsystem}"
OF_SERVICE = OF_SUBSYSTEM + "/{service}"

_Instance = Annotated[str, Path(description="Instance of the mesh. 实例。", examples=["CN"])]
_Class = Annotated[str, Path(description="Class of the member. 类别。", examples=["GOV"])]
_Member = Annotated[str, Path(description="Code of the member. 成员代码。", examples=["11990000000001011Q"])]
_Subsystem = Annotated[str, Path(description="Code of the subsystem. 子系统代码。", examples=["tax"])]
_Service = Annotated[str, Path(description="Code of the service. 服务代码。", examples=["enterprises"])]


def _member_in_path(instance: _Instance, member_class: _Class, member: _Member) -> MemberId:
    try:
        return member_id("/".join((instance, member_class, member)))
    except ValueError as error:
        raise no_member() from error


def _subsystem_in_path(
    instance: _Instance, member_class: _Class, member: _Member, subsystem: _Subsystem
) -> SubsystemId:
    try:
        return subsystem_id("/".join((instance, member_class, member, subsystem)))
    except ValueError as error:
        raise no_subsystem() from error


def _service_in_path(
    instance: _Instance, member_class: _Class, member: _Member, subsystem: _Subsystem, service: _Service
) -> ServiceId:
    try:
        return service_id("/".join((instance, member_class, member, subsystem, service)))
    except ValueError as error:
        raise no_service() from error


MemberInPath = Annotated[MemberId, Depends(_member_in_path)]
SubsystemInPath = Annotated[SubsystemId, Depends(_subsystem_in_path)]
ServiceInPath = Annotated[ServiceId, Depends(_service_in_path)]


def no_member() -> NotFoundError:
    return NotFoundError(what="such member", what_zh="该成员")


def no_subsystem() -> NotFoundError:
    return NotFoundError(what="such subsystem", what_zh="该子系统")


def no_service() -> NotFoundError:
    return NotFoundError(what="such service", what_zh="该服务")
