"""`datong audit`: search the exchange log, check all of it, compare it with the departments' ledgers.

The commands read the log's database directly, so that they work without a gateway and against one that is not trusted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from exchange import (
    EntryFilter,
    LedgerError,
    LogReader,
    ReconciliationCounts,
    StoredEntry,
    build_receipt,
    is_change,
    reconcile,
)
from gateway.cli import console_io as io
from gateway.cli.audit_changes import change_fields, changes
from gateway.cli.audit_check import check
from gateway.cli.audit_io import (
    DatabaseOption,
    DataOption,
    clear_progress,
    instant,
    progress,
    read_log,
    unusable,
)

app = typer.Typer(help="The exchange log: search, show, check, reconcile.", no_args_is_help=True)


@app.command("list")
def list_entries(
    client: Annotated[str, typer.Option(help="Subsystem that asked.")] = "",
    owner: Annotated[str, typer.Option(help="Subsystem that was asked.")] = "",
    service: Annotated[str, typer.Option(help="Service that was asked.")] = "",
    outcome: Annotated[str, typer.Option(help="answered, refused, failed or unknown.")] = "",
    rule: Annotated[str, typer.Option(help="Rule that refused.")] = "",
    kind: Annotated[
        Literal["exchange", "change", "any"],
        typer.Option(
            help="What was recorded: exchanges, or changes of the registry (action as rule, target as service)."
        ),
    ] = "exchange",
    since: Annotated[str, typer.Option(help="Date (UTC) or RFC 3339 instant, inclusive.")] = "",
    until: Annotated[str, typer.Option(help="Date (UTC) or RFC 3339 instant, exclusive.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    cursor: Annotated[str, typer.Option(help="Where the page before ended.")] = "",
    data: DataOption = io.DATA,
    database: DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Records, newest first.

    Example: datong audit list --outcome refused --since 2026-11-01
    """
    speak = io.language(lang)
    wanted = EntryFilter(
        kind=kind,
        client=client,
        owner=owner,
        service=service,
        outcome=outcome,
        rule=rule,
        since_ms=instant(since, "--since"),
        until_ms=instant(until, "--until"),
    )
    page = read_log(data, database, speak, lambda reader: reader.page(wanted, cursor=cursor or None, limit=limit))
    if as_json:
        io.print_json({"exchanges": [_plain(entry) for entry in page.entries], "next_cursor": page.next_cursor})
        return
    headers = {
        "en": "entry at outcome status client service exchange",
        "zh": "序号 时间 结果 状态 调用方 服务 交换编号",
    }
    io.print_table(headers[speak].split(), [_row(entry) for entry in page.entries])
    if page.next_cursor:
        typer.echo({"en": f"more: --cursor {page.next_cursor}", "zh": f"下一页：--cursor {page.next_cursor}"}[speak])


@app.command()
def show(
    exchange_id: Annotated[str, typer.Argument(help="Exchange id, as in X-Road-Request-Id.")],
    receipt: Annotated[Path | None, typer.Option(help="Write the receipt here.")] = None,
    data: DataOption = io.DATA,
    database: DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """One record, of an exchange or of a change of the registry, and on request its receipt."""
    speak = io.language(lang)

    async def find(reader: LogReader) -> tuple[StoredEntry | None, bytes | None]:
        entry = await reader.entry(exchange_id.removeprefix("urn:uuid:"))
        newest = await reader.latest_checkpoint()
        if entry is None or receipt is None or newest is None or newest.size <= entry.seq:
            return entry, None
        return entry, await build_receipt(reader, entry, newest.note)

    entry, proof = read_log(data, database, speak, find)
    if entry is None:
        io.fail({"en": f"there is no exchange {exchange_id}", "zh": f"没有交换 {exchange_id}"}[speak], as_json=as_json)
    if receipt is not None:
        if proof is None:
            io.fail(
                {
                    "en": "no checkpoint covers the record yet; try again in a moment",
                    "zh": "尚无检查点覆盖该记录，请稍后重试",
                }[speak],
                as_json=as_json,
            )
        receipt.write_bytes(proof)
    if as_json:
        io.print_json(_plain(entry))
        return
    record = json.loads(entry.leaf)
    fields = [("entry", entry.seq), ("leaf hash", entry.leaf_hash.hex())]
    if is_change(entry.leaf):
        io.print_fields([*fields, *change_fields(entry.leaf)])
        return
    fields += [(name, value) for name, value in record.items() if not isinstance(value, dict)]
    for part in ("query", "answer"):
        fields += [(f"{part}.{name}", value) for name, value in record.get(part, {}).items()]
    io.print_fields(fields)


app.command()(changes)
app.command()(check)


@app.command("reconcile")
def reconcile_ledgers(
    ledger: Annotated[list[Path], typer.Option("--ledger", help="Ledger folder of an adapter; repeatable.")],
    owner: Annotated[
        list[str] | None,
        typer.Option(
            "--owner", help="Compare only this subsystem's services; repeatable. Default: every one in the log."
        ),
    ] = None,
    data: DataOption = io.DATA,
    database: DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Compare the log with the ledgers of departments: what one has and the other lacks, and what became of unknowns.

    Exit status: 0 if they agree, 1 if they contradict each other, 2 if they could not be compared.
    """
    speak = io.language(lang)
    counts = ReconciliationCounts()
    owners = frozenset(owner) if owner else None

    async def compare(reader: LogReader) -> None:
        async for finding in reconcile(reader, ledger, counts, progress(as_json), owners=owners):
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
        typer.echo(
            {
                "en": f"{counts.log_entries} records of the log and {counts.ledger_exchanges} exchanges of the ledgers: "
                f"{counts.contradictions} contradictions.",
                "zh": f"日志 {counts.log_entries} 条，台账 {counts.ledger_exchanges} 笔：{counts.contradictions} 处矛盾。",
            }[speak]
        )
    if counts.contradictions:
        raise typer.Exit(1)


def _row(entry: StoredEntry) -> tuple[object, ...]:
    record = json.loads(entry.leaf)
    result = f"{entry.outcome} ({entry.rule})" if entry.rule else entry.outcome
    if is_change(entry.leaf):
        return entry.seq, record["recorded_at"], result, "", record["by"], entry.service, entry.exchange_id
    service = f"{record['query'].get('method', '')} {entry.service}".strip()
    return entry.seq, record["ended_at"], result, record["status"], entry.client, service, entry.exchange_id


def _plain(entry: StoredEntry) -> dict[str, Any]:
    return {"seq": entry.seq, "leaf_hash": entry.leaf_hash.hex(), "record": json.loads(entry.leaf)}
