"""Children of one parent: started in order, ready before the next, restarted when they die, stopped in reverse order.

Rules:
1. A child is ready when it says so, in a file of its own; no one sleeps and hopes.
2. Every child ends with the parent, also when the parent is killed (`deploy.child`).
3. A child that dies unasked is started again, after a pause that doubles from 0.2 s to 30 s, and it is said each time.
4. Stopping has one deadline for all; who has not ended by then is killed, with everything it started.
5. Children run in sessions of their own: Ctrl-C in the terminal reaches only the parent, which keeps the order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

_POLL_SECONDS = 0.02
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 10.0
"""A child that ran for so long was well: its next pause is the first one again."""
_LOG_LIMIT = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How to run one child."""

    name: str
    """Of its log, its pid file and in messages."""
    argv: tuple[str, ...]
    """The first is the path of an executable; PATH is not searched."""
    ready_file: Path
    """Written by the child when it is ready, removed before its start; `{pid}` in the name stands for its pid."""
    ready_within: float = 30.0
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to our own."""
    restart: bool = True


EventKind = Literal["ready", "died", "restarting", "failed", "stopping", "stopped", "killed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a child, for whoever tells the user."""

    kind: EventKind
    name: str
    pid: int = 0
    code: int = 0
    """Exit code of a child that died; minus the signal that killed it."""
    pause: float = 0.0
    """Seconds until the next try."""
    log: Path = Path()


class StartError(Exception):
    """A child ended, or was not ready in time. The text names its log and quotes the end of it."""


class Child:
    """One running program. Made by `Supervisor.start`."""

    def __init__(self, program: Program, run_folder: Path) -> None:
        self.program = program
        self.log = run_folder / f"{program.name}.log"
        self._pid_file = run_folder / f"{program.name}.pid"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def ready_file(self) -> Path:
        return self._ready_file(str(self.pid))

    def ready_text(self) -> str:
        """What the child wrote when it became ready."""
        return self.ready_file.read_text(encoding="utf-8")

    async def start(self) -> None:
        """Start the program and return when it is ready; raises StartError, and then nothing of it is left."""
        pattern = self._ready_file("*")
        for stale in pattern.parent.glob(pattern.name):
            stale.unlink(missing_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py"))),
                *(str(os.getpid()), *self.program.argv),
                # Where the kernel does not end children with their parent, the end of this pipe does.
                stdin=asyncio.subprocess.DEVNULL if sys.platform == "linux" else asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.program.environment},
                start_new_session=True,
            )
        self._pid_file.write_text(f"{self.pid}\n", encoding="utf-8")
        try:
            await self._until_ready()
        except BaseException:
            await self.stop(0)
            raise

    async def _until_ready(self) -> None:
        assert self._process
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.program.ready_within
        while not _has_content(self.ready_file):
            if self._process.returncode is not None:
                raise StartError(
                    f"{self.program.name} ended with exit code {self._process.returncode}. {self.last_words()}"
                )
            if loop.time() > deadline:
                raise StartError(
                    f"{self.program.name} was not ready within {self.program.ready_within:g} s. {self.last_words()}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def wait(self) -> int:
        """Return the exit code when the process has ended."""
        assert self._process
        return await self._process.wait()

    async def stop(self, within: float) -> bool:
        """Ask the process to end, kill it and its group after `within` seconds; returns whether it ended by itself."""
        if not self.running:
            self._forget()
            return True
        assert self._process
        if within > 0:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(within):
                    await self._process.wait()
            except TimeoutError:
                pass
            else:
                self._forget()
                return True
        self.kill()
        await self._process.wait()
        self._forget()
        return False

    def kill(self) -> None:
        """Kill the process and everything in its session, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process; raises ProcessLookupError if it has ended."""
        if not self.running:
            raise ProcessLookupError(self.program.name)
        assert self._process
        self._process.send_signal(number)

    def last_words(self, lines: int = 12) -> str:
        """The end of the log, for a message."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        end = "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-lines:])
        return f"Its log, {self.log}, ends with:\n{end}" if end else f"Its log, {self.log}, is empty."

    def _ready_file(self, pid: str) -> Path:
        path = self.program.ready_file
        return path.with_name(path.name.replace("{pid}", pid))

    def _forget(self) -> None:
        self._pid_file.unlink(missing_ok=True)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


class Supervisor:
    """Keeps children running until it is left.

    Args:
        run_folder: For logs and pid files; exists.
        on_event: Told what happens; must not raise.
    """

    def __init__(self, run_folder: Path, on_event: Callable[[Event], None] = lambda event: None) -> None:
        self._run_folder = run_folder
        self._on_event = on_event
        self._children: dict[str, Child] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Supervisor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def children(self) -> Mapping[str, Child]:
        """By name, in the order of their start."""
        return self._children

    async def start(self, program: Program) -> Child:
        """Start a child, return when it is ready, watch it from then on; raises StartError."""
        child = Child(program, self._run_folder)
        # Noted before it is ready: several may be starting, and the order of stopping is that of the calls.
        self._children[program.name] = child
        try:
            await child.start()
        except BaseException:
            self._children.pop(program.name, None)
            raise
        self._tell("ready", child)
        self._watches[program.name] = asyncio.create_task(self._watch(child), name=f"watch {program.name}")
        return child

    async def stop_child(self, name: str, within: float = 10.0) -> None:
        """Stop one child, which then stays down."""
        child = self._children.pop(name)
        if name in self._watches:
            await _end(self._watches.pop(name))
        self._tell("stopping", child)
        ended = await child.stop(within)
        self._tell("stopped" if ended else "killed", child)

    async def stop(self, within: float = 10.0) -> None:
        """Stop all children in reverse order; all have ended when this returns, within about `within` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        # No child may be brought back while others are stopped.
        for watch in self._watches.values():
            watch.cancel()
        for name in reversed(list(self._children)):
            if name in self._children:  # one that was still starting may have gone by itself meanwhile
                await self.stop_child(name, max(0.05, deadline - loop.time()))

    async def _watch(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            started = loop.time()
            code = await child.wait()
            self._tell("died", child, code=code)
            if not child.program.restart:
                return
            if loop.time() - started > _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            while not child.running:
                self._tell("restarting", child, pause=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                try:
                    await child.start()
                except (StartError, OSError):
                    self._tell("failed", child)
            self._tell("ready", child)

    def _tell(self, kind: EventKind, child: Child, *, code: int = 0, pause: float = 0.0) -> None:
        self._on_event(Event(kind=kind, name=child.program.name, pid=child.pid, code=code, pause=pause, log=child.log))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
