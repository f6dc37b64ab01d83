"""Disks that are full: nothing is released that cannot be recorded, and work goes on by itself when there is space again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exchange import Ledger, LogUnavailableError, read_ledger
from tests.faults.fault_mesh import AT_ONCE, WITHIN, fault_mesh
from tests.faults.oracle import LOG_REFUSED, Sent
from tests.small_disks import small_disk
from tests.waiting import until

OWNER = "CN/GOV/TAX/tax"

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

    def fill_files(self) -> None:
        """The last file that the disk can hold."""
        self._ballast.touch()

    def free(self) -> None:
        self._ballast.unlink()


@contextmanager
def disk_at(place: Path, megabytes: int, *, files: int = 0) -> Iterator[SmallDisk]:
    """`place` leads to a file system of its own; `files` is how many it can hold, if that is to be few."""
    with small_disk(f"{megabytes}m", files=files) as folder:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(folder)
        yield SmallDisk(folder)


def refused(sent: Sent) -> bool:
    return (sent.status, sent.rule) == (503, LOG_REFUSED)


async def test_a_full_disk_under_the_log_refuses_everything_until_there_is_space(tmp_path: Path) -> None:
    with disk_at(tmp_path / "disk", 8) as disk:
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
    with disk_at(tmp_path / "mesh" / "adapters" / "adapter" / "ledger", 4) as disk:
        async with fault_mesh(tmp_path / "mesh") as mesh:
            async with mesh.load():
                await mesh.more_answers(40)
                disk.fill()
                late = await mesh.ask_until(refused, "POST", "/late", b"x")
                assert late.took < AT_ONCE
                await mesh.ask_until(refused, "GET", "/late")
                disk.free()
                await mesh.more_answers(40)
            # 504: done by the department, and its answer could not be noted.
            assert mesh.told() <= {(503, LOG_REFUSED), (504, "deadline")}

            async with mesh.held() as held:
                disk.fill()
                await mesh.ask_until(refused, "GET", "/full")
                held.release()
                sent = await held.answer
            assert (sent.status, sent.rule) == (504, "deadline")
            disk.free()
            evidence = await mesh.verdict()
            assert evidence.outcome_of(sent) == ("unknown", "deadline")


async def test_a_disk_that_takes_no_more_files_refuses_the_next_segment_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger lets go of a full segment only when the next one is there, and writes into no file but its own."""
    monkeypatch.setattr("exchange.ledger.ledger.SEGMENT_BYTES", 4000)
    with disk_at(tmp_path / "disk", 4, files=12) as disk:
        ledger = await Ledger.open(disk.folder, OWNER)
        disk.fill_files()
        written = await until_refused(ledger)
        with (tmp_path / "innocent").open(
            "wb"
        ):  # has the lowest number that is free: that of a file let go of too soon
            for _ in range(3):
                with pytest.raises(LogUnavailableError):
                    await ledger.intend(b'"one too many"', b"")
        disk.free()
        await ledger.intend(b'"afterwards"', b"")
        await ledger.close()
        lines = [bytes(line.query) for line in read_ledger(disk.folder)]
    assert lines == [*[b'"before"'] * written, b'"afterwards"']
    assert (tmp_path / "innocent").read_bytes() == b""


async def until_refused(ledger: Ledger) -> int:
    """Append until the ledger takes no more; returns how many it took."""
    for number in range(10_000):
        try:
            await ledger.intend(b'"before"', b"")
        except LogUnavailableError:
            return number
    raise AssertionError("it was never refused")
