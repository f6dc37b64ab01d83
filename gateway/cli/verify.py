"""`datong verify`: whether receipts and archive segments hold, offline, with a key list and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange import ReceiptError, checks_as_json, lines_of_checks, verdict, verify_file
from gateway.cli import console_io as io


def verify(
    files: Annotated[list[Path], typer.Argument(help="Receipts, or segments of an archive of the log.")],
    keys: Annotated[Path, typer.Option("--keys", help="Key list: whom to trust. Not from whoever sent the receipt.")],
    answer: Annotated[
        Path | None, typer.Option("--answer", help="Body of the answer, to be compared with the record.")
    ] = None,
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Check a receipt or an archive segment: one line per check.

    ✓ it holds; – there is nothing to check; … it waits for witnesses or a time stamp; ✗ it does not hold.

    Example: datong verify receipt.json --keys keys.json --answer body.json

    Exit status: 0 if every check passes, 1 if one fails or waits, 2 if a file or the key list cannot be used.
    """
    speak = io.language(lang)
    try:
        body = answer.read_bytes() if answer else None
        trusted = keys.read_bytes()
        results = {file: verify_file(file, trusted, answer_body=body) for file in files}
    except (OSError, ReceiptError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    for file, checks in results.items():
        if len(files) > 1:
            typer.echo(f"{file}:")
        typer.echo(checks_as_json(checks) if as_json else "\n".join(lines_of_checks(checks, speak)))
    if any(verdict(checks) != "final" for checks in results.values()):
        raise typer.Exit(1)
