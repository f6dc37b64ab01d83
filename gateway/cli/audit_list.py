"""`datong audit list`: records that fit."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from exchange import LogReader, LogSearch, Page, StoredEntry, is_change, is_event
from gateway.cli import console_io as io
from gateway.cli.audit_filters import DATA, DataOption, SearchOption, Wanted, takes_filter
from gateway.cli.audit_io import DatabaseOption
from gateway.cli.audit_search import search_log, tell_index


@takes_filter
def list_entries(
    wanted: Wanted,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    cursor: Annotated[str, typer.Option(help="Where the page before ended.")] = "",
    data: DataOption = DATA,
    database: DatabaseOption = "",
    search_database: SearchOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Records, newest first. All conditions hold at once.

    Example: datong audit list --outcome refused --since 2026-11-01 --min-duration-ms 500
    """
    speak = io.language(lang)

    async def find(search: LogSearch, _: LogReader) -> Page:
        terms, _told = await wanted.resolved(data)
        return await search.page(terms, cursor=cursor or None, limit=limit)

    page, status = search_log(data, database, search_database, speak, find)
    if as_json:
        io.print_json({"exchanges": [plain_entry(entry) for entry in page.entries], "next_cursor": page.next_cursor})
        return
    headers = {
        "en": "entry at outcome status client service exchange",
        "zh": "序号 时间 结果 状态 调用方 服务 交换编号",
    }
    io.print_table(headers[speak].split(), [_row(entry) for entry in page.entries])
    if page.next_cursor:
        typer.echo({"en": f"more: --cursor {page.next_cursor}", "zh": f"下一页：--cursor {page.next_cursor}"}[speak])
    tell_index(status, speak)


def plain_entry(entry: StoredEntry) -> dict[str, Any]:
    """A record with its place, as JSON."""
    return {"seq": entry.seq, "leaf_hash": entry.leaf_hash.hex(), "record": _record(entry)}


def _row(entry: StoredEntry) -> tuple[object, ...]:
    record = _record(entry) or {}
    result = f"{entry.outcome} ({entry.rule})" if entry.rule else entry.outcome
    if is_change(entry.leaf):
        return entry.seq, record["recorded_at"], result, "", record["by"], entry.service, entry.exchange_id
    if is_event(entry.leaf):
        by = f"{record['by']} ({record['user']})" if record["user"] else record["by"]
        return entry.seq, record["at"], result, "", by, "", entry.exchange_id
    service = f"{record.get('query', {}).get('method', '')} {entry.service}".strip()
    status, at = record.get("status", "?"), record.get("ended_at", "?")
    return entry.seq, at, result, status, entry.client, service, entry.exchange_id


def _record(entry: StoredEntry) -> Any:
    """What the leaf says; None if it is damaged, which `datong audit check` names."""
    try:
        return json.loads(entry.leaf)
    except (ValueError, RecursionError):
        return None
