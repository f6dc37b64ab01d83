"""A witness that is killed while it answers one request, from standard input.

usage: witness_victim.py FOLDER before-commit|after-commit
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from exchange.witness.folder import WitnessFolder
from exchange.witness.known_logs import KnownLogs
from exchange.witness.state import Change, WitnessState
from exchange.witness.witness import Witness
from tests.exchange.witness_kit import Clock


class Victim(WitnessState):
    """Dies before or after the commit."""

    when = ""

    @contextlib.contextmanager
    def changing(self, origin: str) -> Iterator[Change]:
        with super().changing(origin) as change:
            yield change
            if self.when == "before-commit":
                os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    folder = WitnessFolder(Path(sys.argv[1]))
    state = Victim(folder.database)
    state.when = sys.argv[2]
    witness = Witness(folder.cosigner(), KnownLogs(folder.logs), state, Clock())
    print(witness.add_checkpoint(sys.stdin.buffer.read()))
