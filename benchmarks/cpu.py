"""CPU time of process trees, read from /proc (Linux). The clock ticks 100 times a second: measure over seconds."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    """Of one process: identity (a pid alone is used again after its process ends) and CPU seconds so far."""

    pid: int
    parent: int
    started: int
    cpu_s: float


def read_stat(pid: int) -> ProcessStat | None:
    """The process as it is now, or None if there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return parse_stat(text)


def parse_stat(text: str) -> ProcessStat:
    """Read one line of /proc/PID/stat. The name, in parentheses, may itself hold spaces and parentheses."""
    pid = int(text.split(" ", 1)[0])
    fields = text.rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # user and system time
    return ProcessStat(pid=pid, parent=int(fields[1]), started=int(fields[19]), cpu_s=ticks / _TICKS_PER_S)


def process_tree(roots: Iterable[int]) -> list[ProcessStat]:
    """The processes `roots` and all their descendants that live now, each once."""
    found = (read_stat(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit())
    by_pid = {stat.pid: stat for stat in found if stat is not None}
    children: dict[int, list[int]] = {}
    for stat in by_pid.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    waiting, tree = list(roots), dict[int, ProcessStat]()
    while waiting:
        pid = waiting.pop()
        if pid in by_pid and pid not in tree:
            tree[pid] = by_pid[pid]
            waiting += children.get(pid, [])
    return list(tree.values())


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system seconds that the trees below `roots` have used, as far as their processes still live."""
    return sum(stat.cpu_s for stat in process_tree(roots))


def settle(roots: Iterable[int], *, busy: float = 0.15, window_s: float = 0.1, at_most_s: float = 3.0) -> None:
    """Return when the trees are quiet, so that what one run left behind does not slow the next target.

    Args:
        busy: Share of one core below which a tree counts as quiet.
        window_s: Time over which the share is taken.
        at_most_s: A tree that never becomes quiet is not waited for any longer.
    """
    trees = tuple(roots)
    deadline = time.monotonic() + at_most_s
    while time.monotonic() < deadline:
        before = cpu_seconds(trees)
        time.sleep(window_s)
        if cpu_seconds(trees) - before <= busy * window_s:
            return
