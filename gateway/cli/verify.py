"""`datong verify`: whether a receipt holds, offline, with a key list and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange import Check, Language, ReceiptError, verify_receipt
from gateway.cli import console_io as io

TITLES: dict[str, dict[Language, str]] = {
    "form": {"en": "form", "zh": "格式"},
    "checkpoint": {"en": "log's signature", "zh": "日志签名"},
    "inclusion": {"en": "in the log", "zh": "在日志中"},
    "record": {"en": "record", "zh": "记录"},
    "change": {"en": "change", "zh": "变更"},
    "decider": {"en": "made by", "zh": "操作人"},
    "caller": {"en": "caller", "zh": "调用方"},
    "signature": {"en": "caller's signature", "zh": "调用方签名"},
    "gateway": {"en": "gateway's seal", "zh": "网关签名"},
    "adapter": {"en": "owner's seal", "zh": "提供方签名"},
    "binding": {"en": "answer to query", "zh": "应答对应"},
    "release": {"en": "release terms", "zh": "释放条件"},
    "certificates": {"en": "certificates", "zh": "证书"},
    "request": {"en": "request sent", "zh": "请求内容"},
    "answer": {"en": "answer received", "zh": "应答内容"},
}


def verify(
    receipt: Annotated[Path, typer.Argument(help="Receipt file.")],
    keys: Annotated[Path, typer.Option("--keys", help="Key list: whom to trust. Not from whoever sent the receipt.")],
    answer: Annotated[
        Path | None, typer.Option("--answer", help="Body of the answer, to be compared with the record.")
    ] = None,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Check a receipt: one line per check.

    Example: datong verify receipt.json --keys keys.json --answer body.json

    Exit status: 0 if every check passes, 1 if one fails, 2 if a file or the key list cannot be used.
    """
    speak = io.language(lang)
    try:
        body = answer.read_bytes() if answer else None
        checks = verify_receipt(receipt.read_bytes(), keys.read_bytes(), answer_body=body)
    except (OSError, ReceiptError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    good = all(check.ok for check in checks)
    if as_json:
        io.print_json({"ok": good, "checks": checks})
    else:
        _print(checks, good, speak)
    if not good:
        raise typer.Exit(1)


def _print(checks: list[Check], good: bool, speak: Language) -> None:
    for check in checks:
        mark = "✓" if check.ok else "✗"
        title = TITLES[check.name][speak]
        # Chinese characters take two columns.
        width = 18 - sum(ord(character) > 0x2E7F for character in title)
        typer.echo(f"{mark} {title:<{width}} {check.zh if speak == 'zh' else check.en}")
    verdict = {
        True: {"en": "The receipt holds.", "zh": "回执有效。"},
        False: {"en": "The receipt does NOT hold.", "zh": "回执无效！"},
    }
    typer.echo(verdict[good][speak])
