"""What grants, groups and grants of roles may say: checks of single records, before anything is written. Pure.

As in `registry.rules`: each check returns nothing and raises `UnprocessableError`, which names the field by pointer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from exchange import MASKS, item_keys, release_terms, service_id, subsystem_id
from registry.clock.deadlines import china_day
from registry.grants.cases import compile_case_pattern
from registry.records import ROLES, Grant, Group, RoleGrant
from registry.rules import METHOD, check_division, check_identifier, check_level, check_path, check_text, unprocessable
from registry.validity import begins

MAX_GROUP_MEMBERS = 10_000
MAX_PURPOSES = 100
MAX_QUOTA_PER_SECOND = 1_000_000
MAX_QUOTA_PER_DAY = 1_000_000_000_000

_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CODE = re.compile(r"[A-Za-z0-9'()+,\-.=?_]{1,64}")
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_CHOSEN_ID = re.compile(r"[gr]\d+")
"""Identifiers the registry chooses itself: `g` or `r` and the version."""


def check_grant(grant: Grant) -> None:
    if bool(grant.client) == bool(grant.group):
        raise unprocessable("client", "A grant names a client or a group.", "授权应指明调用方或分组之一。", "/client")
    if bool(grant.service) == bool(grant.resource):
        raise unprocessable(
            "service", "A grant names a service or a resource.", "授权应指明服务或资源之一。", "/service"
        )
    if grant.client:
        check_identifier("client", subsystem_id, grant.client, "/client")
    if grant.service:
        check_identifier("service", service_id, grant.service, "/service")
    if grant.id:
        _check_chosen_id("grant-id", grant.id)
    if grant.method != "*" and not METHOD.fullmatch(grant.method):
        raise unprocessable(
            "method",
            f"{grant.method[:40]!r} is neither * nor a method in capital letters.",
            f"{grant.method[:40]!r} 既不是 * 也不是大写的请求方法。",
            "/method",
        )
    check_path(grant.path)
    _check_purposes(grant.purposes)
    _check_release(grant)
    _check_conditions(grant)
    check_period(grant.valid_from, grant.valid_to)
    check_text("reason", grant.reason)
    check_text("decided_by", grant.decided_by)


def check_not_backdated(valid_from: datetime, now: datetime) -> None:
    """What is decided today cannot begin before today, in China: nobody can have been allowed it then."""
    today = china_day(now)
    if valid_from < begins(today):
        raise unprocessable(
            "grant-backdated",
            f"What is decided today begins on {today} at the earliest.",
            f"今天作出的授权最早自 {today} 起生效，不得倒签。",
            "/valid_from",
        )


def check_period(valid_from: datetime, valid_to: datetime) -> None:
    for field, moment in (("valid_from", valid_from), ("valid_to", valid_to)):
        if moment.tzinfo is None:
            raise unprocessable("validity", "A time lacks its offset from UTC.", "时间缺少时区偏移。", f"/{field}")
    if valid_to <= valid_from:
        raise unprocessable(
            "validity", "The grant would end before it begins.", "授权结束时间早于开始时间。", "/valid_to"
        )


def check_group(group: Group) -> None:
    _check_chosen_id("group-id", group.id)
    check_text("name", group.name)
    check_text("name_en", group.name_en, empty=True)
    if len(group.members) > MAX_GROUP_MEMBERS:
        raise unprocessable(
            "members",
            f"A group lists at most {MAX_GROUP_MEMBERS} subsystems; use level and division for more.",
            f"分组最多列出 {MAX_GROUP_MEMBERS} 个子系统，更多的请用层级和行政区划。",
            "/members",
        )
    for number, subsystem in enumerate(group.members):
        check_identifier("members", subsystem_id, subsystem, f"/members/{number}")
    check_level(group.level)
    check_division(group.division)
    if group.subsystem_code and not _CODE.fullmatch(group.subsystem_code):
        raise unprocessable(
            "subsystem_code",
            "The subsystem's code is the last part of an identifier, 1 to 64 plain characters.",
            "子系统代码是标识符的最后一段，由 1 至 64 个普通字符组成。",
            "/subsystem_code",
        )
    if group.active and not (group.members or group.level or group.division or group.subsystem_code):
        raise unprocessable(
            "members",
            "The group would hold nobody: list subsystems, or name level, division or the subsystems' code.",
            "该分组不含任何成员：请列出子系统，或指明层级、行政区划或子系统代码。",
            "/members",
        )


def check_role_grant(grant: RoleGrant) -> None:
    if grant.id:
        _check_chosen_id("role-grant-id", grant.id)
    check_identifier("subsystem", subsystem_id, grant.subsystem, "/subsystem")
    check_role(grant.role)
    check_period(grant.valid_from, grant.valid_to)
    check_text("reason", grant.reason)
    check_text("decided_by", grant.decided_by)


def check_role(role: str) -> None:
    if role not in ROLES:
        raise unprocessable(
            "role",
            f"There is no role {role[:40]!r}; roles are {', '.join(ROLES)}.",
            f"没有角色 {role[:40]!r}；可用角色：{', '.join(ROLES)}。",
            "/role",
        )


def _check_chosen_id(rule: str, identifier: str) -> None:
    if not _ID.fullmatch(identifier) or _CHOSEN_ID.fullmatch(identifier):
        raise unprocessable(
            rule,
            "An id is 1 to 64 of a-z 0-9 . _ -, and not g or r with a number: those the registry gives out itself.",
            "编号由 1 至 64 个 a-z 0-9 . _ - 字符组成，且不能是 g 或 r 加数字（由系统分配）。",
            "/id",
        )


def _check_purposes(purposes: tuple[str, ...]) -> None:
    wrong = next((number for number, each in enumerate(purposes) if not _PURPOSE.fullmatch(each)), None)
    if not 0 < len(purposes) <= MAX_PURPOSES or wrong is not None:
        raise unprocessable(
            "purposes",
            f"A grant names 1 to {MAX_PURPOSES} purposes, each of 1 to 64 letters, digits, dots, dashes or underscores.",
            f"授权应有 1 至 {MAX_PURPOSES} 个用途，每个用途由 1 至 64 个字母、数字、点、短横线或下划线组成。",
            "/purposes" if wrong is None else f"/purposes/{wrong}",
        )


def _check_release(grant: Grant) -> None:
    """Items and masks, by the grammar of release terms."""
    keys = dict(_keys_of("items", (f"/items/{number}" for number in range(len(grant.items))), grant.items))
    masked = dict(_keys_of("masks", (_in_masks(path) for path in grant.masks), grant.masks))
    for path, name in grant.masks.items():
        if name not in MASKS:
            known = ", ".join(sorted(MASKS))
            raise unprocessable(
                "masks", f"There is no mask {name[:40]!r}; masks are {known}.", f"没有脱敏规则 {name[:40]!r}；可用：{known}。",
                _in_masks(path),
            )  # fmt: skip
        if keys and not any(masked[path][: len(each)] == each for each in keys.values()):
            raise unprocessable(
                "masks",
                f"{path[:100]!r} has a mask and is not among the items that are released.",
                f"{path[:100]!r} 设置了脱敏规则，但不在授权的数据项之内。",
                _in_masks(path),
            )
    try:
        release_terms(grant.items, grant.masks)
    except ValueError as error:  # too many, or too long together
        raise unprocessable("items", f"{error}.", f"数据项和脱敏规则不正确：{error}。", "/items") from error


def _keys_of(rule: str, pointers: Iterable[str], paths: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for pointer, path in zip(pointers, paths, strict=True):
        try:
            yield path, item_keys(path)
        except ValueError as error:
            raise unprocessable(rule, f"{error}.", f"数据项路径 {path[:100]!r} 不正确：{error}。", pointer) from error


def _in_masks(path: str) -> str:
    return "/masks/" + path.replace("~", "~0").replace("/", "~1")


def _check_conditions(grant: Grant) -> None:
    for field, quota, most in (
        ("quota_per_second", grant.quota_per_second, MAX_QUOTA_PER_SECOND),
        ("quota_per_day", grant.quota_per_day, MAX_QUOTA_PER_DAY),
    ):
        if not 0 <= quota <= most:
            raise unprocessable(
                field,
                f"{field} must be between 1 and {most}, or 0 for no limit.",
                f"{field} 应在 1 至 {most} 之间，0 表示不限。",
                f"/{field}",
            )
    try:
        compile_case_pattern(grant.case_pattern)
    except ValueError as error:
        raise unprocessable("case_pattern", f"{error}.", f"编号格式不正确：{error}。", "/case_pattern") from error
