"""`datong audit statistics`: how many, how fast, when, and who asked whom."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from exchange import Language, LogReader, LogSearch, Statistics, Step
from gateway.cli import console_io as io
from gateway.cli.audit_filters import DATA, DataOption, SearchOption, Wanted, takes_filter
from gateway.cli.audit_io import DatabaseOption
from gateway.cli.audit_search import search_log, tell_index

_SHOWN: Final = 20
"""Rows of a table for people; `--json` has all."""


@takes_filter
def statistics(
    wanted: Wanted,
    step: Annotated[
        Step, typer.Option(help="Of the series: minutes and hours of UTC, days and months of China.")
    ] = "day",
    data: DataOption = DATA,
    database: DatabaseOption = "",
    search_database: SearchOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Counts, latencies, a time series, and a matrix of callers and owners. All conditions hold at once.

    Example: datong audit statistics --since 2026-11-01 --until 2026-12-01 --step day
    """
    speak = io.language(lang)

    async def count(search: LogSearch, _: LogReader) -> Statistics:
        terms, _told = await wanted.resolved(data)
        return await search.statistics(terms, step=step)

    found, status = search_log(data, database, search_database, speak, count)
    if as_json:
        io.print_json(found)
        return
    _print(found, speak)
    tell_index(status, speak)


def _print(found: Statistics, speak: Language) -> None:
    def say(en: str, zh: str) -> str:
        return zh if speak == "zh" else en

    io.print_fields(
        [
            (say("records", "记录"), found.total),
            (say("of entries", "日志条数"), found.size),
            (say("outcomes", "结果"), _counts(found.by_outcome)),
            (say("status", "状态码"), _counts(found.by_status_class)),
            (say("rules", "拒绝规则"), _counts(found.by_rule)),
            (say("duration", "用时"), _durations(found)),
            (say("request bytes", "请求字节"), found.request_bytes),
            (say("answer bytes", "应答字节"), found.answer_bytes),
        ]
    )
    tables: list[tuple[list[str], list[tuple[object, ...]]]] = [
        (
            say("from records outcomes p95", "起始 记录 结果 p95").split(),
            [
                (_moment(each.start_ms), each.count, _counts(each.by_outcome), _milliseconds(each.p95_us))
                for each in found.series
            ],
        ),
        (
            say(
                "caller owner records answered refused failed unknown", "调用方 提供方 记录 已答复 拒绝 失败 未知"
            ).split(),
            [
                (each.client, each.owner, each.count, each.answered, each.refused, each.failed, each.unknown)
                for each in found.matrix
            ],
        ),
        (say("service records", "服务 记录").split(), list(found.by_service.items())),
        (say("purpose records", "用途 记录").split(), list(found.by_purpose.items())),
    ]
    for headers, rows in tables:
        if rows:
            typer.echo("")
            io.print_table(headers, rows[:_SHOWN])
        if len(rows) > _SHOWN:
            more = len(rows) - _SHOWN
            typer.echo(say(f"and {more} more (--json has them)", f"另有 {more} 行（--json 可全部列出）"))


def _counts(found: Mapping[str, int]) -> str:
    return "  ".join(f"{name} {count}" for name, count in found.items())


def _durations(found: Statistics) -> str:
    duration = found.duration
    figures = {"p50": duration.p50_us, "p95": duration.p95_us, "p99": duration.p99_us, "max": duration.max_us}
    return "  ".join(f"{name} {_milliseconds(value)}" for name, value in figures.items())


def _milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f} ms"


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
