"""`datong adapter register`: whose certificate may sign a department's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange import SubsystemId, UnprocessableError
from gateway.cli import console_io as io
from registry import Change, Registry


def register(
    subsystem: Annotated[str, typer.Argument(help="Subsystem the adapter answers for: instance/class/code/subsystem")],
    certificate: Annotated[Path, typer.Argument(help="The adapter's certificate, PEM or DER.")],
    why: io.WhyOption,
    by: io.ByOption = "",
    data: io.DataOption = io.DATA,
    database: io.DatabaseOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Register the certificate with which an adapter signs its answers.

    Example: datong adapter register CN/GOV/11990000000001011Q/tax tax.crt --why 接入申请〔2026〕3号
    """
    terminal = io.Terminal.of(data, database, as_json, lang)

    async def write(registry: Registry) -> Change | None:
        try:
            content = certificate.read_bytes()
        except OSError as error:
            raise UnprocessableError(
                "certificate",
                problem=f"{certificate} cannot be read: {error.strerror}.",
                problem_zh=f"无法读取 {certificate}：{error.strerror}。",
            ) from error
        return await registry.register_certificate(SubsystemId(subsystem), content, by=io.who(by), why=why)

    change = terminal.run(write)
    terminal.changed(change, change.target if change else str(certificate))
