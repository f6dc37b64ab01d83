"""What `datong doctor` and `datong adapter check` find: one line a check, good or bad, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import typer

from exchange import Language

State = Literal["ok", "warning", "failed"]
MARKS: dict[State, str] = {"ok": "✔", "warning": "!", "failed": "✘"}


START = "Start it: datong up, or datong gateway.", "请启动：datong up 或 datong gateway。"
"""What to do about something that does not run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    name: str
    """What was looked at, e.g. `certificate gateway`."""
    state: State
    says: dict[Language, str]
    todo: dict[Language, str]
    """Empty texts if there is nothing to do."""

    def plain(self, language: Language) -> dict[str, str]:
        """For programs."""
        return {"check": self.name, "state": self.state, "says": self.says[language], "todo": self.todo[language]}


def ok(name: str, en: str, zh: str) -> Finding:
    """As it should be."""
    return Finding(name, "ok", {"en": en, "zh": zh}, {"en": "", "zh": ""})


def warning(name: str, en: str, zh: str, todo: str, todo_zh: str) -> Finding:
    """Works now, and may not for long; or not what a mesh of a government should be."""
    return Finding(name, "warning", {"en": en, "zh": zh}, {"en": todo, "zh": todo_zh})


def failed(name: str, en: str, zh: str, todo: str, todo_zh: str) -> Finding:
    """Broken."""
    return Finding(name, "failed", {"en": en, "zh": zh}, {"en": todo, "zh": todo_zh})


def show(findings: Sequence[Finding], speak: Language) -> None:
    """Print a line for each, what to do below it, and the counts."""
    for each in findings:
        typer.echo(f"{MARKS[each.state]} {each.name}: {each.says[speak]}")
        if each.todo[speak]:
            typer.echo(f"    {each.todo[speak]}")
    broken = sum(each.state == "failed" for each in findings)
    doubtful = sum(each.state == "warning" for each in findings)
    summary = {
        "en": f"checks: {len(findings)}, failed: {broken}, warnings: {doubtful}",
        "zh": f"检查：{len(findings)} 项，失败：{broken} 项，警告：{doubtful} 项",
    }
    typer.echo(summary[speak])
