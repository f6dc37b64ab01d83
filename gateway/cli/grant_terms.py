"""A grant's terms as commands show them: one a line, or in one line of a table."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.cli import console_io as io
from registry import Grant, state_of

STATES = {"upcoming": "未生效", "valid": "有效", "expired": "已到期", "revoked": "已撤销"}


def print_grant(terminal: io.Terminal, grant: Grant) -> None:
    """All of a grant."""
    say = terminal.say
    io.print_fields(
        [
            (say("grant", "授权"), grant.id),
            (say("client", "调用方"), grant.client),
            (say("group", "分组"), grant.group),
            (say("service", "服务"), grant.service),
            (say("resource", "资源"), grant.resource),
            (say("covers", "范围"), f"{grant.method} {grant.path}"),
            (say("purposes", "用途"), ", ".join(grant.purposes)),
            *conditions(terminal, grant),
            (say("from", "自"), io.plain(grant.valid_from)),
            (say("until", "至"), io.plain(grant.valid_to)),
            (say("reason", "理由"), grant.reason),
            (say("decided by", "决定人"), grant.decided_by),
            (say("application", "申请"), grant.application),
            (say("state", "状态"), state(terminal, grant)),
            (say("revoked", "撤销"), grant.revoked_at and f"{io.plain(grant.revoked_at)}: {grant.revocation_reason}"),
            (say("version", "版本"), grant.version),
        ]
    )


def conditions(terminal: io.Terminal, grant: Grant) -> list[tuple[str, str]]:
    """What a grant demands and limits, by name."""
    say = terminal.say
    return [
        (
            say("signed", "签名"),
            say("every request, by the caller's own key", "每次请求须由调用方私钥签名")
            if grant.signed_requests
            else say("not required", "不要求"),
        ),
        (say("case", "编号"), grant.case_pattern),
        (say("quota", "配额"), _quota(terminal, grant)),
        (say("items", "数据项"), ", ".join(grant.items) or say("all", "全部")),
        (say("masks", "脱敏"), ", ".join(f"{path}={mask}" for path, mask in sorted(grant.masks.items()))),
    ]


def in_short(terminal: io.Terminal, grant: Grant) -> str:
    """What a grant demands and limits, in one cell; `-` for nothing."""
    say = terminal.say
    parts = (
        say("signed", "必须签名") if grant.signed_requests else "",
        say("case ", "编号 ") + grant.case_pattern if grant.case_pattern else "",
        _quota(terminal, grant),
        say(f"{len(grant.items)} items", f"{len(grant.items)} 个数据项") if grant.items else "",
        say(f"{len(grant.masks)} masks", f"{len(grant.masks)} 项脱敏") if grant.masks else "",
    )
    return ", ".join(filter(None, parts)) or "-"


def subject(terminal: io.Terminal, grant: Grant) -> str:
    """Who was given it."""
    return grant.client or terminal.say(f"group {grant.group}", f"分组 {grant.group}")


def what(terminal: io.Terminal, grant: Grant) -> str:
    """What it is for."""
    return grant.service or terminal.say(f"resource {grant.resource}", f"资源 {grant.resource}")


def state(terminal: io.Terminal, grant: Grant) -> str:
    """What it is now."""
    found = state_of(grant.active, grant.valid_from, grant.valid_to, datetime.now(UTC))
    return terminal.say(found, STATES[found])


def _quota(terminal: io.Terminal, grant: Grant) -> str:
    parts = (
        terminal.say(f"{grant.quota_per_second}/second", f"每秒 {grant.quota_per_second} 次"),
        terminal.say(f"{grant.quota_per_day}/day", f"每日 {grant.quota_per_day} 次"),
    )
    quotas = (grant.quota_per_second, grant.quota_per_day)
    return ", ".join(part for part, quota in zip(parts, quotas, strict=True) if quota)
