"""Verifiers that nobody here wrote, as tests use them: Go's sumdb packages (Debian), and aics-tlog (PyPI).

Each is a program that takes many receipts, proofs or notes at once, one a line, and answers with as many lines; `go/main.go` tells
how it is called. Both must be there in CI.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.ci import require_or_skip

HERE = Path(__file__).parent
GO_PACKAGES = Path("/usr/share/gocode")
AICS = Path(sys.prefix) / "foreign"
_SECONDS = 110


@dataclass(frozen=True)
class ForeignVerifier:
    """One of them."""

    name: Literal["go", "aics"]
    command: tuple[str, ...]
    environment: Mapping[str, str]

    def verdicts(
        self,
        mode: Literal["receipts", "consistency", "notes"],
        vkey: str,
        lines: Iterable[bytes | dict[str, Any]],
        *,
        witnesses: Sequence[str] = (),
    ) -> list[str]:
        """For each line, `ok` or why it is refused.

        Args:
            witnesses: vkeys of those that must have cosigned every checkpoint; aics-tlog alone knows of them.
        """
        sent = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        assert not any(b"\n" in line for line in sent)
        done = self._run(mode, vkey, *witnesses, given=b"".join([line + b"\n" for line in sent]))
        told = done.stdout.decode().splitlines()
        # A verifier that stumbled would have refused the rest without looking at it.
        assert len(told) == len(sent), done.stderr.decode()
        assert done.returncode == int(any(line != "ok" for line in told)), done.stderr.decode()
        return told

    def tiles(self, vkey: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
        """What it says of the files of a log."""
        return self._run("tiles", vkey, str(folder))

    def _run(self, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self.command, *arguments],
            input=given,
            env={**os.environ, **self.environment},
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )


@pytest.fixture(scope="session")
def go_verifier(tmp_path_factory: pytest.TempPathFactory) -> ForeignVerifier:
    """Go's `note` and `tlog`, as golang.org itself checks modules with them."""
    require_or_skip(shutil.which("go"), "Go (Debian: golang-go)")
    packages = GO_PACKAGES / "src/golang.org/x/mod/sumdb"
    require_or_skip(packages.is_dir(), "Go's sumdb packages (Debian: golang-golang-x-mod-dev)")
    program = tmp_path_factory.mktemp("go") / "checker"
    # As an operator would who has Debian's packages only: nothing is fetched.
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GO_PACKAGES), "GOFLAGS": ""}
    done = subprocess.run(
        ["go", "build", "-o", str(program), str(HERE / "go/main.go")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return ForeignVerifier("go", (str(program),), {})


@pytest.fixture(scope="session")
def aics_verifier() -> ForeignVerifier:
    """The package of a single author, who read the same specifications."""
    require_or_skip((AICS / "aics_tlog").is_dir(), "aics-tlog (requirements/foreign.txt)")
    command = (sys.executable, "-W", "error", str(HERE / "aics_checker.py"))
    return ForeignVerifier("aics", command, {"PYTHONPATH": str(AICS)})


@pytest.fixture(scope="session", params=["go", "aics"])
def foreign(request: pytest.FixtureRequest) -> ForeignVerifier:
    """Each of them in turn."""
    verifier: ForeignVerifier = request.getfixturevalue(f"{request.param}_verifier")
    return verifier
