"""A department's own system, as a process that tests may kill: python department.py PORT FOLDER.

Every request is one line in FOLDER/journal before it is answered: `exchange-id message-id method target`. The lines are the
oracle's third witness of what was done, beside the exchange log and the adapter's ledger.

`/bytes/N` answers with N bytes, anything else with the body received. `/hold/KEY` is done at once and answered when there is a
file FOLDER/KEY.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path


class Department:
    """The server; its journal is written with one system call per request, so that it survives the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = os.open(folder / "journal", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                request_line, *lines = head[:-4].split("\r\n")
                method, target, _ = request_line.split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                who = f"{headers['x-road-request-id']} {headers['x-road-id']}"
                os.write(self._journal, f"{who} {method} {target}\n".encode())
                kind, _, key = target[1:].partition("/")
                if kind == "hold":
                    while not (self._folder / key).exists():
                        await asyncio.sleep(0.01)
                if kind == "bytes":
                    body = pattern(int(key))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the adapter went away: tests kill it
        finally:
            writer.close()


def pattern(size: int) -> bytes:
    """The bytes that `/bytes/N` answers with."""
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


async def main(port: int, folder: Path) -> None:
    department = Department(folder)
    server = await asyncio.start_server(department.serve, "127.0.0.1", port, limit=1 << 20)
    (folder / "ready").write_text("ready")
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
