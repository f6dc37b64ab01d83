"""A department's ledger is a log of its own: what it signs, what it recognises, and what a check of it names."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.ledger import ledger as ledger_module
from exchange.ledger.check import DamagedLedgerError, LedgerSummary, check_ledger
from exchange.ledger.ledger import Ledger, LedgerError, read_ledger, read_lines
from exchange.ledger.tree import origin_of
from exchange.transparency.checkpoint import NoteSigner, NoteVerifier, open_checkpoint
from exchange.transparency.merkle import hash_leaf, root_of
from gateway.cli.audit import app
from tests.exchange.log_kit import until

OWNER = "CN/GOV/税 务+1/tax"


def verifier(folder: Path) -> NoteVerifier:
    return NoteVerifier.from_vkey((folder / "vkey").read_text().strip())


def answers(first: int, count: int) -> list[tuple[bytes, bytes, bytes, bytes]]:
    return [(b'{"n":%d}' % number, b"seal", b'{"status":200}', b"seal") for number in range(first, first + count)]


async def written(folder: Path, count: int, lives: int = 1, owner: str = OWNER) -> None:
    """A ledger of `count` lines, in so many lives of its adapter."""
    for life in range(lives):
        ledger = await Ledger.open(folder, owner)
        size = count * (life + 1) // lives - count * life // lives
        for at in range(0, size, 100):
            ledger.answered(answers(at, min(100, size - at)))
        await ledger.close()


async def test_the_newest_checkpoint_is_of_all_lines_and_names_the_owner(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    await written(folder, 700, lives=3)
    checkpoint = open_checkpoint((folder / "checkpoint").read_text(), [verifier(folder)])
    assert checkpoint.origin == origin_of(OWNER) == "CN/GOV/税%20务%2B1/tax/ledger"
    lines = list(read_lines(folder))
    assert checkpoint.size == len(lines) == 700
    assert checkpoint.root == root_of([hash_leaf(line) for line in lines])
    assert (folder / "tile/0/001").read_bytes() == b"".join(hash_leaf(line) for line in lines[256:512])
    assert check_ledger(folder, verifier(folder)) == LedgerSummary(checkpoint.origin, 700, 2, 3, 700)


async def test_what_is_on_disk_is_signed_while_the_ledger_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "SYNC_SECONDS", 0.05)
    folder = tmp_path / "ledger"
    ledger = await Ledger.open(folder, OWNER)

    def signed() -> int:
        return open_checkpoint((folder / "checkpoint").read_text(), [verifier(folder)]).size

    for round_ in range(1, 4):
        ledger.answered(answers(0, 10))
        await ledger.intend(b'{"n":0}', b"seal")
        await until(lambda size=11 * round_: signed() == size)
        assert check_ledger(folder, verifier(folder)).signed == 11 * round_
    await ledger.close()


async def test_tiles_and_signature_are_made_up_for_when_the_disk_takes_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "SYNC_SECONDS", 0.02)
    folder = tmp_path / "ledger"
    ledger = await Ledger.open(folder, OWNER)
    (folder / "tile").write_bytes(b"in the way")
    ledger.answered(answers(0, 600))
    await until(lambda: ledger._tree.size == 600)
    await asyncio.sleep(0.1)
    assert open_checkpoint((folder / "checkpoint").read_text(), [verifier(folder)]).size == 0
    (folder / "tile").unlink()

    def signed() -> bool:
        return ledger._tree.signed

    await until(signed)
    assert check_ledger(folder, verifier(folder)).signed == 600
    await ledger.close()


async def test_the_tree_grows_a_few_lines_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "SYNC_SECONDS", 0.01)
    monkeypatch.setattr(ledger_module, "LINES_A_TURN", 50)
    ledger = await Ledger.open(tmp_path / "ledger", OWNER)
    ledger.answered(answers(0, 1000))
    sizes = {0}
    while ledger._tree.size < 1000:
        await asyncio.sleep(0)
        sizes.add(ledger._tree.size)
    assert sizes == set(range(0, 1001, 50))
    await ledger.close()


async def test_a_ledger_of_before_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "SEGMENT_BYTES", 4000)
    folder = tmp_path / "ledger"
    await written(folder, 600)
    assert len(list(folder.glob("0*.jsonl"))) > 3
    for name in ("checkpoint", "checkpoints.jsonl", "vkey"):
        (folder / name).unlink()
    shutil.rmtree(folder / "tile")
    for key in tmp_path.glob("ledger.key*"):
        key.unlink()
    await written(folder, 5)
    assert check_ledger(folder, verifier(folder)).signed == 605


async def test_tiles_that_a_power_cut_took_are_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    await written(folder, 800)
    (folder / "tile/0/000").unlink()
    (folder / "tile/0/001").write_bytes(b"torn")
    await written(folder, 1)
    assert check_ledger(folder, verifier(folder)).lines == 801


def cut(folder: Path) -> None:
    path = folder / "00000001.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def change_last(folder: Path) -> None:
    path = folder / "00000001.jsonl"
    path.write_bytes(path.read_bytes()[:-40] + b"x" + path.read_bytes()[-39:])


@pytest.mark.parametrize(("harm", "said"), [(cut, "fewer"), (change_last, "changed")])
async def test_an_adapter_does_not_write_on_after_lines_that_were_harmed(
    tmp_path: Path, harm: Callable[[Path], None], said: str
) -> None:
    folder = tmp_path / "ledger"
    await written(folder, 300)
    harm(folder)
    with pytest.raises(LedgerError, match=said):
        await Ledger.open(folder, OWNER)
    with pytest.raises(LedgerError, match=said):  # it let go of the lock
        await Ledger.open(folder, OWNER)


async def test_an_old_copy_that_is_put_back_is_recognised(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    await written(folder, 300)
    shutil.copytree(folder, tmp_path / "copy")
    await written(folder, 1)
    shutil.rmtree(folder)
    (tmp_path / "copy").rename(folder)
    with pytest.raises(LedgerError, match="old copy"):
        await Ledger.open(folder, OWNER)


async def test_a_key_of_another_ledger_is_refused(tmp_path: Path) -> None:
    await written(tmp_path / "ledger", 1)
    with pytest.raises(LedgerError, match="this ledger is"):
        await Ledger.open(tmp_path / "ledger", "CN/GOV/OTHER/tax")
    (tmp_path / "ledger.key").write_text("rubbish")
    with pytest.raises(LedgerError, match=r"ledger\.key"):
        await Ledger.open(tmp_path / "ledger", OWNER)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed: 1,000 lines in five lives, so with five checkpoints."""
    folder = tmp_path_factory.mktemp("module") / "ledger"
    asyncio.run(written(folder, 1000, lives=5))
    return folder


