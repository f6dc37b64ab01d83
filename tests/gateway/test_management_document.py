"""`docs/management-api.md` does what it says: every block is run by a shell beside a real mesh, and prints what stands below it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from fastapi.routing import APIRoute

from gateway.api import certificates, decisions, grant_reports, grants, groups, members, roles, services, subsystems
from tests.running_mesh import ROOT, datong_up

DOCUMENT = ROOT / "docs/management-api.md"
BLOCK = re.compile(r"^```(sh)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_prints_what_stands_below_it(tmp_path: Path) -> None:
    script, pieces = "", list[tuple[str, str]]()
    for kind, content in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")):
        if kind:
            script += f"{content}\necho '=== {len(pieces)}'\n"
            pieces.append((content, ""))
        else:
            pieces[-1] = pieces[-1][0], content
    with datong_up(tmp_path, "--data", "datong-data") as up:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace("https://localhost:8443", up.what["gateway"])],
            cwd=tmp_path,
            env=up.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    printed = re.split(r"^=== \d+\n", done.stdout, flags=re.MULTILINE)
    assert len(printed) == len(pieces) + 1, f"{done.stdout}\n{done.stderr}"
    for (block, expected), output in zip(pieces, printed, strict=False):
        assert output == expected, block


def test_every_noun_and_verb_is_in_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for noun in (members, subsystems, services, certificates, groups, roles, grants, grant_reports, decisions):
        for route in noun.router.routes:
            assert isinstance(route, APIRoute)
            assert noun.router.prefix in text
            last = route.path.rpartition("/")[2]
            assert "{" in last or last in noun.router.prefix or f"/{last}" in text, route.path
