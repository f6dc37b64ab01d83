"""`datong audit changes`: who decided what and when, from the registry, and whether it is on the log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from exchange import LogReader, change_differences, read_change
from gateway.change_recorder import change_record
from gateway.cli import console_io as io
from gateway.cli.audit_io import DatabaseOption, DataOption, RegistryOption, instant, read_log_and_registry, unusable
from registry import Change, ChangeBook, ChangeFilter

_Row = tuple[Change, str, int | None]
"""A change, the id of its entry in the log, and the entry's number if it is there."""


def changes(
    target: Annotated[str, typer.Option(help="What was changed, such as g42 or a subsystem.")] = "",
    action: Annotated[str, typer.Option(help="How the action begins: grant, or grant.revoke.")] = "",
    by: Annotated[str, typer.Option(help="How the name of whoever made it begins, such as a subsystem.")] = "",
    since: Annotated[str, typer.Option(help="Date (UTC) or RFC 3339 instant, inclusive.")] = "",
    until: Annotated[str, typer.Option(help="Date (UTC) or RFC 3339 instant, exclusive.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    cursor: Annotated[int | None, typer.Option(min=1, help="Where the page before ended.")] = None,
    data: DataOption = io.DATA,
    database: DatabaseOption = "",
    registry: RegistryOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Changes of the registry, newest first: who, what, why, and the entry of the log.

    Without the registry, datong audit list --kind change shows what the log knows.

    Example: datong audit changes --action grant --since 2026-11-01
    """
    speak = io.language(lang)
    wanted = ChangeFilter(
        target=target, action=action, by=by, since=_moment(since, "--since"), until=_moment(until, "--until")
    )

    async def read(reader: LogReader, book: ChangeBook | None) -> tuple[list[_Row], bool]:
        if book is None:
            missing = {
                "en": "there is no registry beside the log; name it with --registry, or use datong audit list --kind change",
                "zh": "日志旁没有登记簿；请用 --registry 指定，或使用 datong audit list --kind change",
            }
            unusable(missing[speak])
        found, more = await book.page(wanted, before=cursor, limit=limit)
        return await with_entries(book, reader, found), more

    found, more = read_log_and_registry(data, database, registry, speak, read)
    next_cursor = found[-1][0].version if more else None
    if as_json:
        io.print_json({"changes": [_plain(*row) for row in found], "next_cursor": next_cursor})
        return
    headers = {
        "en": "version at by action target why entry",
        "zh": "版本 时间 操作人 动作 对象 理由 日志条目",
    }
    not_yet = {"en": "not yet", "zh": "尚未留痕"}[speak]
    rows = [
        (
            each.version,
            io.plain(each.at),
            each.by,
            each.action,
            each.target,
            each.why,
            not_yet if seq is None else f"{seq} {entry}",
        )
        for each, entry, seq in found
    ]
    io.print_table(headers[speak].split(), rows)
    if next_cursor is not None:
        typer.echo({"en": f"more: --cursor {next_cursor}", "zh": f"下一页：--cursor {next_cursor}"}[speak])


async def with_entries(book: ChangeBook, reader: LogReader, found: Sequence[Change]) -> list[_Row]:
    """Changes with their entries in the log."""
    identity = await book.identity()
    ids = [change_record(identity, change).id for change in found]
    numbers = await reader.numbers(ids)
    return [(change, entry, numbers.get(entry)) for change, entry in zip(found, ids, strict=True)]


def change_fields(leaf: bytes) -> list[tuple[str, object]]:
    """The record of a change for people: what it says, then what it made of the row."""
    try:
        change, _ = read_change(leaf)
    except ValueError:
        return [(name, _text(value)) for name, value in json.loads(leaf).items()]
    plain: Mapping[str, Any] = json.loads(leaf)
    fields = [(name, value) for name, value in plain.items() if not isinstance(value, dict)]
    differences = [tuple(each.split(": ", 1)) for each in change_differences(change)]
    return [*fields, *((f"after.{name}" if change.before is None else name, value) for name, value in differences)]


def _moment(text: str, option: str) -> datetime | None:
    at_ms = instant(text, option)
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def _plain(change: Change, entry: str, seq: int | None) -> dict[str, Any]:
    return {**io.plain(change), "entry": entry, "seq": seq}


def _text(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
