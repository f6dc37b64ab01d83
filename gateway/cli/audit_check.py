"""`datong audit check`: whether the log is as it was written, and the registry still tells the history that the log recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from exchange import (
    Checkpoint,
    DamagedLogError,
    Keys,
    Language,
    LogReader,
    LogSummary,
    NoteError,
    ReceiptError,
    check_log,
    open_checkpoint,
)
from gateway.change_comparison import AlteredHistoryError, ChangeSummary, compare_changes
from gateway.cli import console_io as io
from gateway.cli.audit_io import (
    DatabaseOption,
    DataOption,
    RegistryOption,
    clear_progress,
    progress,
    read_log_and_registry,
    unusable,
)
from registry import ChangeBook

KeysOption = Annotated[Path | None, typer.Option("--keys", help="Key list; default: keys.json in the data folder.")]


def check(
    keys: KeysOption = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option("--checkpoint", help="Signed checkpoint that was kept elsewhere; repeatable.")
    ] = None,
    data: DataOption = io.DATA,
    database: DatabaseOption = "",
    registry: RegistryOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Derive the whole log again: every record, hash, tile and signature. Names the first thing that was changed.

    Cosignatures of witnesses and time stamps are verified if the key list names witnesses (policy) and authorities.
    With the registry at hand, every change of it on the log is compared with the registry, too.

    Exit status: 0 if all is in order, 1 if something was changed, 2 if the check could not be made.
    """
    speak = io.language(lang)
    key_list, held = _trusted(keys or data / "keys.json", [*(checkpoint or []), *_signed_here(data, database)])

    async def derive(reader: LogReader, book: ChangeBook | None) -> tuple[LogSummary, ChangeSummary | None]:
        summary = await check_log(
            reader,
            key_list.logs,
            held=held,
            policy=key_list.policy,
            anchors=key_list.timestamp_authorities,
            progress=progress(as_json),
        )
        return summary, None if book is None else await compare_changes(book, reader, progress(as_json))

    try:
        summary, compared = read_log_and_registry(data, database, registry, speak, derive)
    except DamagedLogError as damage:
        said = {"en": damage.problem, "zh": damage.problem_zh}[speak]
        found = {"where": damage.where, "exchange_id": damage.exchange_id, "problem": damage.problem}
        _changed(found, said, {"en": "The log was CHANGED.", "zh": "日志已被改动！"}[speak], as_json)
    except AlteredHistoryError as altered:
        said = {"en": altered.problem, "zh": altered.problem_zh}[speak]
        found = {"where": altered.where, "exchange_id": altered.entry_id, "problem": altered.problem}
        verdict = {
            "en": "The log is in order; the registry was CHANGED without it.",
            "zh": "日志正确；登记簿被绕过日志改动！",
        }
        _changed(found, said, verdict[speak], as_json)
    if as_json:
        told = {"ok": True, "held_checkpoints": len(held), **io.plain(summary), "changes": io.plain(compared)}
        io.print_json(told)
        return
    clear_progress()
    _print(summary, compared, speak)


def _print(summary: LogSummary, compared: ChangeSummary | None, speak: Language) -> None:
    typer.echo(
        {
            "en": f"✓ {summary.size} records, {summary.tiles} tiles, {summary.checkpoints} checkpoints are in order; "
            f"{summary.signed_size} records are under a signed checkpoint.",
            "zh": f"✓ {summary.size} 条记录、{summary.tiles} 个数据块、{summary.checkpoints} 个检查点全部正确；"
            f"{summary.signed_size} 条记录已有签名检查点。",
        }[speak]
    )
    if summary.removed:
        typer.echo(
            {
                "en": f"✓ {summary.removed} records were removed when their time was over, and that is on record.",
                "zh": f"✓ {summary.removed} 条记录到期删除，均有留痕。",
            }[speak]
        )
    if summary.cosignatures or summary.stamps or summary.unverified:
        typer.echo(
            {
                "en": f"✓ {summary.cosignatures} cosignatures of witnesses and {summary.stamps} time stamps are genuine; "
                f"{summary.unverified} are by nobody on the key list.",
                "zh": f"✓ {summary.cosignatures} 个见证联署、{summary.stamps} 个时间戳验证无误；"
                f"{summary.unverified} 个签署方不在密钥列表中。",
            }[speak]
        )
    if compared is not None:
        typer.echo(
            {
                "en": f"✓ {compared.recorded} changes of the registry are as they were recorded; "
                f"{compared.waiting} wait to be recorded.",
                "zh": f"✓ 登记簿的 {compared.recorded} 项变更与日志一致；{compared.waiting} 项等待留痕。",
            }[speak]
        )


def _changed(found: dict[str, str], said: str, verdict: str, as_json: bool) -> NoReturn:
    if as_json:
        io.print_json({"ok": False, **found})
    else:
        clear_progress()
        entry = f" ({found['exchange_id']})" if found["exchange_id"] else ""
        typer.echo(f"✗ {found['where']}{entry}: {said}")
        typer.echo(verdict)
    raise typer.Exit(1)


def _trusted(keys: Path, notes: list[Path]) -> tuple[Keys, list[Checkpoint]]:
    try:
        key_list = Keys.from_json(keys.read_bytes())
        return key_list, [open_checkpoint(note.read_text(encoding="utf-8"), key_list.logs) for note in notes]
    except (OSError, UnicodeDecodeError, ReceiptError, NoteError) as error:
        unusable(str(error))


def _signed_here(data: Path, database: str) -> list[Path]:
    """The last checkpoint that the log's key signed, which the writer keeps beside the key."""
    beside_key = data / "log.key.signed"
    return [beside_key] if not database and beside_key.exists() else []
