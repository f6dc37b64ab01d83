"""`datong verify`: whether a receipt holds, offline, with a key list and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange import ReceiptError, checks_as_json, lines_of_checks, verdict, verify_receipt
from gateway.cli import console_io as io


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

    ✓ it holds; – there is nothing to check; … it waits for witnesses or a time stamp; ✗ it does not hold.

    Example: datong verify receipt.json --keys keys.json --answer body.json

    Exit status: 0 if every check passes, 1 if one fails or waits, 2 if a file or the key list cannot be used.
    """
    speak = io.language(lang)
    try:
        body = answer.read_bytes() if answer else None
        checks = verify_receipt(receipt.read_bytes(), keys.read_bytes(), answer_body=body)
    except (OSError, ReceiptError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(checks_as_json(checks) if as_json else "\n".join(lines_of_checks(checks, speak)))
    if verdict(checks) != "final":
        raise typer.Exit(1)
