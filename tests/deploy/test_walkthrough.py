"""`docs/walkthrough.md` does what it says: every block is run by a shell beside a real mesh, and prints what stands below it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.running_mesh import ROOT, SOURCE, datong_up

DOCUMENT = ROOT / "docs/walkthrough.md"
BLOCK = re.compile(r"^```(sh)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script() -> tuple[str, list[tuple[str, str]]]:
    """One script that runs all blocks, each ending in a line with its number; and each block with what it is to print."""
    text, pieces = "", list[tuple[str, str]]()
    for match in BLOCK.finditer(DOCUMENT.read_text(encoding="utf-8")):
        kind, content = match.groups()
        if kind == "sh":
            text += f"{content}\necho '=== {len(pieces)}'\n"
            pieces.append((content, ""))
        else:
            pieces[-1] = pieces[-1][0], content
    return text, pieces


def pattern_of(expected: str) -> str:
    """A regular expression for what is printed: `…` stands for anything within a line."""
    return ".+".join(re.escape(piece) for piece in expected.split("…"))


def printed_beside_a_mesh(folder: Path, text: str, options: Sequence[str]) -> str:
    """What the script prints, run by a shell in the folder where a mesh was started."""
    with datong_up(folder, "--data", "datong-data", *options) as up:
        command = f'datong() {{ {SOURCE[0]} -m deploy.cli "$@"; }}\n{text}'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace("https://localhost:8443", up.what["gateway"])],
            cwd=folder,
            env=up.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


async def test_every_block_prints_what_stands_below_it(tmp_path: Path, database_url: str) -> None:
    """From search to audit, by curl, on both databases."""
    text, pieces = script()
    options: tuple[str, ...] = ()
    if database_url.startswith("postgresql"):
        options = ("--database", database_url, "--log-database", database_url)
        text = text.replace("audit check", f"audit check --database {database_url} --registry {database_url}")
        text = text.replace("audit reconcile", f"audit reconcile --database {database_url}")
    printed = re.split(r"^=== \d+\n", printed_beside_a_mesh(tmp_path, text, options), flags=re.MULTILINE)
    assert len(printed) == len(pieces) + 1 > 10
    for (block, expected), output in zip(pieces, printed, strict=False):
        assert re.fullmatch(pattern_of(expected), output), f"{block}\nprinted\n{output}\ninstead of\n{expected}"
