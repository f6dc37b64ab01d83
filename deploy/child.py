"""Starts a program that ends with its parent, however the parent ends.

    python child.py PARENT_PID PROGRAM [ARGUMENT...]

Rules:
1. Linux: the kernel is asked to kill this process when its parent ends, then the program takes its place. Same pid, and
   nothing is left running in between.
2. Elsewhere: this process stays, passes signals on, and kills the program when its standard input ends, which is a pipe
   that only the parent holds.
3. Killed, not asked: the parent had no chance to stop us in order, and nothing here may outlive a crash to hold a port.
   What was acknowledged survives that (the log and the ledgers are durable before they answer).
4. Only the standard library, and started without site packages: it costs some milliseconds before every child.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux" and not os.environ.pop("DATONG_CHILD_WATCHES", ""):
        end_with_parent(signal.SIGKILL)
        if os.getppid() != parent:  # it ended before we asked
            return 1
        os.execv(program[0], program)
    return watch(program)


def end_with_parent(signal_number: int) -> None:
    """Let the kernel send us `signal_number` when our parent ends, also after an exec (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        if ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal_number, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def watch(program: list[str]) -> int:
    """Run the program below us, kill it when standard input ends, return its exit code."""
    import subprocess
    import threading

    process = subprocess.Popen(program, stdin=subprocess.DEVNULL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: process.send_signal(received))

    def kill_at_end() -> None:
        while os.read(0, 1024):
            pass
        process.kill()

    threading.Thread(target=kill_at_end, daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
