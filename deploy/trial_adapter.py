"""The trial mesh's adapter with a source in code: what an exchange costs without a backend behind it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from department_adapters import SourceAnswer, SourceRequest, read_contract, serve_adapter
from exchange import configure_events, settle_heap

KILOBYTE = json.dumps({"items": [{"id": "990100199001010017", "state": "active"}] * 20, "pad": ""}).ljust(1024).encode()
HEADERS = [(b"content-type", b"application/json")]


class KilobyteSource:
    """Answers every request with the same kilobyte of JSON."""

    async def start(self) -> None: ...

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        return SourceAnswer(200, HEADERS, KILOBYTE)

    async def stop(self) -> None: ...


def main(
    command: Annotated[list[str], typer.Argument(help="adapter run CONTRACT, as of the real program")],
    ready_file: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Run the adapter."""
    configure_events()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        contract = read_contract(Path(command[-1]))
        settle_heap()
        runner.run(serve_adapter(contract, sources={"echo": KilobyteSource()}, ready_file=ready_file))


if __name__ == "__main__":
    typer.run(main)
