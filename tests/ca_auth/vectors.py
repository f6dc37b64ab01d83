"""The outside certificate vectors (`../shared/vectors`), and how a verdict of ours compares with theirs."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ca_auth import ChainRefusedError, PathPolicy, PathValidator, RevocationData, read_certificate_file
from gateway.cli.ca_check import check
from tests.ca_auth.strict_cases import STRICT_CASES
from tests.ci import require_or_skip

VECTORS = Path(__file__).parents[3] / "shared" / "vectors"
SLOWEST = 1.0
"""Seconds; the real figures are below a tenth."""

_app = typer.Typer()
_app.command()(check)


def load(name: str) -> Any:
    """A file of vectors, None if it is not on this machine."""
    path = VECTORS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def require(vectors: object, name: str) -> None:
    """Skip, or fail in CI, if a file of vectors is not here."""
    require_or_skip(vectors is not None, f"{VECTORS / name}")


def certificates(files: list[bytes]) -> list[bytes]:
    """All certificates in these files, DER; a file may hold several."""
    return [each.encoded for data in files for each in read_certificate_file(data)]


def from_base64(text: str) -> bytes:
    """Bytes as the vectors carry them."""
    return base64.b64decode(text)


@dataclass(frozen=True, slots=True)
class Question:
    """One case: what is to be validated, when, and by which rules."""

    anchors: list[bytes]
    chain: list[bytes]
    at: datetime
    crls: tuple[bytes, ...] = ()
    ocsp: tuple[bytes, ...] = ()
    policy: PathPolicy = PathPolicy()  # noqa: RUF009  # frozen

    def ask(self) -> str:
        """The rule that refuses, or nothing."""
        revocation = RevocationData.of(self.crls, self.ocsp) if self.crls or self.ocsp else None
        leaf, *untrusted = certificates(self.chain)
        validator = PathValidator(certificates(self.anchors), revocation=revocation, policy=self.policy)
        try:
            validator.validate(leaf, untrusted, self.at)
        except ChainRefusedError as error:
            return error.rule
        return ""

    def ask_the_command(self, folder: Path, profile: str = "") -> str:
        """As `ask`, through `datong ca check`; the files are PEM or DER, as the vectors are."""
        separator = b"\n" if self.anchors[0].startswith(b"-----") else b""
        (folder / "anchors").write_bytes(separator.join(self.anchors))
        (folder / "chain").write_bytes(separator.join(self.chain))
        arguments = ["--anchor", str(folder / "anchors"), "--chain", str(folder / "chain"), "--json"]
        arguments += ["--at", self.at.isoformat(), "--max-depth", str(self.policy.max_depth)]
        for option, files in (("--crl", self.crls), ("--ocsp", self.ocsp)):
            for number, content in enumerate(files):
                path = folder / f"{option[2:]}-{number}"
                path.write_bytes(content)
                arguments += [option, str(path)]
        if profile:
            arguments += ["--profile", profile]
        result = CliRunner().invoke(_app, arguments)
        answer = json.loads(result.stdout)
        assert result.exit_code == (0 if answer["accepted"] else 1), result.output
        return "" if answer["accepted"] else answer["rule"]


def compare(case_id: str, expected: str, ask: Callable[[], str]) -> None:
    """Fail unless the verdict is the expected one, or a strict one that has been reviewed; and it must come quickly."""
    begin = time.perf_counter()
    rule = ask()
    spent = time.perf_counter() - begin
    assert spent < SLOWEST
    if expected == "FAILURE":
        assert rule, "accepted, and must be refused"
    elif case_id in STRICT_CASES:
        assert rule == STRICT_CASES[case_id].rule, (
            "a strict case changed its reason, or is accepted now: review the list"
        )
    elif rule:
        pytest.fail(f"refused by {rule}, and could be accepted")
