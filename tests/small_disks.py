"""File systems so small that a test can fill them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ci import missing


@contextmanager
def small_disk(size: str, *, files: int = 0) -> Iterator[Path]:
    """The folder of a file system of its own; `size` as mount takes it, `files` is how many it can hold (0: no limit).

    Not below pytest's own temporary folders: if the run is killed, the mount that is left must not stand in the way of
    the next run's cleaning.
    """
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="datong-small-disk-"))
    options = f"size={size},nr_inodes={files and files + 1}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        folder.rmdir()
        missing("the right to mount a small tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # lazily: a test that fails may leave files open
        folder.rmdir()
