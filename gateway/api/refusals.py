"""What operations of the management API can end in, as examples for its description (`gateway.api.openapi.problems`)."""

from __future__ import annotations

from typing import Final

from exchange import (
    AccessDeniedError,
    ConflictError,
    InvalidClientError,
    InvalidRequestError,
    MeshError,
    NotRegisteredError,
    PayloadTooLargeError,
    RegistryStaleError,
    RoleMissingError,
    UnauthenticatedError,
    UnprocessableError,
)
from gateway.api.bodies import LARGEST_BODY, UnsupportedMediaTypeError
from gateway.api.changing import RegistryUnavailableError

READING: Final[tuple[MeshError, ...]] = (
    InvalidRequestError("query-parameter", problem="There is no query parameter 'x'.", problem_zh="没有查询参数 'x'。"),
    InvalidClientError(problem="X-Road-Client is missing.", problem_zh="缺少 X-Road-Client。"),
    UnauthenticatedError(
        problem="The connection carries no client certificate.", problem_zh="连接没有出示客户端证书。"
    ),
    AccessDeniedError(
        "client-registered",
        problem="CN/GOV/…/housing is not a registered subsystem.",
        problem_zh="CN/GOV/…/housing 不是已登记的子系统。",
    ),
    RegistryStaleError(age=31, limit=30),
    RegistryUnavailableError(),
)
"""Every read by a registered subsystem."""

ROLE: Final = RoleMissingError(
    problem="CN/GOV/…/housing does not hold the role operator.", problem_zh="CN/GOV/…/housing 没有 operator 角色。"
)

CHANGING: Final[tuple[MeshError, ...]] = (
    *READING,
    ROLE,
    InvalidRequestError(
        "json",
        problem="The body is not JSON: Expecting value, line 2, column 9.",
        problem_zh="请求体不是合法的 JSON：第 2 行第 9 列。",
    ),
    PayloadTooLargeError(limit=LARGEST_BODY),
    UnsupportedMediaTypeError(
        problem="The body must be application/json, in UTF-8 where it is text.",
        problem_zh="请求体应为 application/json，文本须为 UTF-8 编码。",
    ),
    UnprocessableError("body", problem="/why is missing.", problem_zh="/why 缺失。", pointer="/why"),
)
"""Every change."""

CONFLICT: Final = ConflictError(
    problem="The member CN/GOV/… is registered with other content; say replace if that is meant.",
    problem_zh="CN/GOV/… 已登记且内容不同；如确需修改，请指明替换（replace）。",
)
NOT_REGISTERED: Final = NotRegisteredError(
    what="subsystem CN/GOV/…/housing", what_zh="子系统 CN/GOV/…/housing", pointer="/client"
)
