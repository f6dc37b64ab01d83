"""`datong audit show`: one record, and its receipt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from exchange import LogReader, StoredEntry, build_receipt, is_change
from gateway.cli import console_io as io
from gateway.cli.audit_changes import change_fields
from gateway.cli.audit_io import DatabaseOption, DataOption, read_log
from gateway.cli.audit_list import plain_entry


def show(
    exchange_id: Annotated[str, typer.Argument(help="Exchange id, as in X-Road-Request-Id.")],
    receipt: Annotated[Path | None, typer.Option(help="Write the receipt here.")] = None,
    data: DataOption = io.DATA,
    database: DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """One record, of an exchange, a change of the registry or an act on the log, and on request its receipt."""
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
        io.print_json(plain_entry(entry))
        return
    record = json.loads(entry.leaf)
    fields = [("entry", entry.seq), ("leaf hash", entry.leaf_hash.hex())]
    if is_change(entry.leaf):
        io.print_fields([*fields, *change_fields(entry.leaf)])
        return
    fields += [(name, value) for name, value in record.items() if not isinstance(value, dict)]
    for part in ("query", "answer", "details"):
        fields += [(f"{part}.{name}", value) for name, value in record.get(part, {}).items()]
    io.print_fields(fields)
