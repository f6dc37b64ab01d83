"""The department's own ledger: what is in it when, and what a crash or a full disk leaves."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from exchange.errors import LogUnavailableError
from exchange.ledger import ledger as ledger_module
from exchange.ledger.ledger import Ledger, LedgerError, read_ledger, read_lines
from exchange.messages.envelope import statement_bytes
from tests.exchange.log_kit import new_id, query_statement, until
from tests.small_disks import small_disk

OWNER = "CN/GOV/TAX/tax"


def query(number: int = 0) -> bytes:
    return statement_bytes(query_statement(new_id(), number))


async def test_lines_hold_the_statements_byte_for_byte(tmp_path: Path) -> None:
    asked = query()
    ledger = await Ledger.open(tmp_path / "ledger", OWNER)
    await ledger.intend(asked, b"seal")
    ledger.answered([(asked, b"seal", b'{"status":200}', b"other seal")])
    await ledger.close()
    intent, answer = read_ledger(tmp_path / "ledger")
    assert (intent.kind, answer.kind) == ("intent", "answer")
    assert bytes(intent.query) == bytes(answer.query) == asked
    assert bytes(answer.answer) == b'{"status":200}'  # type: ignore[arg-type]
    assert (intent.query_seal, answer.answer_seal) == ("c2VhbA==", "b3RoZXIgc2VhbA==")
    # As canonical as an encoder makes them.
    assert list(read_lines(tmp_path / "ledger")) == [msgspec.json.encode(intent), msgspec.json.encode(answer)]


async def test_an_answer_is_in_the_file_before_it_is_released(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path, OWNER)
    ledger.answered([(query(number), b"", b"{}", b"") for number in range(100)])
    # Read beside the open ledger, as after kill -9: what was promised is with the operating system.
    assert len(list(read_ledger(tmp_path))) == 100
    await ledger.close()


async def test_a_torn_last_line_is_cut_off_at_the_next_start(tmp_path: Path) -> None:
    for life in range(1, 4):
        ledger = await Ledger.open(tmp_path, OWNER)
        ledger.answered([(query(), b"", b"{}", b"")])
        await ledger.close()
        with (tmp_path / "00000001.jsonl").open("ab") as file:
            file.write(b'{"answer":{"torn')
        assert len(list(read_ledger(tmp_path))) == life


async def test_segments_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "SEGMENT_BYTES", 4000)
    ledger = await Ledger.open(tmp_path, OWNER)
    asked = [query(number) for number in range(30)]
    for one in asked:
        await ledger.intend(one, b"")
        await until(lambda: ledger._syncing is None)
    await ledger.close()
    assert len(list(tmp_path.glob("*.jsonl"))) > 3
    assert [bytes(line.query) for line in read_ledger(tmp_path)] == asked
    with sorted(tmp_path.glob("*.jsonl"))[0].open("ab") as file:
        file.write(b"{")
    with pytest.raises(LedgerError, match="torn"):
        list(read_ledger(tmp_path))


async def test_a_line_torn_at_the_end_of_a_segment_that_had_just_ended_is_cut_off_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "SEGMENT_BYTES", 4000)
    ledger = await Ledger.open(tmp_path / "ledger", OWNER)
    for number in range(30):
        await ledger.intend(query(number), b"")
        await until(lambda: ledger._syncing is None)
    await ledger.close()
    oldest, *_, ended, _ = sorted((tmp_path / "ledger").glob("*.jsonl"))
    with ended.open("ab") as file:
        file.write(b'{"answer":{"torn')
    await (await Ledger.open(tmp_path / "ledger", OWNER)).close()
    assert len(list(read_ledger(tmp_path / "ledger"))) == 30
    # Further back no power cut reaches: that is left as it is found.
    with oldest.open("ab") as file:
        file.write(b"{")
    with pytest.raises(LedgerError, match="torn"):
        await Ledger.open(tmp_path / "ledger", OWNER)


async def test_the_end_of_a_segment_holds_up_nobody_and_is_on_disk_with_the_next_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "SEGMENT_BYTES", 4000)
    ledger = await Ledger.open(tmp_path, OWNER)
    synced: list[tuple[str, bool]] = []

    def fdatasync(fd: int) -> None:
        synced.append(
            (Path(f"/proc/self/fd/{fd}").readlink().name, threading.current_thread() is threading.main_thread())
        )

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    for number in range(12):
        ledger.answered([(query(number), b"", b"{}", b"")])
    segments = sorted(path.name for path in tmp_path.glob("0*.jsonl"))
    assert len(segments) > 1
    assert not synced
    await ledger.intend(query(), b"")
    assert synced == [(name, False) for name in segments]
    assert not ledger._ended, "they are closed"
    await ledger.close()
    assert len(list(read_ledger(tmp_path))) == 13


async def test_a_segment_that_could_not_be_synced_is_synced_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "SEGMENT_BYTES", 1000)
    ledger = await Ledger.open(tmp_path, OWNER)
    for number in range(4):
        ledger.answered([(query(number), b"", b"{}", b"")])
    good, broken = os.fdatasync, True

    def fdatasync(fd: int) -> None:
        if broken and Path(f"/proc/self/fd/{fd}").readlink().name == "00000001.jsonl":
            raise OSError(5, "Input/output error")
        good(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with pytest.raises(LogUnavailableError):
        await ledger.intend(query(), b"")
    assert ledger._tree.size == 0, "what is not on disk is not signed over"
    broken = False
    await ledger.intend(query(), b"")
    await until(lambda: ledger._tree.size == 6)
    await ledger.close()


async def test_one_process_at_a_time_has_a_ledger_open(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path, OWNER)
    with pytest.raises(LedgerError, match="another"):
        await Ledger.open(tmp_path, OWNER)
    await ledger.close()
    await (await Ledger.open(tmp_path, OWNER)).close()


def test_what_is_not_a_ledger_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError):
        list(read_ledger(tmp_path))
    (tmp_path / "00000001.jsonl").write_bytes(b"{}\n")
    with pytest.raises(LedgerError, match="line 1"):
        list(read_ledger(tmp_path))


@pytest.fixture(name="small_disk")
def _small_disk() -> Iterator[Path]:
    """A file system of 256 kB."""
    with small_disk("256k") as folder:
        yield folder


@pytest.mark.faults
async def test_a_full_disk_refuses_whole_lines_and_recovers(small_disk: Path, tmp_path: Path) -> None:
    ledger = await Ledger.open(small_disk, OWNER, tmp_path / "ledger.key")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(150_000))
    written = 0

    async def fill() -> None:
        nonlocal written
        while True:
            await ledger.intend(query(written), b"seal")
            written += 1

    with pytest.raises(LogUnavailableError):
        await fill()
    assert written > 10
    assert len(list(read_ledger(small_disk))) == written
    ballast.unlink()
    await ledger.intend(query(), b"seal")
    assert len(list(read_ledger(small_disk))) == written + 1
    await ledger.close()
