"""The folder of a new adapter, written whole or not at all, and never over another."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from department_adapters.scaffold.draft import ScaffoldError


def write_adapter_folder(place: Path, files: Mapping[str, bytes]) -> None:
    """Make `place` with these files, for its owner only: keys will lie in it.

    Raises:
        ScaffoldError: There is something at `place`.
        OSError: It cannot be written; nothing is left behind.
    """
    if os.path.lexists(place):
        raise _in_the_way(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))  # with mode 700
    try:
        for name, content in files.items():
            (made / name).write_bytes(content)
        try:
            # Only an empty folder could be replaced by this, should one have been made meanwhile.
            made.rename(place)
        except OSError as error:
            if os.path.lexists(place):
                raise _in_the_way(place) from error
            raise
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _in_the_way(place: Path) -> ScaffoldError:
    return ScaffoldError(
        f"{place} is there already, and nothing is overwritten: choose another name, or --out.",
        f"{place} 已存在，不会覆盖：请换一个名称或用 --out 指定目录。",
    )
