"""What reading the record can end in, as examples for the API's description (`gateway.api.openapi.problems`)."""

from __future__ import annotations

from typing import Final

from exchange import (
    AccessDeniedError,
    InvalidClientError,
    InvalidRequestError,
    LogUnavailableError,
    NotFoundError,
    RoleMissingError,
    UnauthenticatedError,
    UnavailableError,
)

PARAMETERS: Final = InvalidRequestError(
    "query-parameter", problem="There is no query parameter 'x'.", problem_zh="没有查询参数 'x'。"
)
LOG_AWAY: Final = UnavailableError("log-readable")
NOT_RECORDED: Final = LogUnavailableError()
READING: Final = (
    PARAMETERS,
    InvalidClientError(problem="X-Road-Client is missing.", problem_zh="缺少 X-Road-Client。"),
    UnauthenticatedError(
        problem="The connection carries no client certificate.", problem_zh="连接没有出示客户端证书。"
    ),
    AccessDeniedError(
        "client-registered",
        problem="CN/GOV/…/housing is not a registered subsystem.",
        problem_zh="CN/GOV/…/housing 不是已登记的子系统。",
    ),
    LOG_AWAY,
    NOT_RECORDED,
)
SEARCHING: Final = (
    *READING,
    UnavailableError("search-available"),
    RoleMissingError(
        problem="CN/GOV/…/housing does not hold the role auditor.", problem_zh="CN/GOV/…/housing 没有 auditor 角色。"
    ),
)
NOT_FOUND: Final = NotFoundError(what="such exchange", what_zh="该交换")
