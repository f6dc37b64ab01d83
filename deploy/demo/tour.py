"""`datong demo`: a scripted tour of a real mesh that checks itself at every step, then ends.

It brings up a mesh of its own in a temporary folder with `datong up`, and does everything else as a user would, with the same
commands, standing in that folder. Exit status 0 means that every step showed what it was to show.
"""

from __future__ import annotations

import json
import os
import re
import shlex
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

from deploy.demo.identities import CIVIL_SUBSYSTEM, HOUSING_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.demo.synthetic import ENTERPRISE_IN_GOOD_ORDER, RESIDENT_MARRIED
from exchange import Language
from gateway.cli import console_io as io

PURPOSE = "public-rental-housing"
COMPANY = f"{TAX_SUBSYSTEM}/enterprises/enterprises/{ENTERPRISE_IN_GOOD_ORDER}"
MARRIAGE = f"{CIVIL_SUBSYSTEM}/residents/residents/{RESIDENT_MARRIED}/marriage"
MARRIAGE_GRANT = "housing-marriage"
APPLICATION = {"applicant": "示例市住房保障局", "purpose": "公租房资格核查"}
HARMS = {
    "refusal": (
        "UPDATE log_entries SET outcome = 'answered', leaf = CAST(replace(CAST(leaf AS TEXT), "
        '\'"outcome":"refused"\', \'"outcome":"answered"\') AS BLOB) '
        "WHERE seq = (SELECT min(seq) FROM log_entries WHERE outcome = 'refused')",
    ),
    "order": (
        "UPDATE log_entries SET seq = -1 WHERE seq = 7",
        "UPDATE log_entries SET seq = 7 WHERE seq = 8",
        "UPDATE log_entries SET seq = 8 WHERE seq = -1",
    ),
    "removal": ("DELETE FROM log_entries WHERE seq = 7",),
    "signed": (
        "UPDATE log_checkpoints SET size = size + 1000000 WHERE size = (SELECT max(size) FROM log_checkpoints)",
    ),
}
"""What somebody who may write to the database could do to it."""
NAMED = {"refusal": r"entry \d+", "order": "entry 7", "removal": "entry 7", "signed": r"checkpoint \d+"}
"""What the check says first of it."""
STOP_SECONDS = 30
STEP_SECONDS = 60

TEXTS: dict[str, dict[Language, str]] = {
    "up": {"en": "A mesh of its own comes up in {folder}", "zh": "在 {folder} 启动一套独立的演示环境"},
    "company": {"en": "Housing asks the tax bureau for a company", "zh": "住房保障局向税务局查询企业"},
    "marriage": {"en": "Housing asks civil affairs for a marriage", "zh": "住房保障局向民政局查询婚姻状况"},
    "certificate": {
        "en": "Housing has the tax bureau issue a clearance certificate (it changes something, so the intent is recorded "
        "first)",
        "zh": "住房保障局请税务局开具完税证明（会产生变更，因此先记录意图）",
    },
    "stranger": {"en": "A department without a grant is refused", "zh": "没有授权的部门被拒绝"},
    "purpose": {"en": "The wrong purpose is refused", "zh": "用途不符被拒绝"},
    "revoke": {
        "en": "Civil affairs revokes the grant: the next question is refused, no part was restarted",
        "zh": "民政局撤销授权：下一次查询即被拒绝，无需重启任何部分",
    },
    "compromised": {
        "en": "Housing's certificate is revoked at the CA: its next request is refused by the gateway that runs",
        "zh": "CA 吊销住房保障局的证书：运行中的网关拒绝其下一次请求",
    },
    "record": {"en": "All of it is on the record, refusals included", "zh": "全部留痕，拒绝也在内"},
    "verify": {
        "en": "The receipt is verified offline: one file, the answer, and a list of keys",
        "zh": "离线验证回执：只需回执、应答内容和密钥清单",
    },
    "forged": {
        "en": "One character of the receipt is changed: it no longer holds",
        "zh": "改动回执中的一个字符：不再有效",
    },
    "check": {"en": "The whole log is derived again from its records", "zh": "由记录重新推导整个日志"},
    "tampered": {
        "en": "Copies of the log are tampered with: the check names what was changed",
        "zh": "篡改日志副本：检查指出被改动之处",
    },
    "refusal": {"en": "one refusal is turned into a success", "zh": "把一次拒绝改成成功"},
    "order": {"en": "two records change places", "zh": "两条记录互换位置"},
    "removal": {"en": "a record is removed", "zh": "删除一条记录"},
    "signed": {"en": "a checkpoint says another size", "zh": "改动检查点的长度"},
    "reconcile": {
        "en": "The gateway's log and the departments' own ledgers agree",
        "zh": "网关日志与各部门自有台账一致",
    },
    "doctor": {"en": "Nothing is broken", "zh": "各部分运行正常"},
    "done": {"en": "Every step showed what it was to show.", "zh": "每一步都与预期一致。"},
    "failed": {"en": "This step did not show what it was to show: {problem}", "zh": "这一步与预期不符：{problem}"},
    "more": {"en": "… {count} more lines", "zh": "…… 另有 {count} 行"},
}


