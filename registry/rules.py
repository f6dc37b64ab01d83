"""What may be registered: checks of single records, before anything is written. Pure.

Each check returns nothing and raises `UnprocessableError`, whose rule names the field. Whether what a record refers to
exists is for the registry to find out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from exchange import UnprocessableError, member_id, service_id, subsystem_id, uscc_fault
from registry.patterns import compile_pattern
from registry.records import ROLES, Grant, Member, Operation, Service, Subsystem

_METHOD = re.compile(r"[A-Z][A-Z-]{0,19}")
_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_GRANT_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
CHOSEN_GRANT_ID = re.compile(r"g\d+")
"""Identifiers the registry chooses itself: `g` and the version."""
_MAX_TEXT = 500
_MAX_BYTES = 1 << 40
_MAX_TIMEOUT = 120.0  # adapters hold the permission to answer no longer than this
_MAX_OPERATIONS = 2000


def unprocessable(rule: str, problem: str, problem_zh: str) -> UnprocessableError:
    return UnprocessableError(rule, problem=problem, problem_zh=problem_zh)


def check_text(field: str, text: str, *, empty: bool = False) -> None:
    """A name, title or reason: printable, trimmed, not longer than a paragraph."""
    if not empty and not text.strip():
        raise unprocessable(field, f"{field} is missing.", f"缺少 {field}。")
    if len(text) > _MAX_TEXT or not text.isprintable() or text != text.strip():
        raise unprocessable(
            field,
            f"{field} must be one line of at most {_MAX_TEXT} printable characters, without spaces around it.",
            f"{field} 应为单行文本，不超过 {_MAX_TEXT} 个可打印字符，首尾不含空格。",
        )


def _check_id(field: str, check: Callable[[str], object], text: str) -> None:
    try:
        check(text)
    except ValueError as error:
        raise unprocessable(field, f"{field}: {error}.", f"{field} 的标识符不正确：{text[:200]!r}。") from error


def check_member(member: Member) -> None:
    _check_id("member", member_id, member.id)
    check_text("name", member.name)
    check_text("name_en", member.name_en, empty=True)
    check_text("check_exception", member.check_exception, empty=True)
    fault = uscc_fault(member.id.split("/")[2])
    if fault and not member.check_exception:
        raise unprocessable(
            "uscc-" + fault.kind,
            f"{fault.problem}. If the code is real all the same, register it with the reason for the exception.",
            f"{fault.problem_zh}。如代码确属真实，请填写例外理由后登记。",
        )


def check_subsystem(subsystem: Subsystem) -> None:
    _check_id("subsystem", subsystem_id, subsystem.id)
    check_text("name", subsystem.name)
    check_text("name_en", subsystem.name_en, empty=True)
    strange = sorted(set(subsystem.roles) - set(ROLES))
    if strange:
        raise unprocessable(
            "roles",
            f"There is no role {', '.join(strange)}; roles are {', '.join(ROLES)}.",
            f"没有角色 {', '.join(strange)}；可用角色：{', '.join(ROLES)}。",
        )


def check_operation(operation: Operation) -> None:
    if not _METHOD.fullmatch(operation.method):
        raise unprocessable(
            "method",
            f"{operation.method[:40]!r} is not a method in capital letters, such as GET.",
            f"{operation.method[:40]!r} 不是大写的请求方法（如 GET）。",
        )
    check_path(operation.path)


def check_path(path: str) -> None:
    try:
        compile_pattern(path)
    except ValueError as error:
        raise unprocessable(
            "path", f"Path {path[:200]!r}: {error}.", f"路径 {path[:200]!r} 不正确：{error}。"
        ) from error


def check_service(service: Service) -> None:
    # The identifier is checked before a Service exists: its owner and its subject are derived from it.
    check_text("title_zh", service.title_zh)
    check_text("title_en", service.title_en, empty=True)
    check_text("notice", service.notice, empty=True)
    if not 0 < service.timeout <= _MAX_TIMEOUT:
        raise unprocessable(
            "timeout",
            f"The timeout must be above 0 and at most {_MAX_TIMEOUT:.0f} seconds.",
            f"超时时间应大于 0 且不超过 {_MAX_TIMEOUT:.0f} 秒。",
        )
    for field, size in (
        ("max_request_bytes", service.max_request_bytes),
        ("max_answer_bytes", service.max_answer_bytes),
    ):
        if not 0 < size <= _MAX_BYTES:
            raise unprocessable(field, f"{field} must be above 0 and below 2^40.", f"{field} 应大于 0 且不超过 2^40。")
    if not 0 < len(service.operations) <= _MAX_OPERATIONS:
        raise unprocessable(
            "operations",
            f"A service declares between 1 and {_MAX_OPERATIONS} operations.",
            f"服务应声明 1 至 {_MAX_OPERATIONS} 个操作。",
        )
    for operation in service.operations:
        check_operation(operation)
    pairs = [(operation.method, operation.path) for operation in service.operations]
    if len(set(pairs)) != len(pairs):
        raise unprocessable("operations", "An operation is declared twice.", "有操作重复声明。")


def check_service_id(text: str) -> None:
    _check_id("service", service_id, text)


def check_grant(grant: Grant) -> None:
    if bool(grant.client) == bool(grant.group):
        raise unprocessable("client", "A grant names a client or a group.", "授权应指明调用方或分组之一。")
    if bool(grant.service) == bool(grant.resource):
        raise unprocessable("service", "A grant names a service or a resource.", "授权应指明服务或资源之一。")
    if grant.client:
        _check_id("client", subsystem_id, grant.client)
    if grant.service:
        _check_id("service", service_id, grant.service)
    if grant.id and (not _GRANT_ID.fullmatch(grant.id) or CHOSEN_GRANT_ID.fullmatch(grant.id)):
        raise unprocessable(
            "grant-id",
            "A grant's id is 1 to 64 of a-z 0-9 . _ -, and not g with a number: those the registry gives out itself.",
            "授权编号由 1 至 64 个 a-z 0-9 . _ - 字符组成，且不能是 g 加数字（由系统分配）。",
        )
    if grant.method != "*" and not _METHOD.fullmatch(grant.method):
        raise unprocessable(
            "method",
            f"{grant.method[:40]!r} is neither * nor a method in capital letters.",
            f"{grant.method[:40]!r} 既不是 * 也不是大写的请求方法。",
        )
    check_path(grant.path)
    if not grant.purposes or not all(_PURPOSE.fullmatch(purpose) for purpose in grant.purposes):
        raise unprocessable(
            "purposes",
            "A grant names at least one purpose, each of 1 to 64 letters, digits, dots, dashes or underscores.",
            "授权至少应有一个用途，每个用途由 1 至 64 个字母、数字、点、短横线或下划线组成。",
        )
    check_period(grant.valid_from, grant.valid_to)
    check_text("reason", grant.reason)
    check_text("decided_by", grant.decided_by)


def check_period(valid_from: datetime, valid_to: datetime) -> None:
    if valid_from.tzinfo is None or valid_to.tzinfo is None:
        raise unprocessable("validity", "A time lacks its offset from UTC.", "时间缺少时区偏移。")
    if valid_to <= valid_from:
        raise unprocessable("validity", "The grant would end before it begins.", "授权结束时间早于开始时间。")
