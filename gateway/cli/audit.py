"""`datong audit`: search the exchange log, check all of it, compare it with the departments' ledgers.

The commands read the log's database directly, so that they work without a gateway and against one that is not trusted.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from sqlalchemy.exc import SQLAlchemyError

from exchange import (
    Checkpoint,
    DamagedLogError,
    EntryFilter,
    InvalidRequestError,
    Keys,
    Language,
    LedgerError,
    LogReader,
    NoteError,
    ReceiptError,
    ReconciliationCounts,
    StoredEntry,
    build_receipt,
    check_log,
    create_engine,
    database_url,
    open_checkpoint,
    parse_rfc3339,
    reconcile,
    sqlite_path,
)
from gateway.cli import console_io as io

app = typer.Typer(help="The exchange log: search, show, check, reconcile.", no_args_is_help=True)

_T = TypeVar("_T")

DATABASE_VARIABLE = "DATONG_LOG_DATABASE"
DataOption = Annotated[Path, typer.Option("--data", help="Data folder of the mesh; the log is log.db in it.")]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        envvar=DATABASE_VARIABLE,
        help="Database of the log, instead of --data: sqlite:///PATH or postgresql://USER@HOST/NAME.",
    ),
]
KeysOption = Annotated[Path | None, typer.Option("--keys", help="Key list; default: keys.json in the data folder.")]


@app.command("list")
def list_entries(
    client: Annotated[str, typer.Option(help="Subsystem that asked.")] = "",
    owner: Annotated[str, typer.Option(help="Subsystem that was asked.")] = "",
    service: Annotated[str, typer.Option(help="Service that was asked.")] = "",
    outcome: Annotated[str, typer.Option(help="answered, refused, failed or unknown.")] = "",
    rule: Annotated[str, typer.Option(help="Rule that refused.")] = "",
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
        client=client,
        owner=owner,
        service=service,
        outcome=outcome,
        rule=rule,
        since_ms=_instant(since, "--since"),
        until_ms=_instant(until, "--until"),
    )
    page = _read(data, database, speak, lambda reader: reader.page(wanted, cursor=cursor or None, limit=limit))
    if as_json:
        io.print_json({"exchanges": [_plain(entry) for entry in page.entries], "next_cursor": page.next_cursor})
        return
    headers = {
        "en": "entry at outcome status client service exchange",
        "zh": "序号 时间 结果 状态 调用方 服务 交换编号",
    }
    rows = []
    for entry in page.entries:
        record = json.loads(entry.leaf)
        result = f"{entry.outcome} ({entry.rule})" if entry.rule else entry.outcome
        service = f"{record['query'].get('method', '')} {entry.service}".strip()
        rows.append((entry.seq, record["ended_at"], result, record["status"], entry.client, service, entry.exchange_id))
    io.print_table(headers[speak].split(), rows)
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
    """One record, and on request its receipt."""
    speak = io.language(lang)

    async def find(reader: LogReader) -> tuple[StoredEntry | None, bytes | None]:
        entry = await reader.entry(exchange_id.removeprefix("urn:uuid:"))
        newest = await reader.latest_checkpoint()
        if entry is None or receipt is None or newest is None or newest.size <= entry.seq:
            return entry, None
        return entry, await build_receipt(reader, entry, newest.note)

    entry, proof = _read(data, database, speak, find)
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
    fields += [(name, value) for name, value in record.items() if not isinstance(value, dict)]
    for part in ("query", "answer"):
        fields += [(f"{part}.{name}", value) for name, value in record.get(part, {}).items()]
    io.print_fields(fields)


@app.command()
def check(
    keys: KeysOption = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option("--checkpoint", help="Signed checkpoint that was kept elsewhere; repeatable.")
    ] = None,
    data: DataOption = io.DATA,
    database: DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Derive the whole log again: every record, hash, tile and signature. Names the first thing that was changed.

    Exit status: 0 if all is in order, 1 if something was changed, 2 if the check could not be made.
    """
    speak = io.language(lang)
    key_list, held = _trusted(keys or data / "keys.json", [*(checkpoint or []), *_signed_here(data, database)])
    try:
        summary = _read(
            data,
            database,
            speak,
            lambda reader: check_log(reader, key_list.logs, held=held, progress=_progress(as_json)),
        )
    except DamagedLogError as damage:
        if as_json:
            found = {"where": damage.where, "exchange_id": damage.exchange_id, "problem": damage.problem}
            io.print_json({"ok": False, **found})
        else:
            _clear_progress()
            said = damage.problem_zh if speak == "zh" else damage.problem
            exchange = f" ({damage.exchange_id})" if damage.exchange_id else ""
            typer.echo(f"✗ {damage.where}{exchange}: {said}")
            typer.echo({"en": "The log was CHANGED.", "zh": "日志已被改动！"}[speak])
        raise typer.Exit(1) from damage
    if as_json:
        io.print_json({"ok": True, "held_checkpoints": len(held), **io.plain(summary)})
        return
    _clear_progress()
    typer.echo(
        {
            "en": f"✓ {summary.size} records, {summary.tiles} tiles, {summary.checkpoints} checkpoints are in order; "
            f"{summary.signed_size} records are under a signed checkpoint.",
            "zh": f"✓ {summary.size} 条记录、{summary.tiles} 个数据块、{summary.checkpoints} 个检查点全部正确；"
            f"{summary.signed_size} 条记录已有签名检查点。",
        }[speak]
    )


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
        async for finding in reconcile(reader, ledger, counts, _progress(as_json), owners=owners):
            if as_json:
                # One line each, as they come: there may be many.
                typer.echo(json.dumps(io.plain(finding), ensure_ascii=False))
            else:
                _clear_progress()
                said = finding.zh if speak == "zh" else finding.en
                typer.echo(f"{'·' if finding.agrees else '✗'} {finding.exchange_id}: {said}")

    try:
        _read(data, database, speak, compare)
    except LedgerError as error:
        _unusable(str(error))
    if as_json:
        typer.echo(json.dumps(io.plain(counts)))
    else:
        _clear_progress()
        typer.echo(
            {
                "en": f"{counts.log_entries} records of the log and {counts.ledger_exchanges} exchanges of the ledgers: "
                f"{counts.contradictions} contradictions.",
                "zh": f"日志 {counts.log_entries} 条，台账 {counts.ledger_exchanges} 笔：{counts.contradictions} 处矛盾。",
            }[speak]
        )
    if counts.contradictions:
        raise typer.Exit(1)


