"""`datong log archive`, `prune` and `restore`: what they print, and what they return to a script."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from exchange.archive.writing import segments_in
from exchange.transparency.checkpoint import Checkpoint, NoteSigner
from exchange.transparency.cosignature import Cosigner
from exchange.witness.protocol import origin_hash
from gateway.cli.log import app
from tests.exchange.log_kit import Place, attempt, now_ms
from tests.exchange.test_log_check import execute

YEAR = 366 * 86_400_000


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"LC_ALL": "en_US.UTF-8"})


def run_json(*arguments: object, status: int = 0) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


@dataclass
class Mesh:
    """A data folder with a log of 600 records of four years ago and 100 of today."""

    place: Place

    @property
    def data(self) -> Path:
        return self.place.folder

    @property
    def archive(self) -> Path:
        return self.data / "archive"

    def new_database(self, name: str = "again.db") -> str:
        return f"sqlite:///{self.data / name}"


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    old = now_ms() - 4 * YEAR
    made = asyncio.run(
        place.fill(700, [300, 700], made=lambda number: attempt(number, at_ms=old + number if number < 600 else 0))
    )
    assert made is None
    keys = {"format": "datong-keys/1", "logs": [place.signer.verifier.vkey], "trust_anchors": []}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    return Mesh(place)


def archive(mesh: Mesh, *arguments: object) -> Any:
    return run_json("archive", "--data", mesh.data, "--out", mesh.archive, *arguments)["segments"]


def test_archive_goes_on_where_it_ended(mesh: Mesh) -> None:
    first = archive(mesh, "--until", "2020-01-01", "--segment", 256)
    assert first == []
    first = archive(mesh, "--entries", "0:256")
    assert [(one["first"], one["end"]) for one in first] == [(0, 256)]
    text = run("archive", "--data", mesh.data, "--out", mesh.archive)
    assert text.exit_code == 0, text.output
    assert "-0000000256-0000000512.dtseg" in text.output
    assert "256 records in 1 segments" in text.output
    assert "Nothing to archive" in run("archive", "--data", mesh.data, "--out", mesh.archive).output
    assert "没有需要归档" in run("archive", "--data", mesh.data, "--out", mesh.archive, "--lang", "zh").output
    tail = archive(mesh, "--tail")
    assert [(one["first"], one["end"]) for one in tail] == [(512, 700)]
    again = run("archive", "--data", mesh.data, "--out", mesh.archive, "--tail")
    assert again.exit_code == 2
    assert "is there already" in again.output


def test_archive_until_a_date_leaves_what_is_newer(mesh: Mesh) -> None:
    (one,) = archive(mesh, "--until", "2025-01-01")
    assert (one["first"], one["end"]) == (0, 512)


@pytest.mark.parametrize(
    "wrong", [["--entries", "1:256"], ["--entries", "0:100"], ["--entries", "x"], ["--segment", "300"]]
)
def test_archive_refuses_other_bounds(mesh: Mesh, wrong: list[str]) -> None:
    result = run("archive", "--data", mesh.data, "--out", mesh.archive, *wrong)
    assert result.exit_code == 2
    assert "256" in result.output


def test_archive_names_damage_and_what_it_cannot_use(mesh: Mesh) -> None:
    asyncio.run(execute(mesh.place, "UPDATE log_entries SET leaf = leaf_hash WHERE seq = 77"))
    damaged = run("archive", "--data", mesh.data, "--out", mesh.archive)
    assert damaged.exit_code == 1
    assert "entry 77 is not the one in the log's tree" in damaged.output
    assert "不在日志的哈希树中" in run("archive", "--data", mesh.data, "--out", mesh.archive, "--lang", "zh").output
    nowhere = run("archive", "--data", mesh.data / "x", "--out", mesh.archive, "--log-key", mesh.place.log_key)
    assert nowhere.exit_code == 2
    (mesh.data / "log.key").write_text("no key")
    assert run("archive", "--data", mesh.data, "--out", mesh.archive).exit_code == 2


def test_prune_removes_what_the_archive_holds_and_says_so(mesh: Mesh) -> None:
    archive(mesh)
    dry = run_json("prune", "--data", mesh.data, "--archived", mesh.archive, "--why", "x", "--dry-run")
    assert (dry["removed"], dry["records"], dry["dry_run"]) == (512, 0, True)
    rules = mesh.data / "retention.toml"
    rules.write_text('[[class]]\nname = "one-caller"\nkeep = "10y"\nmatch = { client = "CN/GOV/MEMBER0/*" }\n')
    text = run(
        *("prune", "--data", mesh.data, "--archived", mesh.archive, "--why", "档3号", "--by", "张三"),
        *("--retention", rules),
    )
    assert text.exit_code == 0, text.output
    assert "Removed 438 records (1 records of it); 74 of the archive stay in the log." in text.output
    done = run_json("prune", "--data", mesh.data, "--archived", mesh.archive, "--why", "档4号")
    assert (done["removed"], done["classes"], done["records"], done["kept"]) == (74, {"default": 74}, 1, 0)
    summary = asyncio.run(mesh.place.check())
    assert (summary.size, summary.removed, summary.signed_size) == (702, 512, 702)


def test_prune_refuses_a_bad_file_a_damaged_archive_and_no_reason(mesh: Mesh) -> None:
    archive(mesh)
    asked = ["prune", "--data", mesh.data, "--archived", mesh.archive]
    rules = mesh.data / "retention.toml"
    rules.write_text('[[class]]\nname = "short"\nkeep = "3m"\n')
    short = run(*asked, "--why", "x", "--retention", rules)
    assert short.exit_code == 2
    assert "retention.toml, line 3: class[0].keep: records are kept for six months (184d) at least" in short.output
    assert "至少保存六个月" in run(*asked, "--why", "x", "--retention", rules, "--lang", "zh").output
    assert run(*asked, "--why", " ").exit_code == 2
    path = segments_in(mesh.archive)[0].path
    content = bytearray(path.read_bytes())
    content[3000] ^= 1
    path.write_bytes(content)
    damaged = run(*asked, "--why", "x")
    assert damaged.exit_code == 1
    assert "was changed" in damaged.output
    assert asyncio.run(mesh.place.check()).size == 700


def restore(mesh: Mesh, *arguments: object, database: str = "") -> Any:
    return run(
        *("restore", "--from", mesh.archive, "--database", database or mesh.new_database()),
        *("--keys", mesh.data / "keys.json", *arguments),
    )


def test_restore_puts_a_log_back_and_says_what_it_could_not_compare(mesh: Mesh) -> None:
    archive(mesh)
    archive(mesh, "--tail")
    signed = ["--signed", mesh.data / "log.key.signed"]
    done = restore(mesh, *signed)
    assert done.exit_code == 0, done.output
    assert "✓ 700 records are back" in done.output
    assert "no witness was asked" in done.output
    restored = Place(mesh.new_database(), mesh.data, mesh.place.signer)
    assert asyncio.run(restored.check()).signed_size == 700
    told = json.loads(restore(mesh, *signed, "--json").stdout)
    assert (told["size"], told["there_before"], told["lost"], told["removed"]) == (700, 700, [], 0)


def test_restore_of_less_than_was_signed_needs_to_be_told_and_a_new_key(mesh: Mesh) -> None:
    archive(mesh)
    refused = restore(mesh, "--signed", mesh.data / "log.key.signed")
    assert refused.exit_code == 1
    assert "entries 512 to 699 are missing: log.key.signed has a signed checkpoint of 700 entries" in refused.output
    assert "the archive itself" in refused.output
    assert "缺少第 512 至 699 条记录" in restore(mesh, "--lang", "zh").output
    assert not (mesh.data / "again.db").exists()
    assert restore(mesh, "--accept-loss", "--why", "x").exit_code == 2  # no key
    assert restore(mesh, "--accept-loss", "--why", "x", "--log-key", mesh.place.log_key).exit_code == 2  # the old one
    new = NoteSigner.generate("log.example/test-2")
    (mesh.data / "new.key").write_text(new.skey)
    assert restore(mesh, "--accept-loss", "--log-key", mesh.data / "new.key").exit_code == 2  # no reason
    accepted = restore(mesh, "--accept-loss", "--log-key", mesh.data / "new.key", "--why", "机房失火")
    assert accepted.exit_code == 0, accepted.output
    assert "✗ entries 512 to 699 are missing" in accepted.output
    assert (mesh.data / "new.key.signed").read_text().split("\n")[:2] == ["log.example/test-2", "513"]


@contextmanager
def witness_that_saw(note: str, origin: str) -> Iterator[str]:
    """The monitoring address of a witness; it shows one checkpoint."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == f"/{origin_hash(origin)}/checkpoint" else 404)
            self.end_headers()
            self.wfile.write(note.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_restore_is_compared_with_the_witnesses(mesh: Mesh) -> None:
    place = mesh.place
    archive(mesh)
    archive(mesh, "--tail")

    async def signed(size: int) -> str:
        async with place.reader() as reader:
            return (await reader.checkpoints_from(size, 1))[0].note

    def policy(address: str) -> Path:
        path = mesh.data / "policy.txt"
        away = Cosigner.generate("away.example/w").verifier.vkey
        said = Cosigner.generate("audit.example/w").verifier.vkey
        path.write_text(
            f"witness audit {said} {address}\nwitness away {away} http://127.0.0.1:9\ngroup any 1 audit away\nquorum any\n"
        )
        return path

    origin = place.signer.verifier.name
    with witness_that_saw(asyncio.run(signed(700)), origin) as address:
        agreed = restore(mesh, "--policy", policy(address), database=mesh.new_database("a.db"))
    assert agreed.exit_code == 0, agreed.output
    assert "witness away did not answer" in agreed.output
    assert "witness audit" not in agreed.output
    ahead = Checkpoint(origin, 900, b"\1" * 32).signed(place.signer)
    with witness_that_saw(ahead, origin) as address:
        behind = restore(mesh, "--policy", policy(address), database=mesh.new_database("b.db"))
    assert behind.exit_code == 1
    assert "entries 700 to 899 are missing: witness audit has a signed checkpoint of 900 entries" in behind.output
    forked = Checkpoint(origin, 256, b"\1" * 32).signed(place.signer)
    with witness_that_saw(forked, origin) as address:
        fork = restore(mesh, "--policy", policy(address), database=mesh.new_database("c.db"))
    assert fork.exit_code == 1
    assert "the log was forked" in fork.output
    assert not (mesh.data / "b.db").exists()
    assert not (mesh.data / "c.db").exists()


def test_restore_refuses_what_it_cannot_use(mesh: Mesh) -> None:
    archive(mesh, "--tail")
    assert restore(mesh, database="mysql://x/y").exit_code == 2
    assert restore(mesh, "--policy", mesh.data / "nothing.txt").exit_code == 2
    (mesh.data / "policy.txt").write_text("quorum\n")
    assert restore(mesh, "--policy", mesh.data / "policy.txt").exit_code == 2
    assert restore(mesh, "--signed", mesh.data / "keys.json").exit_code == 2
    other = restore(mesh, database=mesh.place.database)
    assert other.exit_code == 0  # the log itself: nothing to do
    (mesh.data / "o").mkdir()
    other_place = Place(f"sqlite:///{mesh.data / 'o' / 'log.db'}", mesh.data / "o")
    asyncio.run(other_place.fill(10, [10]))
    refused = restore(mesh, database=other_place.database)
    assert refused.exit_code == 1
    assert "not the first of the archive" in refused.output
