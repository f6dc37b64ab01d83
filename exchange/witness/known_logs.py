"""The logs that a witness knows: a file of verifier keys, one a line, that may grow while the witness runs.

Rules:
1. A line is a verifier key (`name+id+key`), empty, or a comment after `#`. The name of a key is the origin of its log; a log that
   changes its key has two lines for a while.
2. The file is looked at for every request. One that cannot be read leaves in force what was read before, and it is told.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from exchange.transparency.checkpoint import NoteError, NoteVerifier
from exchange.witness.protocol import origin_hash

events = structlog.get_logger("datong.witness")


class KnownLogs:
    """Verifier keys by origin. One thread at a time uses it."""

    def __init__(self, path: Path) -> None:
        """Read the file, which may be missing; raises NoteError, OSError."""
        self._path = path
        self._stamp = self._stamp_of_file()
        self._logs = self._read()

    def verifiers(self, origin: str) -> Sequence[NoteVerifier]:
        """The keys that may sign for a log; none if the log is not known."""
        self._look()
        return self._logs.get(origin, ())

    def origin(self, hashed: str) -> str | None:
        """The origin with this hash (`origin_hash`), if its log is known."""
        self._look()
        return next((origin for origin in self._logs if origin_hash(origin) == hashed), None)

    @property
    def origins(self) -> list[str]:
        return list(self._logs)

    def add(self, vkeys: Sequence[str]) -> None:
        """Write keys that the file does not have yet, durably; raises NoteError, OSError."""
        known = {verifier.vkey for verifiers in self._logs.values() for verifier in verifiers}
        fresh = [vkey for vkey in dict.fromkeys(NoteVerifier.from_vkey(one).vkey for one in vkeys) if vkey not in known]
        if fresh:
            content = self._path.read_text(encoding="utf-8") if self._path.exists() else _HEADING
            if not content.endswith("\n"):
                content += "\n"
            draft = self._path.with_name(f"{self._path.name}.new")
            with draft.open("w", encoding="utf-8") as file:
                file.write(content + "".join([f"{vkey}\n" for vkey in fresh]))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            self._look()

    def _look(self) -> None:
        stamp = self._stamp_of_file()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._logs = self._read()
        except (OSError, NoteError) as error:
            events.error("witness.logs_unreadable", file=str(self._path), reason=str(error))
        else:
            events.info("witness.logs", count=len(self._logs))

    def _read(self) -> dict[str, tuple[NoteVerifier, ...]]:
        found: dict[str, tuple[NoteVerifier, ...]] = {}
        if self._stamp is None:
            return found
        try:
            text = self._path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise NoteError(f"{self._path.name} is not UTF-8") from error
        for number, line in enumerate(text.splitlines(), 1):
            vkey = line.partition("#")[0].strip()
            if not vkey:
                continue
            try:
                verifier = NoteVerifier.from_vkey(vkey)
            except NoteError as error:
                raise NoteError(f"{self._path.name}, line {number}: {error}") from error
            found[verifier.name] = (*found.get(verifier.name, ()), verifier)
        return found

    def _stamp_of_file(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


_HEADING = "# Logs that this witness cosigns: one verifier key (name+id+key) a line. Read again when it changes.\n"