def _read(data: Path, database: str, speak: Language, work: Callable[[LogReader], Awaitable[_T]]) -> _T:
    """Do `work` on the log; what stands in the way of reading it ends the command with exit code 2."""
    text = database or f"sqlite:///{data / 'log.db'}"
    try:
        url = database_url(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--database") from error
    file = sqlite_path(url)
    if file is not None and not file.exists():
        _unusable({"en": f"there is no log at {file}", "zh": f"{file} 处没有日志"}[speak])

    async def opened() -> _T:
        engine = create_engine(url)
        try:
            return await work(LogReader(engine))
        finally:
            await engine.dispose()

    try:
        return asyncio.run(opened())
    except InvalidRequestError as error:
        _unusable(error.detail_in(speak))
    except (SQLAlchemyError, OSError) as error:
        if isinstance(error, LedgerError):
            raise
        # Not str() of SQLAlchemy's: it carries the statement and its parameters.
        cause = getattr(error, "orig", None) or (error if isinstance(error, OSError) else type(error).__name__)
        _unusable({"en": f"the log's database cannot be read: {cause}", "zh": f"日志数据库无法读取：{cause}"}[speak])


def _trusted(keys: Path, notes: list[Path]) -> tuple[Keys, list[Checkpoint]]:
    try:
        key_list = Keys.from_json(keys.read_bytes())
        return key_list, [open_checkpoint(note.read_text(encoding="utf-8"), key_list.logs) for note in notes]
    except (OSError, UnicodeDecodeError, ReceiptError, NoteError) as error:
        _unusable(str(error))


def _signed_here(data: Path, database: str) -> list[Path]:
    """The last checkpoint that the log's key signed, which the writer keeps beside the key."""
    beside_key = data / "log.key.signed"
    return [beside_key] if not database and beside_key.exists() else []


def _unusable(problem: str) -> NoReturn:
    typer.echo(f"error: {problem}", err=True)
    raise typer.Exit(2)


def _instant(text: str, option: str) -> int | None:
    if not text:
        return None
    try:
        if len(text) == 10:
            return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
        return parse_rfc3339(text)
    except ValueError as error:
        raise typer.BadParameter("write 2026-11-01 or 2026-11-01T08:00:00+08:00", param_hint=option) from error


def _plain(entry: StoredEntry) -> dict[str, Any]:
    return {"seq": entry.seq, "leaf_hash": entry.leaf_hash.hex(), "record": json.loads(entry.leaf)}


def _progress(as_json: bool) -> Callable[[int, int], None] | None:
    if as_json or not sys.stderr.isatty():
        return None
    return lambda done, size: typer.echo(f"\r{done} / {size}", nl=False, err=True)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
