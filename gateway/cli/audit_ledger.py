"""`datong audit check-ledger`: whether a department's own ledger is as it was written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from exchange import DamagedLedgerError, LedgerError, NoteError, NoteVerifier, check_ledger
from gateway.cli import console_io as io
from gateway.cli.audit_io import clear_progress, unusable

_TELL_EVERY = 1 << 14


def check_ledger_folder(
    folder: Annotated[Path, typer.Argument(help="Ledger folder of an adapter.")],
    vkey: Annotated[
        str,
        typer.Option(
            help="Public key of the ledger (name+id+key), obtained from the department. Default: the one in the folder, believed."
        ),
    ] = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Derive a ledger again: every line, tile and checkpoint. Names the first thing that was changed.

    Example: datong audit check-ledger datong-data/adapters/tax/ledger

    Exit status: 0 if all is in order, 1 if something was changed, 2 if the check could not be made.
    """
    speak = io.language(lang)
    shown = not as_json and sys.stderr.isatty()

    def tell(lines: int) -> None:
        if shown and lines % _TELL_EVERY < 256:
            typer.echo(f"\r{lines}", err=True, nl=False)

    try:
        text = vkey or (folder / "vkey").read_text(encoding="utf-8").strip()
        summary = check_ledger(folder, NoteVerifier.from_vkey(text), tell)
    except DamagedLedgerError as damage:
        if as_json:
            io.print_json({"ok": False, "where": damage.where, "problem": damage.problem})
        else:
            clear_progress()
            typer.echo(f"✗ {damage.where}: {damage.problem_zh if speak == 'zh' else damage.problem}")
            typer.echo({"en": "The ledger was CHANGED.", "zh": "台账已被改动！"}[speak])
        raise typer.Exit(1) from damage
    except (LedgerError, NoteError, OSError, UnicodeDecodeError) as error:
        unusable(str(error))
    if as_json:
        io.print_json({"ok": True, "key_believed": not vkey, **io.plain(summary)})
        return
    clear_progress()
    typer.echo(
        {
            "en": f"✓ {summary.origin}: {summary.lines} lines, {summary.tiles} tiles, {summary.checkpoints} checkpoints are in "
            f"order; {summary.signed} lines are under a signed checkpoint.",
            "zh": f"✓ {summary.origin}：{summary.lines} 行、{summary.tiles} 个数据块、{summary.checkpoints} 个检查点全部正确；"
            f"{summary.signed} 行已有签名检查点。",
        }[speak]
    )
    if not vkey:
        typer.echo(
            {
                "en": "The key was the one in the folder: compare it with the department's own, and give it as --vkey.",
                "zh": "所用公钥取自该目录：请与部门公布的公钥比对，并以 --vkey 给出。",
            }[speak]
        )
