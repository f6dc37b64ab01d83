"""The folder of a witness: its key, the logs it knows, what it remembers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from exchange.transparency.checkpoint import NoteError
from exchange.transparency.cosignature import ED25519, Cosigner


@dataclass(frozen=True, slots=True)
class WitnessFolder:
    """Where the files of one witness are."""

    path: Path

    @property
    def key(self) -> Path:
        """Its secret (`PRIVATE+KEY+name+id+key`)."""
        return self.path / "witness.key"

    @property
    def logs(self) -> Path:
        """Verifier keys of the logs it knows."""
        return self.path / "logs.txt"

    @property
    def database(self) -> Path:
        """What it cosigned last, and evidence."""
        return self.path / "witness.db"

    def cosigner(self, name: str = "", algorithm: bytes = ED25519) -> Cosigner:
        """The witness's key. A missing one is made, with its folder, if `name` is given.

        Raises:
            NoteError: The key is damaged, has another name, or is missing and no name was given.
            OSError: The folder or the file cannot be used.
        """
        try:
            cosigner = Cosigner.from_skey(self.key.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise NoteError(f"{self.key} is not the key of a witness") from error
        except FileNotFoundError:
            if not name:
                raise NoteError(f"{self.key} is not there yet, and no name was given to make a key") from None
            cosigner = Cosigner.generate(name, algorithm)
            self.path.mkdir(parents=True, exist_ok=True)
            write_secret(self.key, cosigner.skey.encode())
            return cosigner
        if name and cosigner.verifier.name != name:
            raise NoteError(f"{self.key} is the key of {cosigner.verifier.name}, not of {name}")
        return cosigner


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, durably and whole; raises OSError."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