def replace_line(folder: Path, number: int, change: Callable[[bytes], bytes]) -> None:
    path = folder / "00000001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = change(lines[number])
    path.write_bytes(b"".join(lines))


def swap_lines(folder: Path) -> None:
    path = folder / "00000001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[300], lines[301] = lines[301], lines[300]
    path.write_bytes(b"".join(lines))


def with_tile(folder: Path) -> None:
    """A line is changed together with its tile, as by somebody who knows how it is made."""
    replace_line(folder, 100, lambda line: line.replace(b"200", b"404"))
    lines = list(read_lines(folder))
    (folder / "tile/0/000").write_bytes(b"".join(hash_leaf(line) for line in lines[:256]))


def rewrite_checkpoints(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = folder / "checkpoints.jsonl"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def forged(folder: Path) -> str:
    signer = NoteSigner.generate(origin_of(OWNER))
    note = json.loads((folder / "checkpoints.jsonl").read_text().splitlines()[0])["note"]
    return json.dumps({"note": signer.sign(note.split("\n\n")[0] + "\n")}, ensure_ascii=False)


HARMS: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: replace_line(folder, 100, lambda line: line.replace(b"200", b"404")), "line 100"),
    (lambda folder: replace_line(folder, 100, lambda line: b""), "line 100"),
    (lambda folder: replace_line(folder, 100, lambda line: line + line), "line 101"),
    (swap_lines, "line 300"),
    (lambda folder: replace_line(folder, 999, lambda line: line.replace(b"200", b"404")), "lines 800 to 999"),
    (lambda folder: replace_line(folder, 999, lambda line: b""), "line 999"),
    (with_tile, "lines 0 to 199"),
    (lambda folder: (folder / "tile/0/002").unlink(), "tile 0/2"),
    (lambda folder: (folder / "tile/0/002").write_bytes(bytes(8192)), "line 512"),
    (lambda folder: (folder / "tile/0/001").replace(folder / "tile/0/000"), "line 0"),
    (lambda folder: (folder / "tile/0/002").write_bytes(b"short"), "tile 0/2"),
    (lambda folder: rewrite_checkpoints(folder, lambda lines: lines[::-1]), "checkpoint 800"),
    (lambda folder: rewrite_checkpoints(folder, lambda lines: [forged(folder), *lines]), "checkpoint 0"),
    (lambda folder: rewrite_checkpoints(folder, lambda lines: ["{}", *lines]), "checkpoints.jsonl, line 1"),
    (lambda folder: (folder / "checkpoint").write_text("rubbish"), "checkpoint ?"),
]


