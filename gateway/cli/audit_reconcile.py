"""`datong audit reconcile`: the log against the departments' own ledgers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from exchange import LedgerError, LogReader, ReconciliationCounts, reconcile
from gateway.cli import console_io as io
from gateway.cli.audit_io import DatabaseOption, DataOption, clear_progress, instant, read_log, unusable


def reconcile_ledgers(
    ledger: Annotated[list[Path], typer.Option("--ledger", help="Ledger folder of an adapter; repeatable.")],
    owner: Annotated[
        list[str] | None,
        typer.Option(
            "--owner", help="Compare only this subsystem's services; repeatable. Default: every one in the log."
        ),
    ] = None,
    since: Annotated[
        str, typer.Option(help="Exchanges that began at this date (UTC) or RFC 3339 instant or later.")
    ] = "",
    until: Annotated[str, typer.Option(help="Exchanges that began before this date (UTC) or RFC 3339 instant.")] = "",
    data: DataOption = io.DATA,
    database: DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Compare the log with the ledgers of departments: what one has and the other lacks, and what became of unknowns.

    Example: datong audit reconcile --ledger datong-data/adapters/tax/ledger --since 2026-11-01 --until 2026-12-01

    Exit status: 0 if they agree, 1 if they contradict each other, 2 if they could not be compared.
    """
    speak = io.language(lang)
    counts = ReconciliationCounts()
    owners = frozenset(owner) if owner else None
    since_ms, until_ms = instant(since, "--since"), instant(until, "--until")
    shown = sys.stderr.isatty() and not as_json

    def tell(side: str, done: int, size: int) -> None:
        name = {"ledger": {"en": "ledgers", "zh": "台账"}, "log": {"en": "log", "zh": "日志"}}[side][speak]
        typer.echo(f"\r{name} {done}" + (f" / {size}" if size else ""), nl=False, err=True)

    async def compare(reader: LogReader) -> None:
        findings = reconcile(
            reader,
            ledger,
            counts,
            tell if shown else None,
            owners=owners,
            since_ms=since_ms,
            until_ms=until_ms,
        )
        async for finding in findings:
            if as_json:
                # One line each, as they come: there may be many.
                typer.echo(json.dumps(io.plain(finding), ensure_ascii=False))
            else:
                clear_progress()
                said = finding.zh if speak == "zh" else finding.en
                typer.echo(f"{'·' if finding.agrees else '✗'} {finding.exchange_id}: {said}")

    try:
        read_log(data, database, speak, compare)
    except LedgerError as error:
        unusable(str(error))
    if as_json:
        typer.echo(json.dumps(io.plain(counts)))
    else:
        clear_progress()
        if counts.removed:
            typer.echo(
                {
                    "en": f"{counts.removed} exchanges of the ledgers were removed from the log when their time was over.",
                    "zh": f"台账中有 {counts.removed} 笔的日志记录已按期清除。",
                }[speak]
            )
        typer.echo(
            {
                "en": f"{counts.log_entries} records of the log and {counts.ledger_exchanges} exchanges of the ledgers: "
                f"{counts.contradictions} contradictions.",
                "zh": f"日志 {counts.log_entries} 条，台账 {counts.ledger_exchanges} 笔：{counts.contradictions} 处矛盾。",
            }[speak]
        )
    if counts.contradictions:
        raise typer.Exit(1)