class TourError(Exception):
    """A step did not show what it was to show."""


class Tour:
    """Runs commands in a folder, and shows them."""

    def __init__(self, folder: Path, language: Language) -> None:
        self._folder = folder
        self._language = language
        self._number = 0
        self.made: dict[str, str] = {}
        """Exchange -> the outcome that its record must have."""

    def say(self, name: str, **facts: object) -> str:
        """One of our texts."""
        return TEXTS[name][self._language].format_map(facts)

    def step(self, name: str, **facts: object) -> None:
        """Announce the next step."""
        self._number += 1
        typer.echo(f"\n{self._number}. {self.say(name, **facts)}")

    def run(self, *arguments: str, status: int | None = 0, shown: int | None = 20) -> str:
        """Run one datong command and show it; returns what it printed.

        Args:
            status: The exit status that is expected; None if the caller looks at the output instead.
            shown: How many lines of output to show; None shows not even the command.

        Raises:
            TourError: Its exit status is another, it does not end, or it printed nothing to look at.
        """
        if shown is not None:
            typer.echo(f"   $ datong {shlex.join(arguments)}")
        try:
            done = subprocess.run(
                [*_datong(), *arguments],
                cwd=self._folder,
                env=_environment(self._language),
                capture_output=True,
                text=True,
                timeout=STEP_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TourError(f"no end after {STEP_SECONDS} s") from error
        lines = (done.stdout + done.stderr).rstrip().splitlines()
        if done.returncode != status and (status is not None or not done.stdout):
            raise TourError(f"exit status {done.returncode}, not {status}\n" + "\n".join(lines))
        for line in lines[: shown or 0]:
            typer.echo(f"     {line}")
        if shown and len(lines) > shown:
            typer.echo(f"     {self.say('more', count=len(lines) - shown)}")
        return done.stdout

    def call(
        self, department: str, what: str, *, expect: int, purpose: str = PURPOSE, more: Sequence[str] = ()
    ) -> tuple[Any, str]:
        """Make one exchange; returns the body, parsed and as it came. Raises TourError if the HTTP status is another."""
        answer = self._exchange(department, what, purpose, more)
        if answer["status"] != expect:
            raise TourError(f"HTTP status {answer['status']}, not {expect}")
        return json.loads(answer["body"]), answer["body"]

    def refused(
        self, department: str, what: str, *, rule: str, purpose: str = PURPOSE, tries: int = 1, status: int = 403
    ) -> str:
        """Make one exchange that this rule must refuse, if not at the first try, and return its identifier.

        Raises:
            TourError: It is not refused, or for another reason.
        """
        for left in reversed(range(tries)):
            answer = self._exchange(department, what, purpose, ())
            if answer["status"] == status or not left:
                break
        found = answer["status"], json.loads(answer["body"]).get("rule")
        if found != (status, rule):
            raise TourError(f"status and rule are {found}, not {(status, rule)}")
        return str(answer["headers"]["x-road-request-id"])

    def _exchange(self, department: str, what: str, purpose: str, more: Sequence[str]) -> dict[str, Any]:
        options = ("--data", "data", "--as", department, "--purpose", purpose, *more, "--json")
        answer: dict[str, Any] = json.loads(self.run("call", *options, what, status=None, shown=0))
        body = json.loads(answer["body"])
        refusal = "rule" in body
        said = f"{body['detail']} {body['next']}" if refusal else json.dumps(body, ensure_ascii=False)
        typer.echo(f"     {answer['status']} {said}")
        self.made[answer["headers"]["x-road-request-id"]] = "refused" if refusal else "answered"
        return answer


def demo(
    lang: io.LangOption = "",
    keep: Annotated[Path | None, typer.Option(help="Keep keys, state and receipts in this new folder.")] = None,
) -> None:
    """A scripted tour: exchanges, refusals, a receipt verified, a log tampered with and found out. Ends by itself.

    Example: datong demo --lang zh

    Exit status: 0 if every step showed what it was to show, 1 otherwise.
    """
    language = io.language(lang)
    try:
        if keep is not None:
            keep.mkdir(parents=True, mode=0o700)
        folder = (keep or Path(tempfile.mkdtemp(prefix="datong-demo-"))).resolve()
    except OSError as error:
        # Also one that exists: an earlier tour has revoked what this one would ask for.
        io.fail(f"{error.filename}: {error.strerror}")
    tour = Tour(folder, language)
    try:
        tour.step("up", folder=folder)
        with _mesh(folder, language) as report:
            typer.echo(
                f"     {report['gateway']}, NATS {report['nats']['version']}, CA {report['ca']['root_sha256'][:16]}…"
            )
            exchanges(tour, folder)
            refusals(tour)
            compromised = revocation(tour)
            evidence(tour, folder, compromised)
            tour.step("doctor")
            # Its warnings are about this machine, which is not part of the tour: only the sum is shown.
            typer.echo("     " + tour.run("doctor", "--data", "data", shown=0).rstrip().rpartition("\n")[2])
        typer.echo(f"\n✔ {tour.say('done')}")
    except TourError as error:
        typer.echo(f"\n✘ {tour.say('failed', problem=error)}", err=True)
        raise typer.Exit(1) from error
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def exchanges(tour: Tour, folder: Path) -> None:
    """Three answers: over HTTP, from a database, and one that changes something."""
    tour.step("marriage")
    tour.call("housing", MARRIAGE, expect=200)
    tour.step("certificate")
    body = json.dumps(APPLICATION, ensure_ascii=False)
    tour.call("housing", f"{COMPANY}/certificates", expect=201, more=("--body", body))
    tour.step("company")
    company, text = tour.call("housing", COMPANY, expect=200, more=("--receipt", "receipt.json"))
    expect(company.get("uscc") == ENTERPRISE_IN_GOOD_ORDER, "the tax bureau answered about another company")
    (folder / "answer.json").write_text(text, encoding="utf-8")


def refusals(tour: Tour) -> None:
    """No grant, the wrong purpose, a grant that was revoked a moment ago."""
    tour.step("stranger")
    tour.refused("stranger", COMPANY, rule="grant")
    tour.step("purpose")
    tour.refused("housing", COMPANY, purpose="marketing", rule="purpose")
    tour.step("revoke")
    tour.run("grant", "revoke", MARRIAGE_GRANT, "--data", "data", "--why", "demo")
    # In force within a second; a command needs about as long to start.
    tour.refused("housing", MARRIAGE, rule="grant-revoked", tries=5)


def revocation(tour: Tour) -> str:
    """A certificate that no longer counts; returns the exchange that was refused for it."""
    tour.step("compromised")
    options = ("--for", HOUSING_SUBSYSTEM, "--reason", "keyCompromise", "--why", "demo", "--ca", "data/ca")
    tour.run("ca", "revoke", *options)
    return tour.refused("housing", COMPANY, rule="certificate-revoked", status=401, tries=5)


def evidence(tour: Tour, folder: Path, compromised: str) -> None:
    """The record is complete, provable, and shows what was done to it.

    Args:
        compromised: The exchange that was refused because its certificate was revoked.
    """
    tour.step("record")
    tour.run("audit", "list", "--data", "data", "--limit", "6")
    page = json.loads(tour.run("audit", "list", "--data", "data", "--limit", "1000", "--json", shown=None))
    recorded = {each["record"]["id"]: each["record"]["outcome"] for each in page["exchanges"]}
    expect(tour.made.items() <= recorded.items(), f"made {tour.made}, recorded {recorded}")
    rules = {each["record"]["id"]: each["record"]["rule"] for each in page["exchanges"]}
    expect(rules[compromised] == "certificate-revoked", f"rule on the record: {rules[compromised]}")
    tour.step("verify")
    tour.run("verify", "receipt.json", "--keys", "data/keys.json", "--answer", "answer.json")
    tour.step("forged")
    receipt = (folder / "receipt.json").read_text(encoding="utf-8")
    forged = receipt.replace(r"\"status\":200", r"\"status\":201", 1)
    (folder / "forged.json").write_text(forged, encoding="utf-8")
    tour.run("verify", "forged.json", "--keys", "data/keys.json", status=1)
    tour.step("check")
    tour.run("audit", "check", "--data", "data")
    tour.step("tampered")
    for harm, statements in HARMS.items():
        typer.echo(f"   {tour.say(harm)}")
        tamper(folder / "data" / "log.db", folder / "tampered.db", statements)
        said = tour.run("audit", "check", "--database", "sqlite:///tampered.db", "--keys", "data/keys.json", status=1)
        expect(re.search(rf"\b{NAMED[harm]}\b", said) is not None, f"the check does not name {NAMED[harm]}: {said}")
    tour.step("reconcile")
    ledgers = [str(path.relative_to(folder)) for path in sorted((folder / "data" / "adapters").glob("*/ledger"))]
    tour.run("audit", "reconcile", "--data", "data", *(part for path in ledgers for part in ("--ledger", path)))


def tamper(log: Path, copy: Path, statements: Sequence[str]) -> None:
    """Make a copy of the log and do something to it; raises TourError if that changes nothing."""
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(log)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        for statement in statements:
            changed = target.execute(statement)
            expect(changed.rowcount == 1, f"nothing was changed by: {statement}")
        target.commit()


@contextmanager
def _mesh(folder: Path, language: Language) -> Iterator[dict[str, Any]]:
    """A mesh of `datong up`, as a user would start it; yields what it said when it was up."""
    options = ("up", "--data", "data", "--port", "0", "--nats-port", "0", "--json", "--end-with-parent")
    log = folder / "up.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*_datong(), *options],
            cwd=folder,
            env=_environment(language),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield _until_up(process, log)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _until_up(process: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        report: dict[str, Any] = json.loads(line)
        if report["event"] == "up":
            return report
    raise TourError(f"the mesh did not come up\n{log.read_text(encoding='utf-8')[-2000:]}")


def _datong() -> list[str]:
    # -P: what lies in the folder where the command runs must not lend us a package.
    return [sys.executable, "-P", "-m", "deploy.cli"]


def _environment(language: Language) -> dict[str, str]:
    """The user's, without settings of a mesh of theirs: the tour must touch its own alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DATONG_")}
    ours = str(Path(__file__).resolve().parents[2])
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH", "")))),
        "PYTHONUTF8": "1",
        "LC_ALL": "zh_CN.UTF-8" if language == "zh" else "C.UTF-8",
    }


def expect(holds: bool, problem: str) -> None:
    """Raise TourError with `problem` unless it holds."""
    if not holds:
        raise TourError(problem)