@pytest.mark.parametrize(("harm", "where"), HARMS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_first_thing_that_was_changed_is_named(
    ledger: Path, tmp_path: Path, harm: Callable[[Path], object], where: str
) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(ledger, folder)
    assert check_ledger(folder, verifier(ledger)).checkpoints == 5
    harm(folder)
    with pytest.raises(DamagedLedgerError) as found:
        check_ledger(folder, verifier(ledger))
    assert found.value.where == where
    assert found.value.problem_zh


def test_the_command_tells_a_good_ledger_from_a_changed_one(ledger: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(ledger, folder)
    run = CliRunner().invoke
    good = run(app, ["check-ledger", str(folder)])
    assert good.exit_code == 0, good.output
    assert "1000 lines" in good.output
    assert "compare it" in good.output
    with_key = run(app, ["check-ledger", str(folder), "--vkey", verifier(ledger).vkey, "--json"])
    assert json.loads(with_key.output)["key_believed"] is False
    swap_lines(folder)
    bad = run(app, ["check-ledger", str(folder), "--lang", "zh"])
    assert bad.exit_code == 1
    assert "✗ line 300" in bad.output
    assert run(app, ["check-ledger", str(tmp_path / "nowhere")]).exit_code == 2


VICTIM = """
import asyncio, sys
from pathlib import Path
from exchange.ledger import ledger as module
from exchange.ledger.ledger import Ledger

module.SYNC_SECONDS = 0.001

async def main():
    ledger = await Ledger.open(Path(sys.argv[1]), "CN/GOV/TAX/tax")
    number = 0
    while True:
        await ledger.intend(b'{"n":%d}' % number, b"seal")
        number += 1
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.faults
def test_a_killed_adapter_leaves_a_ledger_that_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    promised = 0
    for life in range(6):
        with subprocess.Popen([sys.executable, "-c", VICTIM, str(folder)], stdout=subprocess.PIPE, text=True) as victim:
            assert victim.stdout is not None
            for _ in range(40 + 90 * life):
                assert victim.stdout.readline()
            os.kill(victim.pid, signal.SIGKILL)
            promised += len(victim.stdout.read().splitlines()) + 40 + 90 * life
    asyncio.run(written(folder, 0, owner="CN/GOV/TAX/tax"))
    found = check_ledger(folder, verifier(folder))
    assert found.lines == found.signed == len(list(read_ledger(folder))) >= promised
