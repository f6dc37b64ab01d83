"""Disks that are full: nothing is released that cannot be recorded, and work goes on by itself when there is space again."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ci import missing
from tests.faults.fault_mesh import AT_ONCE, WITHIN, fault_mesh
from tests.faults.oracle import LOG_REFUSED, Sent
from tests.waiting import until

pytestmark = pytest.mark.faults


class SmallDisk:
    """A file system in memory that can be filled up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Return when nothing more can be written."""
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(65536)):
                pass

    def free(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A file system of its own at `folder`."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        missing("the right to mount a small tmpfs")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def refused(sent: Sent) -> bool:
    return (sent.status, sent.rule) == (503, LOG_REFUSED)


async def test_a_full_disk_under_the_log_refuses_everything_until_there_is_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        async with fault_mesh(tmp_path / "mesh", log_database=f"sqlite:///{disk.folder}/log.db") as mesh:
            async with mesh.load():
                await mesh.more_answers(40)
                disk.fill()
                await until(lambda: sum(map(refused, mesh.sent)) > 40, WITHIN)
                await mesh.ready(but="log")
                for method in ("GET", "POST"):
                    late = await mesh.ask_until(refused, method, "/late")
                    assert late.took < AT_ONCE
                disk.free()
                await mesh.more_answers(40)
            assert mesh.told() == {(503, LOG_REFUSED)}
            await mesh.verdict()


async def test_a_full_disk_under_the_adapters_ledger_keeps_its_department_untouched(tmp_path: Path) -> None:
    with small_disk(tmp_path / "mesh" / "adapters" / "adapter" / "ledger", 4) as disk:
        async with fault_mesh(tmp_path / "mesh") as mesh:
            async with mesh.load():
                await mesh.more_answers(40)
                disk.fill()
                late = await mesh.ask_until(refused, "POST", "/late", b"x")
                assert late.took < AT_ONCE
                await mesh.ask_until(refused, "GET", "/late")
                disk.free()
                await mesh.more_answers(40)
            assert mesh.told() == {(503, LOG_REFUSED)}

            # Done by the department, and its answer cannot be noted: then nobody may be told that nothing was done.
            async with mesh.held() as held:
                disk.fill()
                await mesh.ask_until(refused, "GET", "/full")
                held.release()
                sent = await held.answer
            assert (sent.status, sent.rule) == (504, "deadline")
            disk.free()
            evidence = await mesh.verdict()
            assert evidence.outcome_of(sent) == ("unknown", "deadline")
