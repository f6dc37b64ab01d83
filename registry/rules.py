"""What may be registered: checks of single records, before anything is written. Pure.

Each check returns nothing and raises `UnprocessableError`, whose rule names the field. Whether what a record refers to
exists is for the registry to find out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from exchange import METASERVICES, UnprocessableError, member_id, service_id, subsystem_id, uscc_fault
from registry.patterns import compile_pattern
from registry.records import LEVELS, ROLES, Member, Operation, Service, Subsystem

METHOD = re.compile(r"[A-Z][A-Z-]{0,19}")
_DIVISION = re.compile(r"[0-9]{6}")
RESERVED_SERVICE_CODES = METASERVICES | {
    *("listClients", "getWsdl", "getSecurityServerMetrics"),
    *("getSecurityServerOperationalData", "getSecurityServerHealthData"),
}
"""X-Road's metaservices: those codes mean the same at every provider."""
_MAX_TEXT = 500
_MAX_BYTES = 1 << 40
_MAX_TIMEOUT = 120.0  # adapters hold the permission to answer no longer than this
_MAX_OPERATIONS = 2000


def unprocessable(rule: str, problem: str, problem_zh: str, pointer: str = "") -> UnprocessableError:
    """What a check raises; `pointer` leads to the field, in the record as JSON."""
    return UnprocessableError(rule, problem=problem, problem_zh=problem_zh, pointer=pointer)


def check_text(field: str, text: str, *, empty: bool = False) -> None:
    """A name, title or reason: printable, trimmed, not longer than a paragraph."""
    pointer = "" if field == "by" else f"/{field}"  # who acts stands in no body
    if not empty and not text.strip():
        raise unprocessable(field, f"{field} is missing.", f"缺少 {field}。", pointer)
    if len(text) > _MAX_TEXT or not text.isprintable() or text != text.strip():
        raise unprocessable(
            field,
            f"{field} must be one line of at most {_MAX_TEXT} printable characters, without spaces around it.",
            f"{field} 应为单行文本，不超过 {_MAX_TEXT} 个可打印字符，首尾不含空格。",
            pointer,
        )


def check_identifier(field: str, check: Callable[[str], object], text: str, pointer: str) -> None:
    try:
        check(text)
    except ValueError as error:
        raise unprocessable(
            field, f"{field}: {error}.", f"{field} 的标识符不正确：{text[:200]!r}。", pointer
        ) from error


def check_member(member: Member) -> None:
    check_identifier("member", member_id, member.id, "/id")
    check_text("name", member.name)
    check_text("name_en", member.name_en, empty=True)
    check_text("check_exception", member.check_exception, empty=True)
    fault = uscc_fault(member.id.split("/")[2])
    if fault and not member.check_exception:
        raise unprocessable(
            "uscc-" + fault.kind,
            f"{fault.problem}. If the code is real all the same, register it with the reason for the exception.",
            f"{fault.problem_zh}。如代码确属真实，请填写例外理由后登记。",
            "/id",
        )
    check_level(member.level)
    check_division(member.division)


def check_level(level: str) -> None:
    """One of `LEVELS`; empty says nothing."""
    if level not in LEVELS:
        known = ", ".join(LEVELS[1:])
        raise unprocessable("level", f"A level is one of {known}.", f"行政层级应为 {known} 之一。", "/level")


def check_division(division: str) -> None:
    """Six digits of GB/T 2260, or empty; whether there is such a division is not checked."""
    if division and not _DIVISION.fullmatch(division):
        raise unprocessable(
            "division",
            "A division is a code of six digits (GB/T 2260), such as 110000.",
            "行政区划代码应为六位数字（GB/T 2260），如 110000。",
            "/division",
        )


def check_subsystem(subsystem: Subsystem) -> None:
    check_identifier("subsystem", subsystem_id, subsystem.id, "/id")
    check_text("name", subsystem.name)
    check_text("name_en", subsystem.name_en, empty=True)
    strange = sorted(set(subsystem.roles) - set(ROLES))
    if strange:
        raise unprocessable(
            "roles",
            f"There is no role {', '.join(strange)}; roles are {', '.join(ROLES)}.",
            f"没有角色 {', '.join(strange)}；可用角色：{', '.join(ROLES)}。",
            "/roles",
        )


def check_operation(operation: Operation, pointer: str = "") -> None:
    if not METHOD.fullmatch(operation.method):
        raise unprocessable(
            "method",
            f"{operation.method[:40]!r} is not a method in capital letters, such as GET.",
            f"{operation.method[:40]!r} 不是大写的请求方法（如 GET）。",
            f"{pointer}/method",
        )
    check_path(operation.path, f"{pointer}/path")


def check_path(path: str, pointer: str = "/path") -> None:
    try:
        compile_pattern(path)
    except ValueError as error:
        raise unprocessable(
            "path", f"Path {path[:200]!r}: {error}.", f"路径 {path[:200]!r} 不正确：{error}。", pointer
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
            "/timeout",
        )
    for field, size in (
        ("max_request_bytes", service.max_request_bytes),
        ("max_answer_bytes", service.max_answer_bytes),
    ):
        if not 0 < size <= _MAX_BYTES:
            raise unprocessable(
                field, f"{field} must be above 0 and below 2^40.", f"{field} 应大于 0 且不超过 2^40。", f"/{field}"
            )
    if not 0 < len(service.operations) <= _MAX_OPERATIONS:
        raise unprocessable(
            "operations",
            f"A service declares between 1 and {_MAX_OPERATIONS} operations.",
            f"服务应声明 1 至 {_MAX_OPERATIONS} 个操作。",
            "/operations",
        )
    declared = set()
    for number, operation in enumerate(service.operations):
        check_operation(operation, f"/operations/{number}")
        if (operation.method, operation.path) in declared:
            raise unprocessable(
                "operations", "An operation is declared twice.", "有操作重复声明。", f"/operations/{number}"
            )
        declared.add((operation.method, operation.path))


def check_service_id(text: str) -> None:
    check_identifier("service", service_id, text, "/id")
    code = text.rpartition("/")[2]
    if code in RESERVED_SERVICE_CODES:
        raise unprocessable(
            "service-reserved",
            f"{code} is a service of the mesh itself; choose another code.",
            f"{code} 是平台自身的服务代码，请另选代码。",
            "/id",
        )
