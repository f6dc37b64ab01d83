"""`datong demo`: a scripted tour of a real mesh that checks itself at every step, then ends.

It brings up a mesh of its own in a temporary folder with `datong up`, and does everything else as a user would, with the same
commands. Exit status 0 means that every step showed what it was to show.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.demo.identities import CIVIL_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.demo.synthetic import ENTERPRISE_IN_GOOD_ORDER, RESIDENT_MARRIED
from exchange import Language
from gateway.cli import console_io as io

PURPOSE = "public-rental-housing"
COMPANY = f"{TAX_SUBSYSTEM}/enterprises/enterprises/{ENTERPRISE_IN_GOOD_ORDER}"
MARRIAGE = f"{CIVIL_SUBSYSTEM}/residents/residents/{RESIDENT_MARRIED}/marriage"
START_SECONDS = 60
STEP_SECONDS = 60

TEXTS: dict[str, dict[Language, str]] = {
    "up": {"en": "a mesh of its own comes up in {folder}", "zh": "在 {folder} 启动一套独立的演示环境"},
    "company": {"en": "housing asks the tax bureau for a company", "zh": "住房保障局向税务局查询企业"},
    "marriage": {"en": "housing asks civil affairs for a marriage", "zh": "住房保障局向民政局查询婚姻状况"},
    "certificate": {
        "en": "housing has the tax bureau issue a clearance certificate (an unsafe operation: intent first)",
        "zh": "住房保障局请税务局开具完税证明（会产生变更的操作：先记录意图）",
    },
    "stranger": {"en": "a department without a grant is refused: 403", "zh": "没有授权的部门被拒绝：403"},
    "purpose": {"en": "the wrong purpose is refused: 403", "zh": "用途不符被拒绝：403"},
    "record": {"en": "the record, refusals included", "zh": "全部留痕，拒绝也在内"},
    "verify": {
        "en": "a receipt is verified offline, with the key list alone",
        "zh": "仅凭密钥清单离线验证回执",
    },
    "forged": {
        "en": "the same receipt with one character changed does not verify",
        "zh": "改动一个字符的回执不能通过验证",
    },
    "check": {"en": "the whole log is derived again from its records: it agrees", "zh": "由记录重新推导整个日志：一致"},
    "tampered": {
        "en": "in a copy of the log one refusal is turned into a success: the check names it",
        "zh": "在日志副本中把一次拒绝改成成功：检查指出了被改的记录",
    },
    "reconcile": {
        "en": "the gateway's log and the departments' ledgers agree",
        "zh": "网关日志与各部门台账一致",
    },
    "done": {"en": "every step showed what it was to show", "zh": "每一步都与预期一致"},
    "failed": {"en": "this step did not show what it was to show: {problem}", "zh": "这一步与预期不符：{problem}"},
}


class _TourError(Exception):
    """A step did not show what it was to show."""


class _Tour:
    """Runs commands and shows them."""

    def __init__(self, data: Path, language: Language) -> None:
        self._data = data
        self._language = language
        self._number = 0

    def step(self, name: str, **facts: object) -> None:
        self._number += 1
        typer.echo(f"\n{self._number}. {TEXTS[name][self._language].format_map(facts)}")

    def run(self, *arguments: str, status: int = 0, shown: int = 8) -> str:
        """Run one datong command; returns its output. Raises _TourError if its exit status is another."""
        typer.echo(f"   $ datong {' '.join(arguments)}")
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
        output = done.stdout + done.stderr
        lines = output.rstrip().splitlines()
        for line in lines[:shown]:
            typer.echo(f"     {line}")
        if len(lines) > shown:
            typer.echo(f"     … {len(lines) - shown} more lines")
        if done.returncode != status:
            raise _TourError(f"exit status {done.returncode}, not {status}\n{output}")
        return done.stdout

    def call(self, department: str, what: str, *, expect: int, purpose: str = PURPOSE, more: Sequence[str] = ()) -> Any:
        """Make one exchange; returns the parsed body. Raises _TourError if the HTTP status is another."""
        output = self.run(
            *("call", "--data", str(self._data), "--as", department, "--purpose", purpose, "--json", *more, what),
            status=0 if expect < 400 else 1,
            shown=0,
        )
        answer = json.loads(output)
        typer.echo(f"     {answer['status']}  {answer['body'].strip()[:300]}")
        if answer["status"] != expect:
            raise _TourError(f"HTTP status {answer['status']}, not {expect}")
        return json.loads(answer["body"])


def demo(
    lang: io.LangOption = "",
    keep: Annotated[Path | None, typer.Option(help="Keep keys and state in this new folder.")] = None,
) -> None:
    """A scripted tour: exchanges, refusals, a receipt verified, a log tampered with and found out. Ends by itself.

    Example: datong demo --lang zh
    """
    language = io.language(lang)
    folder = keep or Path(tempfile.mkdtemp(prefix="datong-demo-"))
    tour = _Tour(folder / "data", language)
    try:
        tour.step("up", folder=folder)
        with _mesh(folder / "data") as report:
            typer.echo(
                f"   {report['gateway']}, NATS {report['nats']['version']}, CA {report['ca']['root_sha256'][:16]}…"
            )
            _exchanges(tour, folder)
            _evidence(tour, folder)
        tour.step("done")
    except (_TourError, subprocess.TimeoutExpired) as error:
        typer.echo(TEXTS["failed"][language].format(problem=error), err=True)
        raise typer.Exit(1) from error
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _exchanges(tour: _Tour, folder: Path) -> None:
    tour.step("company")
    company = tour.call("housing", COMPANY, expect=200, more=("--receipt", str(folder / "receipt.json")))
    _expect(company.get("uscc") == ENTERPRISE_IN_GOOD_ORDER, "the tax bureau answered about another company")
    tour.step("marriage")
    tour.call("housing", MARRIAGE, expect=200)
    tour.step("certificate")
    tour.call("housing", f"{COMPANY}/certificates", expect=201, more=("-X", "POST"))
    tour.step("stranger")
    refusal = tour.call("stranger", COMPANY, expect=403)
    _expect(refusal.get("rule") == "grant", "another rule refused")
    tour.step("purpose")
    refusal = tour.call("housing", COMPANY, expect=403, purpose="marketing")
    _expect(refusal.get("rule") == "purpose", "another rule refused")


def _evidence(tour: _Tour, folder: Path) -> None:
    data, receipt, keys = folder / "data", folder / "receipt.json", folder / "data" / "keys.json"
    tour.step("record")
    page = json.loads(tour.run("audit", "list", "--data", str(data), "--json", shown=0))
    outcomes = [exchange["record"]["outcome"] for exchange in page["exchanges"]]
    typer.echo(f"     {', '.join(reversed(outcomes))}")
    _expect(outcomes.count("answered") == 3 and outcomes.count("refused") == 2, f"the outcomes are {outcomes}")
    tour.step("verify")
    tour.run("verify", str(receipt), "--keys", str(keys), shown=20)
    tour.step("forged")
    forged = folder / "forged.json"
    forged.write_text(receipt.read_text(encoding="utf-8").replace("answered", "answereb", 1), encoding="utf-8")
    tour.run("verify", str(forged), "--keys", str(keys), status=1, shown=20)
    tour.step("check")
    tour.run("audit", "check", "--data", str(data))
    tour.step("tampered")
    tour.run("audit", "check", "--database", f"sqlite:///{_tampered_copy(data, folder)}", "--keys", str(keys), status=1)
    tour.step("reconcile")
    ledgers = [str(path) for path in sorted((data / "adapters").glob("*/ledger"))]
    tour.run("audit", "reconcile", "--data", str(data), *(part for path in ledgers for part in ("--ledger", path)))


def _tampered_copy(data: Path, folder: Path) -> Path:
    """A copy of the log in which one refusal has become a success."""
    copy = folder / "tampered.db"
    with closing(sqlite3.connect(data / "log.db")) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute(
            "UPDATE log_entries SET outcome = 'answered', leaf = CAST(replace(CAST(leaf AS TEXT), "
            '\'"outcome":"refused"\', \'"outcome":"answered"\') AS BLOB) '
            "WHERE seq = (SELECT min(seq) FROM log_entries WHERE outcome = 'refused')"
        )
        target.commit()
    return copy


@contextmanager
def _mesh(data: Path) -> Iterator[dict[str, Any]]:
    """A mesh of `datong up`, as a user would start it; yields what it said when it was up."""
    command = [
        sys.executable,
        "-m",
        "deploy.cli",
        "up",
        "--data",
        str(data),
        "--port",
        "0",
        "--nats-port",
        "0",
        "--json",
    ]
    log = data.with_suffix(".log")
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            yield _until_up(process, log)
        finally:
            process.terminate()
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_up(process: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        report: dict[str, Any] = json.loads(line)
        if report["event"] == "up":
            return report
    raise _TourError(f"the mesh did not come up: {log.read_text(encoding='utf-8')[-2000:]}")


def _expect(holds: bool, problem: str) -> None:
    if not holds:
        raise _TourError(problem)
