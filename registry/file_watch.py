"""Whether an SQLite file was written since the last look, for a hundredth of what a query costs.

A gateway asks several times a second, on the event loop that carries exchanges: a query through the driver's thread would hold
up one request in a hundred.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path


class FileWatch:
    """Looks at one file. It is opened at the first look and belongs to the thread that looks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def look(self) -> int | None:
        """A number that differs from the last one if another connection has written; None if it cannot be known now."""
        try:
            if self._connection is None:
                # "rw": a file that is gone must not be made anew. No timeout: a file that is locked is asked again.
                uri = f"{self._path.absolute().as_uri()}?mode=rw"
                self._connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)
            number: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            self.close()
            return None
        return number

    def close(self) -> None:
        """Let go of the file: the next look opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
