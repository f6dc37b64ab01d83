"""Every process of a run: started here, ended here, by its own pid.

1. A child gets a session of its own, so that Ctrl-C reaches only the benchmarks, which then end the children in order.
2. If the benchmarks themselves are killed, the kernel ends the children (PR_SET_PDEATHSIG).
3. Whatever a child started and left behind is ended too, unless its pid has meanwhile gone to another process.
"""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.cpu import ProcessStat, process_tree, read_stat
from benchmarks.errors import BenchError

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_GRACE_S = 10.0
_POLL_S = 0.05


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now. Another process could still take it before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Processes:
    """The children of one run. Use as a context manager: leaving it ends all of them, the last started first.

    Args:
        logs: Folder for one log file per child; it exists.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._running:
            _, process = self._running.pop()
            _end(process)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start one child. Its standard input stays open until it is to end.

        Args:
            environment: Added to our own.
            output: Where standard output goes; None: to the log, with standard error.
        """
        log = self.log_of(name)
        with log.open("wb") as errors, (output or log).open("ab") as out:
            process = subprocess.Popen(
                [str(part) for part in command],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self._running.append((name, process))
        return process

    def log_of(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def wait_listening(self, name: str, process: subprocess.Popen[bytes], port: int, *, at_most_s: float = 30) -> None:
        """Return when `process` accepts connections on `port`.

        Raises:
            BenchError: It ended before that, or took too long; the end of its log is in the message.
        """
        deadline = time.monotonic() + at_most_s
        while time.monotonic() < deadline:
            self.check_alive(name, process)
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(_POLL_S)
            else:
                return
        raise BenchError(f"{name} does not listen after {at_most_s:.0f} s\n{self.tail(name)}")

    def check_alive(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Raises BenchError with the end of the log if `process` has ended."""
        if process.poll() is not None:
            raise BenchError(f"{name} ended with code {process.returncode}\n{self.tail(name)}")

    def tail(self, name: str, *, characters: int = 1500) -> str:
        """The end of a child's log."""
        return self.log_of(name).read_text(errors="replace")[-characters:].strip()


def _end_with_parent() -> None:
    # Between fork and exec: only this one system call.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    below = process_tree([process.pid])
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for left in below:
        if left.pid != process.pid and _still_there(left):
            os.kill(left.pid, signal.SIGKILL)


def _still_there(process: ProcessStat) -> bool:
    now = read_stat(process.pid)
    return now is not None and now.started == process.started
