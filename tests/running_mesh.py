"""A `datong up` in a process of its own, for tests: what it said, and what its printed commands do when pasted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = (sys.executable, "-m", "deploy.cli")
DATA = "my data"
"""Relative, with a space: printed commands must quote it."""


@dataclass
class Up:
    """A running `datong up --json`."""

    folder: Path
    process: subprocess.Popen[str]
    environment: dict[str, str]
    lines: list[dict[str, Any]] = field(default_factory=list)
    pids: dict[str, int] = field(default_factory=dict)

    @property
    def what(self) -> dict[str, Any]:
        """What it said when it was up."""
        return next(line for line in self.lines if line["event"] == "up")

    def read_until(self, event: str, **facts: object) -> dict[str, Any]:
        """The next line about `event` with these facts."""
        assert self.process.stdout
        for text in self.process.stdout:
            line: dict[str, Any] = json.loads(text)
            self.lines.append(line)
            if line["event"] == event and facts.items() <= line.items():
                return line
        pytest.fail(f"no {event} {facts} came; it said {self.lines}\n{self.errors()}")

    def errors(self) -> str:
        """What it wrote to standard error."""
        return (self.folder / "stderr").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def paste(self, command: str, *, seconds: float = 30) -> subprocess.CompletedProcess[str]:
        """What a command printed by it does in the folder where it was printed."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def status(self, command: str) -> int:
        """Status of the answer to a pasted curl line; what a busy machine could not take is asked again, as the answer says."""
        for _ in range(5):
            done = self.paste(command)
            assert done.returncode == 0, done.stderr
            status = int(done.stdout.split()[1])
            wait = re.search(r"(?im)^retry-after: (\d+)", done.stdout)
            if status != 503 or wait is None:
                break
            print(
                done.stdout, *(log.read_text()[-2000:] for log in (self.folder / DATA / "run").glob("*.log")), sep="\n"
            )
            time.sleep(int(wait[1]))
        return status

    def command(self, status: int) -> str:
        """The first printed command that is to be answered with `status`."""
        return str(next(each["command"] for each in self.what["examples"] if each["status"] == status))


def source_environment() -> dict[str, str]:
    """Our environment without settings of Datong, where its packages are those of this source tree."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DATONG_")}
    return {**environment, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def start(folder: Path, *options: str, command: Sequence[str] = SOURCE, **changes: str) -> subprocess.Popen[str]:
    """Start `datong up` in `folder`; its errors go to the file `stderr` there.

    Args:
        changes: Of the environment.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "stderr").open("w") as errors:
        return subprocess.Popen(
            [*command, "up", "--data", DATA, *options],
            cwd=folder,
            env=source_environment() | changes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )


@contextmanager
def datong_up(folder: Path, *options: str, command: Sequence[str] = SOURCE, **changes: str) -> Iterator[Up]:
    """A mesh that is up; killed at the end if the test did not stop it."""
    with start(folder, "--json", *options, command=command, **changes) as process:
        try:
            running = Up(folder, process, source_environment() | changes)
            running.pids = running.read_until("up")["pids"]
            yield running
        finally:
            process.kill()
